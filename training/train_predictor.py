"""Train a task predictor, or report what one gets right. Seeded; the same command gives the same weights.

    python -m emu_edit.training.train_predictor bundled [--out models/predictor]
    python -m emu_edit.training.train_predictor sentence [--encoder FOLDER] --out FOLDER
    python -m emu_edit.training.train_predictor text-to-text --base FLAN_T5_FOLDER --out FOLDER
    python -m emu_edit.training.train_predictor check [--model FOLDER] [--on held_out|dev] [--json OUT.json]

`check` prints the accuracy on held-out templates of the small world and on held-out everyday wordings.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from ..core.errors import EmuEditError
from ..core.predictor import BUNDLED, load_predictor
from ..core.predictors import ngrams, sentence_encoder, text_to_text
from ..core.predictors.files import SETTINGS, settings_of, sha256_of
from ..core.predictors.reading import hashed
from ..core.weights import replacing, write_json
from .predictor import corpus, learn
from .predictor.grammar import KINDS, UNLISTED
from .predictor.text_to_text import fine_tune

SEED = 0
PER_TASK = 1500
BUCKETS = 2**16
THRESHOLD = 0.5


def train_bundled(out: Path, seed: int = SEED, per_task: int = PER_TASK, epochs: int = 4) -> None:
    """The bundled predictor: hashed features, int8 weights, temperature fitted on the dev wordings."""
    lexicon = corpus.lexicon()
    examples = corpus.training_examples(seed, per_task)
    rows = [np.array(hashed(e.text, lexicon, BUCKETS), np.int64) for e in examples]
    table = learn.learn_table(rows, learn.answers(examples), BUCKETS, epochs, 0.02, 0.2, seed).numpy()
    scale = np.maximum(np.abs(table).max(0) / 127, 1e-8).astype(np.float32)
    rounded = np.round(table / scale).astype(np.int8)
    predictor = ngrams.NgramPredictor(rounded.astype(np.float32) * scale, lexicon)
    dev = corpus.read_wordings("dev")
    logits = np.stack([predictor.logits(wording.text) for wording in dev])
    temperature = learn.temperature_for(logits, [wording.task for wording in dev])
    listed = {kind: line for kind, line in KINDS.items() if kind not in UNLISTED}
    save_arrays(out / ngrams.WEIGHTS, {"table": rounded, "scale": scale})
    write_json(
        out / SETTINGS,
        settings_of("ngrams", temperature, THRESHOLD, seed=seed, per_task=per_task, lexicon=listed),
    )


def train_sentence(
    out: Path, encoder: str | None, seed: int = SEED, per_task: int = 300, epochs: int = 30
) -> None:
    """A linear head on the frozen encoder's vectors."""
    folder = sentence_encoder.find_encoder(encoder)
    digests = {name: sha256_of(folder / name) for name in sentence_encoder.DIGESTS}
    loaded = sentence_encoder.Encoder.load(folder, digests)
    examples = corpus.training_examples(seed, per_task)
    vectors = torch.from_numpy(loaded.encode([e.text for e in examples])).float()
    wanted = learn.answers(examples)
    torch.manual_seed(seed)
    head = torch.nn.Linear(vectors.shape[1], wanted.shape[1])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(epochs):
        for chosen in torch.randperm(len(vectors)).split(learn.BATCH):
            loss = torch.nn.functional.cross_entropy(head(vectors[chosen]), wanted[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    weight, bias = head.weight.detach().T.contiguous().numpy(), head.bias.detach().numpy()
    dev = corpus.read_wordings("dev")
    logits = loaded.encode([wording.text for wording in dev]) @ weight + bias
    temperature = learn.temperature_for(logits, [wording.task for wording in dev])
    save_arrays(out / sentence_encoder.WEIGHTS, {"weight": weight, "bias": bias})
    width = int(weight.shape[0])
    made = settings_of(
        "sentence-encoder", temperature, THRESHOLD, seed=seed, per_task=per_task, width=width, encoder=digests
    )
    write_json(out / SETTINGS, made)


def train_text_to_text(
    out: Path, base: Path, seed: int = SEED, per_task: int = PER_TASK, epochs: int = 2
) -> None:
    """Fine-tune a local Flan-T5 to answer with the task's name, as the paper does."""
    tokenizer, model = text_to_text.load_parts(base)
    examples = [e for e in corpus.training_examples(seed, per_task) if e.task != corpus.UNCLEAR]
    fine_tune(tokenizer, model, examples, epochs, seed)
    predictor = text_to_text.TextToTextPredictor(tokenizer, model)
    dev = corpus.read_wordings("dev")
    logits = np.log(predictor.probabilities([wording.text for wording in dev]).clip(1e-12))
    temperature = learn.temperature_for(logits, [wording.task for wording in dev])
    model.save_pretrained(str(out), safe_serialization=True)
    tokenizer.save_pretrained(str(out))
    write_json(
        out / SETTINGS, settings_of("text-to-text", temperature, THRESHOLD, seed=seed, per_task=per_task)
    )


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A safetensors file, whole or not at all."""
    with replacing(path) as part:
        save_file(arrays, str(part))
        part.chmod(0o644)  # safetensors writes for the owner alone


def check(model: str | None, encoder: str | None, on: str) -> dict[str, Any]:
    """The report of `check`: accuracies, confusions, wrong answers, milliseconds for each instruction."""
    predictor = load_predictor(model, encoder)
    found = learn.report(predictor, SEED, PER_TASK, on)
    texts = [wording.text for wording in corpus.read_wordings("dev")]
    began = time.perf_counter()
    for text in texts:
        predictor.probabilities([text])
    found["milliseconds"] = round(1000 * (time.perf_counter() - began) / len(texts), 3)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="train_predictor", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("bundled", "sentence", "text-to-text", "check"))
    parser.add_argument("--out", type=Path, help="folder to write (default of bundled: models/predictor)")
    parser.add_argument("--base", type=Path, help="folder of a Flan-T5")
    parser.add_argument("--encoder", help="folder of all-MiniLM-L6-v2 (default: the installed package)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--per-task", type=int, help="training texts for each task")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--model", help="check: a predictor's folder (default: the bundled one)")
    parser.add_argument(
        "--on", choices=("held_out", "dev"), default="held_out", help="check: everyday wordings"
    )
    parser.add_argument("--json", type=Path, help="check: write the whole report")
    options = parser.parse_args(arguments)
    more = {k: v for k, v in (("per_task", options.per_task), ("epochs", options.epochs)) if v is not None}
    try:
        _run(options, more)
    except EmuEditError as slip:
        print(f"train_predictor {options.what}: {slip}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace, more: dict[str, int]) -> None:
    if options.what == "check":
        found = check(options.model, options.encoder, options.on)
        if options.json:
            write_json(options.json, found)
        wrong = {key: value for key, value in found.items() if isinstance(value, dict)}
        for part in wrong.values():
            part.pop("wrong", None)
        print(json.dumps(found, indent=1))
        return
    if options.what == "bundled":
        out = options.out or BUNDLED
        train_bundled(out, options.seed, **more)
    elif options.out is None:
        raise EmuEditError("--out is missing; name the folder to write.")
    elif options.what == "sentence":
        out = options.out
        train_sentence(out, options.encoder, options.seed, **more)
    else:
        out = options.out
        if options.base is None:
            raise EmuEditError("--base is missing; name the folder of a Flan-T5.")
        train_text_to_text(out, options.base, options.seed, **more)
    print(f"wrote {out}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
