"""Hostile files, which must run nothing, and malformed ones, which must be one line."""

from __future__ import annotations

import io
import pickle
import random
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import xlm
from benchmarks.fault_trials.common import Tally, called, one_line
from xlm.errors import XlmError

CLASS_PATHS = (
    "stranger.Mine", "stranger.sub.Mine", "os.system", "subprocess.Popen", "builtins.eval",
    "xlm.tasks.stranger.Mine", "xlm.objectives..stranger.Mine", "xlm.objectives.masked.os.system",
    "importlib.import_module", "stranger", ".stranger.Mine", "stranger/Mine", "__main__.x",
)  # fmt: skip
TAGS = (
    "!!python/object/apply:os.system ['touch {ran}']", "!!python/name:os.system",
    "!!python/module:stranger", "!!python/object/new:stranger.Mine []",
    "!!python/object:stranger.Mine {{}}",
)  # fmt: skip
STRANGER = "open({ran!r}, 'w').close()\nclass Mine: pass\n"


def hostile(run: Path, folder: Path, quick: bool) -> Tally:
    """Give files that would run code to every verb that reads files of others."""
    tally = Tally("hostile files", "none runs anything; one line each")
    ran = folder / "ran"
    (folder / "stranger.py").write_text(STRANGER.format(ran=str(ran)))
    import sys

    sys.path.insert(0, str(folder))
    try:
        for name, words in _hostile_cases(run, folder, ran):
            status, _, said = called(*words)
            problem = "code was run" if ran.exists() else one_line(status, said)
            tally.add(name, problem)
            ran.unlink(missing_ok=True)
            if quick and tally.num_right >= 5:
                break
    finally:
        sys.path.remove(str(folder))
    return tally


def _hostile_cases(run: Path, folder: Path, ran: Path) -> Iterator[tuple[str, list[str]]]:
    step = max((run / "checkpoints").glob("step-*"))
    for number, path in enumerate(CLASS_PATHS):
        target = folder / f"class-{number}"
        shutil.copytree(step, target)
        tree = yaml.safe_load((target / "config.yaml").read_text())
        tree["objectives"]["mlm"]["class_path"] = path
        (target / "config.yaml").write_text(yaml.safe_dump(tree))
        (target / "config.yaml").touch()
        called("check", str(target), "--accept=true")  # as if it had been written so
        yield f"evaluate, class {path}", ["evaluate", str(target)]
        yield f"check, class {path}", ["check", str(target)]
    for number, tag in enumerate(TAGS):
        recipe = folder / f"tag-{number}.yaml"
        recipe.write_text(f"data: {tag.format(ran=ran)}\nfolder: x\n")
        for verb in ("pretrain", "prepare", "finetune", "evaluate"):
            yield f"{verb}, {tag[:30]}", [verb, f"--config={recipe}"]
    for number, payload in enumerate(_pickles(ran)):
        for name in ("m.pth", "pytorch_model.bin", "model.pt"):
            inside = folder / f"pickle-{number}-{name}"
            inside.mkdir()
            target = _foreign(inside, name)
            target.write_bytes(payload)
            source = str(target if name == "m.pth" else inside)
            yield f"import, pickle {number} as {name}", ["import", source, str(folder / "out")]


class _Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.given = (function, given)

    def __reduce__(self) -> Any:
        return self.given


def _pickles(ran: Path) -> Iterator[bytes]:
    """Yield files that make a file when they are unpickled, in the forms that torch writes."""
    import os

    touch = f"open({str(ran)!r}, 'w').close()"
    calls = [_Calls(os.system, f"touch {ran}"), _Calls(exec, touch), _Calls(eval, touch)]
    for call in calls:
        for content in (call, {"model": call}, {"params": call, "model": {}}):
            for protocol in (2, 4):
                raw = pickle.dumps(content, protocol=protocol)
                yield raw
                archive = io.BytesIO()
                with zipfile.ZipFile(archive, "w") as file:
                    file.writestr("archive/data.pkl", raw)
                    file.writestr("archive/version", "3\n")
                yield archive.getvalue()


def _foreign(inside: Path, name: str) -> Path:
    """Files beside a torch file that let it be taken for a model."""
    if name == "pytorch_model.bin":
        (inside / "config.json").write_text('{"model_type": "xlm-roberta", "vocab_size": 10}')
    if name == "model.pt":
        (inside / "dict.txt").write_text("a 1\n")
    return inside / name


# Malformed.

WRONG: tuple[Any, ...] = ("x y", [1, 2], {"a": 1}, True, -7.5, None, "\0", 10**400)


def malformed(data: Path, run: Path, folder: Path, num: int) -> Tally:
    """Put wrong values into every place of recipes, and wrong bytes into text."""
    tally = Tally("malformed inputs", "no traceback, one line with file and place")
    choose = random.Random(3)
    recipe = folder / "recipe.yaml"
    cases = list(_wrong_values(yaml.safe_load((run / "config.yaml").read_text())))
    choose.shuffle(cases)
    for path, tree in cases[: num * 4 // 5]:
        recipe.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        status, _, said = called("check", str(recipe))
        if status == 0:
            continue  # the value fits
        *_, last = said.strip().splitlines() or [""]
        problem = one_line(status, last, "recipe.yaml")
        tally.add(f"{path}", problem)
    for name, words, place in _wrong_text(data, folder):
        status, _, said = called(*words)
        tally.add(name, one_line(status, said, place))
    for number in range(num // 5):
        name, problem = _wrong_model(run, folder / f"model-{number}", choose)
        tally.add(name, problem)
    return tally


def _wrong_values(tree: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the tree with each of its values replaced by each wrong one."""
    import copy

    def leaves(below: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        if isinstance(below, dict):
            for key, value in below.items():
                yield from leaves(value, (*path, key))
        else:
            yield path

    for path in leaves(tree, ()):
        for value in WRONG:
            changed = copy.deepcopy(tree)
            inside = changed
            for key in path[:-1]:
                inside = inside[key]
            inside[path[-1]] = value
            yield f"{'.'.join(path)} = {str(value)[:20]}", changed


def _wrong_text(data: Path, folder: Path) -> Iterator[tuple[str, list[str], str]]:
    contents = {
        "no UTF-8": b"good line\n\xff\xfe bad\n", "empty": b"", "NUL bytes": b"\0" * 64,
        "UTF-16": "text\n".encode("utf-16"), "gzip": b"\x1f\x8b not gzip", "zstd": b"(\xb5/\xfd no",
    }  # fmt: skip
    for number, (name, content) in enumerate(contents.items()):
        for end in (".txt", ".gz", ".zst"):
            file = folder / f"text-{number}{end}"
            file.write_bytes(content)
            flags = [f"--folder={folder / 'never'}", "--workers=1", f"--vocabulary.folder={data}"]
            words = ["prepare", *flags, f"--text.train={{ne: {file}}}"]
            yield f"prepare, {name} as {end}", words, file.name
    for verb in ("evaluate", "check", "predict", "fill", "export", "import"):
        for what in ("nothing", "empty", "file.txt"):
            (folder / "empty").mkdir(exist_ok=True)
            (folder / "file.txt").write_text("x")
            more = {"export": [str(folder / "o"), "--format=xlm"], "import": [str(folder / "o")]}
            words = [verb, str(folder / what), *more.get(verb, [])]
            yield f"{verb} {what}", words, what


def _wrong_model(run: Path, target: Path, choose: random.Random) -> tuple[str, str]:
    """A model directory one of whose JSON files has another value somewhere, its sums right."""
    shutil.copytree(run / "model", target)
    (target / "SHA256SUMS").unlink()
    name = choose.choice(["config.json", "languages.json", "tokenizer/tokenizer.json"])
    file = target / name
    text = file.read_text(encoding="utf-8")
    at = choose.randrange(len(text))
    file.write_text(text[:at] + choose.choice('{}[]",:x7') + text[at + 1 :], encoding="utf-8")
    try:
        xlm.load(target)
    except XlmError as error:
        return f"{name}:{at}", "" if len(str(error).splitlines()) == 1 else "several lines"
    except Exception as error:
        return f"{name}:{at}", f"{type(error).__name__}: {error}"
    return f"{name}:{at}", ""
