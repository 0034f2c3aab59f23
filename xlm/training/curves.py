"""Curves of ``metrics.jsonl``: one color a language, the unigram model as a dashed line."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlm.errors import ConfigError
from xlm.languages import LanguagePair
from xlm.training.journal import numbers, read_metrics

ENDINGS = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".eps", ".ps", ".webp", ".tif", ".tiff")
"""Endings of pictures that matplotlib writes."""
LANGUAGE_COLORS = (
    "#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#e377c2", "#8c564b",
    "#bcbd22",
)  # fmt: skip
NEUTRAL_COLORS = ("#404040", "#808080", "#b0b0b0")
"""Color of pairs, and of the losses of objectives, which belong to no language."""
NEUTRAL_MARKERS = ("s", "^", "D", "v")
UNIGRAM = "unigram_"
"""Opens the name of the unigram model's figure beside the model's own."""
FEWEST_UNMARKED = 30
"""Curves of fewer points have a mark at each."""
FEWEST_TIMES = 20
"""The scale is logarithmic if the largest value is more than so many times the smallest."""


@dataclass(frozen=True)
class Curve:
    """The values of one figure of one stream, in one kind of evaluation, over the steps."""

    run: str
    """The run's folder if there are several, else empty."""
    event: str
    """``train``, ``valid`` or ``test``."""
    stream: str
    """Objective and language (``mlm/en``), an objective alone for its loss."""
    is_unigram: bool = False
    """True if the values are those of the unigram model."""

    @property
    def label(self) -> str:
        """The name in the legend."""
        run = f"{self.run}: " if self.run else ""
        return f"{run}{self.event} {self.stream}".rstrip()

    @property
    def part(self) -> str | None:
        """Language or pair; None for values of a whole objective."""
        return self.stream.rsplit("/", 1)[1] if "/" in self.stream else None


Panel = Mapping[Curve, list[tuple[int, float]]]


def plot_curves(
    paths: Path | str | Sequence[Path | str],
    output: Path | str,
    figures: Sequence[str] = ("loss", "perplexity"),
) -> None:
    """Draw curves over steps into ``output`` (PNG, SVG or PDF by its ending).

    One panel per name in ``figures``, one line per file and value whose path has that name in it
    (``loss/mlm``, ``mlm/en/perplexity``), and a dashed one for the unigram model's value beside it
    (``mlm/en/unigram_perplexity``). All lines of a language share a color; pairs and losses are
    gray. Raises ConfigError if matplotlib is missing or nothing has such a name.
    """
    paths = [paths] if isinstance(paths, Path | str) else list(paths)
    panels: dict[str, dict[Curve, list[tuple[int, float]]]] = {name: {} for name in figures}
    for path in paths:
        run = Path(path).parent.name if len(paths) > 1 else ""
        for line in read_metrics(path):
            for name, value in numbers(line):
                for panel, curve in _curves(run, line["event"], name, panels):
                    panels[panel].setdefault(curve, []).append((line["step"], value))
    drawn = {panel: curves for panel, curves in panels.items() if curves}
    if not drawn:
        raise ConfigError(
            f"{', '.join(map(str, paths))}: no value is named {' or '.join(figures)}; train for "
            "at least one report first"
        )
    figure = draw(drawn)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120)


def check_picture(output: Path | str) -> None:
    """Raise ConfigError for a picture that ``plot_curves`` could not write by its ending."""
    ending = Path(output).suffix.lower()
    if ending not in ENDINGS:
        raise ConfigError(
            f"picture {output}: found the ending {ending!r}, expected one of {', '.join(ENDINGS)}"
        )


def _curves(run: str, event: str, name: str, panels: Iterable[str]) -> list[tuple[str, Curve]]:
    """Return the panels that a value belongs to, and the curve in each."""
    parts, found = name.split("/"), []
    for panel in panels:
        for own, is_unigram in ((panel, False), (UNIGRAM + panel, True)):
            if own in parts:
                stream = "/".join(part for part in parts if part != own)
                found.append((panel, Curve(run, event, stream, is_unigram)))
    return found


def draw(panels: Mapping[str, Panel]) -> Any:
    """Return a figure of matplotlib with the panels side by side; ConfigError if it is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            f"curves need matplotlib ({error}); install it: pip install matplotlib "
            "(the extra `plot` of this package)"
        ) from error
    figure = Figure(figsize=(7.5 * len(panels), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        _draw_panel(axes, name, curves)
    return figure


def _draw_panel(axes: Any, name: str, curves: Panel) -> None:
    looks = _looks(curves)
    for curve, points in curves.items():
        color, marker = looks[curve.run, curve.stream]
        if curve.is_unigram:
            # languages above pairs, which often lie at the same height
            height = 1.5 if color in NEUTRAL_COLORS else 1.6
            axes.axhline(points[-1][1], color=color, linestyle="--", linewidth=1.2, zorder=height)
            continue
        marker = marker if len(points) < FEWEST_UNMARKED else ""
        line = ":" if curve.event == "test" else "-"
        axes.plot(
            *zip(*points, strict=True), label=curve.label, color=color, marker=marker,
            markersize=4, linestyle=line,
        )  # fmt: skip
    if any(curve.is_unigram for curve in curves):
        axes.plot([], [], label="unigram model", color=NEUTRAL_COLORS[0], linestyle="--")
    axes.set(xlabel="step", ylabel=name, title=name)
    axes.set_xlim(left=0)
    values = [y for points in curves.values() for _, y in points if math.isfinite(y)]
    if values and min(values) > 0:
        if "perplexity" in name or max(values) > FEWEST_TIMES * min(values):
            _scale_by_factors(axes)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _scale_by_factors(axes: Any) -> None:
    """Give the panel a logarithmic scale whose marks are plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _looks(curves: Iterable[Curve]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return color and mark of each stream of each run.

    A name is taken for a pair if both of its languages have a stream too. With several runs a
    language has a color in each.
    """
    streams = list(dict.fromkeys((curve.run, curve.stream, curve.part) for curve in curves))
    parts = {part for _, _, part in streams if part is not None}
    bright = itertools.cycle(LANGUAGE_COLORS)
    neutral = zip(itertools.cycle(NEUTRAL_COLORS), itertools.cycle(NEUTRAL_MARKERS), strict=False)
    of_languages: dict[tuple[str, str], str] = {}
    found = {}
    for run, stream, part in streams:
        if part is None or any(parts >= set(pair) for pair in LanguagePair.readings(part)):
            found[run, stream] = next(neutral)
        else:
            if (run, part) not in of_languages:
                of_languages[run, part] = next(bright)
            found[run, stream] = of_languages[run, part], "."
    return found
