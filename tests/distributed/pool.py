"""Processes for tests: one that has imported everything, of which jobs are cheap copies.

    python -m tests.distributed.pool    reads jobs, a JSON object a line; answers with one each

A job is a function of ``tests.distributed.jobs``, called with the same arguments in ``world``
processes that find torchrun's environment and one thread. Each is forked before the parent has
computed anything, returns a JSON value, and ends without cleaning up. When one dies, as of a
SIGKILL, the others are killed, as torchrun does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
TIMEOUT = 120.0


class Pool:
    """The side of the tests."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.distributed.pool"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            cwd=REPOSITORY,
        )  # fmt: skip

    def run(self, job: str, world: int, **arguments: Any) -> list[Any]:
        """What each rank returned; fails with the traceback of one that raised."""
        statuses, results, errors = self.attempt(job, world, **arguments)
        assert statuses == [0] * world, f"{job} on {world}: {statuses}\n" + "\n".join(errors)
        return results

    def attempt(
        self, job: str, world: int, **arguments: Any
    ) -> tuple[list[int], list[Any], list[str]]:
        """Exit statuses (-9: killed), results and tracebacks by rank, whatever became of them."""
        assert self._process.stdin is not None and self._process.stdout is not None
        line = json.dumps({"job": job, "world": world, "arguments": arguments})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["statuses"], answer["results"], answer["errors"]

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=TIMEOUT)


def serve() -> None:
    """The side of the processes."""
    import torch._dynamo  # noqa: F401  # what DDP and the optimizers import when first used

    from tests.distributed import jobs

    warnings.filterwarnings("error", module="xlm")
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            answer = _answer(getattr(jobs, request["job"]), request, Path(folder))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _answer(job: Any, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    world = request["world"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = {}
    for rank in range(world):
        child = os.fork()
        if child == 0:
            _work(job, request["arguments"], rank, world, port, folder)
        children[child] = rank
    statuses = _wait(children)
    results, errors = [], []
    for rank in range(world):
        result, error = folder / f"{rank}.json", folder / f"{rank}.error"
        results.append(json.loads(result.read_text()) if result.exists() else None)
        errors.append(error.read_text() if error.exists() else "")
    return {"statuses": [statuses[rank] for rank in range(world)], "results": results,
            "errors": errors}  # fmt: skip


def _wait(children: dict[int, int]) -> dict[int, int]:
    """Exit statuses by rank; those left are killed when one dies, or when time is up."""
    running, statuses = dict(children), {}
    deadline = time.monotonic() + TIMEOUT
    while running:
        for child in list(running):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                statuses[running.pop(child)] = os.waitstatus_to_exitcode(status)
        if any(statuses.values()) or time.monotonic() > deadline:
            for child in running:
                os.kill(child, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.002)
    return statuses


def _work(
    job: Any, arguments: dict[str, Any], rank: int, world: int, port: int, folder: Path
) -> None:
    status = 1
    try:
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        )  # fmt: skip
        if world == 1:  # a plain process, without torchrun
            for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
                del os.environ[name]
        result = job(**arguments)
        (folder / f"{rank}.json").write_text(json.dumps(result))
        status = 0
    except BaseException:
        (folder / f"{rank}.error").write_text(traceback.format_exc())
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
