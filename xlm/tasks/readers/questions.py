"""Questions on paragraphs in SQuAD's JSON (v1.1 and v2.0), as XQuAD and MLQA have it.

Paragraphs are not normalized: answers are counted in their characters (code points).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from xlm import strict_json
from xlm.errors import ConfigError, DataError, clipped
from xlm.strict_json import JsonError, is_whole
from xlm.text import files
from xlm.text.normalize import normalize
from xlm.text.readers import DATASETS, ReadReport, parse_dataset

MISPLACED = "an answer that is not in the text"
_MAX_BYTES = 1 << 31
_ID = re.compile(r'"id"\s*:\s*("(?:[^"\\\n]|\\["\\/bfnrtu])*"|[0-9]+)')


class GoldAnswer(NamedTuple):
    """``context[start : start + len(text)] == text``."""

    text: str
    start: int
    """Offset in characters of the paragraph."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question on one paragraph."""

    id: str
    question: str
    """Normalized."""
    context: str
    """The paragraph as the file has it."""
    answers: tuple[GoldAnswer, ...]
    """Empty if the text has no answer (v2.0), or answers were not asked for."""
    title: str
    language: str
    place: str
    """The file, and the question's id."""


class _Found(NamedTuple):
    """A question as its source has it."""

    id: Any
    question: Any
    context: str
    answers: Any
    impossible: bool
    title: str
    place: str


def read_questions(
    source: str,
    *,
    language: str = "",
    articles: Collection[str] | None = None,
    labeled: bool = True,
    misplaced: str = "error",
    report: ReadReport | None = None,
) -> Iterator[Question]:
    """Read the questions of a SQuAD JSON file, or of a ``datasets:`` source with SQuAD's columns.

    ``articles`` keeps the questions of those titles. ``labeled=False`` reads files whose questions
    come without answers. An answer that is not at its place in the file is a DataError or, with
    ``misplaced="drop"``, the question is dropped and counted in ``report``. Raises ConfigError for
    another ``misplaced`` and for titles that the file does not have; DataError, naming file, line
    and question, for invalid JSON or JSON without SQuAD's shape, a question without answers that is
    not marked ``is_impossible``, an id that comes twice, and a file without questions.
    """
    if misplaced not in ("error", "drop"):
        raise ConfigError(f"misplaced={misplaced!r}: expected 'error' or 'drop'")
    source, report = str(source), ReadReport() if report is None else report
    wanted = None if articles is None else set(articles)
    seen: set[str] = set()
    titles: set[str] = set()
    is_dataset = source.startswith(DATASETS)
    found = _dataset_questions(source) if is_dataset else _file_questions(source)
    for one in found:
        titles.add(one.title)
        question = _question(one, language, labeled)
        if question.id in seen:
            raise DataError(f"{one.place}: found this id twice, expected ids that differ")
        seen.add(question.id)
        if wanted is not None and one.title not in wanted:
            continue
        bad = [a for a in question.answers if not _stands(a, question.context)]
        if bad and misplaced == "error":
            there = question.context[bad[0].start : bad[0].start + len(bad[0].text)]
            raise DataError(
                f"{one.place}: found {there[:40]!r} at character {bad[0].start}, expected "
                f"the answer {bad[0].text[:40]!r}; fix the file, or drop such questions"
            )
        if bad:
            report.drop(MISPLACED, one.place)
            continue
        report.keep(one.place, question.question, question.context)
        yield question
    if wanted is not None and wanted - titles:
        raise ConfigError(
            f"{source}: found no article {clipped(repr(sorted(wanted - titles)[0]))}, expected "
            "titles such as "
            f"{clipped(', '.join(sorted(titles)[:3]))}"
        )
    if not seen:
        raise DataError(f"{source}: found no question, expected at least one")


def _stands(answer: GoldAnswer, context: str) -> bool:
    return answer.start >= 0 and context.startswith(answer.text, answer.start)


def _question(found: _Found, language: str, labeled: bool) -> Question:
    where = found.place
    if not (isinstance(found.id, str) or is_whole(found.id)) or not isinstance(found.question, str):
        raise DataError(f"{where}: found no text in id or question, expected both")
    answers: list[GoldAnswer] = []
    for answer in (found.answers or []) if labeled and not found.impossible else []:
        text, start = answer.get("text"), answer.get("answer_start")
        if not isinstance(text, str) or not text.strip() or not is_whole(start):
            raise DataError(
                f"{where}: found an answer {clipped(repr(text))} at {clipped(repr(start))}, "
                "expected text and the number of its first character"
            )
        answers.append(GoldAnswer(text, start))
    if found.impossible and found.answers:
        raise DataError(f"{where}: found answers and is_impossible, expected one or the other")
    if labeled and not answers and not found.impossible:
        raise DataError(f"{where}: found no answer, expected one, or is_impossible: true")
    return Question(
        id=str(found.id),
        question=normalize(found.question),
        context=found.context,
        answers=tuple(answers),
        title=found.title,
        language=language,
        place=where,
    )


def _file_questions(path: str) -> Iterator[_Found]:
    text = _read(path)
    try:
        data = strict_json.parse(text)
    except JsonError as error:
        raise DataError(
            f"{path}{error.suffix}: found no JSON ({error}), expected a file in SQuAD's format"
        ) from None
    lines = _lines_of_ids(text)
    for index, article in enumerate(_list(data, "data", path)):
        at = f"{path}: data[{index}]"
        for number, paragraph in enumerate(_list(article, "paragraphs", at)):
            own = f"{at}.paragraphs[{number}]"
            questions = _list(paragraph, "qas", own)
            context = paragraph.get("context")
            if not isinstance(context, str):
                raise DataError(f"{own}: found no text in context, expected the paragraph")
            for row in questions:
                if not isinstance(row, Mapping):
                    raise DataError(f"{own}.qas: found {type(row).__name__}, expected an object")
                line = lines.get(str(row.get("id")), 0)
                place = (
                    f"{path}{f':{line}' if line else ''}: question {clipped(str(row.get('id')))}"
                )
                yield _Found(
                    id=row.get("id"),
                    question=row.get("question"),
                    context=context,
                    answers=_answers(row.get("answers"), place),
                    impossible=row.get("is_impossible") is True,
                    title=str(article.get("title", "")),
                    place=place,
                )


def _lines_of_ids(text: str) -> dict[str, int]:
    """Return the line of each id, the last of one that comes twice: JSON does not record lines."""
    lines: dict[str, int] = {}
    line, cursor = 1, 0
    for match in _ID.finditer(text):
        line += text.count("\n", cursor, match.start())
        cursor = match.start()
        lines[str(json.loads(match[1]))] = line
    return lines


def _answers(value: Any, place: str) -> Sequence[Mapping[str, Any]]:
    """Return SQuAD's list of objects; ``datasets`` has an object of lists."""
    if isinstance(value, Mapping) and {"text", "answer_start"} <= set(value):
        texts, starts = value["text"], value["answer_start"]
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            return [
                {"text": text, "answer_start": start}
                for text, start in zip(texts, starts, strict=True)
            ]
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise DataError(f"{place}: found answers {str(value)[:40]!r}, expected a list of objects")
    return value


def _list(value: Any, key: str, place: str) -> list[Any]:
    if not isinstance(value, Mapping) or not isinstance(value.get(key), list):
        found = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise DataError(f"{place}: found {found[:80]}, expected an object with a list {key!r}")
    members: list[Any] = value[key]
    return members


def _read(path: str) -> str:
    lines: list[bytes] = []
    for raw in files.raw_lines(path, _MAX_BYTES):
        if raw is None:
            raise DataError(f"{path}: a line exceeds 2 GiB, expected JSON that fits in memory")
        lines.append(raw)
    try:
        return b"\n".join(lines).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: byte 0x{error.object[error.start]:02x} is not valid UTF-8: convert "
            "the file to UTF-8"
        ) from None


def _dataset_questions(source: str) -> Iterator[_Found]:
    name, settings = parse_dataset(source)
    for number, row in enumerate(files.dataset_rows(name, **settings), 1):
        place = f"{DATASETS}{name}:{number}: question {clipped(str(row.get('id')))}"
        if not isinstance(row.get("context"), str):
            raise DataError(f"{place}: found {clipped(', '.join(row))}, expected text in 'context'")
        answers = _answers(row.get("answers"), place)
        impossible = not answers  # v2.0 on the hub marks them by an empty list alone
        yield _Found(
            row.get("id"), row.get("question"), row["context"], answers, impossible,
            str(row.get("title", "")), place,
        )  # fmt: skip
