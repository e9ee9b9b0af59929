"""What an answer must hold, task by task: a JSON schema, and what a schema cannot say.

The keys are Emu Edit's (instruction, output caption, original and edited object; arXiv 2311.10089, section on
instruction generation) with the input caption beside them, since translations may start from a map. Which
object a task needs follows from its recipe: what is there is looked for to make the mask (local, texture,
remove, background), what comes in is looked for afterwards (add), what is marked stands in both (detect,
segment), and for text both are lettering.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..records import Instruction
from .backend import Nonsense

KEYS = ("instruction", "input_caption", "output_caption", "original_object", "edited_object")
NEEDED, EMPTY, EITHER = "needed", "empty", "either"

# Task -> (original object, edited object).
OBJECTS: dict[str, tuple[str, str]] = {
    "local": (NEEDED, NEEDED),
    "remove": (NEEDED, EMPTY),
    "add": (EMPTY, NEEDED),
    "texture": (NEEDED, EITHER),
    "background": (NEEDED, NEEDED),
    "global": (EMPTY, EMPTY),
    "style": (EMPTY, EMPTY),
    "text": (EITHER, EITHER),
    "detect": (NEEDED, NEEDED),
    "segment": (NEEDED, NEEDED),
    "color": (EMPTY, EMPTY),
    **dict.fromkeys(("depth", "segmentation", "pose", "normal", "sketch"), (EMPTY, EMPTY)),
}
MAPS = ("depth", "segmentation", "pose", "normal", "sketch")
MARKED = ("detect", "segment")
LONGEST = {"instruction": 300, "input_caption": 600, "output_caption": 600}
LONGEST_OBJECT = 80

_ARTICLE = re.compile(r"^(?:an?|the|some)\s+", re.IGNORECASE)


def schema(task: str) -> dict[str, Any]:
    """The JSON schema of an answer for a task, of keywords that every server with schema output knows."""
    kinds = dict(zip(("original_object", "edited_object"), OBJECTS[task], strict=True))
    properties: dict[str, Any] = {key: {"type": "string"} for key in KEYS}
    for key, kind in kinds.items():
        if kind == EMPTY:
            properties[key]["enum"] = [""]
    return {
        "type": "object",
        "properties": properties,
        "required": list(KEYS),
        "additionalProperties": False,
    }


def against_schema(value: Any, rule: Mapping[str, Any], where: str = "the answer") -> None:
    """Raise Nonsense where `value` does not fit a schema made of type, properties, required, enum and
    additionalProperties, which is all that `schema` uses."""
    kinds = {"object": dict, "string": str}
    if not isinstance(value, kinds[rule["type"]]):
        raise Nonsense(f"{where} is {type(value).__name__} instead of {rule['type']}")
    if "enum" in rule and value not in rule["enum"]:
        raise Nonsense(f"{where} is {_short(value)} where it must be {' or '.join(map(repr, rule['enum']))}")
    if rule["type"] != "object":
        return
    known = rule["properties"]
    for key in rule.get("required", ()):
        if key not in value:
            raise Nonsense(f"{where} lacks {key!r}")
    for key, part in value.items():
        if key in known:
            against_schema(part, known[key], f"{key} of {where}")
        elif rule.get("additionalProperties") is False:
            raise Nonsense(f"{where} has the unknown key {_short(key)}")


def read_object(text: str) -> dict[str, Any]:
    """The JSON object of an answer: the whole text, or the one object inside a fence or some chatter.

    Raises Nonsense that says whether there is none or whether it breaks off.
    """
    start = text.find("{")
    if start < 0:
        raise Nonsense(f"the answer holds no JSON object: {_short(text)}")
    try:
        found, _ = json.JSONDecoder().raw_decode(text, start)
    except (json.JSONDecodeError, RecursionError) as problem:
        broken = text.count("{") > text.count("}") or text.count('"') % 2
        what = "breaks off" if broken else "is broken"
        raise Nonsense(f"the answer's JSON {what}: {_short(text[start:])}") from problem
    if not isinstance(found, dict):
        raise Nonsense("the answer is no JSON object")
    return found


def checked(task: str, caption: str, answer: Mapping[str, Any]) -> Instruction:
    """The Instruction that an answer stands for.

    caption: the one that was given. Raises Nonsense with the reason for what fits no schema, is empty or
    endless, changes the given caption, leaves it as it was, or names things that no caption holds.
    """
    answer = dict(answer)
    if task in MARKED:  # one thing under two names
        both = answer.get("original_object") or answer.get("edited_object")
        answer |= {"original_object": both, "edited_object": both}
    against_schema(answer, schema(task))
    fields = {key: " ".join(answer[key].split()) for key in KEYS}
    for key, limit in LONGEST.items():
        if not fields[key]:
            raise Nonsense(f"{key} is empty")
        if len(fields[key]) > limit:
            raise Nonsense(f"{key} has {len(fields[key])} letters, more than {limit}")
    for key, kind in zip(("original_object", "edited_object"), OBJECTS[task], strict=True):
        words = fields[key] = _ARTICLE.sub("", fields[key]).strip(" .")
        if kind == NEEDED and not words:
            raise Nonsense(f"{key} is empty, and the task {task} needs it")
        if len(words) > LONGEST_OBJECT:
            raise Nonsense(f"{key} has {len(words)} letters, more than {LONGEST_OBJECT}")
    _captions(task, caption, fields)
    _objects(task, fields)
    told, before, after, original, edited = (fields[key] for key in KEYS)
    return Instruction(task, told, before, after, original, edited)


def _captions(task: str, caption: str, fields: dict[str, str]) -> None:
    given, before, after = (
        plain(text) for text in (caption, fields["input_caption"], fields["output_caption"])
    )
    if plain(fields["instruction"]) in (given, after) or len(plain(fields["instruction"]).split()) < 2:
        raise Nonsense(f"the instruction {_short(fields['instruction'])} asks for nothing")
    if before == after:
        raise Nonsense("the output caption is the input caption")
    if task in MAPS:  # from the picture to the map, or back
        if before != given and after != given:
            raise Nonsense("neither caption is the given one")
        fields["input_caption" if before == given else "output_caption"] = caption
    elif before != given:
        raise Nonsense(f"it changed the input caption to {_short(fields['input_caption'])}")
    else:
        fields["input_caption"] = caption


def _objects(task: str, fields: dict[str, str]) -> None:
    original, edited = fields["original_object"], fields["edited_object"]
    if task == "text":
        if not (original or edited):
            raise Nonsense("neither the lettering before nor the one after is given")
        return
    before, after = fields["input_caption"], fields["output_caption"]
    if original and not mentions(before, original):
        raise Nonsense(f"the original object {_short(original)} is not in the input caption")
    if task == "remove" and mentions(after, original) >= mentions(before, original):
        raise Nonsense(f"the output caption still holds {_short(original)}")
    if task in ("add", "local") and not mentions(after, edited):
        raise Nonsense(f"the edited object {_short(edited)} is not in the output caption")
    if task == "add" and mentions(before, edited) >= mentions(after, edited):
        raise Nonsense(f"{_short(edited)} is in the input caption already")


def mentions(caption: str, thing: str) -> int:
    """How often the thing's last word, its noun, stands in a caption; singular and plural count alike."""
    words = [_stem(word) for word in plain(caption).split()]
    noun = plain(thing).split()
    return words.count(_stem(noun[-1])) if noun else 0


def plain(text: str) -> str:
    """Lower case, words and numbers alone."""
    return " ".join(re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower().replace("’", "'")))


def _stem(word: str) -> str:
    word = word.removesuffix("'s")
    for end, instead in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x")):
        if word.endswith(end) and len(word) > len(end) + 1:
            return word[: -len(end)] + instead
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def _short(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")
