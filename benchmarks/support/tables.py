"""Rebuilds every measured table in README.md and docs/*.md from benchmarks/results/*.json.

    python -m benchmarks.support.tables            write what lies between the markers anew
    python -m benchmarks.support.tables --check    change nothing; exit 1 if a page is out of date

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. ``TABLES`` has a function for
NAME where its figures want one of their own; else ``results/NAME.json`` is shown as ``plain`` does.
Where there is no such file the document says "Not measured yet." A name ledger-PAPER stands for the
comparison with benchmarks/ledger/PAPER.yaml.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.support import (
    analysis_tables,
    gpu_tables,
    growth_tables,
    language_tables,
    many_languages_tables,
    nepali_tables,
)
from benchmarks.support.ledger_tables import ledger
from benchmarks.support.markdown_table import Result, markdown
from benchmarks.support.translation_tables import (
    supervised,
    table3,
    unsupervised_real,
    unsupervised_shifted,
    unsupervised_shifted_search,
)

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(<!-- table: ([\w.+-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOT_MEASURED = "Not measured yet.\n"
SURROUNDINGS = (
    "date",
    "commit",
    "command",
    "processor",
    "cores",
    "hardware",
    "gpu",
    "python",
    "torch",
)


def documents() -> list[Path]:
    """Every document that may hold a table."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rebuilt(text: str, results: Path = RESULTS) -> str:
    """The text of a document with every table made anew from the JSON files in ``results``."""
    return MARKED.sub(lambda match: match[1] + render(match[2], results) + match[3], text)


def render(name: str, results: Path = RESULTS) -> str:
    """What stands between the markers of table ``name``."""
    if name.startswith("ledger-"):
        return ledger(name.removeprefix("ledger-"), results)
    make, file = table_of(name)
    path = results / f"{file}.json"
    if not path.exists():
        return NOT_MEASURED
    result = json.loads(path.read_text(encoding="utf-8"))
    return f"{make(result)}\n\n{surroundings(result)}\n"


def table_of(name: str) -> tuple[Callable[[Result], str], str]:
    """Return the function that makes table ``name``, and the name of its file.

    NAME_2019 holds the former figures of models of the 2019 shape and is made as NAME is.
    """
    make, file = TABLES.get(name.removesuffix("_2019"), (plain, name))
    return make, name if name.endswith("_2019") else file


def surroundings(result: Result) -> str:
    """One line: on what, when, from which commit and by which command it was measured."""
    where = [str(result[k]) for k in ("processor", "hardware", "gpu") if result.get(k)]
    if result.get("cores"):
        where.append(f"{result['cores']} core{'s' if result['cores'] > 1 else ''}")
    versions = [f"{name} {result[name]}" for name in ("python", "torch") if result.get(name)]
    parts = [", ".join(where + versions), str(result.get("date", ""))]
    if result.get("commit"):
        parts.append(f"commit {str(result['commit'])[:7]}")
    if result.get("command"):
        parts.append(f"`{result['command']}`")
    return "*" + "; ".join(part for part in parts if part) + "*"


def plain(result: Result) -> str:
    """Any result: the mappings under ``rows`` (a list, or by name), else one line a value."""
    rows = result.get("rows")
    if isinstance(rows, Mapping):
        rows = [{"": name, **own} for name, own in rows.items()]
    if rows:
        heads = list(dict.fromkeys(head for row in rows for head in row))
        heads = [head for head in heads if all(_is_plain(row.get(head)) for row in rows)]
        cells = [[_show(row.get(head, "")) for head in heads] for row in rows]
        return markdown([head.replace("_", " ") for head in heads], cells)
    values = {k: v for k, v in result.items() if k not in SURROUNDINGS and _is_plain(v)}
    return markdown(["", ""], [[k.replace("_", " "), _show(v)] for k, v in values.items()])


def _is_plain(value: Any) -> bool:
    return not isinstance(value, Mapping | list)


def _show(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def demo(result: Result) -> str:
    """Held-out perplexity of each stream beside its unigram model's."""
    figures = result["figures"].get("figures", result["figures"])
    rows = []
    for stream, own in figures.items():
        unigram = own.get("unigram_perplexity")
        rows.append(
            [
                stream,
                f"{own['perplexity']:.1f}",
                f"{unigram:.1f}" if unigram else "",
                f"{own['perplexity'] / unigram - 1:+.1%}" if unigram else "",
                f"{own['word_perplexity']:,.0f}" if "word_perplexity" in own else "",
                f"{own['bits_per_byte']:.3f}" if "bits_per_byte" in own else "",
                f"{own['accuracy']:.1%}",
                f"{own['targets']:,.0f}",
            ]
        )
    heads = ["held-out text", "perplexity", "unigram model", "difference", "per word"]
    table = markdown([*heads, "bits / byte", "accuracy", "cells"], rows)
    said = f"Installing took {result['install_seconds']} s, the run {result['run_seconds']} s"
    if "second_run_seconds" in result:
        said += f", a second start {result['second_run_seconds']} s"
    return f"{table}\n\n{said}."


def tlm_shifted(result: Result) -> str:
    """Accuracy at the end of each variant's budget, with the true, a wrong and no partner."""
    kinds = ("true pair", "wrong pair", "alone")
    rows = []
    for name, own in result["variants"].items():
        last = own["curve"][-1]
        cells = [f"{last[kind]:.1%}" if kind in last else "" for kind in kinds]
        updates = last["step"] // len(own["objectives"])
        rows.append([name, *cells, f"{updates:,}", f"{own['seconds']:.0f}"])
    heads = ["trained on", "true pair", "wrong pair", "sentence alone (MLM)"]
    return markdown([*heads, "TLM updates", "seconds"], rows)


def fastbpe_equality(result: Result) -> str:
    """Words that both segment alike, and seconds, by language."""
    rows = [
        [
            f"{run['language']}, {run['what']}",
            f"{run['words']:,}",
            f"{run['identical']:,}",
            f"{run['fastbpe_seconds']:.1f}",
            f"{run['xlm_seconds']:.1f}",
        ]
        for run in result["runs"]
    ]
    heads = ["text", "different words", "segmented alike", "fastBPE, s", "xlm, s"]
    return markdown(heads, rows)


def memory(result: Result) -> str:
    """Peak of anonymous memory at each amount of text."""
    rows = [
        [
            run["what"],
            f"{run['lines']:,}",
            f"{run['text_bytes'] / 1e6:.0f}",
            f"{run['peak_anonymous_mib']:.0f}",
            f"{run['seconds']:.1f}",
        ]
        for run in result["runs"]
    ]
    table = markdown(["", "lines a side", "text, MB", "peak anonymous, MiB", "seconds"], rows)
    rise = ", ".join(f"{what}: {share:+.1%}" for what, share in result["rise"].items())
    return f"{table}\n\nRise from the smaller text to the larger: {rise}."


def golden(result: Result) -> str:
    """What was compared with the original's figures, and how many values agree."""
    agree, not_agree = result["rows_that_agree"], result["rows_that_do_not"]
    said = f"{agree} rows of {result['values_that_agree']:,} values agree, {not_agree} do not."
    return f"{plain(result)}\n\n{said}"


def interchange(result: Result) -> str:
    """Every format and direction: parity with the peer, lines that are alike, what is lost."""
    rows = []
    for row in result["rows"]:
        lines = f"{row['identical']:,} of {row['lines']:,}"
        if "identical_as_called" in row:
            lines += f" ({row['identical_as_called']:,} as called)"
        cells = [
            row["format"],
            row["direction"],
            str(row["models"] or ""),
            f"{row['logits']:.1e}" if "logits" in row else "",
            lines,
            row["tokenizers"],
            row["lost"],
        ]
        rows.append(cells)
    heads = ["format", "direction", "models", "max logit difference", "lines identical"]
    return markdown([*heads, "how the tokenizer was called", "lost"], rows)


def _mean(figure: Result | None) -> str:
    """A figure in percent, with half of its interval where there were several seeds."""
    if not figure:
        return ""
    interval = f" ±{100 * figure['interval']:.1f}" if figure.get("interval") is not None else ""
    return f"{100 * figure['mean']:.1f}{interval}"


def by_start(result: Result) -> str:
    """A row a task and language, a column a start (or a way of fine-tuning)."""
    tasks = {name: own["starts"] for name, own in result["tasks"].items()}
    starts = list(dict.fromkeys(start for own in tasks.values() for start in own))
    rows = []
    for name, own in tasks.items():
        figure = result["tasks"][name].get("figure", "accuracy")
        for stream in dict.fromkeys(stream for figures in own.values() for stream in figures):
            language = stream.split("/")[1]
            cells = [_mean(own.get(start, {}).get(stream)) for start in starts]
            rows.append([f"{name}, {language} ({figure})", *cells])
    said = [f"- collapsed to one answer: {line}" for line in result.get("collapsed", [])]
    table = markdown(["%", *starts], rows)
    return "\n".join([table, *([""] if said else []), *said])


def finetuning_shifted(result: Result) -> str:
    """Both tasks in both languages, and how far MLM+TLM is above each other start."""
    lines = []
    for name, own in result["tasks"].items():
        for start, above in own["mlm+tlm above"].items():
            apart = "apart" if above["apart"] else "not apart"
            lines.append(
                f"- {name}, shifted: MLM+TLM is {_mean(above)} points above {start}, seed by seed; "
                f"their intervals are {apart}."
            )
    return "\n".join([by_start(result), "", *lines])


def allocator(result: Result) -> str:
    """How many times as fast, and what it costs in memory, a row for each objective."""
    ratios = ("seconds_ratio", "processor_seconds_ratio")
    peaks = ("resident_mib_kept", "resident_mib_given_back")
    rows = [
        [run["objective"], *(f"{run[n]:.2f}" for n in ratios), *(f"{run[n]:.0f}" for n in peaks)]
        for run in result["rows"]
    ]
    heads = ["objective", "times as fast", "by processor time", "peak MiB, kept", "given back"]
    return markdown(heads, rows)


TABLES: dict[str, tuple[Callable[[Result], str], str]] = {
    "demo": (demo, "demo"),
    "analysis_real": (analysis_tables.small_models, "analysis_real"),
    "analysis_real_overlap": (analysis_tables.overlap, "analysis_real"),
    "analysis_real_encoder": (analysis_tables.encoder, "analysis_real"),
    "nepali": (nepali_tables.nepali, "nepali"),
    "nepali-headline": (nepali_tables.headline, "nepali"),
    "nepali-found": (nepali_tables.found, "nepali"),
    "nepali-units": (nepali_tables.units, "nepali"),
    "nepali-sizes": (nepali_tables.sizes, "nepali"),
    "nepali-kinds": (nepali_tables.kinds, "nepali"),
    "tlm_shifted": (tlm_shifted, "tlm_shifted"),
    "fastbpe_equality": (fastbpe_equality, "fastbpe_equality"),
    "memory": (memory, "memory"),
    "allocator": (allocator, "allocator"),
    "interchange": (interchange, "interchange"),
    "golden": (golden, "golden"),
    "finetuning_shifted": (finetuning_shifted, "finetuning_shifted"),
    "unsupervised_shifted": (unsupervised_shifted, "unsupervised_shifted"),
    "unsupervised_shifted_search": (unsupervised_shifted_search, "unsupervised_shifted_search"),
    "unsupervised_real": (unsupervised_real, "unsupervised_real"),
    "supervised": (supervised, "supervised"),
    "table3": (table3, "table3"),
    "finetuning_real": (by_start, "finetuning_real"),
    "freezing": (by_start, "freezing"),
    **gpu_tables.TABLES,
    **growth_tables.TABLES,
    **many_languages_tables.TABLES,
    **language_tables.TABLES,
}
"""By the name in the marker: what makes the table, and the JSON file it is made from."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say what is not up to date")
    arguments = parser.parse_args()
    stale = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        new = rebuilt(text)
        if new == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not arguments.check:
            path.write_text(new, encoding="utf-8")
    said = (
        "not up to date, run python -m benchmarks.support.tables" if arguments.check else "rebuilt"
    )
    for name in stale:
        sys.stdout.write(f"{name}: {said}\n")
    return int(arguments.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
