"""What was left out and why: counted, written down once each, told at the end."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from pathlib import Path


class SkipReport:
    """Pairs that were left out. With a file, one JSON line each is appended; a resumed run reads it first."""

    def __init__(self, file: Path | None = None) -> None:
        self._file, self._lock = file, threading.Lock()
        self._reasons: dict[str, str] = {}
        if file is not None and file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    self._reasons[entry["id"]] = entry["reason"]
                except (ValueError, KeyError, TypeError):
                    continue  # the last line of a killed run may be half a line

    def __len__(self) -> int:
        return len(self._reasons)

    def __contains__(self, name: str) -> bool:
        return name in self._reasons

    def add(self, name: str, reason: str) -> None:
        """Note one pair; the same pair again changes nothing."""
        with self._lock:
            if name in self._reasons:
                return
            self._reasons[name] = reason
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with open(self._file, "a", encoding="utf-8") as file:
                    file.write(json.dumps({"id": name, "reason": reason}) + "\n")

    def sentence(self) -> str:
        """ "3 pairs were skipped: 2 (its target picture is missing), 1 (...)"; "" if there were none."""
        if not self._reasons:
            return ""
        kinds = Counter(re.sub(r"\d+", "N", reason) for reason in self._reasons.values())
        shown = [f"{n} ({kind}; for one, {self._first(kind)})" for kind, n in kinds.most_common(5)]
        more = f" and {len(kinds) - 5} more reasons" if len(kinds) > 5 else ""
        count = len(self._reasons)
        where = f"; all are in {self._file}" if self._file is not None else ""
        return (
            f"{count} {'pair was' if count == 1 else 'pairs were'} skipped: {', '.join(shown)}{more}{where}."
        )

    def _first(self, kind: str) -> str:
        return next(name for name, reason in self._reasons.items() if re.sub(r"\d+", "N", reason) == kind)
