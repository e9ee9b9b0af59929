"""A language model from a local folder, through transformers; nothing is downloaded.

A model that is not told a grammar may answer with chatter around its JSON, which the reader of answers
forgives; what it gets wrong is asked again, as with any backend.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from ...errors import EmuEditError
from ...packages import need_class
from .backend import Answer, Request, Trouble

# `generate` draws from torch's global generator, so one thread at a time may seed it, draw and put it back:
# not one for each model, for the generator is the process's.
_DICE = Lock()


class LocalModel:
    """A chat model as a backend: sampled at temperature 0.9 and top-p 0.9 as in Emu Edit, seeded.

    Answers of several threads are written one after the other. `model` may be moved between answers.
    """

    writes_objects = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        *,
        temperature: float = 0.9,
        top_p: float = 0.9,
        longest: int = 400,
    ):
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.temperature, self.top_p, self.longest = temperature, top_p, longest

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu", **settings: Any) -> LocalModel:
        """A folder with config.json, safetensors weights and a tokenizer that knows how chats are written."""
        folder = Path(folder)
        why = "to write instructions with a local model"
        if not (folder / "config.json").is_file():
            raise EmuEditError(
                f"local model: {folder} holds no config.json; give the folder of a chat model."
            )
        tokenizers: Any = need_class("transformers", "AutoTokenizer", why)
        models: Any = need_class("transformers", "AutoModelForCausalLM", why)
        try:
            tokenizer = tokenizers.from_pretrained(str(folder), local_files_only=True)
            model = models.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as problem:
            line = (str(problem).splitlines() or ["no reason told"])[0]
            raise EmuEditError(
                f"local model: {folder} cannot be read as a language model ({line}); give a complete folder."
            ) from problem
        return cls(model.to(device), tokenizer, folder.name, **settings)

    def answer(self, request: Request) -> Answer:
        """Samples one answer; the generator is seeded by the request and left as it was found.

        Raises Trouble where the exemplars are too long for the model, or when the request was stopped.
        """
        ids = self._ids(request)
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and ids.shape[1] + 16 > limit:
            raise Trouble(
                f"the exemplars have {ids.shape[1]} tokens and the model reads {limit}",
                again=False,
                broken=False,
            )
        room = self.longest if limit is None else min(self.longest, limit - ids.shape[1])
        stopped = request.stopped or (lambda: False)
        with _DICE:
            written = None if stopped() else self._written(ids, room, request.seed, stopped)
        if written is None or stopped():
            raise Trouble("it was stopped", again=False, broken=False)
        text = self.tokenizer.decode(written, skip_special_tokens=True)
        return Answer(text, ids.shape[1], len(written))

    def _written(self, ids: Any, room: int, seed: int, stopped: Callable[[], bool]) -> Any:
        """At most `room` tokens [L] that go on from `ids` [1,L]; `stopped` is asked after each."""
        import torch

        device = next(self.model.parameters()).device
        ids = ids.to(device)
        pad = self.tokenizer.pad_token_id
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.inference_mode():
            torch.manual_seed(seed)
            written = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=0,
                max_new_tokens=room,
                pad_token_id=self.tokenizer.eos_token_id if pad is None else pad,
                stopping_criteria=[lambda ids, scores, **more: ids.new_full(ids.shape[:1], stopped()).bool()],
            )
        return written[0, ids.shape[1] :]

    def _ids(self, request: Request) -> Any:
        """The chat as tokens [1,L]: by the model's own template, else plainly role by role."""
        import torch

        messages = [dict(message) for message in request.messages]
        if getattr(self.tokenizer, "chat_template", None):
            told = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            read = self.tokenizer(told, add_special_tokens=False)["input_ids"]
        else:
            told = "".join(f"{m['role']}: {m['content']}\n\n" for m in messages) + "assistant: "
            read = self.tokenizer(told)["input_ids"]
        return torch.tensor([list(read)], dtype=torch.long)
