"""The HTTP backend against a server that answers well, badly, late and not at all; and a local model."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs.instructions import agent
from emu_edit.core.pairs.instructions.backend import Nonsense, Trouble
from emu_edit.core.pairs.instructions.http_server import HttpServer, is_near, read_chat
from emu_edit.core.pairs.instructions.write import Order, Writer, WriteSettings
from emu_edit.core.pairs.records import Dropped, Instruction

CAPTION = "a cat asleep on a garden wall"
KEY, SECRET = "EMU_EDIT_TEST_KEY", "sk-very-secret-123"
GOOD = {
    "instruction": "turn the cat into a fox",
    "input_caption": CAPTION,
    "output_caption": "a fox asleep on a garden wall",
    "original_object": "cat",
    "edited_object": "fox",
}


def chat(text: str) -> dict:
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 812, "completion_tokens": 64},
    }


WELL = (200, chat(json.dumps(GOOD)))


@contextmanager
def serving(*script):
    """A server on this machine that gives the answers of a script, the last one for ever: a pair of status
    and body, or a function of the handler."""
    lines, heard = list(script), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.path, dict(self.headers), json.loads(body)))
            line = lines.pop(0) if len(lines) > 1 else lines[0]
            if callable(line):
                line(self)
                return
            status, reply, *more = line
            data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", heard
    finally:
        server.shutdown()
        server.server_close()


def backend(address: str, **more) -> HttpServer:
    return HttpServer(address, "toy-model", **{"timeout": 5.0, **more})


def write(address: str, tries: int = 3, **more):
    waits: list[float] = []
    made = Writer(backend(address, **more), WriteSettings(tries=tries, wait=0.5), sleep=waits.append)
    return made.write(CAPTION, "local", 5), made.usage, waits


def test_a_good_answer_and_what_was_asked():
    with serving(WELL) as (address, heard):
        found, usage, _ = write(address)
    assert isinstance(found, Instruction) and found.edited_object == "fox"
    assert found.metadata["backend"].startswith("toy-model at 127.0.0.1:")
    assert (usage.prompt_tokens, usage.completion_tokens) == (812, 64)
    ((path, headers, body),) = heard
    assert path == "/v1/chat/completions" and "Authorization" not in headers
    assert body["model"] == "toy-model" and (body["temperature"], body["top_p"]) == (0.9, 0.9)
    assert body["messages"] == [dict(m) for m in agent.request("local", CAPTION, 5).messages]
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["schema"]["required"][0] == "instruction"
    assert isinstance(body["seed"], int)


def test_a_server_without_schemas_is_not_asked_for_one():
    with serving(WELL) as (address, heard):
        write(address, schema_output=False)
    assert "response_format" not in heard[0][2]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((200, chat("As a language model I cannot")), "holds no JSON object"),
        ((200, chat(json.dumps(GOOD)[:90])), "breaks off"),
        ((200, chat("")), "the answer is empty"),
        ((200, {"error": "no"}), "no chat completion"),
        ((200, b"<html>gateway</html>"), "no chat completion"),
        ((200, b'{"choices": [{"mess'), "no chat completion"),
        ((200, chat(json.dumps({**GOOD, "original_object": "cow"}))), "'cow' is not in the input caption"),
        ((500, {"error": "boom"}), "the server answers 500"),
        ((503, b""), "the server answers 503"),
        ((429, {"error": "slow down"}, {"Retry-After": "7"}), "the server answers 429"),
    ],
)
def test_what_goes_wrong_once_is_mended_and_what_stays_wrong_is_told(bad, reason):
    with serving(bad, WELL) as (address, _):
        found, usage, waits = write(address)
    assert isinstance(found, Instruction) and usage.asked == 2
    if bad[0] == 429:
        assert waits == [7.0]
    elif bad[0] == 200:
        assert waits == []
    with serving(bad) as (address, heard):
        found, usage, _ = write(address)
    assert isinstance(found, Dropped) and reason in found.reason and len(heard) == 3


def test_a_request_that_the_server_calls_wrong_is_not_repeated():
    with serving((400, {"error": "unknown parameter"})) as (address, heard):
        found, _, waits = write(address)
    assert isinstance(found, Dropped) and "unknown parameter" in found.reason
    assert len(heard) == 1 and waits == []


def test_late_and_slow_answers_time_out():
    def late(handler):
        time.sleep(0.8)

    def slowly(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        for _ in range(40):
            try:
                handler.wfile.write(b" ")
                handler.wfile.flush()
            except OSError:
                return
            time.sleep(0.05)

    for script, reason in ((late, "no answer within 0.3 s"), (slowly, "too slowly")):
        with serving(script) as (address, _):
            begun = time.monotonic()
            found, usage, _ = write(address, tries=1, timeout=0.3)
            assert isinstance(found, Dropped) and reason in found.reason, found
            assert time.monotonic() - begun < 5 and usage.dropped == {"no answer": 1}


def test_broken_and_endless_answers():
    def broken(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"choices"')

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(64):
                handler.wfile.write(b" " * 65536)
        except OSError:
            return

    for script, reason in ((broken, "no chat completion|connection broke"), (endless, "endless")):
        with serving(script) as (address, _), pytest.raises((Trouble, Nonsense), match=reason):
            backend(address).answer(agent.request("local", CAPTION, 1))


def test_a_server_that_is_not_there_ends_the_run_with_a_sentence():
    with serving(WELL) as (address, _):
        pass  # its port is free again
    made = Writer(backend(address), WriteSettings(tries=2, give_up_after=2, wait=0.0))
    seen = []
    with pytest.raises(EmuEditError, match="gave no answer for 2 orders in turn .*cannot be reached"):
        seen.extend(made.stream(Order(CAPTION, "local", seed) for seed in range(9)))
    assert made.usage.dropped == {"no answer": 2}


def test_the_key_is_sent_and_told_to_nobody(monkeypatch, caplog, capsys):
    monkeypatch.setenv(KEY, SECRET)
    echo = (500, {"error": f"key {SECRET} is over its quota"})
    with serving(echo, WELL) as (address, heard):
        found, usage, _ = write(address, key_variable=KEY)
    assert heard[0][1]["Authorization"] == f"Bearer {SECRET}"
    server = backend(address, key_variable=KEY)
    assert SECRET not in repr(server) + json.dumps(found.to_json()) + usage.line()
    with serving(echo) as (address, _):
        dropped, _, _ = write(address, key_variable=KEY)
    assert SECRET not in json.dumps(dropped.to_json()) and "*** is over its quota" in dropped.reason
    assert SECRET not in caplog.text + "".join(capsys.readouterr())


def test_keys_that_are_missing_or_refused(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    with serving((401, {"error": "bad key"})) as (address, heard):
        with pytest.raises(EmuEditError, match=f"'{KEY}' holds no key"):
            write(address, key_variable=KEY)
        assert heard == []
        monkeypatch.setenv(KEY, SECRET)
        with pytest.raises(EmuEditError, match=f"refuses the key in '{KEY}' .401.") as problem:
            write(address, key_variable=KEY)
        assert SECRET not in str(problem.value)
    with serving((404, {})) as (address, _), pytest.raises(EmuEditError, match="no model 'toy-model'"):
        write(address)


def test_redirects_are_not_followed(monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    with serving(WELL) as (elsewhere, stolen):
        with serving((307, b"", {"Location": f"{elsewhere}/chat/completions"})) as (address, _):
            found, _, _ = write(address, key_variable=KEY)
        assert isinstance(found, Dropped) and "307" in found.reason and stolen == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"address": "ftp://x/v1"}, "server address"),
        ({"address": "http://user:hush@x/v1"}, "server address"),
        ({"address": "http://x/v1?key=hush"}, "server address"),
        ({"address": "http://:hush@x/v1"}, "server address"),
        ({"address": "http://[x/v1"}, "server address"),
        ({"address": "http://x:port/v1"}, "server address"),
        ({"address": "localhost:11434"}, "server address"),
        ({"model": " "}, "model: it is empty"),
        ({"timeout": 0.0}, "timeout is 0"),
        ({"address": "http://api.example.com/v1", "key_variable": KEY}, "unencrypted"),
    ],
)
def test_settings_are_checked(values, says):
    with pytest.raises(EmuEditError, match=says) as slip:
        HttpServer(**{"address": "http://127.0.0.1:1/v1", "model": "m", **values})
    assert "hush" not in str(slip.value)


def test_near_and_far_hosts():
    assert all(map(is_near, ("127.0.0.1", "::1", "192.168.0.7", "localhost", "gpu-box", "box.local")))
    assert not any(map(is_near, ("8.8.8.8", "api.example.com")))


def test_odd_token_counts_count_for_nothing():
    reply = {**chat("{}"), "usage": {"prompt_tokens": -5, "completion_tokens": "many"}}
    answer = read_chat(json.dumps(reply).encode())
    assert (answer.prompt_tokens, answer.completion_tokens) == (0, 0)
    assert read_chat(json.dumps({**reply, "usage": None}).encode()).text == "{}"


def test_a_local_model_is_seeded_and_counted(tmp_path):
    import torch
    from toy_models import toy_tokenizer
    from transformers import GPT2Config, GPT2LMHeadModel

    from emu_edit.core.pairs.instructions.local_model import LocalModel

    tokenizer = toy_tokenizer()
    torch.manual_seed(0)
    size = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": len(tokenizer), "n_positions": 4096}
    GPT2LMHeadModel(GPT2Config(**size)).save_pretrained(tmp_path)
    tokenizer.model_max_length = 100000
    tokenizer.save_pretrained(tmp_path)
    model = LocalModel.load(tmp_path, longest=12)
    before = torch.random.get_rng_state()
    asked = agent.request("local", CAPTION, 5)
    one, again = model.answer(asked), model.answer(asked)
    other = model.answer(agent.request("local", CAPTION, 6))
    assert one == again and one.text != other.text and one.completion_tokens <= 12 < one.prompt_tokens
    assert torch.equal(before, torch.random.get_rng_state())
    found = Writer(model, WriteSettings(tries=2)).write(CAPTION, "local", 5)
    assert isinstance(found, Dropped) and "JSON" in found.reason  # random weights write no JSON
    model.model.config.max_position_embeddings = 64
    with pytest.raises(Trouble, match="and the model reads 64"):
        model.answer(asked)
    (tmp_path / "config.json").unlink()
    with pytest.raises(EmuEditError, match="holds no config.json"):
        LocalModel.load(tmp_path)
