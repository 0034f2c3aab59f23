"""Look at the machine: versions, devices, back ends, and a check of each.

Use as ``examine(Doctor())``, ``xlm doctor`` or ``python -m xlm.doctor``.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xlm import disk
from xlm.config.cli import run_verb
from xlm.config.console import say
from xlm.errors import DataError, one_line
from xlm.tables import aligned

__all__ = ["Doctor", "Finding", "examine", "main"]

PACKAGES = (
    "torch", "numpy", "sentencepiece", "tokenizers", "safetensors", "datasets", "tensorboard",
    "sacrebleu",
)  # fmt: skip
"""Packages that the library needs."""
FURTHER = {
    "transformers": "import and export of models (the extra hf)",
    "matplotlib": "curves (plot)",
    "sklearn": "analyses (analysis)",
    "rensa": "near duplicates (clean)",
    "wandb": "Weights & Biases (wandb)",
    "datatrove": "preparing text on many machines (cluster)",
    "apex": "NVIDIA's fused Adam and norms; built from its sources",
    "fastBPE": "fastBPE's own code; built from its sources",
}
"""Packages that some things need."""
FEWEST_FILES = 1024
"""Open files that a process should be allowed."""
CLOSE = {"bf16": 2e-2, "fp16": 2e-3}
"""Largest relative error of a product in half precision."""


class Absent(Exception):
    """Something that this machine does not have, and that nothing asks for."""


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Look at this machine: versions, devices, back ends, and try each; status 2 if one fails."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """The device that is tried: auto takes a GPU if there is one."""
    compile: bool = True
    """Compile a small function too, which takes seconds, on a GPU up to a minute."""
    folder: str = "."
    """The folder whose disk is tried: that of your runs."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "absent", "fails"]
    line: str


def examine(config: Doctor) -> list[Finding]:
    """Return a finding for everything that is looked at."""
    checks = [*_versions(), *_machine(config), *_device(config)]
    return [_tried(name, check) for name, check in checks]


Check = tuple[str, Callable[[], str]]


def _tried(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", check())
    except Absent as reason:
        return Finding(name, "absent", str(reason))
    except Exception as error:  # whatever a broken installation raises is the finding
        return Finding(name, "fails", f"{type(error).__name__}: {one_line(error)}")


def _versions() -> list[Check]:
    found: list[Check] = [
        ("xlm", lambda: str(sys.modules["xlm"].__version__)),
        ("Python", lambda: f"{platform.python_version()} on {platform.platform()}"),
    ]
    found += [(name, lambda name=name: _imported(name)) for name in PACKAGES]  # type: ignore[misc]
    for name, use in FURTHER.items():
        found.append((name, lambda name=name, use=use: _further(name, use)))  # type: ignore[misc]
    return found


def _imported(name: str) -> str:
    module = importlib.import_module(name)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return str(getattr(module, "__version__", "no version"))


def _further(name: str, use: str) -> str:
    if importlib.util.find_spec(name) is None:
        raise Absent(f"needed for {use}")
    if name == "apex":
        importlib.import_module("apex.normalization").FusedLayerNorm(8)
        return "its kernels load"
    return _imported(name)


def _machine(config: Doctor) -> list[Check]:
    return [
        ("processors", _processors),
        ("memory", _memory),
        ("open files", _open_files),
        ("disk", lambda: _disk(Path(config.folder))),
        ("C compiler", _compiler),
    ]


def _processors() -> str:
    import torch

    usable, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    return f"{usable} usable, {threads} threads of torch, {torch.backends.cpu.get_cpu_capability()}"


def _memory() -> str:
    size = os.sysconf("SC_PAGE_SIZE")
    total, free = (os.sysconf(name) * size / 2**30 for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    return f"{total:.1f} GiB, {free:.1f} GiB of it free"


def _open_files() -> str:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FEWEST_FILES:
        raise DataError(f"{soft} at a time: expected {FEWEST_FILES:,}; raise ulimit -n")
    return f"{soft:,} at a time" if soft >= 0 else "any number"


def _disk(folder: Path) -> str:
    """Try what checkpoints and prepared text need of a file system."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".xlm-doctor-") as name:
        path = Path(name) / "file"
        path.write_bytes(b"content")
        disk.flush(path)
        disk.flush(path.parent)
        with path.open("rb") as file:
            disk.lock(file)
            locks = "locks" if disk.is_locked(path) else "no locks that are seen"
        if bytes(disk.map_file(path, 7)) != b"content":
            raise DataError("a mapped file holds other bytes than were written")
        os.rename(path, path.with_name("other"))
    free = shutil.disk_usage(folder).free / 2**30
    return f"{free:.1f} GiB free at {folder.resolve()}; renames, flushes, maps, {locks}"


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    raise Absent("torch.compile needs one, on CPUs for the graphs, on GPUs for triton's launcher")


def _device(config: Doctor) -> list[Check]:
    import torch

    from xlm.training.distributed.devices import usable_device

    device = usable_device(config.device)
    found: list[Check] = [("device", lambda: _described(device))]
    found += [
        (f"products in {kind}", lambda kind=kind: _product(device, kind))  # type: ignore[misc]
        for kind in ("fp32", "bf16", "fp16")
    ]
    found += [
        ("attention", lambda: _attention(device)),
        ("fused AdamW", lambda: _fused_adamw(device)),
        ("compile", lambda: _compiled(device) if config.compile else _left_out("compile")),
    ]
    for name in ("gloo", "nccl"):
        found.append((name, lambda name=name: _group(name, torch)))  # type: ignore[misc]
    return found


def _left_out(name: str) -> str:
    raise Absent(f"not tried, as {name} is false")


def _described(device: Any) -> str:
    import torch

    if device.type == "cpu":
        return "CPU; torch finds no GPU" if not torch.cuda.is_available() else "CPU, as asked for"
    properties = torch.cuda.get_device_properties(device)
    return (
        f"{torch.cuda.device_count()} x {properties.name}, "
        f"{properties.total_memory / 2**30:.0f} GiB, compute capability {properties.major}."
        f"{properties.minor}, CUDA {torch.version.cuda}"
    )


def _product(device: Any, kind: str) -> str:
    """Compare a product with the same in float64, and measure its speed."""
    import torch

    from xlm.training.speed import emulated, matmul_ceiling

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[kind]
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(64, 64, generator=generator).to(dtype) for _ in range(2))
    expected = a.double() @ b.double()
    found = (a.to(device) @ b.to(device)).double().cpu()
    error = float(((found - expected) / expected).abs().max())
    if error > CLOSE.get(kind, 1e-3):
        raise DataError(f"a product is off by {error:.1e} of its value")
    speed = matmul_ceiling(device, kind)
    if line := emulated(device, kind, speed):
        raise Absent(line)
    return f"{speed / 1e12:,.2f} TFLOP/s" if speed > 1e12 else f"{speed / 1e9:,.0f} GFLOP/s"


def _attention(device: Any) -> str:
    """Try each kernel that torch may choose, against the plain formula."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 32, 64, generator=generator).to(device, dtype) for _ in range(3))
    scores = (q.float() @ k.float().transpose(-1, -2)) / 8
    expected = scores.softmax(-1) @ v.float()
    having = []
    for name, backend in (
        ("flash", SDPBackend.FLASH_ATTENTION),
        ("memory-efficient", SDPBackend.EFFICIENT_ATTENTION),
        ("cuDNN", SDPBackend.CUDNN_ATTENTION),
        ("plain", SDPBackend.MATH),
    ):
        try:
            with sdpa_kernel(backend):
                found = scaled_dot_product_attention(q, k, v).float()
        except RuntimeError:
            continue
        error = float((found - expected).abs().max())
        if error > (0.05 if dtype == torch.bfloat16 else 1e-4):
            raise DataError(f"{name} attention is off by {error:.1e}")
        having.append(name)
    return ", ".join(having)


def _fused_adamw(device: Any) -> str:
    import torch

    values = []
    for fused in (True, False):
        weight = torch.nn.Parameter(torch.ones(8, device=device))
        optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
        weight.grad = torch.arange(8.0, device=device)
        optimizer.step()
        values.append(weight.detach().cpu())
    if not torch.allclose(values[0], values[1], atol=1e-6):
        raise DataError("its update differs from that of the plain one")
    return "same update as the plain one"


def _compiled(device: Any) -> str:
    import torch

    if device.type == "cpu" and shutil.which(os.environ.get("CXX", "c++")) is None:
        raise Absent("no C compiler")

    def function(x: Any) -> Any:
        return torch.nn.functional.gelu(x * 2).sum(-1)

    x = torch.linspace(-2, 2, 64, device=device).reshape(4, 16)
    if not torch.allclose(torch.compile(function)(x), function(x), atol=1e-5):
        raise DataError("a compiled function gives other numbers")
    return "same numbers as without"


def _group(name: str, torch: Any) -> str:
    """Sum over a group of one process."""
    distributed = torch.distributed
    if not distributed.is_available() or not getattr(distributed, f"is_{name}_available")():
        raise Absent("not in this build of torch")
    if name == "nccl" and not torch.cuda.is_available():
        raise Absent("needs a GPU")
    if distributed.is_initialized():
        raise Absent("a group of processes is there already")
    with tempfile.TemporaryDirectory() as folder:
        store = distributed.FileStore(f"{folder}/store", 1)
        distributed.init_process_group(name, store=store, rank=0, world_size=1)
        try:
            value = torch.ones(3, device="cuda" if name == "nccl" else "cpu")
            distributed.all_reduce(value)
        finally:
            distributed.destroy_process_group()
    if value.tolist() != [1.0] * 3:
        raise DataError(f"a sum over one process is {value.tolist()}")
    return "a group of one process sums"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm doctor``: see ``Doctor``."""

    def act(config: Doctor) -> None:
        found = examine(config)
        rows = [[one.state, one.name, one.line] for one in found]
        for line in aligned(rows, num_names=3):
            say(line.rstrip())
        failing = [one.name for one in found if one.state == "fails"]
        if failing:
            raise DataError(f"{len(failing)} of {len(found)} fail: {', '.join(failing)}")

    run_verb(Doctor, "doctor", act, arguments)


if __name__ == "__main__":
    main()
