"""The documents are true: their code runs, their commands parse, their tables are up to date.

Marks stand on the line before a fenced block: ``<!-- not run -->``, ``<!-- run -->`` (a shell block
that is executed, not only parsed), ``<!-- file: NAME -->`` (written into the folder first). The
README's code runs first, and every page goes on in the folder that it leaves.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support import nepali_tables, tables
from xlm.__main__ import run as run_verb
from xlm.add_language import AddLanguage
from xlm.analyze import Analyze
from xlm.bleu import Bleu
from xlm.check import Check
from xlm.config.cli import parse, parser
from xlm.config.validation import Checker
from xlm.convert import Export, Import
from xlm.describe import Describe
from xlm.doctor import Doctor
from xlm.embed import Embed
from xlm.errors import ConfigError
from xlm.evaluate import Evaluate
from xlm.fill import Fill
from xlm.finetune import Finetune
from xlm.generate import Generate
from xlm.model.config import ModelConfig
from xlm.model.presets import PRESETS
from xlm.plug import Plug
from xlm.predict import Predict
from xlm.prepare import Prepare
from xlm.recipes import Recipes
from xlm.reproduce import Reproduce
from xlm.run.config import Run
from xlm.runs import Runs
from xlm.score import Score
from xlm.search import Search
from xlm.text.tokenizers.tokenizer import LAYOUTS
from xlm.training.journal import read_metrics
from xlm.training.schedule import ScheduleKind
from xlm.translate import Translate

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
ALL_PAGES = [*PAGES, "CHANGELOG.md", "benchmarks/README.md"]
VERBS: dict[str, tuple[type, str]] = {
    "prepare": (Prepare, ""),
    "pretrain": (Run, ""),
    "evaluate": (Evaluate, "folder"),
    "add-language": (AddLanguage, "model folder"),
    "plug": (Plug, "model module folder"),
    "finetune": (Finetune, ""),
    "predict": (Predict, "model file"),
    "check": (Check, "path"),
    "fill": (Fill, "model file"),
    "generate": (Generate, "model file"),
    "score": (Score, "model file"),
    "embed": (Embed, "model file output"),
    "search": (Search, "index queries"),
    "translate": (Translate, "model file"),
    "analyze": (Analyze, "model"),
    "recipes": (Recipes, "study"),
    "describe": (Describe, "path"),
    "bleu": (Bleu, "hypotheses references"),
    "reproduce": (Reproduce, "study"),
    "doctor": (Doctor, ""),
    "runs": (Runs, "folder"),
    "import": (Import, "source folder"),
    "export": (Export, "source folder"),
}
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>not run|run|file: \S+) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what it holds, its mark, and where it begins."""

    page: str
    line: int
    language: str
    code: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, text: str | None = None) -> list[Block]:
    text = text_of(page) if text is None else text
    return [
        Block(
            page,
            text[: match.start("code")].count("\n"),
            match["language"],
            match["code"],
            match["mark"] or "",
        )
        for match in FENCE.finditer(text)
    ]


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a shell block, without comments."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def verb_of(words: list[str]) -> tuple[str, list[str]] | None:
    """The verb and the arguments of a command of ours; None for any other."""
    if words[0] == "xlm":
        return words[1], words[2:]
    if words[0] in ("python", "torchrun") and "-m" in words:
        at = words.index("-m")
        name = words[at + 1].removeprefix("xlm.")
        if name in VERBS:
            return name, words[at + 2 :]
    return None


SHELL = [
    pytest.param(words, id=f"{block}: {' '.join(words)[:60]}")
    for page in ALL_PAGES
    for block in blocks(page)
    if block.language == "sh" and block.mark != "run" and page != "docs/tutorial.md"
    for words in commands(block)
]
"""Commands that are parsed here; those of the tutorial, which need its files, in its own test."""
YAML = [
    pytest.param(block, id=str(block))
    for page in ALL_PAGES
    for block in blocks(page)
    if block.language == "yaml" and not block.mark.startswith("file")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the pages' code runs; on leaving, the classes that it defined are forgotten."""
    path = tmp_path_factory.mktemp("documents")
    before = set(sys.modules)
    yield path
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == path:
            del sys.modules[name]
    gc.collect()


def run_page(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write the files of a page, then run its blocks in their order; what Python they leave."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    names: dict[str, Any] = {"__name__": "documents"}
    for block in blocks(page):
        if block.mark.startswith("file: "):
            (folder / block.mark.removeprefix("file: ")).write_text(block.code, encoding="utf-8")
        elif block.language == "python" and block.mark != "not run":
            exec(compile(block.code, str(block), "exec"), names)
        elif block.language == "sh" and block.mark == "run":
            for words in commands(block):
                found = verb_of(words)
                assert found is not None, words
                run_verb(*found)
    return names


@pytest.fixture(scope="module")
def after_readme(folder: Path) -> dict[str, Any]:
    """What README's code leaves behind."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return run_page("README.md", folder, monkeypatch)


def test_the_example_of_the_readme_trains_a_model(
    folder: Path, after_readme: dict[str, Any]
) -> None:
    (block,) = [b for b in blocks("README.md") if b.language == "python"]
    assert len([line for line in block.code.splitlines() if line]) <= 11
    lines = read_metrics(folder / "first" / "run" / "metrics.jsonl")
    (figures,) = [line for line in lines if line["event"] == "valid"]
    # As the README says: 60 updates learn something, but do not beat a unigram model.
    assert figures["mlm/ne"]["unigram_perplexity"] < figures["mlm/ne"]["perplexity"] < 1500 / 2


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_the_code_of_a_page_runs(
    page: str,
    folder: Path,
    after_readme: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_page(page, folder, monkeypatch)
    said = capsys.readouterr().out
    if page == "docs/extending.md":
        assert "stars/en" in said and "stars/ne" in said
        lines = read_metrics(folder / "matching" / "metrics.jsonl")
        (valid,) = [line for line in lines if line["event"] == "valid"]
        assert {"tlm/en-ne", "matching/en-ne"} <= set(valid)
    if page == "docs/data.md":
        assert "uint16" in said


class ParsedError(Exception):
    """Raised instead of running a script whose arguments were parsed."""


def parse_benchmark(module: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a script of benchmarks/ parse its arguments, and stop it there."""
    assert module.startswith("benchmarks."), module
    script = importlib.import_module(module)
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser) -> None:
        parse_args(parser)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", [str(script.__file__), *words])
    with pytest.raises(ParsedError):
        script.main()


@pytest.mark.parametrize("words", SHELL)
def test_a_command_of_a_page_can_be_given(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for entry in ROOT.iterdir():
        if entry.name != "runs":
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "runs").mkdir()  # the commands before it have made it
    monkeypatch.chdir(tmp_path)
    if (found := verb_of(words)) is not None:
        cls, positional = VERBS[found[0]]
        # --help and the like end the program, with status 0 where they could be given.
        try:
            parse(cls, *(found[0], found[1], positional))
        except SystemExit as error:
            assert not error.code and capsys.readouterr().out
    elif words[:2] == ["python", "-m"]:
        parse_benchmark(words[2], words[3:], monkeypatch)
    elif words[0].startswith("./tools/"):
        assert (ROOT / words[0]).stat().st_mode & 0o100
    else:
        assert words[:2] == ["pip", "install"], words
        assert words[2:] in (
            ["torch", "--index-url", "https://download.pytorch.org/whl/cpu"],
            ["-e", "."],
        )


def test_every_benchmark_has_a_command_and_every_name_of_one_exists() -> None:
    given = {words[2] for each in SHELL for words in each.values if words[:2] == ["python", "-m"]}
    scripts = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "benchmarks").rglob("*.py")
        if "def main()" in path.read_text(encoding="utf-8")
    }
    assert scripts <= given, scripts - given
    for page in ALL_PAGES:
        now = re.sub(r"<!-- table: .*?<!-- end -->", "", text_of(page), flags=re.DOTALL)
        names = {
            name.replace(".", "/") + ".py" for name in re.findall(r"-m (benchmarks[.\w]+)", now)
        }
        names |= set(re.findall(r"\bbenchmarks/[\w/]+\.py", now))
        if page == "benchmarks/README.md":
            names |= {f"benchmarks/{name}" for name in re.findall(r"`([\w/]+\.py)`", now)}
        assert not {name for name in names if not (ROOT / name).exists()}, page


@pytest.mark.parametrize("block", YAML)
def test_the_keys_of_a_recipe_exist(block: Block, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(block.code, encoding="utf-8")
    top = re.findall(r"^(\w+):", block.code, re.MULTILINE)
    cls = Prepare if set(top) <= {f.name for f in fields(Prepare)} else Run
    cls = Finetune if "tasks" in top else cls
    Checker(cls).file(recipe)


def test_a_wrong_command_or_recipe_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError):
        parse(Evaluate, "evaluate", ["runs/sample", "--wich", "best"], "folder")
    for module, words in (("tables", ["--chekc"]), ("table", [])):
        with pytest.raises((SystemExit, ModuleNotFoundError)), monkeypatch.context() as patched:
            parse_benchmark(f"benchmarks.support.{module}", words, patched)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("objectives: {clm: {class_path: CausalLM, init_args: {lenght: 3}}}\n")
    with pytest.raises(ConfigError, match="lenght"):
        Checker(Run).file(recipe)
    page = "a\n<!-- not run -->\n```python\n1 / 0\n```\n\n```sh\nxlm evaluate x  # y\n```\n"
    first, second = blocks("page", page)
    assert (first.mark, first.language, first.line) == ("not run", "python", 3)
    assert commands(second) == [["xlm", "evaluate", "x"]] and not second.mark


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_a_file_to_write_is_named_where_readers_see_it(page: str) -> None:
    """The mark before a block is a comment, which no page shows."""
    for found in re.finditer(r"<!-- file: (\S+) -->", text_of(page)):
        name, before = found[1], text_of(page)[: found.start()].rstrip()
        shown = before.rpartition("\n\n")[2]
        assert f"`{name}`" in shown, f"{page}: {name}"


def test_the_architecture_names_every_module_and_no_other() -> None:
    page = text_of("docs/architecture.md")
    named = set(re.findall(r"`(xlm/[\w/]+\.py)`", page))
    room = ""
    for line in page.splitlines():
        if "|" not in line:
            continue
        first, second = (line.split("|") + [""] * 3)[1:3]
        if head := re.findall(r"`(xlm/[\w/]+/)`", first + second):
            room = head[0]
        named |= {room + name for name in re.findall(r"`(\w+\.py)`", line) if room}
    existing = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "xlm").rglob("*.py")
        if path.name != "__init__.py"
    }
    assert existing <= named, existing - named
    assert not {name for name in named if not (ROOT / name).exists()}


def test_every_preset_layout_and_schedule_is_described() -> None:
    training, data = text_of("docs/training.md"), text_of("docs/data.md")
    for name in PRESETS:
        config = ModelConfig(preset=name)
        (line,) = [x for x in training.splitlines() if x.startswith("| `") and f"`{name}`" in x]
        cells = [cell.strip() for cell in line.split("|")[2:-1]]
        sizes = (config.dim, config.num_layers, config.num_heads, config.num_decoder_layers)
        languages = "yes" if config.language_embeddings else "no"
        assert cells == [*map(str, sizes), languages, config.positions]
    assert all(f"`{kind}`" in training for kind in ScheduleKind.__args__)  # type: ignore[attr-defined]
    assert all(f"| `{layout}` |" in data for layout in LAYOUTS)


def test_every_field_has_a_line_of_help() -> None:
    """The documents send readers to ``--help`` for the fields that they leave out."""
    for verb, (cls, _) in VERBS.items():
        shown = parser(cls, verb).format_help()
        assert all(f"--{field.name}" in shown for field in fields(cls))


# The tables.


def test_tables_are_up_to_date() -> None:
    for page in PAGES:
        text = text_of(page)
        assert tables.rebuilt(text) == text, f"{page}: run python -m benchmarks.support.tables"


def test_every_result_is_shown_and_every_marker_closed() -> None:
    pages = "".join(map(text_of, PAGES))
    shown = re.findall(r"<!-- table: ([\w.+-]+) -->", pages)
    assert len(shown) == pages.count("<!-- end -->")
    files = {tables.table_of(name)[1] for name in shown}
    assert {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")} <= files


def test_a_table_is_made_of_the_figures_in_the_file(tmp_path: Path) -> None:
    page = (
        "before\n<!-- table: demo -->\nold\n<!-- end -->\nafter\n<!-- table: new -->\n<!-- end -->"
    )
    assert tables.rebuilt(page, tmp_path).count("Not measured yet.") == 2
    own = {"perplexity": 90.0, "unigram_perplexity": 120.0, "accuracy": 0.25, "targets": 1000.0}
    demo = {"install_seconds": 61, "run_seconds": 200, "figures": {"mlm/ne": own}, "cores": 2}
    (tmp_path / "demo.json").write_text(json.dumps(demo))
    (tmp_path / "new.json").write_text(json.dumps({"rows": [{"a_b": 1234, "c": 0.5, "d": [1]}]}))
    made = tables.rebuilt(page, tmp_path)
    assert "| mlm/ne | 90.0 | 120.0 | -25.0% |  |  | 25.0% | 1,000 |" in made
    assert "| a b | c |" in made and "| 1,234 | 0.5 |" in made
    assert (
        "old" not in made and made.startswith("before\n") and "after\n<!-- table: new -->" in made
    )
    assert tables.rebuilt(made, tmp_path) == made


def test_what_nepali_gained_is_said_with_its_sign() -> None:
    def row(nats: float, difference: Any, seeds: int = 5) -> dict[str, Any]:
        units = {"nats": nats, "perplexity": 148.4, "word_perplexity": 9e9, "bits_per_byte": 1.0}
        means = {name: {"mean": own, "interval": 0.01} for name, own in units.items()}
        return {
            "tests": {"test": means, "flores": means},
            "seeds": list(range(seeds)),
            "planned_seeds": [0, 1, 2, 3, 4],
            "difference": {"test": difference, "flores": difference},
        }

    better = {"mean": -0.1, "interval": 0.02, "values": [-0.1] * 5}
    result = {
        "shapes": {
            "rotary": {"ne": row(5.0, None), "ne+hi": row(4.9, better)},
            "2019": {"ne+en": row(5.05, {"mean": 0.05, "interval": None, "values": [0.05]}, 1)},
        },
        "finished": 11,
        "planned": 46,
        "sizes": [],
    }
    line = nepali_tables.headline(result)
    assert "values: ne+hi -0.100 ± 0.020 (paper -0.307) nats a subword against ne alone." in line
    table = nepali_tables.nepali(result)
    assert "| rotary | ne+hi | 5 of 5 | -0.100 ± 0.020 | -0.307 | 4.900 ± 0.010 |" in table
    assert "| 2019 | ne+en | 1 of 5 | +0.050 | -0.115 |" in table
    assert "| ne+hi, rotary | FLORES | -0.100 ± 0.020 |" in nepali_tables.units(result)
    assert "| 9,000,000,000 |" in nepali_tables.units(result), "no interval of a large number"
    found = nepali_tables.found(result)
    assert (
        "- `ne+hi`, rotary positions, small normal first values: -0.100 ± 0.020 nats a subword "
        "against Nepali alone, 5 seeds: better; the paper's perplexities: -0.307." in found
    )
    assert "1 seed: one seed, no interval" in found and "11 of 46 models are finished" in found
    assert nepali_tables.sizes(result) == "Not measured yet."


def test_the_check_fails_on_a_stale_document(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "README.md"
    page.write_text("<!-- table: demo -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "documents", lambda: [page])
    monkeypatch.setattr(tables.rebuilt, "__defaults__", (tmp_path,))
    monkeypatch.setattr(sys, "argv", ["tables.py", "--check"])
    assert tables.main() == 1 and "old" in page.read_text()
    monkeypatch.setattr(sys, "argv", ["tables.py"])
    assert tables.main() == 0 and "Not measured yet." in page.read_text()
    monkeypatch.setattr(sys, "argv", ["tables.py", "--check"])
    assert tables.main() == 0
    capsys.readouterr()
