"""Score an editor on scenes of the procedural world that it never saw, against exact ground truth.

    python -m emu_edit.training.evaluate --scenes 320 --seed 7 --json OUT.json
        [--markdown OUT.md] [--sheet OUT.png] [--task true|predicted|none] [--clip FOLDER] [--dino FOLDER]

When an edit counts as done is stated task by task in training/small/rules.py, and printed with the table.
Beside every row stand two that keep it honest: `identity`, the picture left as it is, and `ceiling`, the true
answer through the editor's autoencoder. The scenes come from a stream of their own for every seed, with the
colours, shapes and wordings of training; half as many more each are asked about pairs of colour and shape
that training never showed (`pairs`) and in wordings that it never used (`wordings`), and reported apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.checkpoints import bundled_editor_path, load_editor
from ..core.edit import EditSettings, edit
from ..core.errors import EmuEditError
from ..core.picture_files import check_output
from ..core.predictor import task_for
from ..core.tasks import NO_TASK
from .arguments import at_least
from .small import report as reports
from .small.edits import TASKS, Example, make_example
from .small.rules import INSIDE_LIMIT, OUTSIDE_LIMIT, judge, measure

MODES = ("true", "predicted", "none")
APART = ("pairs", "wordings")
SEED_OFFSET = 1_000_003  # keeps the scenes away from those of training, whatever the seed


def score(source: Tensor, target: Tensor, edited: Tensor) -> dict[str, float]:
    """How near `edited` comes to `target` by pixels alone; pictures [H,W,3] in 0..1.

    `inside` and `outside` are those of `small.rules.measure`; `success` is 1.0 or 0.0 by their limits.
    """
    found = measure(*(picture.detach().cpu().float().numpy() for picture in (source, target, edited)))
    done = found["inside"] <= INSIDE_LIMIT and found["outside"] < OUTSIDE_LIMIT
    return found | {"success": float(done)}


def evaluate(
    path: Path | None = None,
    scenes: int = 160,
    seed: int = 7,
    tasks: Sequence[str] = TASKS,
    settings: EditSettings | None = None,
    batch: int = 16,
    split: str = "train",
    task: str = "true",
    apart: Sequence[str] = APART,
    scorer: Any = None,
    editor: Backbone | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report that the command writes, and every edit of the main split.

    `split`: whose colours, shapes and wordings the main scenes have (scene.SPLITS; the scenes are new in any
    case). `task`: which task the editor is told, one of MODES. `scorer`: a core.scorer.Scorer for CLIPdir,
    CLIPim, CLIPout and DINO, or None. An edit is {"example", "edited" uint8 tensor [S,S,3], "told",
    "scores", "identity", "ceiling", "metrics"}. Raises EmuEditError for an unknown mode.
    """
    if task not in MODES:
        raise EmuEditError(f"evaluate: --task is one of {', '.join(MODES)}, not {task!r}.")
    editor = editor if editor is not None else load_editor(path or bundled_editor_path())
    settings = settings or EditSettings()
    made = _edits(editor, split, scenes, seed, tasks, settings, batch, task, scorer)
    report = {
        "editor": editor.name,
        "seed": seed,
        "scenes": split,
        "task": task,
        **reports.summary(made, tasks),
        "seconds_per_edit": round(sum(entry["seconds"] for entry in made) / max(len(made), 1), 3),
        "splits": {
            name: reports.brief(
                _edits(editor, name, (scenes + 1) // 2, seed, tasks, settings, batch, task, scorer), tasks
            )
            for name in apart
        },
    }
    if scorer is not None:
        report["scorer"] = scorer.describe()
    return report, made


def _edits(
    editor: Backbone,
    split: str,
    scenes: int,
    seed: int,
    tasks: Sequence[str],
    settings: EditSettings,
    batch: int,
    mode: str,
    scorer: Any,
) -> list[dict[str, Any]]:
    """`scenes` edits, the tasks in turn."""
    size = int(editor.defaults.get("size", 128))
    made: list[dict[str, Any]] = []
    for start in range(0, scenes, batch):
        examples = [
            make_example(SEED_OFFSET + abs(int(seed)), i, (tasks[i % len(tasks)],), size, split=split)
            for i in range(start, min(start + batch, scenes))
        ]
        source, target = (
            torch.from_numpy(np.stack([getattr(e, name) for e in examples])).float() / 255
            for name in ("source", "target")
        )
        told = [_told(editor, example, mode) for example in examples]
        began = time.perf_counter()
        result = edit(
            editor, source, [e.instruction for e in examples], _vectors(editor, told), settings=settings
        )
        seconds = (time.perf_counter() - began) / len(examples)
        with torch.inference_mode():
            ceiling = editor.decode_latents(editor.encode_image(target)).cpu().float()
        edited = result.images.detach().cpu().float().clamp(0, 1)
        captions = [[getattr(e, name) for e in examples] for name in ("source_caption", "target_caption")]
        judged = scorer.scores(source, edited, *captions) if scorer is not None else [{} for _ in examples]
        for n, example in enumerate(examples):
            made.append(
                {
                    "example": example,
                    "edited": (edited[n] * 255).round().to(torch.uint8),
                    "told": told[n],
                    "scores": judge(example, edited[n].numpy()),
                    "identity": judge(example, source[n].numpy()),
                    "ceiling": judge(example, ceiling[n].numpy()),
                    "metrics": {"l1": float((edited[n] - source[n]).abs().mean()), **judged[n]},
                    "seconds": seconds,
                }
            )
    return made


def _told(editor: Backbone, example: Example, mode: str) -> str:
    """The name of the task that the editor is told."""
    if mode == "none" or not editor.task_names:
        return NO_TASK
    return example.task if mode == "true" else task_for(example.instruction, editor.task_names).task


def _vectors(editor: Backbone, told: Sequence[str]) -> Tensor | None:
    if all(name == NO_TASK for name in told):
        return None
    known = {name: editor.task_vector(name) for name in set(told) - {NO_TASK}}
    zero = torch.zeros_like(next(iter(known.values())))
    return torch.stack([known.get(name, zero) for name in told])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module's docstring. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="folder or file of the editor; the bundled one by default")
    parser.add_argument("--scenes", type=at_least(1), default=160)
    parser.add_argument("--seed", type=at_least(0), default=7)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--text-guidance", type=float)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument(
        "--split", choices=("train", "test"), default="train", help="main scenes: as trained, or all there is"
    )
    parser.add_argument(
        "--apart", nargs="*", choices=APART, default=list(APART), help="held-out splits to report beside"
    )
    parser.add_argument("--task", choices=MODES, default="true", help="which task the editor is told")
    parser.add_argument("--no-task", action="store_const", const="none", dest="task", help="as --task none")
    parser.add_argument("--batch", type=at_least(1), default=16)
    parser.add_argument("--clip", type=Path, help="CLIP folder, such as training.small.clip writes")
    parser.add_argument("--dino", type=Path, help="DINO folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--sheet", type=Path, help="picture of the best, median and worst edit of every task")
    chosen = parser.parse_args(arguments)
    try:
        _run(chosen)
    except EmuEditError as slip:
        print(slip, file=sys.stderr)
        return 1
    return 0


def _run(chosen: argparse.Namespace) -> None:
    """Carry out the parsed command; what cannot be written is refused before the work."""
    for name in ("json", "markdown"):
        file = getattr(chosen, name)
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            raise EmuEditError(f"evaluate: --{name} {file} is no file in a folder that exists; give one.")
    if chosen.sheet is not None:
        check_output(chosen.sheet)
    report, made = evaluate(
        chosen.model,
        chosen.scenes,
        chosen.seed,
        chosen.tasks,
        EditSettings(steps=chosen.steps, text_guidance=chosen.text_guidance),
        chosen.batch,
        chosen.split,
        chosen.task,
        chosen.apart,
        _scorer(chosen.clip, chosen.dino),
    )
    table = reports.markdown(report)
    print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if chosen.markdown:
        chosen.markdown.write_text(table, encoding="utf-8")
    if chosen.sheet:
        reports.sheet(made).save(chosen.sheet)


def _scorer(clip: Path | None, dino: Path | None) -> Any:
    if clip is None and dino is None:
        return None
    from ..core.metric_models import load_clip, load_dino
    from ..core.metric_presets import preset
    from ..core.scorer import Scorer

    return Scorer(preset("paper-like"), load_clip(clip) if clip else None, load_dino(dino) if dino else None)


if __name__ == "__main__":
    sys.exit(main())
