"""The options that `emu-edit invert` and training.invert_task share; imports nothing heavy."""

from __future__ import annotations

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser. Numbers left out are those of core.task_inversion.InversionSettings."""
    parser.add_argument("examples", metavar="EXAMPLES_DIR", help="folder of examples; see above")
    parser.add_argument("-o", "--output", metavar="TASK.safetensors", required=True, help="file to write")
    parser.add_argument("--name", help="what the task is called (default: the file's name)")
    parser.add_argument("--model", metavar="PATH", help="folder of an Emu Edit editor (default: bundled)")
    parser.add_argument("--steps", type=int, metavar="N", help="learn for at most N steps (300)")
    parser.add_argument(
        "--rate", type=float, metavar="X", help="learning rate, in units of the known tasks (0.1)"
    )
    parser.add_argument("--batch", type=int, metavar="N", help="examples in each step (8)")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same task (0)")
    parser.add_argument("--start", help="auto (what fits best), none, mean, or the name of a known task")
    parser.add_argument("--held-out", type=float, metavar="SHARE", help="share kept to measure by (0.2)")
    parser.add_argument("--size", type=int, metavar="PX", help="longest side to work at")
    parser.add_argument("--save-memory", action="store_true", help="for large editors: less memory, slower")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, ... (default auto)")
    parser.add_argument("--sheet", metavar="FILE", help="also write a picture: input, wanted, learnt")
    parser.add_argument("--json", metavar="FILE", dest="report", help="also write what was measured as JSON")
