"""Pictures of a report: curves by layer with their nulls, matrices, principal components.

Their text is Latin; sentences appear only in tables.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xlm.errors import ConfigError

COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#8c564b", "#e377c2")
NULL_COLORS = {"untrained": "#7f7f7f", "permuted": "#c7c7c7", "length": "#b8a66b"}
LINES = {"lexical": (0, (1, 1)), "chance": (0, (4, 3)), "piece counts": (0, (3, 1, 1, 1))}
Row = Mapping[str, Any]


def matplotlib() -> Any:
    """Return matplotlib's pyplot; raise ConfigError, which names the extra, if it is missing."""
    try:
        import matplotlib as library

        library.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise ConfigError(
            "pictures need matplotlib, of the extra analysis: pip install 'xlm-pretrain[analysis]'"
        ) from error
    library.rcParams["svg.hashsalt"] = "xlm"  # the same picture gives the same file
    return pyplot


def curves(title: str, rows: Iterable[Row], measures: Sequence[str]) -> Any:
    """Return a picture of measures by layer, a panel for each text, a color for each line.

    None if no row has one of the measures and a layer.
    """
    own = [
        row
        for row in rows
        if row.get("measure") in measures and "layer" in row and row["value"] is not None
    ]
    panels = list(dict.fromkeys(row.get("of", "") for row in own))
    if not own:
        return None
    pyplot = matplotlib()
    width = min(3, len(panels))
    height = -(-len(panels) // width)
    size = (4.6 * width + 0.4, 3.4 * height + 0.4)
    figure, axes = pyplot.subplots(height, width, squeeze=False, figsize=size)
    for panel, place in zip(panels, axes.flat, strict=False):
        _panel(place, [row for row in own if row.get("of", "") == panel])
        place.set(title=_latin(f"{title}, {panel}" if panel else title), xlabel="layer")
    for place in axes.flat[len(panels) :]:
        place.set_visible(False)
    figure.tight_layout()
    return figure


def _panel(axes: Any, rows: list[Row]) -> None:
    lines: dict[str, list[Row]] = {}
    for row in rows:
        model = "" if row.get("model", "model") == "model" else f", {row['model']}"
        lines.setdefault(row["measure"] + model, []).append(row)
    drawn: set[str] = set()
    for number, (name, points) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        points = sorted(points, key=lambda row: row["layer"])
        layers = [row["layer"] for row in points]
        axes.plot(layers, [row["value"] for row in points], color=color, marker=".", label=name)
        if all("low" in row for row in points):
            low, high = ([row[end] for row in points] for end in ("low", "high"))
            axes.fill_between(layers, low, high, color=color, alpha=0.2, linewidth=0)
        for null in dict.fromkeys(own for row in points for own in row["nulls"]):
            _draw_null(axes, null, points, color, drawn)
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize="x-small")


def _draw_null(axes: Any, name: str, points: list[Row], color: str, drawn: set[str]) -> None:
    """Draw a null of one line: a dashed curve in the line's color, or a band."""
    having = [row for row in points if row["nulls"].get(name, {}).get("value") is not None]
    if not having:
        return
    layers = [row["layer"] for row in having]
    nulls = [row["nulls"][name] for row in having]
    label = None if name in drawn else name
    drawn.add(name)
    if name in ("permuted", "length") and all("low" in null for null in nulls):
        low, high = ([null[end] for null in nulls] for end in ("low", "high"))
        axes.fill_between(
            layers, low, high, color=NULL_COLORS[name], alpha=0.5, linewidth=0, label=label
        )
        return
    style = LINES.get(name, "--")
    shade = color if name == "untrained" else "#404040"
    axes.plot(layers, [null["value"] for null in nulls], color=shade, linestyle=style,
              linewidth=1, label=label)  # fmt: skip


def heat_map(title: str, rows: Sequence[str], columns: Sequence[str], values: Any) -> Any:
    """Return a picture of a matrix, its values written into the cells; NaN stays empty."""
    pyplot = matplotlib()
    size = (1.2 + 0.75 * len(columns), 1.2 + 0.42 * len(rows))
    figure, axes = pyplot.subplots(figsize=size)
    image = axes.imshow(values, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(columns)), list(map(_latin, columns)), rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), list(map(_latin, rows)))
    middle = image.norm.vmin + (image.norm.vmax - image.norm.vmin) / 2
    for i, line in enumerate(values):
        for j, value in enumerate(line):
            if value == value:
                shade = "black" if value > middle else "white"
                axes.text(j, i, f"{value:.3g}", ha="center", va="center", color=shade, fontsize=7)
    axes.set_title(_latin(title))
    figure.tight_layout()
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
    axes.set(title=_latin(title), xlabel="first component", ylabel="second component")
    figure.tight_layout()
    return figure


def _latin(text: str) -> str:
    """Return text for a picture, limited to letters that its font has."""
    return "".join(sign if ord(sign) < 0x250 or sign in "σΔ‖₁" else "?" for sign in text)


def save(figure: Any, path: Path) -> str:
    """Write a picture as PNG, return it as SVG for a page, and close it."""
    figure.savefig(path, dpi=130, metadata={"Software": None})
    made = io.StringIO()
    figure.savefig(made, format="svg", metadata={"Date": None, "Creator": None})
    matplotlib().close(figure)
    text = made.getvalue()
    return text[text.index("<svg") :]
