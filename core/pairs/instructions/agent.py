"""One agent for each task: what it is told, and the exemplars it is shown, shuffled anew for each caption.

As in Emu Edit (arXiv 2311.10089, section on instruction generation): a system message with the format, an
introduction that explains the keys, a history of exemplars of which each call keeps 60 %, in another order
and with other verbs. One agent for all tasks was less diverse, they say. The words are our own (agents.json,
exemplars.json).
"""

from __future__ import annotations

import json
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

from ...errors import EmuEditError
from ..record_checks import check_task
from .backend import Message, Request, dice
from .rules import KEYS, schema

KEPT = 0.6
HERE = Path(__file__).parent
_SLOT = re.compile(r"\{(\w+?)(2?)\}")


@cache
def agents() -> dict[str, Any]:
    """agents.json: the system message, and for each task its introduction and verbs."""
    return json.loads((HERE / "agents.json").read_text(encoding="utf-8"))


@cache
def exemplars(task: str) -> tuple[dict[str, str], ...]:
    """The exemplars of a task with their verbs still open: "{turn} the cat {turn2} a fox"."""
    rows = json.loads((HERE / "exemplars.json").read_text(encoding="utf-8"))[task]
    return tuple(dict(zip(KEYS, row, strict=True)) for row in rows)


def with_verbs(instruction: str, task: str, rng: random.Random) -> str:
    """Each open verb filled with one of the task's list; "swap ... for" fills {replace} and {replace2}."""
    verbs = agents()["tasks"][task]["verbs"]
    drawn: dict[str, list[str]] = {}

    def filled(slot: re.Match[str]) -> str:
        if slot[1] not in drawn:
            drawn[slot[1]] = rng.choice(verbs[slot[1]]).split(" ... ")
        return drawn[slot[1]][1 if slot[2] else 0]

    text = _SLOT.sub(filled, instruction)
    return text[0].upper() + text[1:] if instruction[0].isupper() else text


def history(task: str, rng: random.Random, keep: float = KEPT) -> list[dict[str, str]]:
    """Exemplars for one call: the share `keep` (0..1] of them, at least one, shuffled, their verbs drawn."""
    if not 0 < keep <= 1:
        raise EmuEditError(f"exemplars: the share kept is {keep}; give more than 0 and at most 1.")
    all_of_them = list(exemplars(task))
    shown = rng.sample(all_of_them, max(1, round(keep * len(all_of_them))))
    return [{**row, "instruction": with_verbs(row["instruction"], task, rng)} for row in shown]


def request(task: str, caption: str, seed: int, attempt: int = 0, keep: float = KEPT) -> Request:
    """The chat for one caption. Another seed, or another attempt, shows other exemplars.

    Raises EmuEditError for an unknown task or an empty caption.
    """
    check_task(task, "agent")
    if not caption.strip():
        raise EmuEditError("captions: one is empty; give a sentence that says what the picture shows.")
    caption = " ".join(caption.split())
    told = agents()
    rng = dice("agent", seed, attempt, task, caption)
    messages: list[Message] = [
        {"role": "system", "content": told["system"]},
        {"role": "user", "content": told["tasks"][task]["introduction"]},
        {"role": "assistant", "content": told["understood"]},
    ]
    for row in history(task, rng, keep):
        given = row["input_caption"]
        if task in told["starts_from_map"]:
            given = min((row["input_caption"], row["output_caption"]), key=len)
        messages.append({"role": "user", "content": asked(given)})
        messages.append({"role": "assistant", "content": json.dumps(row, ensure_ascii=False)})
    messages.append({"role": "user", "content": asked(caption)})
    return Request(task, caption, tuple(messages), schema(task), rng.getrandbits(31))


def asked(caption: str) -> str:
    """How a caption is put, in the exemplars and at last."""
    return f"Caption: {caption}"
