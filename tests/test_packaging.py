"""What is promised of the package as a whole: light to import, honest about its name, clean."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import xlm

HEAVY = ("transformers", "datasets", "tensorboard", "apex", "matplotlib", "fastBPE")


def run_python(code: str, root: Path, *also: Path) -> subprocess.CompletedProcess[str]:
    """``code`` in a fresh interpreter that sees the checkout, and ``also`` after it."""
    path = os.pathsep.join(map(str, (root, *also)))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )


def tracked_files(root: Path) -> list[Path]:
    """The files of the repository; where git is absent, those that it would hold."""
    if shutil.which("git") and (root / ".git").exists():
        listing = subprocess.run(
            ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
        ).stdout
        return [root / name for name in listing.split("\0") if name and (root / name).is_file()]
    made = {".venv", "runs", "build", "dist"}
    return [
        path
        for path in root.rglob("*")
        if path.is_file()
        and not any(
            part in made or part.endswith(("cache", "cache__", ".egg-info", ".hypothesis"))
            for part in path.relative_to(root).parts
        )
    ]


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    with (root / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


@pytest.fixture(scope="module")
def torch_build(root: Path) -> ModuleType:
    """tools/torch_build.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("torch_build", root / "tools/torch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_module_imports_what_is_optional(root: Path) -> None:
    """Every module can be imported, and all of them together bring in nothing heavy."""
    code = f"""
import importlib, pkgutil, sys
import xlm
assert not set(sys.modules) & {{"torch", "numpy"}}
modules = [m.name for m in pkgutil.walk_packages(xlm.__path__, "xlm.")]
for name in modules:
    importlib.import_module(name)
assert len(modules) > 10, modules
print(sorted(set(sys.modules) & set({HEAVY!r})))
"""
    assert run_python(code, root).stdout.strip() == "[]"


def test_dependencies_are_those_agreed_on(project: dict[str, Any]) -> None:
    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in requirements}

    table = project["project"]
    assert names(table["dependencies"]) == set(
        "torch numpy sentencepiece tokenizers safetensors datasets tensorboard jsonargparse pyyaml "
        "tqdm backports.zstd sacrebleu".split()
    )
    extras = table["optional-dependencies"]
    assert set(extras) == {
        "hf",
        "plot",
        "analysis",
        "words",
        "indic",
        "clean",
        "cluster",
        "wandb",
        "wiki",
        "docs",
        "dev",
    }
    everything = names(table["dependencies"]).union(*map(names, extras.values()))
    assert not everything & {"apex", "fastBPE", "fastbpe"}
    for extra in ("plot", "words", "indic", "clean", "wiki"):  # tests need them all
        assert extras[extra] == [name for name in extras["dev"] if name in extras[extra]]


def test_every_module_has_a_floor(project: dict[str, Any], root: Path) -> None:
    (contract,) = project["tool"]["importlinter"]["contracts"]
    placed = re.findall(r"\w+", " ".join(contract["layers"]))
    assert len(placed) == len(set(placed))
    found = {path.stem for path in (root / "xlm").glob("*.py")}
    found |= {path.parent.name for path in (root / "xlm").glob("*/__init__.py")}
    assert found - {"__init__"} <= set(placed)


def test_setup_is_thin_and_the_version_agrees(root: Path) -> None:
    assert len((root / "setup.py").read_text().splitlines()) <= 6
    assert re.fullmatch(r"\d+\.\d+\.\d+", xlm.__version__)
    try:
        installed = importlib.metadata.version("xlm-pretrain")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("xlm-pretrain is not installed, only on the path")
    assert installed == xlm.__version__


def test_no_file_names_a_registry_or_a_path_of_one_machine(root: Path) -> None:
    hosts = "|".join(("pypi" + r"\.org", "python" + "hosted", "npm" + r"js\.", r"deb\.deb" + "ian"))
    places = "|".join(("wo" + "rk", "ro" + "ot", "ho" + "me", "Us" + "ers"))
    unwanted = re.compile(rf"({hosts})|(?<![\w.}}])/({places})/")
    found = []
    for path in tracked_files(root):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found += [f"{path.relative_to(root)}: {match[0]}" for match in unwanted.finditer(text)]
    assert not found


def test_an_unfit_interpreter_is_named(root: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho 3.9.2\nexit 1\n")
    old.chmod(0o755)
    run = subprocess.run(
        ["bash", str(root / "tools/test.sh")],
        env=os.environ | {"PYTHON": str(old), "XLM_VENV": str(tmp_path / "environment")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert f"{old} is 3.9.2" in line and "3.11, 3.12 or 3.13" in line
    assert not (tmp_path / "environment").exists()


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        ("torch (2.15.0)\nAvailable versions: 2.15.0, 2.9.1+cpu, 2.13.0+cpu, 2.13.0", "2.13.0+cpu"),
        ("Available versions: 2.15.0, 2.14.1", None),
        ("Available versions: 2.5.1+cpu", None),
        ("", None),
    ],
)
def test_the_newest_cpu_build_is_chosen(
    torch_build: ModuleType, listing: str, expected: str | None
) -> None:
    assert torch_build.newest_cpu_version(listing) == expected


def test_without_a_gpu_no_default_build_is_ever_named(
    torch_build: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("XLM_TORCH", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(torch_build, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(torch_build, "_pip", lambda *_, **__: "Available versions: 2.15.0, 2.14.1")
    assert torch_build.main() == 1
    said = capsys.readouterr()
    assert said.out.strip() == ""
    assert "no CPU build of torch" in said.err and len(said.err.splitlines()) == 1


def test_cuda_is_recognized_by_what_a_build_requires(torch_build: ModuleType) -> None:
    assert torch_build.default_build_has_cuda(["torch", "sympy", "nvidia-cudnn-cu13"])
    assert not torch_build.default_build_has_cuda(["torch", "sympy", "networkx"])


# The wheel.


def build_wheel(root: Path, folder: Path) -> Path:
    """Build sdist and wheel from a copy of the tracked files; return the wheel."""
    source = folder / "source"
    for path in tracked_files(root):
        name = path.relative_to(root)
        if name.parts[0] in ("xlm", "recipes") or len(name.parts) == 1:
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    (source / "xlm/recipe_files").symlink_to("../recipes")
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist")]
    subprocess.run([*words, str(source)], check=True, capture_output=True, text=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    assert len(list((folder / "dist").glob("*.tar.gz"))) == 1
    return wheel


def install_into_new_environment(wheel: Path, folder: Path) -> Path:
    """Make an environment that holds this wheel alone; return the folder of its programs.

    It borrows torch and the like from the interpreter of the tests, whose folders come after its
    own. An editable xlm is not borrowed: links (``.pth``) in those folders are not followed.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"]
    without = {**outside(), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(
        [*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, env=without
    )
    (packages,) = folder.glob("lib/python*/site-packages")
    assert (packages / "xlm/__init__.py").is_file()
    borrowed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
    return folder / "bin"


def outside() -> dict[str, str]:
    """The variables of this process without those by which Python would find the checkout."""
    return {
        name: value for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }  # fmt: skip


def test_the_link_to_the_recipes_is_tracked(root: Path) -> None:
    assert (root / "xlm/recipe_files").is_symlink()
    assert (root / "xlm/recipe_files").resolve() == root / "recipes"


def test_the_citation_is_of_this_version(root: Path, project: dict[str, Any]) -> None:
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == xlm.__version__
    assert citation["license"] == project["project"]["license"]


def test_an_installed_wheel_works_in_an_empty_folder(root: Path, tmp_path: Path) -> None:
    """The README's example, the list of recipes and a recipe by name, without the checkout."""
    pytest.importorskip("build")
    programs = install_into_new_environment(build_wheel(root, tmp_path), tmp_path / "environment")
    empty = tmp_path / "empty"
    empty.mkdir()

    def said(program: str, *words: str) -> str:
        return subprocess.run(
            [str(programs / program), *words], cwd=empty, env=outside(), check=True,
            capture_output=True, text=True,
        ).stdout  # fmt: skip

    found = said("python", "-c", "import xlm; print(xlm.__file__)")
    assert Path(found.strip()).is_relative_to(tmp_path / "environment")
    assert said("xlm", "--version") == f"xlm {xlm.__version__}\n"
    assert "sample/pretrain  " in said("xlm", "recipes")
    said("xlm", "prepare", "--config", "sample/prepare", "--workers=1")
    assert (empty / "runs/sample/data/corpora.json").exists()
    (example,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    assert 1 < float(said("python", "-c", example).split()[-1]) < 1500
    assert (empty / "first/run/model/README.md").exists()
