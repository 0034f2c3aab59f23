"""The tables of the studies of many languages: arms, differences by seed, the search of a size."""

from __future__ import annotations

from benchmarks.support.markdown_table import Result, markdown


def arms(result: Result) -> str:
    """A row an arm, a column a figure; then the commonest answer, and the differences by seed."""
    means = result["arms"]
    keys = list(dict.fromkeys(key for own in means.values() for key in own))
    rows = [[name, *(_cell(own.get(key), key) for key in keys)] for name, own in means.items()]
    commonest = [
        f"{100 * result['commonest'][task]:.1f}" if task in result["commonest"] else ""
        for task in (key.partition(",")[0] for key in keys)
    ]
    rows.append(["the commonest answer", *commonest])
    compared = [
        [name, *(_cell(own.get(key), key, signed=True) for key in keys)]
        for name, own in result["differences"].items()
    ]
    size, seeds = result["size"], result["seeds"]
    said = (
        f"{size['languages']} languages beside English, {size['dim']} wide, "
        f"{size['num_layers']} layers a side, {size['updates']} updates, "
        f"{seeds} seed{'s' if seeds > 1 else ''} of pretraining. "
    )
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


def _listed(rows: list[Result]) -> str:
    shown = [[v if isinstance(v, str) else f"{v:,}" for v in own.values()] for own in rows]
    return markdown(list(rows[0]), shown)


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
    "continued": (arms, "continued"),
}
"""By the name in the marker: the function that makes the table, and its file."""
