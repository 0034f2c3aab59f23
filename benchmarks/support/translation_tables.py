"""The tables of what was measured of translation: see tables.py."""

from __future__ import annotations

from benchmarks.support.markdown_table import Result, markdown

TABLE_2 = {
    "emb-emb": (29.4, 29.4), "none-none": (13.0, 15.8), "none-clm": (25.3, 26.4),
    "none-mlm": (29.2, 29.1), "clm-none": (28.7, 28.2), "clm-clm": (30.4, 30.0),
    "clm-mlm": (32.3, 31.6), "mlm-none": (31.6, 32.1), "mlm-clm": (33.4, 32.3),
    "mlm-mlm": (33.4, 33.3),
}  # fmt: skip
"""XLM's Table 2, English to French and back."""


def unsupervised_shifted(result: Result) -> str:
    """Table 2: BLEU by what encoder and decoder start from, in both directions, and the paper's."""
    copies = result["data"]["copy_bleu"]
    rows = []
    for cell, own in result["cells"].items():
        scores = [_score(own["figures"][direction]["bleu"]) for direction in copies]
        paper = [f"{value:.1f}" for value in TABLE_2[cell]]
        names = ["random" if name == "none" else name.upper() for name in cell.split("-")]
        rows.append([*names, *scores, *paper, f"{own['seconds']:.0f}"])
    heads = ["encoder", "decoder", *copies, "paper, en-fr", "paper, fr-en", "processor seconds"]
    copied = ", ".join(f"{value:.1f} ({name})" for name, value in copies.items())
    pretraining = ", ".join(
        f"{name.upper()} {value:.0f} s" for name, value in result["pretraining_seconds"].items()
    )
    nearest = "; ".join(
        f"{name.upper()} {', '.join(f'{share:.1%}' for share in shares)}"
        for name, shares in result["nearest_translations"].items()
    )
    said = [
        f"- copying the source: BLEU {copied}; shared running tokens: "
        f"{result['data']['shared_tokens']:.1%}",
        "- every word translated, in the order of the source: BLEU "
        f"{result['data']['word_by_word_bleu']:.1f}",
        f"- pretraining, a seed, processor time: {pretraining or 'none'}",
        f"- words whose nearest embedding of the other language is their translation: {nearest}",
    ]
    for direction, above in result["encoder above decoder"].items():
        apart = f"their intervals are {'apart' if above['apart'] else 'not apart'}"
        said.append(
            f"- {direction}: MLM in the encoder alone is {_score(above)} BLEU above MLM in the "
            f"decoder alone, seed by seed; {apart if len(above['values']) > 1 else 'one seed'}."
        )
    return "\n".join([markdown(heads, rows), "", *said])


def unsupervised_shifted_search(result: Result) -> str:
    """A row a trial of MLM in encoder and decoder: what trials differ in, and BLEU."""
    numbers = {
        "dim": "width",
        "pretraining_steps": "pretraining",
        "dropout": "dropout",
        "steps": "updates",
    }
    rows = []
    for run in result["rows"]:
        settings = run["settings"]
        lengths = f"{settings['shortest']} to {settings['longest']}"
        text = [lengths, f"{run['data']['sentences_a_side']:,}"]
        scores = [f"{value:.1f}" for value in run["bleu"].values()]
        rows.append([*text, *(f"{settings[name]:,}" for name in numbers), *scores])
    directions = result["rows"][0]["bleu"]
    heads = ["words of a clause", "clauses a side", *numbers.values()]
    return markdown([*heads, *(f"BLEU, {direction}" for direction in directions)], rows)


def _score(figure: Result) -> str:
    """A figure of 0 to 100, with half of its interval where there were several seeds."""
    interval = f" ±{figure['interval']:.1f}" if figure.get("interval") is not None else ""
    return f"{figure['mean']:.1f}{interval}"


NAMES = {"bleu": "BLEU", "chrf": "chrF"}
BY_CHANCE = 0.05
"""A system is marked where chance alone sets it so far apart less often than this."""


def _marked(figure: Result) -> str:
    """A figure with half of its interval; * where it is apart from the one it is compared with."""
    return _score(figure) + ("\\*" if (figure.get("p") or 1.0) < BY_CHANCE else "")


def unsupervised_real(result: Result) -> str:
    """A row a direction and system; copying the source is the one that they are compared with."""
    rows = []
    for direction, systems in result["directions"].items():
        for name, own in systems.items():
            figures = [_marked(own[figure]) for figure in NAMES]
            rates = [f"{own[rate]:.0%}" for rate in ("copied", "empty")]
            words = f"{own['length_ratio']:.2f}"
            took = f"{result['seconds'][name]:.0f}" if name in result["seconds"] else ""
            rows.append([f"{direction}, {name}", *figures, *rates, words, took])
    heads = ["", *NAMES.values(), "copied", "empty", "words / reference's", "seconds"]
    said = [
        f"- \\*: apart from copying the source, p < {BY_CHANCE} (paired bootstrap over lines).",
        *(
            f"- the encoder of `{start}` before the first update: {_perplexities(streams)}."
            for start, streams in result["pretrained"].items()
        ),
    ]
    return "\n".join([markdown(heads, rows), "", *said])


def _perplexities(streams: Result) -> str:
    """Masked and causal perplexity of each language, beside a unigram model's."""
    return "; ".join(
        f"{stream} {own['perplexity']:.0f}"
        + (f" (unigram {own['unigram_perplexity']:.0f})" if "unigram_perplexity" in own else "")
        for stream, own in streams.items()
    )


def supervised(result: Result) -> str:
    """A row a direction, number of pairs and test text; a column a figure and start."""
    starts = list(dict.fromkeys(start for row in result["rows"] for start in row["starts"]))
    texts = {"ui": "in domain", "flores": f"FLORES ({result['flores_lines']} lines)"}
    rows = []
    for domain in texts:
        for row in (row for row in result["rows"] if row["domain"] == domain):
            cells = [
                _marked(row["starts"][start][figure]) if start in row["starts"] else ""
                for figure in NAMES
                for start in starts
            ]
            name = f"{row['direction']}, {row['pairs']:,} pairs, {texts[domain]}"
            rows.append([name, *cells])
    heads = [f"{figure}, {start}" for figure in NAMES.values() for start in starts]
    note = f"\\*: apart from `{starts[0]}`, p < {BY_CHANCE} (paired bootstrap over lines)."
    return f"{markdown(['', *heads], rows)}\n\n{note}"


TABLE_3 = {
    "one direction": {"none": 28.4, "clm": 31.5, "mlm": 35.3},
    "both directions": {"none": 28.5, "clm": 31.5, "mlm": 35.6},
    "both directions + BT": {"none": 34.4, "clm": 37.0, "mlm": 38.5},
}
"""XLM's Table 3, Romanian to English."""


def table3(result: Result) -> str:
    """BLEU and chrF of the nine cells, and the paper's BLEU of Romanian into English."""
    starts = list(dict.fromkeys(start for own in result["rows"].values() for start in own))
    rows = []
    for name, own in result["rows"].items():
        ours = [
            _marked(own[start][figure]) if start in own else ""
            for figure in NAMES
            for start in starts
        ]
        paper = (f"{value:.1f}" for value in TABLE_3[name].values())
        rows.append([name, *ours, *paper])
    heads = [f"{figure}, {start}" for figure in NAMES.values() for start in starts]
    heads += [f"paper's BLEU, {start}" for start in TABLE_3["one direction"]]
    settings = result["settings"]
    size = f"{settings['pairs']:,} pairs" if settings["pairs"] else "all pairs"
    note = (
        f"{result['direction']}, {size}, {settings['steps']:,} updates each; \\*: apart from "
        f"`{starts[0]}`, p < {BY_CHANCE} (paired bootstrap over lines)."
    )
    return f"{markdown(['', *heads], rows)}\n\n{note}"
