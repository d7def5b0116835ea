"""Files of questions in the format of SQuAD v1.1, JSON: articles of paragraphs of questions with answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mtlbench.errors import UsageError

from ..._text.lines import stream, unusable
from .questions import Answer, Question


def read(path: Path, repeats: bool = False) -> list[Question]:
    """The questions of a file, plain or `.gz`, in its order.

    XTREME's scripts take the answers out of test files and leave one empty text at place 0; such questions have no
    answers here. Offsets count Unicode characters. Articles stand under `data`, or are the whole of the file.

    Args:
        path: the file.
        repeats: whether ids may repeat, as in TyDiQA's training files: one that was there before is made different by
            the number of its question in the file, counted from 1, such as `12@57`.

    Raises:
        UsageError: names the file and the place in it: no JSON (with the line), something missing or of another type, a
            context or question without text, a character that is half of a surrogate pair, an id that was there before,
            an answer that does not stand at its offset, answers at some questions only. Or a file without a question.
    """
    questions: list[Question] = []
    seen: set[str] = set()
    for where, context, entries in _paragraphs(path, _json(path)):
        for number, entry in enumerate(entries, 1):
            name = _text(path, entry, "id", f"question {number} of {where}")
            place = f"question {name}"
            text = _text(path, entry, "question", place)
            answers = _answers(path, entry, context, place)
            if name in seen:
                if not repeats:
                    raise unusable(path, f"{place} is there twice")
                name = f"{name}@{len(questions) + 1}"
            seen.add(name)
            questions.append(Question(name, text, context, answers, key=context, leads=number == 1))
    if not questions:
        raise unusable(path, "it has no question")
    without = [question.name for question in questions if not question.answers]
    if 0 < len(without) < len(questions):
        raise unusable(path, f"question {without[0]} has no answer, and others of the file have")
    return questions


def _json(path: Path) -> Any:
    text = "\n".join(stream(path))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise unusable(path, f"line {error.lineno} is not JSON, at place {error.colno} ({error.msg})") from error
    except (RecursionError, ValueError) as error:
        raise unusable(path, f"it cannot be read as JSON ({error})") from error


def _paragraphs(path: Path, found: Any) -> Iterator[tuple[str, str, Sequence[Any]]]:
    """Where each paragraph stands, its context and its questions."""
    articles = _list(path, found, "data", "the file") if isinstance(found, dict) else found
    if not isinstance(articles, list):
        raise unusable(path, f"it holds {_kind(found)}, and expected is an object with data")
    for number, article in enumerate(articles, 1):
        for place, paragraph in enumerate(_list(path, article, "paragraphs", f"article {number}"), 1):
            where = f"paragraph {place} of article {number}"
            entries = _list(path, paragraph, "qas", where)
            name = entries[0].get("id") if entries and isinstance(entries[0], dict) else None
            told = f"{where}, with question {name}," if isinstance(name, str) else where
            yield where, _text(path, paragraph, "context", told), entries


def _answers(path: Path, entry: Any, context: str, place: str) -> tuple[Answer, ...]:
    found: list[Answer] = []
    for answer in _list(path, entry, "answers", place):
        text, start = _value(path, answer, "text", str, place), _value(path, answer, "answer_start", int, place)
        if text == "" and start == 0:
            continue
        if not text.strip():
            raise unusable(path, f"{place} has an answer without text")
        if start < 0 or context[start : start + len(text)] != text:
            raise unusable(path, f"{place} has the answer {text[:60]!r}, which is not at {start} of its context")
        found.append(Answer(start, text))
    return tuple(found)


def _text(path: Path, found: Any, key: str, where: str) -> str:
    text: str = _value(path, found, key, str, where)
    if not text.strip():
        raise unusable(path, f"{where} has no text for {key!r}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise unusable(
            path, f"{where}: character {error.start} of its {key!r} is half of a surrogate pair, {text[error.start]!a}"
        ) from error
    return text


def _list(path: Path, found: Any, key: str, where: str) -> list[Any]:
    entries: list[Any] = _value(path, found, key, list, where)
    return entries


def _value(path: Path, found: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(found, dict):
        raise unusable(path, f"{where} holds {_kind(found)}, and expected is an object with {key!r}")
    if key not in found:
        raise _without(path, where, key)
    value = found[key]
    if type(value) is not kind:
        raise unusable(path, f"{where} has {_kind(value)} for {key!r}, and expected is {_KINDS[kind]}")
    return value


def _without(path: Path, where: str, key: str) -> UsageError:
    return unusable(path, f"{where} has no {key!r}")


_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def _kind(value: Any) -> str:
    return _KINDS[type(value)]
