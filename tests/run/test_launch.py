"""One training at a time: in a folder, and in a process."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.training import tiny
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.pretrain import pretrain
from xlm.run import launch


@pytest.fixture(scope="module")
def made() -> Corpora:
    return tiny.corpora(40)


def test_one_run_at_a_time(made: Corpora, tmp_path: Path) -> None:
    """Of a folder, and of a process, whose torch generators are one for all threads."""
    run = tiny.recipe(tmp_path, steps=2)
    script = (
        "import sys, time; from pathlib import Path; from xlm.run.folder import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="is being written by another run"):
            pretrain(run, made)
    finally:
        other.kill()
        other.wait()
    errors: list[BaseException] = []

    def again() -> None:
        try:
            pretrain(tiny.recipe(tmp_path / "other", steps=1), made)
        except ConfigError as error:
            errors.append(error)

    with launch._ALONE:
        thread = threading.Thread(target=again)
        thread.start()
        thread.join()
    assert "another training is running in this process" in str(errors[0])
    assert pretrain(run, made).state.step == 2
