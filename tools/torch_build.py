"""Prints the arguments for pip that install the right build of torch for this machine.

A bare `pip install torch` on Linux brings gigabytes of CUDA libraries, whether or not there is a
GPU. So without one only a CPU build is named: the newest `+cpu` version that pip's own
configuration offers, else the one of PyTorch's CPU index; and if there is none, a line says so
and nothing is installed. With a GPU it is the default build, its size said first.

Standard library only, as it runs before anything is installed; it downloads no package.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

OLDEST = (2, 6)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def has_nvidia_gpu() -> bool:
    """Whether the driver shows a device."""
    if glob.glob("/dev/nvidia[0-9]*"):
        return True
    if not shutil.which("nvidia-smi"):
        return False
    found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return found.returncode == 0 and "GPU" in found.stdout


def newest_cpu_version(listing: str) -> str | None:
    """The newest `+cpu` version in the output of `pip index versions torch`, if new enough."""
    versions = re.findall(r"\b(\d+(?:\.\d+)+)\+cpu\b", listing)
    keyed = {tuple(int(part) for part in version.split(".")): version for version in versions}
    newest = max(keyed, default=(0,))
    return f"{keyed[newest]}+cpu" if newest >= OLDEST else None


def default_build_has_cuda(requirements: list[str]) -> bool:
    """Whether a build that requires these packages brings CUDA along."""
    return any(re.match(r"(nvidia|cuda|triton)", name) for name in requirements)


def _pip(*arguments: str, seconds: float = 300) -> str:
    command = [sys.executable, "-m", "pip", *arguments]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return run.stdout if run.returncode == 0 else ""


def cpu_arguments() -> list[str] | None:
    """The newest CPU build on offer, as arguments for `pip install`."""
    version = newest_cpu_version(_pip("index", "versions", "torch"))
    if version:
        return [f"torch=={version}"]
    once = ("--timeout", "10", "--retries", "1")
    listing = _pip("index", "versions", "torch", "--index-url", CPU_INDEX, *once, seconds=60)
    version = newest_cpu_version(listing)
    return ["--extra-index-url", CPU_INDEX, f"torch=={version}"] if version else None


def default_arguments() -> list[str] | None:
    """The default build; says on stderr how much it will download."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        _pip("install", "--dry-run", "--quiet", "--ignore-installed", "--report", report, "torch")
        if not os.path.isfile(report):
            return None
        with open(report, encoding="utf-8") as file:
            items = json.load(file)["install"]
    (torch,) = [item for item in items if item["metadata"]["name"] == "torch"]
    version = torch["metadata"]["version"]
    size = sum(_size(item["download_info"]["url"]) for item in items)
    cuda = default_build_has_cuda([item["metadata"]["name"].lower() for item in items])
    kind = "with CUDA" if cuda else "without CUDA"
    about = f"about {size / 1e9:.1f} GB" if size else "an unknown number of GB"
    say(f"an NVIDIA GPU: torch {version} {kind}, {about} to download")
    return [f"torch=={version}"]


def _size(url: str) -> int:
    """Bytes behind an address, 0 when it does not tell."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method="HEAD"), timeout=10
        ) as answer:
            return int(answer.headers.get("Content-Length") or 0)
    except (OSError, ValueError):
        return 0


def say(line: str) -> None:
    """One line for the user; stdout is for pip's arguments."""
    print(line, file=sys.stderr)


def main() -> int:
    """Print the arguments, one a line; exit with 1 when nothing fits."""
    asked = os.environ.get("XLM_TORCH")
    if asked:
        arguments: list[str] | None = [asked]
    elif sys.platform == "darwin":  # the default build there has no CUDA
        arguments = ["torch"]
    elif has_nvidia_gpu():
        arguments = default_arguments()
        if not arguments:
            say("no torch in pip's index or links for this Python; name one with XLM_TORCH=...")
    else:
        arguments = cpu_arguments()
        if not arguments:
            say(
                "no NVIDIA GPU here, and no CPU build of torch in pip's index or links nor in "
                "PyTorch's CPU index; name one with XLM_TORCH=/path/to/torch.whl (or XLM_TORCH="
                "torch for the default build, which downloads gigabytes of CUDA)"
            )
    print("\n".join(arguments or []))
    return 0 if arguments else 1


if __name__ == "__main__":
    sys.exit(main())
