"""Results as JSON files, each with the hardware, versions, commit, command and date."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def surroundings() -> dict[str, Any]:
    """Return where and how a figure was measured, without a path of the machine."""
    import torch

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    arguments = [a if "/" not in a else "/".join(Path(a).parts[-2:]) for a in sys.argv[1:]]
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "command": " ".join(["python", "-m", _module(), *arguments]),
        "processor": f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})",
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write(name: str, figures: dict[str, Any], folder: Path | None = None) -> Path:
    """Write ``results/NAME.json``, or ``folder/NAME.json``: the surroundings, then the figures."""
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    content = json.dumps({**surroundings(), **figures}, indent=1, ensure_ascii=False)
    path.write_text(content + "\n", encoding="utf-8")
    return path


def _module() -> str:
    """Return the dotted name of the script that runs, from the root of the checkout."""
    script = Path(sys.argv[0]).resolve().with_suffix("")
    return ".".join(script.relative_to(ROOT).parts) if script.is_relative_to(ROOT) else script.name


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
