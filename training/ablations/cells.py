"""Results of measurements as small JSON files, so that a stopped run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...core.weights import read_json, write_json


class Cells:
    """A folder of results. The file of a result is named by what was measured and a digest of its `key`."""

    def __init__(self, folder: Path, measure: bool = True, say: Callable[[str], None] | None = None) -> None:
        self.folder, self.measure, self.say = folder, measure, say or (lambda _: None)

    def path(self, name: str, key: Mapping[str, Any]) -> Path:
        """Where the result is, or will be."""
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
        return self.folder / f"{name}-{digest}.json"

    def get(self, name: str, key: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """The result for `key` (JSON-able): read if it is there, else made and written, whole or not at all.

        None where it is not there and nothing is to be measured.
        """
        path = self.path(name, key)
        if path.is_file():
            return read_json(path)["value"]
        if not self.measure:
            return None
        self.say(f"{name} {json.dumps(key)}")
        value = make()
        write_json(path, {"name": name, "key": dict(key), "value": value})
        return value
