"""The checks that the records of this package share, each told in one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any

from torch import Tensor

from ..errors import EmuEditError
from ..predictors.base import TASKS


def check_task(task: Any, where: str) -> str:
    """The task id, or EmuEditError naming `where` it was met."""
    if task not in TASKS:
        raise EmuEditError(f"{where}: {task!r} is no task; give one of {', '.join(TASKS)}.")
    return task


def as_json(item: Any) -> dict[str, Any]:
    """A dataclass's fields in order; mappings and tuples as JSON's own types."""
    record = {}
    for name in item.__dataclass_fields__:
        value = getattr(item, name)
        if isinstance(value, Mapping):
            value = dict(value)
        record[name] = list(value) if isinstance(value, tuple) else value
    return record


def mapping(record: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise EmuEditError(f"{what}: {type(record).__name__} where a record belongs; give a JSON object.")
    return record


def fields_of(cls: type, record: Any, what: str) -> dict[str, Any]:
    """The record's values by field name; EmuEditError for unknown and for missing ones."""
    record = mapping(record, what)
    known = cls.__dataclass_fields__  # type: ignore[attr-defined]
    if strange := sorted(set(record) - set(known)):
        raise EmuEditError(f"{what}: it has the unknown field {strange[0]!r}; give {', '.join(known)}.")
    needed = [
        name for name, each in known.items() if each.default is MISSING and each.default_factory is MISSING
    ]
    if missing := [name for name in needed if name not in record]:
        raise EmuEditError(f"{what}: the field {missing[0]!r} is missing; give {', '.join(needed)}.")
    return dict(record)


def check_text(value: Any, where: str, may_be_empty: bool = False) -> None:
    if not isinstance(value, str):
        raise EmuEditError(f"{where} is {type(value).__name__}; give a text.")
    if not may_be_empty and not value.strip():
        raise EmuEditError(f"{where} is empty; give a text.")


def check_whole(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise EmuEditError(f"{where} is {value!r}; give a whole number from 0.")


def plain(values: Any, where: str) -> dict[str, Any]:
    """A copy made of JSON's own types, as it will be read back (tuples as lists)."""
    try:
        return json.loads(json.dumps(dict(values), allow_nan=False))
    except (TypeError, ValueError) as problem:
        raise EmuEditError(f"{where}: cannot be written as JSON ({problem}); give plain values.") from problem


def file_safe(text: str) -> bool:
    return all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in text)


def shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__
