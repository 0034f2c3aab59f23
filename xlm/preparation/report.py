"""``report.json`` and ``report.html``: lines read, kept and dropped, and the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlm.data.corpora import Corpora
from xlm.errors import DataError, clipped
from xlm.preparation.overlap import HeldOutLines
from xlm.preparation.page import page
from xlm.preparation.statistics import corpora_figures, vocabulary_overlap
from xlm.storage import read_json, write_json, write_whole
from xlm.text.read_report import ReadReport
from xlm.text.rules import as_json

REPORT, PAGE = "report.json", "report.html"
FORMAT_VERSION = 1


def write_report(
    folder: Path,
    title: str,
    corpora: Corpora,
    reports: Mapping[str, ReadReport],
    held_out: HeldOutLines | None,
) -> None:
    """Write both files beside the corpora in ``folder``.

    ``reports`` count the lines read of each corpus, by split and name with a space between.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "title": title,
        "tokenizer": corpora.tokenizer.digest,
        "normalization": as_json(corpora.tokenizer.rules),
        "read": {name: _read(report) for name, report in reports.items()},
        "texts": corpora_figures(corpora),
        "overlap": vocabulary_overlap(corpora),
        "held_out": [] if held_out is None else _held_out(held_out),
        "found_in_held_out": {} if held_out is None else held_out.num_found,
    }
    write_json(folder / REPORT, content)
    write_whole(folder / PAGE, page(content))


def read_report(folder: Path) -> dict[str, Any]:
    """Return the report of prepared text; raise DataError if it is not as it was written."""
    content = read_json(folder / REPORT, error=DataError)
    version = content.get("format_version")
    kinds = {"read": dict, "held_out": list}
    if version != FORMAT_VERSION or any(
        not isinstance(content.get(name), kind) for name, kind in kinds.items()
    ):
        raise DataError(
            f"{folder / REPORT}: found format_version {version!r} and the keys "
            f"{clipped(', '.join(content))}, expected version {FORMAT_VERSION} with read and "
            "held_out: prepare the text again, or remove the file, which training does not "
            "need"
        )
    return content


def _read(report: ReadReport) -> dict[str, Any]:
    return {
        "read": report.num_read,
        "kept": report.num_kept,
        "dropped": report.dropped,
        "first": report.first,
        "examples": report.examples,
        "spelling_specials": report.num_spelling_specials,
    }


def _held_out(held_out: HeldOutLines) -> list[dict[str, Any]]:
    return [
        {
            "name": text.name,
            "lines": text.num_lines,
            "short": text.num_short,
            "exact": len(text.exact),
            "edited": len(text.edited - text.exact),
            "share": text.share,
            "examples": text.examples,
        }
        for text in held_out.texts
    ]
