"""The tables of what training costs on a GPU: by objective, beside transformers, and the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.support.markdown_table import Result, markdown

EAGER = {False: "", "no": ""}
PEER = "peer_tokens_per_second"


def gpu(result: Result) -> str:
    """Speed and memory of each objective; peers in turn with ours; waits, resuming and saving."""
    lines = result.get("lines", [])
    parts = [_training(result["preset"], result["rows"])]
    peers = [line for line in lines if PEER in line]
    rest = [line for line in lines if {"waits_of", "resumed", "save"} & set(line)]
    parts += [_peers(peers)] if peers else []
    parts += [_rest(rest)] if rest else []
    return "\n\n".join(parts)


def _of(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _training(preset: str, lines: list[dict[str, Any]]) -> str:
    rows = []
    for line in lines:
        name = [line["objective"], line["precision"]]
        name += [f"{line['cells']:,} cells"] if "cells" in line else []
        name += [f"scores {line['scores']}"] if "scores" in line else []
        name += [] if line["compiled"] in EAGER else [f"compiled: {line['compiled']}"]
        rows.append([
            ", ".join(name), f"{line['tokens_per_second']:,.0f}",
            _of(line.get("utilization"), ".0%"), _of(line.get("memory_gib"), ".1f"),
            _of(line.get("first_update_s"), ".0f"),
            _of(line.get("recompiles_after_warm_up"), "d"), _of(line.get("waits"), "d"),
        ])  # fmt: skip
    heads = [preset, "tokens / s", "share of the ceiling", "GiB", "first update, s", "recompiles",
             "waits"]  # fmt: skip
    return markdown(heads, rows)


def _peers(lines: list[dict[str, Any]]) -> str:
    rows = [
        [
            line["peer"] + ("" if line.get("compiled", "no") in EAGER else ", ours compiled"),
            f"{line[PEER]:,}", _of(line.get("peer_memory_gib"), ".1f"),
            _of(line.get("times_faster"), ".2f"), _of(line.get("share_of_memory"), ".0%"),
        ]
        for line in lines
    ]  # fmt: skip
    heads = ["of transformers", "its tokens / s", "its GiB", "ours, times as fast", "our memory"]
    return markdown(heads, rows)


def _rest(lines: list[dict[str, Any]]) -> str:
    said = []
    for line in lines:
        if "waits_of" in line:
            said.append(
                f"{line['waits_of']} waits {_of(line['waits'], 'd') or '?'} times an update"
            )
        elif "resumed" in line:
            kind = "compiled" if line["compiled"] else "eager"
            said.append(f"resumed, {kind}: bits {line['bits']}")
        else:
            said.append(
                f"a save of {line['mib']:,.0f} MiB, {line['save']}, stops the loop for "
                f"{line['stall_ms']:,.0f} ms, its copy takes {line['copy_ms']:,.0f} ms, "
                f"an update {line['update_ms']:,.0f} ms"
            )
    return "\n".join(f"- {line}." for line in said)


TABLES: dict[str, tuple[Callable[[Result], str], str]] = {
    "gpu-xlm-15": (gpu, "gpu-xlm-15"), "gpu-mmte": (gpu, "gpu-mmte"),
}  # fmt: skip
