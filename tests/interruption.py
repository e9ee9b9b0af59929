"""ComfyUI's button that stops a run, as nodes meet it."""

from __future__ import annotations

from types import SimpleNamespace

from emu_edit.nodes import host


class Stopped(Exception):
    """What ComfyUI raises in the midst of a node."""


def press_stop(monkeypatch) -> None:
    """From now on whoever asks whether to go on is stopped."""

    def stop():
        raise Stopped

    memory = SimpleNamespace(throw_exception_if_processing_interrupted=stop)
    monkeypatch.setattr(host, "comfy_memory", memory)
