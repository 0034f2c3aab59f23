"""The plots of a study as SVG, made by matplotlib; none without it."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKS = ("o", "s", "^", "D", "v", "P")
FONT = 9
"""Points, in a picture that is as wide as a telephone."""
WIDTH = 4.2
"""Inches."""


def available() -> bool:
    """Return whether matplotlib can be imported."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def differences(shapes: Mapping[str, Any], test: str) -> str:
    """Draw each row's gain over the target alone: means, 95 % intervals, and every seed."""
    rows = [
        row
        for row in dict.fromkeys(name for own in shapes.values() for name in own)
        if any(row in own and own[row]["difference"][test] for own in shapes.values())
    ]
    if not rows:
        return ""
    figure, (axes,) = _figure(height=1.1 + 0.45 * len(rows))
    for number, (shape, own) in enumerate(shapes.items()):
        at = [place + 0.28 * (number - (len(shapes) - 1) / 2) for place in range(len(rows))]
        labels = [shape]
        for place, row in zip(at, rows, strict=True):
            if row not in own or not own[row]["difference"][test]:
                continue
            found = own[row]["difference"][test]
            axes.errorbar(
                found["mean"], place, xerr=found["interval"], fmt=MARKS[number], markersize=5,
                color=COLORS[number], capsize=3, label=labels.pop() if labels else None,
            )  # fmt: skip
            places = [place] * len(found["values"])
            axes.plot(found["values"], places, "|", color=COLORS[number], alpha=0.6)
    axes.axvline(0, color="#555555", linewidth=0.8)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.set_xlabel("nats a subword against the target alone")
    axes.legend(loc="best", frameon=False)
    return _svg(figure)


def sizes(found: Sequence[Mapping[str, Any]], test: str, related: str) -> str:
    """Draw nats by the number of target sentences, alone and with the related language."""
    if len(found) < 2:
        return ""
    figure, (axes, below) = _figure(height=4.2, panels=2)
    numbers = [own["sentences"] for own in found]
    for place, (name, label) in enumerate((("alone", "alone"), ("beside", f"with {related}"))):
        nats = [own["tests"][test][name] for own in found]
        axes.plot(numbers, nats, marker=MARKS[place], color=COLORS[place], label=label)
    changes = [own["tests"][test]["difference"] for own in found]
    below.plot(numbers, changes, marker="o", color="#333333")
    below.axhline(0, color="#555555", linewidth=0.8)
    for own in (axes, below):
        own.set_xscale("log")
        own.set_xticks(numbers, [f"{number:,}" for number in numbers])
        own.minorticks_off()
    axes.set_ylabel("nats a subword")
    axes.legend(frameon=False)
    below.set(xlabel="sentences of the target", ylabel="difference")
    return _svg(figure)


def curves(rows: Mapping[str, Any]) -> str:
    """Draw validation nats by update, the mean over seeds of each row."""
    figure, (axes,) = _figure(height=3.0)
    looks = zip(itertools.cycle(COLORS), itertools.cycle(MARKS), strict=False)
    lowest = math.inf
    for (row, own), (color, mark) in zip(rows.items(), looks, strict=False):
        steps, nats = zip(*own["curve"], strict=True)
        axes.plot(steps, nats, color=color, marker=mark, markersize=3, linewidth=1.2, label=row)
        lowest = min(lowest, *nats)
    axes.set_ylim(top=lowest + 2.0, bottom=lowest - 0.1)
    axes.set(xlabel="updates", ylabel="nats a subword, validation text")
    axes.legend(frameon=False)
    return _svg(figure)


def kinds(rows: Mapping[str, Any], test: str) -> str:
    """Draw the difference of each row from the target alone, by kind of subword."""
    having = {row: own for row, own in rows.items() if own["difference"][test]}
    if not having:
        return ""
    names = list(next(iter(having.values()))["difference_by_kind"][test])
    figure, (axes,) = _figure(height=1.3 + 0.4 * len(names))
    for number, (row, own) in enumerate(having.items()):
        found = own["difference_by_kind"][test]
        axes.errorbar(
            [found[name]["mean"] for name in names],
            [place + 0.15 * (number - (len(having) - 1) / 2) for place in range(len(names))],
            xerr=[found[name]["interval"] or 0.0 for name in names],
            fmt=MARKS[number % len(MARKS)], color=COLORS[number % len(COLORS)], markersize=4,
            capsize=2, label=row,
        )  # fmt: skip
    axes.axvline(0, color="#555555", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("nats a subword against the target alone")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.22), ncols=2)
    return _svg(figure)


def _figure(height: float, panels: int = 1) -> tuple[Any, Sequence[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    made = figure.subplots(panels, 1, squeeze=False, sharex=panels > 1)[:, 0]
    for axes in made:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(made)


def _svg(figure: Any) -> str:
    """Return the figure as an SVG element whose text is text."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "xlm"}):
        for text in figure.findobj(lambda artist: hasattr(artist, "set_fontsize")):
            text.set_fontsize(FONT)
        FigureCanvasSVG(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    content = buffer.getvalue()
    return content[content.index("<svg") :]
