"""Write Instructions: edit instructions for captions, by rules or by a language model."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..core.errors import EmuEditError
from ..core.tasks import TASK_IDS
from . import host
from .detectors import _once, make_resident
from .widgets import choice, number, text, whole

if TYPE_CHECKING:
    from ..core.pairs.instructions.backend import Backend
    from ..core.pairs.instructions.usage import Usage
    from ..core.pairs.records import Dropped, Instruction

ALL_TASKS = "all tasks in turn"
EVERYDAY, WORLD = "rules for everyday captions", "rules for the drawn world"
SERVER, LOCAL = "language model on a server", "language model in a local folder"
NONE = "none"
LLM_FOLDERS = ("LLM", "emu_edit_llm")  # models/LLM, which other packs use, and one of our own
KEY_NAME = re.compile(r"EMU_EDIT_[A-Z0-9_]+")
ALLOWED = "EMU_EDIT_SERVERS"
SHOWN = 160  # letters of a cell of the table

_loaded: dict[str, Any] = {}  # the last one; no wire holds it from run to run


def local_models() -> dict[str, Path]:
    """Folders of chat models below models/LLM and models/emu_edit_llm: menu name -> path."""
    if host.folder_paths is None:
        return {}
    found: dict[str, Path] = {}
    for name in LLM_FOLDERS:
        root = Path(host.folder_paths.models_dir) / name
        for config in sorted([*root.glob("*/config.json"), *root.glob("*/*/config.json")]):
            found.setdefault(f"{name}/{config.parent.relative_to(root).as_posix()}", config.parent)
    return found


def check_server(address: str, key_variable: str) -> None:
    """A workflow may come from a stranger: it may name neither any server nor any environment variable.

    This machine is always allowed, other hosts only if EMU_EDIT_SERVERS, which whoever started ComfyUI has
    set, lists them; keys only from variables whose names begin with EMU_EDIT_.
    """
    try:
        host_name = urlsplit(address).hostname or ""
    except ValueError:  # brackets around no address
        host_name = ""
    listed = {name.strip().lower() for name in os.environ.get(ALLOWED, "").split(",") if name.strip()}
    if host_name not in ("127.0.0.1", "localhost", "::1") and host_name not in listed:
        raise EmuEditError(
            f"the server {host_name or address!r} is not on this machine; to allow it, set the environment "
            f"variable {ALLOWED} to its name (several with commas) before ComfyUI starts."
        )
    if key_variable and (not KEY_NAME.fullmatch(key_variable) or key_variable == ALLOWED):
        raise EmuEditError(
            f"the key variable {key_variable!r} is not allowed; copy the key into one whose name begins with "
            "EMU_EDIT_, such as EMU_EDIT_API_KEY."
        )


class WriteInstructions:
    """core.pairs.instructions as a node."""

    ID = "EmuEditWriteInstructions"
    DISPLAY_NAME = "Write Instructions"
    CATEGORY = "Emu Edit/Pairs"
    DESCRIPTION = (
        "Writes edit instructions for captions, with the caption after the edit and the objects it is about, "
        "task by task as in Emu Edit: by rules that need nothing, by a language model's server (Ollama, "
        "vLLM, "
        "llama.cpp and others) or by a local model. Every answer is checked, doubles are dropped, and what "
        "came to nothing is told with its reason."
    )
    SEARCH_ALIASES = [
        "llm",
        "ollama",
        "edit instruction",
        "caption to instruction",
        "prompt generator",
        "pairs",
    ]
    FUNCTION = "write"
    RETURN_TYPES = ("STRING", "STRING", "STRING", "INT")
    RETURN_NAMES = ("instructions", "table", "report", "count")
    OUTPUT_TOOLTIPS = (
        "The instructions, one JSON object a line: task, instruction, captions before and after, "
        "objects. For "
        "Filter Pairs, or to save as .jsonl.",
        "The same as a Markdown table; show it with Preview Any.",
        "How many were written, what was dropped and why, tokens, cost and rate.",
        "How many instructions were written.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "captions": text(
                    "a red ball and a blue cup on a beach",
                    "What the pictures show, in English, one caption a line. The captions are taken in turn.",
                ),
                "task": choice([ALL_TASKS, *TASK_IDS], ALL_TASKS, "The task to write for, or all in turn."),
                "count": whole(8, 1, 1000, "How many instructions to ask for. Doubles and failures count."),
                "seed": whole(
                    0,
                    0,
                    2**32 - 1,
                    "Another seed writes others. Rules always write the same for a seed; of a language "
                    "model it "
                    "draws the exemplars.",
                    control_after_generate=True,
                ),
                "backend": choice(
                    [EVERYDAY, WORLD, SERVER, LOCAL],
                    EVERYDAY,
                    "Who writes. Rules need nothing and know few things; those for the drawn world "
                    "understand "
                    "the captions of the bundled example scenes exactly.",
                ),
                "server": (
                    "STRING",
                    {
                        "default": "http://127.0.0.1:11434/v1",
                        "tooltip": "Address of an OpenAI-compatible server, up to the version. Servers "
                        "on other "
                        "machines must be listed in the environment variable EMU_EDIT_SERVERS.",
                    },
                ),
                "server_model": (
                    "STRING",
                    {"default": "llama3.1", "tooltip": "The model's name on the server."},
                ),
                "key_variable": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Name of the environment variable with the server's key, beginning with "
                        "EMU_EDIT_; empty if it needs none. Never write the key itself here.",
                    },
                ),
                "local_model": choice(
                    [NONE, *local_models()],
                    NONE,
                    "A chat model's transformers folder from models/LLM or models/emu_edit_llm.",
                ),
                "timeout": number(60.0, 1.0, 600.0, 1.0, "Seconds to wait for one answer of the server."),
                "tries": whole(3, 1, 10, "How often to ask before an instruction is given up."),
                "price_in": number(
                    0.0, 0.0, 1000.0, 0.01, "Price of a million tokens read, for the cost in the report."
                ),
                "price_out": number(0.0, 0.0, 1000.0, 0.01, "Price of a million tokens written."),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(
        cls,
        captions: str | None = None,
        backend: str | None = None,
        server: str | None = None,
        key_variable: str | None = None,
        local_model: str | None = None,
    ) -> bool | str:
        if captions is not None and not captions.strip():
            return "The captions are empty; write what the pictures show, one caption a line."
        try:
            if backend == SERVER and server is not None:
                check_server(server, key_variable or "")
            if backend == LOCAL and local_model is not None:
                _chosen(local_model)
        except EmuEditError as slip:
            return str(slip)
        return True

    def write(
        self,
        captions: str,
        task: str,
        count: int,
        seed: int,
        backend: str,
        server: str,
        server_model: str,
        key_variable: str,
        local_model: str,
        timeout: float,
        tries: int,
        price_in: float,
        price_out: float,
    ) -> tuple[str, str, str, int]:
        from ..core.pairs.instructions.usage import Usage
        from ..core.pairs.instructions.write import Writer, WriteSettings, orders
        from ..core.pairs.records import Instruction

        with host.slips_of(self):
            writes = self._backend(backend, server, server_model, key_variable, local_model, timeout)
            usage = Usage(price_in, price_out)
            writer = Writer(writes, WriteSettings(tries=tries), usage, poll=host.stop_if_interrupted)
            tasks = TASK_IDS if task == ALL_TASKS else (task,)
            done: list[Instruction | Dropped] = []
            notes = []
            bar = host.Progress(count)
            try:
                for found in writer.stream(orders(captions.splitlines(), tasks, count, seed)):
                    done.append(found)
                    bar.show(len(done), count)
            except EmuEditError as slip:
                if not any(isinstance(one, Instruction) for one in done):
                    raise
                notes.append(f"Stopped after {len(done)} of {count}: {slip}")
        kept = [one for one in done if isinstance(one, Instruction)]
        lines = "\n".join(json.dumps(one.to_json(), ensure_ascii=False) for one in kept)
        return lines, table(kept), "\n".join([*notes, *report(done, writes.name, usage)]), len(kept)

    @staticmethod
    def _backend(
        backend: str, server: str, model: str, key_variable: str, local_model: str, timeout: float
    ) -> Backend:
        from ..core.pairs.instructions.grammar import Grammar
        from ..core.pairs.instructions.http_server import HttpServer

        if backend in (EVERYDAY, WORLD):
            return Grammar("everyday" if backend == EVERYDAY else "world")
        if backend == SERVER:
            check_server(server, key_variable)
            return HttpServer(server, model, key_variable, timeout)
        folder = _chosen(local_model)
        from ..core.pairs.instructions.local_model import LocalModel

        if str(folder) not in _loaded:
            _loaded.clear()  # one is large enough
        _loaded[str(folder)] = found = _once(folder, host.run_device(), LocalModel.load)
        make_resident(found)
        return found


def _chosen(name: str) -> Path:
    """The folder of a menu entry; no other path can be named."""
    found = local_models().get(name)
    if found is None:
        raise EmuEditError(
            f"the local model {name!r} is not there; put a chat model's folder under "
            f"models/{LLM_FOLDERS[0]}, "
            "press R, and pick it from the menu."
        )
    return found


def table(rows: list[Instruction]) -> str:
    """The instructions as a Markdown table."""
    lines = ["| task | instruction | before | after | objects |", "| --- | --- | --- | --- | --- |"]
    for one in rows:
        objects = " → ".join(filter(None, [one.original_object, one.edited_object]))
        cells = (one.task, one.instruction, one.input_caption, one.output_caption, objects)
        lines.append(f"| {' | '.join(cell.replace('|', '/')[:SHOWN] for cell in cells)} |")
    return "\n".join(lines)


def report(done: list[Instruction | Dropped], name: str, usage: Usage) -> Iterator[str]:
    """Lines: who wrote, the counts, and each order that came to nothing."""
    from ..core.pairs.records import Dropped

    yield f"{name}: {usage.line()}"
    for one in done:
        if isinstance(one, Dropped):
            yield f"dropped: {one.task}, {one.item!r}: {one.reason}"
