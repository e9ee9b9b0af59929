"""A progress bar on stderr; where that is no terminal, nothing but the lines that commands print."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

WIDTH = 24


class Bar:
    """One line that is redrawn: `with Bar() as bar: bar.show("turn 1/2", 3, 20)`, and gone at the end."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.visible = self.stream.isatty()
        self._label = ""
        self._since = time.perf_counter()
        self._first = 0
        self._length = 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def show(self, label: str, done: int, total: int) -> None:
        """Redraw for `done` of `total` steps of `label`; the time left is reckoned from its first step."""
        if label != self._label:
            self._label, self._since, self._first = label, time.perf_counter(), done
        filled = WIDTH * done // max(1, total)
        line = f"{label} [{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{total}"
        if done > self._first:
            each = (time.perf_counter() - self._since) / (done - self._first)
            line += f", {each * (total - done):.0f} s left"
        self._draw(line)

    def say(self, text: str) -> None:
        """Show words instead, while something takes long that cannot be counted."""
        self._draw(text)

    def clear(self) -> None:
        """Take the line away, so that others can be printed."""
        self._draw("")
        if self.visible:
            self.stream.write("\r")
            self.stream.flush()

    def _draw(self, text: str) -> None:
        if self.visible:
            self.stream.write("\r" + text.ljust(self._length))
            self.stream.flush()
            self._length = len(text)
