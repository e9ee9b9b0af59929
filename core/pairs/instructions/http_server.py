"""An OpenAI-compatible server with JSON-schema output: Ollama, vLLM, llama.cpp's server, or a paid one.

One request to POST <address>/chat/completions, by the standard library alone. The key, if one is needed, is
read from an environment variable at each call, sent in the Authorization header and kept nowhere; redirects
are refused, since they would carry it elsewhere.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ...errors import EmuEditError
from .backend import Answer, Nonsense, Request, Trouble

LARGEST = 1 << 20  # bytes read of an answer
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
LONGEST_WAIT = 120.0  # seconds that a server's Retry-After is heeded for


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None  # urllib then raises the 3xx as an HTTPError


@dataclass(frozen=True)
class HttpServer:
    """A chat server as a backend.

    address: up to the version, such as "http://127.0.0.1:11434/v1". model: its name there. key_variable: the
    environment variable that holds the key, "" for none. timeout: seconds for one whole answer. temperature,
    top_p: Emu Edit's 0.9 and 0.9. longest: tokens of an answer. schema_output: ask for the JSON schema
    (`response_format`); off for servers that know none, whose answers are checked all the same.
    """

    address: str
    model: str
    key_variable: str = ""
    timeout: float = 60.0
    temperature: float = 0.9
    top_p: float = 0.9
    longest: int = 400
    schema_output: bool = True
    writes_objects = True

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.address)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number, brackets around no address
            sound = False
        if not sound or "@" in self.address or parts.query or parts.fragment:
            # What may hold a password is not repeated.
            shown = "" if "@" in self.address or "?" in self.address else f" {self.address!r}"
            raise EmuEditError(
                f"server address{shown}: give one such as http://127.0.0.1:11434/v1, without name, "
                "key or question mark."
            )
        if not self.model.strip():
            raise EmuEditError("model: it is empty; give the model's name on the server, such as llama3.1.")
        if not self.timeout > 0:
            raise EmuEditError(f"timeout is {self.timeout}; give more than 0 seconds.")
        if self.key_variable and parts.scheme == "http" and not is_near(parts.hostname or ""):
            raise EmuEditError(
                f"server address {self.address!r}: the key would go there unencrypted; use https."
            )

    @property
    def name(self) -> str:
        return f"{self.model} at {urlsplit(self.address).netloc}"

    def answer(self, request: Request) -> Answer:
        """One question, one answer. Raises Trouble, Nonsense (an answer that is no chat), EmuEditError for a
        key that is missing or refused."""
        key = self._key()
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(request.messages),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.longest,
            "seed": request.seed,
        }
        if self.schema_output:
            named = {"name": request.purpose, "schema": dict(request.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "emu-edit"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        url = self.address.rstrip("/") + "/chat/completions"
        asked = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
        return read_chat(self._sent(asked, key))

    def _key(self) -> str:
        if not self.key_variable:
            return ""
        key = os.environ.get(self.key_variable, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            raise EmuEditError(
                f"key variable: the environment variable {self.key_variable!r} holds no key; set it and "
                "start again."
            )
        return key

    def _sent(self, asked: urllib.request.Request, key: str) -> bytes:
        """The answer's bytes, within the time-out as a whole."""
        end = time.monotonic() + self.timeout
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if is_near(urlsplit(self.address).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))  # a proxy could not reach this machine's servers
        try:
            with urllib.request.build_opener(*handlers).open(asked, timeout=self.timeout) as reply:
                return _read(reply, end)
        except urllib.error.HTTPError as problem:
            with problem:
                self._refused(problem, key)
        except TimeoutError as problem:
            raise Trouble(f"no answer within {self.timeout:g} s") from problem
        except urllib.error.URLError as problem:
            if isinstance(problem.reason, TimeoutError):
                raise Trouble(f"no answer within {self.timeout:g} s") from problem
            raise Trouble(f"the server cannot be reached ({problem.reason})") from problem
        except (OSError, http.client.HTTPException) as problem:
            raise Trouble(f"the connection broke ({type(problem).__name__})") from problem
        raise Trouble("the server gave no answer")

    def _refused(self, problem: urllib.error.HTTPError, key: str) -> None:
        """Raise what a status other than 2xx means."""
        told = _told(problem)
        if key:
            told = told.replace(key, "***")
        status = f"the server answers {problem.code}{': ' if told else ''}{told}"
        if problem.code in (401, 403):
            where = f"the key in {self.key_variable!r}" if self.key_variable else "a call without key"
            raise EmuEditError(
                f"server {self.address}: it refuses {where} ({problem.code}); give a valid one."
            )
        if problem.code == 404:
            raise EmuEditError(
                f"server {self.address}: it knows no model {self.model!r} or no /chat/completions (404); "
                "check the model's name and the address."
            )
        if problem.code in AGAIN:
            raise Trouble(status, wait=_wait(problem.headers))
        raise Trouble(status, again=False)


def is_near(host: str) -> bool:
    """Whether a host is this machine or on the local network, as far as its name or number says."""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".lan", ".internal"))
    return number.is_loopback or number.is_private or number.is_link_local


def _read(reply: Any, end: float, clock: Callable[[], float] = time.monotonic) -> bytes:
    """All of an answer, unless it is endless or comes too slowly."""
    pieces, size = [], 0
    while piece := reply.read1(1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST:
            raise Trouble("the answer is endless", broken=False)
        if clock() > end:
            raise Trouble("the answer came too slowly")
    return b"".join(pieces)


def read_chat(raw: bytes) -> Answer:
    """The text and the token counts of a chat completion; Nonsense for what is none."""
    try:
        reply = json.loads(raw)
        choice = reply["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as problem:
        raise Nonsense(f"the server's answer is no chat completion ({len(raw)} bytes)") from problem
    usage = reply.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    read, written = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    if not isinstance(text, str) or not text.strip():
        raise Nonsense(f"the answer is empty (finish reason {str(choice.get('finish_reason'))[:20]!r})")
    return Answer(text, read, written)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _told(problem: urllib.error.HTTPError) -> str:
    """The first words of an error's body."""
    try:
        return " ".join(problem.read(2000).decode("utf-8", "replace").split())[:160]
    except (OSError, http.client.HTTPException):
        return ""


def _wait(headers: Any) -> float | None:
    """Retry-After in seconds; None where there is none or a date."""
    try:
        return min(LONGEST_WAIT, max(0.0, float(headers.get("Retry-After"))))
    except (TypeError, ValueError):
        return None
