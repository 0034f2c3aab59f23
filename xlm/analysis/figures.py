"""Pictures of a report: curves by layer with their nulls, matrices, principal components.

Their text is Latin; sentences appear only in tables.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xlm.errors import NotInstalled

COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#8c564b", "#e377c2")
NULL_COLORS = {"untrained": "#7f7f7f", "permuted": "#c7c7c7", "length": "#b8a66b"}
NULLS = (
    "untrained", "permuted", "length", "lexical", "chance", "independent", "diagonal",
    "wrong partners", "piece counts", "commonest", "shuffled", "context-free",
)  # fmt: skip
MOST_PANELS = 12
LINES = {"lexical": (0, (1, 1)), "chance": (0, (4, 3)), "piece counts": (0, (3, 1, 1, 1))}
BROAD = 6.0
"""Inches above which a picture is not squeezed into a narrow window, but scrolls."""
Row = Mapping[str, Any]


def matplotlib() -> Any:
    """Return matplotlib's pyplot; raise NotInstalled, which names the extra, if it is missing."""
    try:
        import matplotlib as library

        library.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise NotInstalled(
            "pictures need matplotlib, of the extra analysis: pip install 'xlm-pretrain[analysis]'"
        ) from error
    library.rcParams["svg.hashsalt"] = "xlm"  # the same picture gives the same file
    return pyplot


def curves(title: str, rows: Iterable[Row], measures: Sequence[str]) -> Any:
    """Return a picture of measures by layer, a panel for each text, a color for each line.

    None if no text has figures of two layers or more.
    """
    own = [
        row
        for row in rows
        if row.get("measure") in measures and "layer" in row and row["value"] is not None
    ]
    layers: dict[str, set[int]] = {}
    for row in own:
        layers.setdefault(row.get("of", ""), set()).add(row["layer"])
    panels = [of for of, found in layers.items() if len(found) > 1]
    if not panels:
        return None
    pyplot = matplotlib()
    shown = panels[:MOST_PANELS]
    width = min(3, len(shown))
    height = -(-len(shown) // width)
    size = (4.6 * width + 0.4, 3.4 * height + 0.8)
    figure, axes = pyplot.subplots(height, width, squeeze=False, figsize=size, layout="constrained")
    names: dict[str, Any] = {}
    for panel, place in zip(shown, axes.flat, strict=False):
        names.update(_panel(place, [row for row in own if row.get("of", "") == panel]))
        place.set(title=_latin(f"{title}, {panel}" if panel else title), xlabel="layer")
    for place in axes.flat[len(shown) :]:
        place.set_visible(False)
    if len(panels) > len(shown):
        figure.suptitle(f"the first {len(shown)} of {len(panels)}")
    # nulls last: below the panels the names hide nothing
    handles = sorted(names.items(), key=lambda own: own[0] in NULLS)
    figure.legend(
        [handle for _, handle in handles], [_latin(name) for name, _ in handles],
        loc="outside lower center", ncols=min(len(handles), 3 * width), fontsize="small",
    )  # fmt: skip
    return figure


def _panel(axes: Any, rows: list[Row]) -> dict[str, Any]:
    """Draw measures and nulls; return what stands for each in a legend, by name."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        model = "" if row.get("model", "model") == "model" else f", {row['model']}"
        lines.setdefault(row["measure"] + model, []).append(row)
    names: dict[str, Any] = {}
    for number, (name, points) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        points = sorted(points, key=lambda row: row["layer"])
        layers = [row["layer"] for row in points]
        (names[name],) = axes.plot(
            layers, [row["value"] for row in points], color=color, marker=".", zorder=3
        )
        if all("low" in row for row in points):
            low, high = ([row[end] for row in points] for end in ("low", "high"))
            axes.fill_between(layers, low, high, color=color, alpha=0.12, linewidth=0)
        for null in dict.fromkeys(own for row in points for own in row["nulls"]):
            if (handle := _draw_null(axes, null, points, color)) is not None:
                names.setdefault(null, handle)
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return names


def _draw_null(axes: Any, name: str, points: list[Row], color: str) -> Any:
    """Draw a null of one line: a dashed curve in the line's color, or a band."""
    having = [row for row in points if row["nulls"].get(name, {}).get("value") is not None]
    if not having:
        return None
    layers = [row["layer"] for row in having]
    nulls = [row["nulls"][name] for row in having]
    if name in ("permuted", "length") and all("low" in null for null in nulls):
        low, high = ([null[end] for null in nulls] for end in ("low", "high"))
        shade = NULL_COLORS[name]
        return axes.fill_between(layers, low, high, color=shade, alpha=0.4, linewidth=0)
    style = LINES.get(name, "--")
    shade = color if name == "untrained" else "#404040"
    (line,) = axes.plot(
        layers, [null["value"] for null in nulls], color=shade, linestyle=style, linewidth=1
    )
    return line


def heat_map(title: str, rows: Sequence[str], columns: Sequence[str], values: Any) -> Any:
    """Return a picture of a matrix, its values written into the cells; NaN stays empty."""
    pyplot = matplotlib()
    size = (max(3.4, 1.2 + 0.75 * len(columns)), 1.5 + 0.42 * len(rows))
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    image = axes.imshow(values, cmap="viridis", aspect="auto")
    turned = {"rotation": 45, "ha": "right"} if max(map(len, columns)) > 5 else {}
    axes.set_xticks(range(len(columns)), list(map(_latin, columns)), **turned)
    axes.set_yticks(range(len(rows)), list(map(_latin, rows)))
    middle = image.norm.vmin + (image.norm.vmax - image.norm.vmin) / 2
    for i, line in enumerate(values):
        for j, value in enumerate(line):
            if value == value:
                shade = "black" if value > middle else "white"
                axes.text(j, i, f"{value:.3g}", ha="center", va="center", color=shade, fontsize=7)
    axes.set_title(_wrapped(title, size[0]), fontsize="medium")
    return figure


def scatter(title: str, points: Mapping[str, Sequence[tuple[float, float]]]) -> Any:
    """Return a picture of points, a color for each name; lines join points of equal index."""
    pyplot = matplotlib()
    figure, axes = pyplot.subplots(figsize=(5.5, 4.5))
    sides = list(points.values())
    for group in zip(*sides, strict=False):
        axes.plot(*zip(*group, strict=True), color="#d0d0d0", linewidth=0.4, zorder=1)
    for number, (name, own) in enumerate(points.items()):
        x, y = zip(*own, strict=True)
        axes.scatter(x, y, s=9, color=COLORS[number % len(COLORS)], label=_latin(name), zorder=2)
    axes.legend(fontsize="small")
    axes.set(title=_wrapped(title, 5.5), xlabel="first component", ylabel="second component")
    figure.tight_layout()
    return figure


def _wrapped(title: str, width: float) -> str:
    """Return a title in lines that fit ``width`` inches."""
    return textwrap.fill(_latin(title), max(20, int(11 * width)))


def _latin(text: str) -> str:
    """Return text for a picture, limited to letters that its font has."""
    return "".join(sign if ord(sign) < 0x250 or sign in "σΔ‖₁" else "?" for sign in text)


def save(figure: Any, path: Path) -> str:
    """Write a picture as PNG, return it as SVG for a page, and close it."""
    figure.savefig(path, dpi=130, metadata={"Software": None})
    made = io.StringIO()
    figure.savefig(made, format="svg", metadata={"Date": None, "Creator": None})
    is_broad = figure.get_figwidth() > BROAD
    matplotlib().close(figure)
    text = made.getvalue()
    own = text[text.index("<svg") :]
    return own.replace("<svg", '<svg class="broad"', 1) if is_broad else own
