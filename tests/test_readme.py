"""What the documentation tells people to type parses, and where it points to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from emu_edit import NODE_DISPLAY_NAME_MAPPINGS
from emu_edit.commands.main import _parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TYPED = [line for line in README.splitlines() if line.startswith("emu-edit ")]


@pytest.mark.parametrize("line", TYPED)
def test_typed_commands_parse(line):
    _parser().parse_args(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t and not t.startswith("#")]
    lost = [target for target in targets if not (page.parent / target.split("#")[0]).exists()]
    assert not lost, f"{page.name} points to {lost}"


def test_make_targets_exist():
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    told = set(re.findall(r"\bmake ([a-z]+)\b *(?=#|`|$)", text, re.MULTILINE))
    assert {"demo", "test", "venv"} <= told <= made, (told, made)


def test_every_node_stands_in_the_table():
    cells = re.findall(r"^\| (\*\*[^|]+?) \|", README, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"\*\*(.+?)\*\*", cell)}
    assert named == set(NODE_DISPLAY_NAME_MAPPINGS.values())


def test_every_command_is_shown():
    shown = {line.split()[1] for line in TYPED}
    known = set(_parser()._subparsers._group_actions[0].choices)
    assert shown == known
