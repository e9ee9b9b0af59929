"""The `emu-edit` command and the demo, on a fake editor that needs no weights."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from emu_edit.commands import demo as demo_command
from emu_edit.commands import edit as edit_command
from emu_edit.commands import listing
from emu_edit.commands.contact_sheet import Entry, contact_sheet
from emu_edit.commands.edit import run_turns
from emu_edit.commands.main import main
from emu_edit.commands.progress import Bar
from emu_edit.core.backbone import NoiseSchedule, TextContext
from emu_edit.core.checkpoints import bundled_editor_path
from emu_edit.core.edit import EditSettings
from emu_edit.core.errors import EmuEditError
from emu_edit.core.picture_files import load_picture, save_picture
from emu_edit.core.predictor import predict_task
from emu_edit.core.task_files import save_task
from emu_edit.core.tasks import TASK_IDS, TaskVector
from emu_edit.core.thresholding import WHOLE_PICTURE_TASKS

LEFT, RIGHT = (slice(None), slice(None), slice(0, 8)), (slice(None), slice(None), slice(8, 16))


class FakeEditor:
    """Latents are the pictures; "left" and "right" paint that half white, all else gets a faint cast."""

    name = "fake"
    device = torch.device("cpu")
    dtype = torch.float32
    downscale = 1
    size_multiple = 4
    latent_channels = 3
    takes_image = True
    task_width = 2
    task_names = TASK_IDS
    task_base = "fake"
    defaults = {"steps": 3, "text_guidance": 1.0, "image_guidance": 1.0, "size": 16}
    schedule = NoiseSchedule(torch.linspace(0.99, 0.01, 10, dtype=torch.float64), "sample")

    def __init__(self):
        self.asked: list[str] = []
        self.tasks: list[str] = []
        self.words: list[str] = []

    def image_condition(self, images):
        return images.movedim(-1, 1)

    encode_image = image_condition

    def decode_latents(self, latents):
        return latents.movedim(1, -1).float().clamp(0, 1)

    def encode_text(self, texts):
        self.asked.append(texts[0])
        return TextContext(torch.zeros(len(texts), 1, 1), [[-1]] * len(texts), [t.split() for t in texts])

    def task_vector(self, name):
        self.tasks.append(name)
        return torch.zeros(2)

    def predict(self, latents, timestep, text, image=None, task=None):
        assert image is not None
        painted = (image + 0.004).clone()
        for rows, words in enumerate(text.words):
            for word, where in (("left", slice(0, 8)), ("right", slice(8, 16))):
                if word in words:
                    painted[rows, :, :, where] = 1.0
        return painted


@pytest.fixture
def editor(monkeypatch):
    fake = FakeEditor()
    monkeypatch.setattr(edit_command, "load_editor", lambda *arguments, **options: fake)
    return fake


@pytest.fixture
def picture(tmp_path):
    """A dark 16 x 16 picture file."""
    return str(save_picture(tmp_path / "in.png", torch.full((16, 16, 3), 51 / 255)))


def test_one_edit(editor, picture, tmp_path, capsys):
    out, report = tmp_path / "out.png", tmp_path / "report.json"
    save_picture(out, torch.zeros(4, 4, 3))  # to be replaced
    assert main(["edit", picture, "paint the left", "-o", str(out), "--json", str(report)]) == 0
    before, after = load_picture(picture), load_picture(out)
    assert torch.equal(after[:, :, 12:], before[:, :, 12:])  # the faint cast is thresholded away
    assert bool((after[LEFT] == 1).all())
    told = json.loads(report.read_text())
    assert told["model"] == "fake" and told["steps"] == 3 and told["alpha"] == 0.03
    assert (told["width"], told["height"]) == (16, 16)
    (turn,) = told["turns"]
    assert turn["instruction"] == "paint the left" and turn["task"] in TASK_IDS and turn["task_reason"]
    assert 0.5 <= turn["changed"] < 0.8 and turn["seconds"] >= 0 and turn["seed"] == 0
    printed = capsys.readouterr().out
    assert "turn 1/1: paint the left [" in printed and f"wrote {out}" in printed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", "out.png", "report.json"]


def test_without_threshold_the_faint_cast_stays(editor, picture, tmp_path):
    out = tmp_path / "out.png"
    assert main(["edit", picture, "paint the left", "-o", str(out), "--no-threshold"]) == 0
    assert bool((load_picture(out)[RIGHT] == 52 / 255).all())


def test_edits_of_the_whole_picture_are_spared(editor, picture, tmp_path, capsys):
    out = tmp_path / "out.png"
    report = tmp_path / "r.json"
    command = ["edit", picture, "make it brighter and left", "-o", str(out), "--json", str(report)]
    for more, level in (([], 52), (["--threshold", "always"], 51)):
        assert main([*command, *more]) == 0
        assert bool((load_picture(out)[:, :, 12:] == level / 255).all())
        (turn,) = json.loads(report.read_text())["turns"]
        assert turn["task"] == "color" and turn["thresholded"] == (level == 51)
        assert turn["changed"] < 0.8  # the mask shows what changed visibly in both cases
    assert frozenset(TASK_IDS) >= WHOLE_PICTURE_TASKS


def test_turns_build_on_each_other(editor, picture, tmp_path, capsys):
    out = tmp_path / "out.png"
    words = ["paint the left", "remove the ball", "paint the right"]
    report = tmp_path / "r.json"
    assert main(["edit", picture, *words, "-o", str(out), "--seed", "7", "--json", str(report)]) == 0
    assert bool((load_picture(out) == 1).all())
    turns = json.loads(report.read_text())["turns"]
    assert [turn["seed"] for turn in turns] == [7, 8, 9]
    assert turns[1]["task"] == "remove" and turns[1]["changed"] == 0
    assert editor.asked == words
    assert "nothing changed" in capsys.readouterr().out.splitlines()[1]


def test_three_turns_are_one_and_one_and_one(editor):
    picture = torch.full((1, 16, 16, 3), 0.2)
    words = ["paint the left", "nothing much", "paint the right"]
    *_, last = run_turns(editor, picture, words)
    for k, word in enumerate(words):
        (turn,) = run_turns(editor, picture, [word], settings=EditSettings(seed=k))
        picture = turn.picture
    assert torch.equal(last.picture, picture) and torch.equal(last.mask, turn.mask)


def test_the_mask_holds_in_every_turn(editor, picture, tmp_path):
    mask = torch.zeros(32, 32)
    mask[:16] = 1
    file = str(save_picture(tmp_path / "mask.png", mask))
    out = tmp_path / "out.png"
    assert main(["edit", picture, "paint the left", "paint the right", "--mask", file, "-o", str(out)]) == 0
    after = load_picture(out)
    assert bool((after[:, :7] == 1).all()) and torch.equal(after[:, 9:], load_picture(picture)[:, 9:])


def test_tasks_may_be_told(editor, picture, tmp_path, capsys):
    out = str(tmp_path / "out.png")
    assert main(["edit", picture, "remove the left", "--task", "none", "-o", out]) == 0
    assert editor.tasks == [] and "[none: picked]" in capsys.readouterr().out
    assert main(["edit", picture, "remove the left", "--task", "style", "-o", out]) == 0
    assert editor.tasks == ["style"] and "[style: picked]" in capsys.readouterr().out
    assert main(["edit", picture, "remove the left", "-o", out]) == 0
    assert editor.tasks == ["style", "remove"]
    file = save_task(tmp_path / "mine.safetensors", TaskVector("mine", torch.ones(2), "fake", 5))
    capsys.readouterr()
    assert main(["edit", picture, "do it left", "--task", str(file), "-o", out]) == 0
    assert "[mine: from " in capsys.readouterr().out


def test_an_editor_without_tasks_gets_none(editor, picture, tmp_path, capsys):
    editor.task_names, editor.task_width = (), None
    assert main(["edit", picture, "remove the left", "-o", str(tmp_path / "out.png")]) == 0
    assert editor.tasks == [] and "[none: the editor has no tasks]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"picture": "missing.png"}, "does not exist"),
        ({"instruction": "  "}, "say what to change"),
        ({"instruction": "?!"}, "say what to change"),
        ({"second": "..."}, "say what to change"),
        ({"-o": "missing/out.png"}, "folder"),
        ({"-o": "out.doc"}, "picture format"),
        ({"--mask": "missing.png"}, "mask: .*does not exist"),
        ({"--mask": "wide.png"}, "other proportions"),
        ({"--alpha": "-1"}, "alpha must be 0 or more"),
        ({"--alpha": "nan"}, "alpha must be 0 or more"),
        ({"--steps": "0"}, "steps"),
        ({"--steps": "5000"}, "steps"),
        ({"--size": "-3"}, "size"),
        ({"--text-guidance": "nan"}, "guidance"),
        ({"--task": "banana"}, "'banana'.*knows local, remove"),
        ({"--task": "missing.safetensors"}, "does not exist"),
        ({"--device": "toaster"}, "device 'toaster'"),
        ({"--json": "missing/r.json"}, "report"),
    ],
)
def test_slips_are_told_and_write_nothing(editor, picture, tmp_path, monkeypatch, capsys, change, words):
    monkeypatch.chdir(tmp_path)
    save_picture(tmp_path / "wide.png", torch.ones(8, 32))
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    given = {"picture": picture, "instruction": "paint the left", "-o": "out.png", **change}
    command = ["edit", given.pop("picture"), given.pop("instruction"), given.pop("second", "paint the right")]
    assert main([*command, *(text for pair in given.items() for text in pair)]) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("emu-edit edit: ") and told.err.count("\n") == 1
    assert re.search(words, told.err), told.err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == there


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out.startswith("emu-edit ")


def test_wrong_usage_is_code_2(capsys):
    typo = ["edit", "a", "b", "-o", "c", "--steps", "x"]
    for arguments in ([], ["edit"], ["edit", "in.png", "words"], ["fly"], typo):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert "usage: emu-edit" in capsys.readouterr().err


def test_interruption_is_code_130_and_leaves_what_was(editor, picture, tmp_path, monkeypatch, capsys):
    out = save_picture(tmp_path / "out.png", torch.zeros(4, 4, 3))
    before = out.read_bytes()
    calls = []

    def predict(self, latents, timestep, text, image=None, task=None):
        calls.append(timestep)
        if len(calls) == 5:  # in the second turn
            raise KeyboardInterrupt
        return image

    monkeypatch.setattr(FakeEditor, "predict", predict)
    assert main(["edit", picture, "one", "two", "-o", str(out), "--json", str(tmp_path / "r.json")]) == 130
    said = capsys.readouterr().err
    assert "out.png was not written; the picture after turn 1 is kept in" in said and "out.turn1.png" in said
    assert out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", "out.png", "out.turn1.png"]
    calls[:] = [None] * 4  # again, and now in the first turn: there is nothing to keep
    assert main(["edit", picture, "one", "two", "-o", str(out)]) == 130
    assert "interrupted; no file was written" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", "out.png", "out.turn1.png"]


def test_a_bug_of_ours_keeps_its_traceback(editor, picture, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeEditor, "predict", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["edit", picture, "one", "-o", str(tmp_path / "out.png")])


def test_help_starts_without_heavy_imports(root):
    code = (
        "import sys, types\n"
        "package = types.ModuleType('emu_edit'); package.__path__ = [sys.argv.pop()]\n"
        "sys.modules['emu_edit'] = package\n"
        "from emu_edit.commands.main import main\n"
        "try:\n    main(['edit', '--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "assert not {'torch', 'numpy', 'PIL', 'diffusers', 'transformers'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "INSTRUCTION" in done.stdout


def test_the_bar_shows_on_a_terminal_only():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown, silent = Terminal(), io.StringIO()
    for stream in (shown, silent):
        with Bar(stream) as bar:
            for done in range(1, 4):
                bar.show("turn 1/1", done, 3)
    assert "turn 1/1 [########................] 1/3" in shown.getvalue()
    assert "3/3, 0 s left" in shown.getvalue()
    assert shown.getvalue().endswith(" \r")
    assert silent.getvalue() == ""


def test_tasks_are_listed(capsys):
    assert main(["tasks"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(TASK_IDS)
    assert main(["tasks", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["tasks"]
    assert [task["id"] for task in told] == list(TASK_IDS)
    assert all(task["group"] and task["description"] for task in told)


def test_models_are_listed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(listing, "bundled_editor_path", lambda: tmp_path / "models" / "small")
    assert main(["models"]) == 0
    assert "no editors found" in capsys.readouterr().out
    ours = {"task_names": ["add"], "defaults": {"steps": 9}}
    for name, channels, waves in (("small", 8, 0), ("textonly", 4, 0), ("told", 20, 3), ("drawer", 16, 3)):
        folder = tmp_path / "models" / name
        for part, content in (
            ("model_index.json", {}),
            ("unet/config.json", {"in_channels": channels}),
            ("vae/config.json", {"latent_channels": 4}),
            ("emu_edit/config.json", ours | {"name": name, "position_frequencies": waves}),
        ):
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            (folder / part).write_text(json.dumps(content))
        (folder / "unet" / "x.safetensors").write_bytes(bytes(2_000_000))
    (tmp_path / "models" / "broken").mkdir()
    (tmp_path / "models" / "broken" / "model_index.json").write_text("{}")
    (tmp_path / "models" / "broken.safetensors").write_bytes(b"nonsense")
    assert main(["models"]) == 0
    assert "small (bundled): 2.0 MB, 1 tasks" in capsys.readouterr().out
    assert main(["models", "--folder", str(tmp_path / "models"), "--json"]) == 0
    model, told = json.loads(capsys.readouterr().out)["models"]
    assert model["tasks"] == ["add"] and model["defaults"] == {"steps": 9} and model["bundled"]
    assert told["name"] == "told"
    assert main(["models", "--folder", str(tmp_path / "nowhere")]) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.fixture
def edits(tmp_path):
    """A demo.json of two edits with its pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a", "b"):
        save_picture(folder / f"{name}.png", torch.full((16, 16, 3), 51 / 255))
    listed = [
        {"picture": "a.png", "instruction": "paint the left", "task": "local"},
        {"picture": "pictures/b.png", "instruction": "remove the right", "task": "add"},
    ]
    (folder / "demo.json").write_text(json.dumps({"edits": listed}))
    return folder / "demo.json"


def test_the_demo(editor, edits, tmp_path, capsys):
    out = tmp_path / "new" / "demo"
    assert demo_command.main(["--out", str(out), "--edits", str(edits)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert [e["instruction"] for e in report["edits"]] == ["paint the left", "remove the right"]
    guessed = [predict_task(e["instruction"]) for e in report["edits"]]
    assert [e["task"] for e in report["edits"]] == guessed  # as the command does
    assert report["edits"][1]["intended_task"] == "add" and report["edits"][0]["picture"] == "a.png"
    assert report["mean_seconds"] >= 0 and report["model"] == "fake" and report["steps"] == 3
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > sheet.height and sheet.mode == "RGB"
    assert "seconds per edit in the mean of 2 edits" in capsys.readouterr().out


def test_a_demo_list_that_is_wrong_is_told(editor, tmp_path, capsys):
    (tmp_path / "demo.json").write_text('{"edits": [{"picture": "a.png"}]}')
    assert demo_command.main(["--out", str(tmp_path), "--edits", str(tmp_path / "demo.json")]) == 1
    assert "edit 1 has no instruction and no task" in capsys.readouterr().err
    (tmp_path / "demo.json").write_text("{}")
    with pytest.raises(EmuEditError, match="lists no edits"):
        demo_command.read_edits(tmp_path / "demo.json")


def test_a_sheet_holds_every_entry_and_any_size():
    entries = [
        Entry("word " * 60, "note", torch.rand(h, w, 3), torch.rand(h, w, 3), torch.rand(h, w).round())
        for h, w in ((128, 128), (10, 300), (600, 400))
    ]
    one, three = (contact_sheet(entries[:n], "heading", "legend") for n in (1, 3))
    assert one.width == three.width and three.height > one.height


@pytest.mark.skipif(not (bundled_editor_path() / "model_index.json").is_file(), reason="no models/small yet")
def test_the_bundled_editor_runs_from_the_command(root, tmp_path):
    source = sorted((root / "pictures").glob("*.png"))[0]
    out = tmp_path / "out.png"
    assert main(["edit", str(source), "make it darker", "--steps", "2", "-o", str(out)]) == 0
    assert load_picture(out).shape == load_picture(source).shape


def test_outputs_never_overwrite_each_other_or_an_input(editor, picture, tmp_path, capsys):
    before = Path(picture).read_bytes()
    out = str(tmp_path / "out.png")
    for report in (out, picture):
        assert main(["edit", picture, "one", "-o", out, "--json", report]) == 1
        assert "would be lost" in capsys.readouterr().err
    assert Path(picture).read_bytes() == before and not Path(out).exists()
