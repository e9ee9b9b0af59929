"""Whatever writes instructions: one small protocol, and how a backend says that something went wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}


@dataclass(frozen=True)
class Request:
    """One question: a task and a caption, and the same as a chat with the answer's JSON schema.

    purpose: "instruction", or "object" for the question that reduces a possessive. seed: fixes all chance.
    stopped: tells that nobody wants the answer any more; a backend that can leave off then does.
    """

    task: str
    caption: str
    messages: Sequence[Message]
    schema: Mapping[str, Any]
    seed: int
    purpose: str = "instruction"
    stopped: Callable[[], bool] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Answer:
    """What came back: the text, and the tokens read and written (0 where nothing counts them)."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """Answers requests. `name` goes into the records; it never holds a secret.

    writes_objects: whether it can answer the second question too; the rules take its place otherwise.
    """

    @property
    def name(self) -> str: ...

    @property
    def writes_objects(self) -> bool: ...

    def answer(self, request: Request) -> Answer: ...


class Nonsense(ValueError):
    """An answer that cannot be used, and why; asking again may help. Not a user's slip."""


class Trouble(RuntimeError):
    """No answer came. again: whether asking again may help; wait: seconds that the server asked for.

    broken: the backend itself seems to be away, as against this one question.
    """

    def __init__(self, reason: str, again: bool = True, wait: float | None = None, broken: bool = True):
        super().__init__(reason)
        self.again, self.wait, self.broken = again, wait, broken


def dice(*parts: object) -> random.Random:
    """A generator that follows from its parts alone, the same on every machine."""
    return random.Random("\x1f".join(map(str, parts)))
