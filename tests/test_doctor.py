"""The doctor finds what is there, says what is absent, and fails for what is broken."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch

from xlm import doctor
from xlm.doctor import Doctor, Finding, examine, main


def found(tmp_path: Path) -> dict[str, Finding]:
    config = Doctor(device="cpu", compile=False, folder=str(tmp_path))
    return {one.name: one for one in examine(config)}


def test_this_machine_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = found(tmp_path)
    assert not [one for one in every.values() if one.state == "fails"]
    assert every["torch"].line == torch.__version__ and every["numpy"].line == numpy.__version__
    assert every["compile"] == Finding("compile", "absent", "not tried, as compile is false")
    assert every["nccl"].state == ("ok" if torch.cuda.is_available() else "absent")
    assert "plain" in every["attention"].line and "FLOP/s" in every["products in fp32"].line
    assert not list(tmp_path.iterdir())
    main(["--device=cpu", "--compile=false", f"--folder={tmp_path}"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(every) and lines[0].split()[:2] == ["ok", "xlm"]


def test_what_is_broken_fails_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return q + 1

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no_such_package"))
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda _: (256, 256))
    every = found(tmp_path)
    failing = {name: one.line for name, one in every.items() if one.state == "fails"}
    assert list(failing) == ["no_such_package", "open files", "attention"]
    assert "attention is off by" in failing["attention"]
    assert "expected 1,024; raise ulimit -n" in failing["open files"]
    with pytest.raises(SystemExit) as end:
        main(["--device=cpu", "--compile=false", f"--folder={tmp_path}"])
    assert end.value.code == 2
    assert "3 of" in capsys.readouterr().err


def test_apex_without_its_kernels_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apex").mkdir()
    (tmp_path / "apex/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    apex = found(tmp_path)["apex"]
    assert apex.state == "fails" and "apex.normalization" in apex.line
