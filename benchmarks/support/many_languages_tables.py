"""The tables of the studies of many languages: arms, differences by seed, the search of a size."""

from __future__ import annotations

from benchmarks.support.markdown_table import Result, markdown


def arms(result: Result) -> str:
    """A row an arm, a column a figure; then the commonest answer, and the differences by seed."""
    size = result["size"]
    return _arms(
        result,
        f"{size['languages']} languages beside English, {size['dim']} wide, "
        f"{size['num_layers']} layers a side, {size['updates']} updates, ",
    )


def real_encoders(result: Result) -> str:
    """A row a kind of pretraining, a column a task and language; then the differences by seed."""
    size = result["size"]
    times = "; ".join(f"{name} {value:.0f}" for name, value in result["seconds"].items())
    return _arms(
        result,
        f"{size['dim']} wide, {size['num_layers']} layers a side, {result['pieces']:,} pieces, "
        f"{size['updates']} updates of two micro-batches of {size['tokens']:,} cells (processor "
        f"seconds: {times}), ",
    )


def _arms(result: Result, said: str) -> str:
    means = result["arms"]
    keys = list(dict.fromkeys(key for own in means.values() for key in own))
    rows = [[name, *(_cell(own.get(key), key) for key in keys)] for name, own in means.items()]
    commonest = [
        "".join(
            f"{100 * result['commonest'][name]:.1f}"
            for name in (key, key.partition(",")[0])
            if name in result["commonest"]
        )
        for key in keys
    ]
    rows.append(["the commonest answer", *commonest])
    compared = [
        [name, *(_cell(own.get(key), key, signed=True) for key in keys)]
        for name, own in result["differences"].items()
    ]
    seeds = result["seeds"]
    said += f"{seeds} seed{'s' if seeds > 1 else ''} of pretraining. "
    said += (
        "± is half of a 95 % interval over seeds; * marks a difference whose interval leaves out 0."
        if seeds > 1
        else "One seed: no order is claimed."
    )
    parts = [markdown(["%", *keys], rows), "", markdown(["difference by seed", *keys], compared)]
    return "\n".join([*parts, "", said])


def search(result: Result) -> str:
    """A row a size that was tried, the smallest first; the last one is taken."""
    return _listed(result["search"])


def zero_shot(result: Result) -> str:
    """A row a layout: BLEU between languages that share no pair."""
    return _listed(result["zero-shot"])


def pretraining(result: Result) -> str:
    """A row an arm and text: what held-out figures its pretraining ended with."""
    return _listed(result["rows"])


def _listed(rows: list[Result]) -> str:
    heads = list(dict.fromkeys(head for own in rows for head in own))
    cells = [[own.get(head, "") for head in heads] for own in rows]
    return markdown(heads, [[v if isinstance(v, str) else f"{v:,}" for v in c] for c in cells])


def _cell(figure: Result | None, key: str, *, signed: bool = False) -> str:
    if not figure:
        return ""
    scale = 1 if key.startswith("BLEU") else 100
    shown = f"{scale * figure['mean']:{'+' if signed else ''}.1f}"
    if figure["interval"] is not None:
        shown += f" ±{scale * figure['interval']:.1f}"
    return shown + ("*" if figure.get("order") else "")


TABLES = {
    "language_token": (arms, "language_token"),
    "language_token_search": (search, "language_token"),
    "language_token_zero_shot": (zero_shot, "language_token"),
    "translation_encoders": (arms, "translation_encoders"),
    "translation_encoders_real": (real_encoders, "translation_encoders_real"),
    "translation_encoders_real_pretraining": (pretraining, "translation_encoders_real"),
    "continued": (arms, "continued"),
}
"""By the name in the marker: the function that makes the table, and its file."""
