"""A study's page: one HTML file with tables and plots, which loads nothing from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from xlm.reproduce import plots

UNITS = {
    "nats": ("nats / subword", ".3f"),
    "perplexity": ("perplexity / subword", ",.1f"),
    "word_perplexity": ("perplexity / word", ",.0f"),
    "bits_per_character": ("bits / character", ".3f"),
    "bits_per_byte": ("bits / byte", ".3f"),
    "accuracy": ("accuracy", ".1%"),
}
SHAPES = {
    "rotary": "rotary positions, small normal first values",
    "2019": "the shape of 2019: learned positions",
}
PAPER = {"ne+en": -0.115, "ne+hi": -0.307, "ne+en+hi": -0.363}
"""Differences in nats from Nepali alone, by the perplexities of Table 4 of the paper."""
LARGE = 10_000
"""Means from here on are shown without an interval."""
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; margin: 0 auto;
  max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
th { border-bottom: 2px solid #888; vertical-align: bottom; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  gap: 1rem; }
figure { margin: 0; } figure svg { width: 100%; height: auto; max-width: 36rem;
  overflow: visible; }
figcaption, .note { font-size: 0.9rem; color: #444; }
.partial { background: #fff3cd; padding: 0.5rem 0.8rem; border-radius: 0.3rem; }
"""


def page(figures: Mapping[str, Any]) -> str:
    """Return the page of a study's figures (see ``summarize``)."""
    target, related = figures["target"], figures["related"]
    title = f"Which languages help {target} with {figures['sentences']:,} sentences?"
    body = [f"<h1>{html.escape(title)}</h1>", _opening(figures)]
    if figures["finished"] < figures["planned"]:
        body.append(
            f'<p class="partial">{figures["finished"]} of {figures["planned"]} models are '
            "finished: the same command continues the study, and rows and intervals will change."
            "</p>"
        )
    if figures["shapes"]:
        body.append("<ul>" + "".join(f"<li>{line}</li>" for line in findings(figures)) + "</ul>")
        if not plots.available():
            body.append(
                '<p class="note">No plots: matplotlib is not installed (pip install matplotlib, '
                "then the same command with --report).</p>"
            )
        for test in _tests(figures):
            body.append(_section(figures, test))
        body.append(_more(figures, related))
    content = "\n".join(part for part in body if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{content}\n</body>\n</html>\n"
    )


def findings(figures: Mapping[str, Any]) -> list[str]:
    """Return a sentence (HTML) on each row's difference from the target alone, on test.txt."""
    lines = []
    for shape, rows in figures["shapes"].items():
        for row, own in rows.items():
            found = own["difference"]["test"]
            if found:
                lines.append(
                    f"<b>{html.escape(row)}</b>, {_escaped_shape(shape)}: {found['mean']:+.3f}"
                    f"{_half(found)} nats a subword against {figures['target']} alone: "
                    f"{verdict(found)}."
                )
    return lines


def verdict(found: Mapping[str, Any]) -> str:
    """Return a sentence on a difference and its interval; below zero is better."""
    if found["interval"] is None:
        return "one seed, no interval"
    if abs(found["mean"]) <= found["interval"]:
        return "not shown, zero is in the interval"
    return "better" if found["mean"] < 0 else "worse"


def _opening(figures: Mapping[str, Any]) -> str:
    target, related, unrelated = figures["target"], figures["related"], figures["unrelated"]
    return (
        f"<p>Causal language models of {figures['sentences']:,} sentences of <b>{target}</b>, "
        f"alone and beside {figures['other_sentences']:,} of <b>{related}</b>, <b>{unrelated}</b> "
        f"or both, as in Table 4 of the XLM paper. The row with {unrelated} costs as much as that "
        f"with {related}. Intervals are of 95 %, by Student's t; differences are taken between "
        "models of one seed.</p>"
    )


def _escaped_shape(shape: str) -> str:
    return html.escape(SHAPES.get(shape, shape))


def _half(found: Mapping[str, Any]) -> str:
    return "" if found["interval"] is None else f" ± {found['interval']:.3f}"


def _tests(figures: Mapping[str, Any]) -> list[str]:
    rows = next(iter(figures["shapes"].values()))
    return list(next(iter(rows.values()))["tests"])


def _section(figures: Mapping[str, Any], test: str) -> str:
    name = "test.txt" if test == "test" else test
    parts = [f"<h2>Test text: {html.escape(name)}</h2>"]
    for shape, rows in figures["shapes"].items():
        parts.append(f"<h3>{_escaped_shape(shape)}</h3>{_units_table(rows, test)}")
    if plots.available():
        shapes = figures["shapes"]
        drawn = [
            (
                plots.differences(shapes, test),
                "Difference of each row from the target alone: left of zero is better. A bar is a "
                "95 % interval, a stroke a seed.",
            ),
            (
                plots.kinds(shapes["rotary"], test) if "rotary" in shapes else "",
                "The same by kind of subword, rotary shape: by script, and by whether the subword "
                "occurs at least five times in the training text of the other language.",
            ),
        ]
        parts.append(_figures(drawn))
    return "\n".join(parts)


def _more(figures: Mapping[str, Any], related: str) -> str:
    parts = [f"<h2>Training</h2>{_training_table(figures['shapes'])}"]
    if len(figures["sizes"]) > 1:
        parts.append(f"<h2>More text of {html.escape(figures['target'])}</h2>")
        parts.append(
            f"<p>One seed: where does {html.escape(related)} stop helping? No model has more than "
            "3,000 updates on the target's text, so the largest sizes are read once.</p>"
        )
        parts.append(_sizes_table(figures["sizes"], related))
    if plots.available():
        rotary = figures["shapes"].get("rotary")
        drawn = [
            (
                plots.sizes(figures["sizes"], "test", related),
                "Nats a subword of test.txt by the amount of text, and the difference.",
            ),
            (
                plots.curves(rotary) if rotary else "",
                "Validation text while training, rotary shape, mean over seeds.",
            ),
        ]
        parts.append(_figures(drawn))
    return "\n".join(parts)


def _figures(drawn: Sequence[tuple[str, str]]) -> str:
    made = [
        f"<figure>{svg}<figcaption>{caption}</figcaption></figure>" for svg, caption in drawn if svg
    ]
    return f'<div class="plots">{"".join(made)}</div>' if made else ""


def _units_table(rows: Mapping[str, Any], test: str) -> str:
    heads = ["trained on", "seeds", "difference, nats", *(head for head, _ in UNITS.values())]
    lines = []
    for row, own in rows.items():
        figures, found = own["tests"][test], own["difference"][test]
        seeds = f"{len(own['seeds'])} of {len(own['planned_seeds'])}"
        change = f"{found['mean']:+.3f}{_half(found)}" if found else ""
        units = [shown(figures.get(unit), spec) for unit, (_, spec) in UNITS.items()]
        lines.append([row, seeds, change, *units])
    return _table([*heads, "paper, nats"], [[*line, _paper(line[0])] for line in lines])


def _paper(row: str) -> str:
    return f"{PAPER[row]:+.3f}" if row in PAPER else ""


def shown(found: Mapping[str, Any] | None, spec: str) -> str:
    """Return a mean and half of its interval, in one format; of large numbers the mean alone."""
    if found is None:
        return ""
    half = found["interval"] if found["mean"] < LARGE else None
    return format(found["mean"], spec) + ("" if half is None else f" ± {format(half, spec)}")


def _training_table(shapes: Mapping[str, Any]) -> str:
    heads = [
        "trained on",
        "shape",
        "seeds",
        "peak rate",
        "updates until best",
        "M tokens until best",
    ]
    lines = [
        [
            row, shape, ", ".join(map(str, own["seeds"])), f"{own['peak_lr']:g}",
            shown(own["best_step"], ",.0f"), f"{own['tokens']['mean'] / 1e6:.2f}",
            f"{own['processor_seconds']['mean']:,.0f}",
        ]
        for shape, rows in shapes.items()
        for row, own in rows.items()
    ]  # fmt: skip
    return _table([*heads, "processor seconds"], lines)


def _sizes_table(found: Sequence[Mapping[str, Any]], related: str) -> str:
    tests = list(found[0]["tests"])
    heads = ["sentences"]
    for test in tests:
        heads += [f"{test}: alone", f"with {related}", "difference"]
    lines = []
    for own in found:
        cells = [f"{own['sentences']:,}"]
        for test in tests:
            nats = own["tests"][test]
            cells += [
                f"{nats['alone']:.3f}", f"{nats['beside']:.3f}", f"{nats['difference']:+.3f}"
            ]  # fmt: skip
        lines.append(cells)
    return _table(heads, lines)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
