"""The report of a preparation as one page of HTML that needs no script and no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from xlm.preparation.statistics import BORDERS

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
th, td { padding: 0.2rem 0.7rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child, td.text { text-align: left; }
td.text { font-size: 13px; overflow-wrap: anywhere; }
.bar { display: inline-block; height: 0.8em; background: #4a7ebb; vertical-align: baseline; }
.warn { background: #c0392b; color: #fff; padding: 0.1rem 0.5rem; }
"""

_SIZES = ("sentences", "tokens", "words", "characters", "bytes")


def page(report: Mapping[str, Any]) -> str:
    """Return the page of the figures that ``write_report`` gathers."""
    parts = [
        f"<h1>{escape(str(report['title']))}</h1>",
        f"<p>Tokenizer {escape(str(report['tokenizer'])[:12])}, "
        f"{_number(report['overlap']['vocabulary'])} entries.{_rules(report)}</p>",
        *_sizes(report["texts"]),
        *_read(report["read"]),
        *_held_out(report["held_out"]),
        *_vocabulary(report["overlap"]),
        *_lengths(report["texts"]),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(str(report['title']))}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _rules(report: Mapping[str, Any]) -> str:
    rules = report["normalization"]
    return f" Normalized by {escape(str(rules))}." if rules else ""


def _sizes(texts: Sequence[Mapping[str, Any]]) -> list[str]:
    header = [
        "text", *_SIZES, "subwords a word", "characters a subword", "unknown", "bytes as pieces",
    ]  # fmt: skip
    rows = [
        [
            _name(text),
            *(_number(text[size]) for size in _SIZES),
            _figure(text["fertility"]),
            _figure(text["characters_per_token"]),
            _percent(text["unknown_rate"]),
            _percent(text["byte_rate"]),
        ]
        for text in texts
    ]
    return ["<h2>Text</h2>", _table(header, rows)]


def _name(text: Mapping[str, Any]) -> str:
    side = "" if text["name"] == text["language"] else f" ({text['language']})"
    return f"{text['split']} {text['name']}{side}"


def _read(read: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows, examples = [], []
    for name, own in read.items():
        for reason, number in own["dropped"].items():
            share = number / own["read"] if own["read"] else None
            rows.append([name, reason, _number(number), _percent(share), own["first"][reason]])
            examples += [[name, reason, text] for text in own["examples"].get(reason, ())]
    parts = ["<h2>What was dropped</h2>"]
    totals = [[name, _number(own["read"]), _number(own["kept"])] for name, own in read.items()]
    parts.append(_table(["text", "lines read", "kept"], totals))
    if rows:
        parts.append(_table(["text", "reason", "lines", "share", "first at"], rows))
    else:
        parts.append("<p>Nothing.</p>")
    if examples:
        parts.append(_table(["text", "reason", "example"], examples))
    return parts


def _held_out(texts: Sequence[Mapping[str, Any]]) -> list[str]:
    if not texts:
        return []
    rows = [
        [
            text["name"],
            _number(text["lines"]),
            _number(text["short"]),
            _number(text["exact"]),
            _number(text["edited"]),
            _percent(text["share"]),
        ]
        for text in texts
    ]
    header = ["held-out text", "lines", "too short", "with the same letters", "edited", "share"]
    parts = ["<h2>Held-out lines that stand in training text</h2>"]
    if any(text["share"] for text in texts):
        parts.append('<p><span class="warn">Held-out text is in training text.</span></p>')
    parts.append(_table(header, rows))
    examples = [[text["name"], example] for text in texts for example in text["examples"]]
    if examples:
        parts.append(_table(["held-out text", "held-out line ~ training line"], examples))
    return parts


def _vocabulary(overlap: Mapping[str, Any]) -> list[str]:
    names = overlap["languages"]
    rows = [
        [name, _number(overlap["pieces"][name]), *map(_percent, shares)]
        for name, shares in zip(names, overlap["shares"], strict=True)
    ]
    return [
        "<h2>Shared vocabulary</h2>",
        "<p>Of a row's training subwords, the share whose piece the column's training text has "
        "too.</p>",
        _table(["language", "pieces used", *names], rows),
    ]


def _lengths(texts: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = ["<h2>Lengths in subwords</h2>"]
    for text in texts:
        most = max(text["lengths"], default=0)
        rows = [
            f"<tr><td>{border}{_until(at)}</td><td>{_number(number)}</td>"
            f'<td class="text"><span class="bar" style="width:{20 * number / most:.2f}rem"></span>'
            "</td></tr>"
            for at, (border, number) in enumerate(zip(BORDERS, text["lengths"], strict=True))
            if most
        ]
        share = ", ".join(f"{p} %: {length}" for p, length in text["percentiles"].items())
        parts.append(
            f"<h3>{escape(_name(text))}</h3><p>Percentiles {share}; longest {text['longest']}.</p>"
            f"<table>{''.join(rows)}</table>"
        )
    return parts


def _until(at: int) -> str:
    return f" to {BORDERS[at + 1] - 1}" if at + 1 < len(BORDERS) else " or more"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(text: str) -> str:
    is_figure = text.replace(",", "").replace(".", "").removesuffix(" %").isdigit()
    return f"<td>{escape(text)}</td>" if is_figure else f'<td class="text">{escape(text)}</td>'


def _number(number: int) -> str:
    return f"{number:,}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
