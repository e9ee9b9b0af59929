"""Agents, exemplars, the rules of answers, duplicates, possessives, retries; no model needed."""

from __future__ import annotations

import json
import threading

import pytest

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs.instructions import agent, possessives
from emu_edit.core.pairs.instructions.backend import Answer, Nonsense, Trouble, dice
from emu_edit.core.pairs.instructions.dedupe import Seen
from emu_edit.core.pairs.instructions.rules import KEYS, checked, mentions, read_object, schema
from emu_edit.core.pairs.instructions.usage import Usage
from emu_edit.core.pairs.instructions.write import Order, Writer, WriteSettings, orders
from emu_edit.core.pairs.records import Dropped, Instruction
from emu_edit.core.predictors.base import TASKS

CAPTION = "a cat asleep on a garden wall"
GOOD = {
    "instruction": "turn the cat into a fox",
    "input_caption": CAPTION,
    "output_caption": "a fox asleep on a garden wall",
    "original_object": "cat",
    "edited_object": "fox",
}


# --- agents and exemplars


@pytest.mark.parametrize("task", TASKS)
def test_exemplars_are_ours_enough_and_pass_their_own_rules(task):
    rows = agent.exemplars(task)
    assert len(rows) >= 8 and len({row["input_caption"] for row in rows}) == len(rows)
    for seed in range(6):  # with all kinds of verbs
        for row in agent.history(task, dice(seed), keep=1.0):
            given = row["input_caption"]
            if task in agent.agents()["starts_from_map"]:
                given = min((row["input_caption"], row["output_caption"]), key=len)
            found = checked(task, given, row)
            assert found.task == task and "{" not in found.instruction
    assert agent.agents()["tasks"][task]["introduction"].startswith("Task: ")


def test_every_call_keeps_60_percent_in_another_order_with_other_verbs():
    shown = [agent.history("local", dice("x", seed)) for seed in range(40)]
    assert {len(rows) for rows in shown} == {6}  # of 10
    assert len({tuple(row["input_caption"] for row in rows) for rows in shown}) > 35
    fox = {row["instruction"] for rows in shown for row in rows if row["edited_object"] == "fox"}
    assert len(fox) > 3 and "turn the cat into a fox" in fox and "change the cat into a fox" in fox
    assert all("  " not in text and "{" not in text for text in fox)
    with pytest.raises(EmuEditError, match="share kept is 0"):
        agent.history("local", dice(1), 0)


def test_the_chat_has_system_introduction_exemplars_and_the_caption():
    asked = agent.request("add", f"  {CAPTION}\n", 3)
    roles = [message["role"] for message in asked.messages]
    assert roles == ["system", "user", "assistant", *["user", "assistant"] * 6, "user"]
    assert asked.messages[-1]["content"] == f"Caption: {CAPTION}"
    for message in asked.messages[4:-1:2]:
        assert list(json.loads(message["content"])) == list(KEYS)
    assert asked == agent.request("add", CAPTION, 3)
    assert asked.messages != agent.request("add", CAPTION, 4).messages
    assert asked.messages != agent.request("add", CAPTION, 3, attempt=1).messages
    for task, caption in (("paint", "x"), ("add", " ")):
        with pytest.raises(EmuEditError):
            agent.request(task, caption, 0)


# --- rules of answers


def test_a_good_answer_is_taken():
    found = checked(
        "local", CAPTION, {**GOOD, "original_object": "the cat.", "instruction": " turn  the cat into a fox"}
    )
    assert found == Instruction("local", *GOOD.values())


@pytest.mark.parametrize(
    ("task", "changes", "says"),
    [
        ("local", {"edited_object": None}, "edited_object of the answer is NoneType"),
        ("local", {"mood": "x"}, "unknown key 'mood'"),
        ("local", {"instruction": " "}, "instruction is empty"),
        ("local", {"instruction": "no"}, "asks for nothing"),
        ("local", {"instruction": "x " * 400}, "more than 300"),
        ("local", {"output_caption": "A cat asleep on a garden wall."}, "is the input caption"),
        ("local", {"input_caption": "a dog"}, "changed the input caption to 'a dog'"),
        ("local", {"original_object": "horse"}, "'horse' is not in the input caption"),
        ("local", {"edited_object": "wolf"}, "'wolf' is not in the output caption"),
        ("local", {"edited_object": ""}, "the task local needs it"),
        ("remove", {}, "edited_object of the answer is 'fox' where it must be ''"),
        ("remove", {"edited_object": "", "output_caption": "one cat on a wall"}, "still holds 'cat'"),
        ("add", {}, "original_object of the answer is 'cat'"),
        (
            "add",
            {"original_object": "", "edited_object": "cat", "output_caption": "a cat on a wall"},
            "already",
        ),
        ("global", {}, "where it must be ''"),
        ("text", {"original_object": "", "edited_object": ""}, "neither the lettering"),
        ("depth", {"original_object": "", "edited_object": "", "input_caption": "a dog"}, "neither caption"),
    ],
)
def test_what_is_wrong_with_an_answer(task, changes, says):
    with pytest.raises(Nonsense) as problem:
        checked(task, CAPTION, {**GOOD, **changes})
    assert says in str(problem.value)


def test_translations_go_both_ways_and_marked_things_have_one_name():
    there = {
        **GOOD,
        "output_caption": f"a depth map of {CAPTION}",
        "original_object": "",
        "edited_object": "",
    }
    back = {**there, "input_caption": there["output_caption"], "output_caption": CAPTION.upper()}
    assert checked("depth", CAPTION, there).input_caption == CAPTION
    assert checked("depth", CAPTION, back).output_caption == CAPTION
    marked = {**GOOD, "edited_object": "", "output_caption": f"{CAPTION} with a box around the cat"}
    assert checked("detect", CAPTION, marked).edited_object == "cat"


def test_schemas_are_plain_and_strict():
    for task in TASKS:
        rule = schema(task)
        assert rule["required"] == list(KEYS) and rule["additionalProperties"] is False
    assert schema("remove")["properties"]["edited_object"] == {"type": "string", "enum": [""]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("I cannot help with that.", "no JSON object"),
        ('{"instruction": "turn the', "breaks off"),
        ('{"instruction": "a",', "breaks off"),
        ("{'instruction': 1}", "is broken"),
        ("", "no JSON object"),
        ("{" * 30000, "breaks off"),
    ],
)
def test_broken_json_is_told(text, says):
    with pytest.raises(Nonsense, match=says):
        read_object(text)


def test_json_is_found_in_chatter():
    assert read_object('Sure!\n```json\n{"a": "}"}\n``` Enjoy {it}') == {"a": "}"}


def test_nouns_are_counted_in_singular_and_plural():
    assert mentions("two Boxes, a box and a foxglove", "red box") == 2
    assert mentions("the man's hats", "hat") == 1 and mentions("berries", "berry") == 1


# --- duplicates, possessives


def instruct(text: str, caption: str = CAPTION, task: str = "local", after: str = "x") -> Instruction:
    return Instruction(task, text, caption, f"{after} {text}")


def test_doubles():
    seen = Seen()
    assert seen.why_double(instruct("Remove the cat, please")) == ""
    assert "nearly" in seen.why_double(instruct("erase the cat from the picture"))
    assert "duplicate" in seen.why_double(instruct("remove the CAT please", after="X"))
    assert seen.why_double(instruct("remove the wall")) == ""
    assert seen.why_double(instruct("remove the cat", caption="a cat on a sofa")) == ""
    assert seen.why_double(instruct("remove the cat", task="remove")) == ""
    assert seen.why_double(instruct("make the cat black")) == ""
    assert seen.why_double(instruct("make the cat white")) == ""
    long = "give the cat a tall red pointed party hat with stars"
    assert seen.why_double(instruct(long)) == ""
    assert "nearly" in seen.why_double(instruct(long.replace("red ", "")))
    strict = Seen(near=1.0)
    assert strict.why_double(instruct(long)) == "" and strict.why_double(instruct(long[:-6])) == ""
    with pytest.raises(EmuEditError, match="likeness is 2"):
        Seen(2)


@pytest.mark.parametrize(
    ("thing", "bare"),
    [
        ("dog's tail", "tail"),
        ("her red coat", "red coat"),
        ("roof of the old barn", "roof"),
        ("boys' bicycles", "bicycles"),
    ],
)
def test_possessives_by_rule(thing, bare):
    assert possessives.is_possessive(thing) and possessives.by_rule(thing) == bare


def test_what_is_no_possessive_is_left_alone():
    for thing in ("stack of books", "glasses", "herring", "cup of tea", "dress"):
        assert not possessives.is_possessive(thing)


def test_the_second_prompt_is_read_with_care():
    assert possessives.read("the dog's wagging tail", '{"object": "the wagging tail"}') == "wagging tail"
    for text in ('{"object": ""}', '{"object": "dog\'s tail"}', '{"object": "cat"}', "tail", '{"x": "tail"}'):
        with pytest.raises(Nonsense):
            possessives.read("the dog's wagging tail", text)
    chat = possessives.request("the dog's tail", 1)
    assert chat.messages[-1]["content"] == "the dog's tail" and chat.purpose == "object"


# --- the writer


class Script:
    """A backend that says what it is told to, in turn; an exception is raised."""

    name, writes_objects = "a script", True

    def __init__(self, *lines):
        self.lines, self.requests = list(lines), []

    def answer(self, request):
        self.requests.append(request)
        line = self.lines.pop(0) if self.lines else GOOD
        if isinstance(line, Exception):
            raise line
        return Answer(line if isinstance(line, str) else json.dumps(line), 100, 20)


def writer(*lines, **settings):
    waits: list[float] = []
    made = Writer(Script(*lines), WriteSettings(**settings), Usage(clock=lambda: 0.0), waits.append)
    return made, waits


def test_nonsense_is_asked_again_with_other_exemplars():
    made, waits = writer("hm", {**GOOD, "original_object": "cow"}, GOOD)
    found = made.write(CAPTION, "local", 7)
    assert isinstance(found, Instruction) and found.metadata == {
        "backend": "a script",
        "seed": 7,
        "attempt": 2,
    }
    assert waits == [] and made.usage.asked == 3 and made.usage.again == 2
    assert len({request.seed for request in made.backend.requests}) == 3


def test_what_stays_nonsense_is_dropped_with_its_reason_and_answer():
    made, _ = writer("no", "never", "not at all")
    found = made.write(CAPTION, "local", 7)
    assert isinstance(found, Dropped) and found.stage == "instruction" and found.item == CAPTION
    assert found.reason == "the answer holds no JSON object: 'not at all' (the last of 3 tries)"
    assert found.detail == {"answer": "not at all"} and made.usage.dropped == {"nonsense": 1}


def test_trouble_is_waited_for_longer_each_time():
    made, waits = writer(Trouble("busy"), Trouble("busy"), Trouble("busy", wait=9.0), tries=4, wait=1.0)
    assert isinstance(made.write(CAPTION, "local", 1), Instruction)
    assert 1 <= waits[0] <= 1.5 and 2 <= waits[1] <= 3 and waits[2] == 9.0
    again, others = writer(Trouble("busy"), Trouble("busy"), tries=3)
    again.write(CAPTION, "local", 1)
    assert others == waits[:2]
    capped, third = writer(*[Trouble("busy")] * 3, tries=4, wait=100.0, longest_wait=5.0)
    capped.write(CAPTION, "local", 1)
    assert third == [5.0, 5.0, 5.0]


def test_a_backend_that_stays_away_ends_the_run_and_nothing_is_lost():
    made, _ = writer(GOOD, *[Trouble("no route")] * 9, tries=3, give_up_after=3, wait=0.0)
    todo = [Order(CAPTION, "local", seed) for seed in range(8)]
    seen = []
    with pytest.raises(EmuEditError) as problem:
        for found in made.stream(todo):
            seen.append(found)
    assert [type(one).__name__ for one in seen] == ["Instruction", "Dropped", "Dropped", "Dropped"]
    assert "a script gave no answer for 3 orders in turn (no route" in str(problem.value)
    assert made.usage.dropped == {"no answer": 3}


def test_a_slip_of_the_user_is_not_retried():
    made, _ = writer(EmuEditError("server: it refuses the key."))
    with pytest.raises(EmuEditError, match="refuses the key"):
        made.write(CAPTION, "local", 1)
    assert made.usage.asked == 1


def test_possessives_are_reduced_by_the_backend_or_by_the_rule():
    answer = {
        **GOOD,
        "input_caption": "the dog's tail is long",
        "output_caption": "the dog's tail is a plume",
    }
    answer |= {"original_object": "the dog's tail", "edited_object": "plume"}
    for second in ('{"object": "tail"}', "nonsense", Trouble("busy")):
        made, _ = writer(answer, second)
        found = made.write("The dog's tail is long", "local", 1)
        assert isinstance(found, Instruction) and found.original_object == "tail"
        assert found.metadata["original_object_was"] == "dog's tail" and made.usage.asked == 2
    made, _ = writer({**GOOD, "original_object": "", "edited_object": "Mum's shop"})
    assert made.write(CAPTION, "text", 1).edited_object == "Mum's shop"  # lettering stays


def test_doubles_are_dropped_and_counted():
    made, _ = writer()
    done = list(made.stream([Order(CAPTION, "local", seed) for seed in range(3)]))
    assert isinstance(done[0], Instruction) and all(isinstance(one, Dropped) for one in done[1:])
    assert "duplicate" in done[1].reason and done[1].detail["instruction"] == GOOD["instruction"]
    assert made.usage.dropped == {"duplicate": 2} and made.usage.written == 1


def test_many_workers_give_the_same_in_the_same_order():
    class Echo:
        name, writes_objects = "echo", False

        def answer(self, request):
            if request.seed % 5 == 0:
                raise Trouble("busy")
            if request.seed % 3 == 0:
                return Answer("what?")
            text = f"turn the cat into fox number {request.seed}"
            return Answer(json.dumps({**GOOD, "instruction": text}))

    todo = [Order(CAPTION, "local", seed) for seed in range(40)]
    runs = [
        list(Writer(Echo(), WriteSettings(workers=n, wait=0.0, tries=2)).stream(iter(todo))) for n in (1, 4)
    ]
    assert runs[0] == runs[1] and len(runs[0]) == 40


def test_cost_and_rate_are_told():
    times = iter([0.0, 30.0, 30.0, 30.0, 30.0])
    usage = Usage(2.0, 10.0, clock=lambda: next(times))
    Writer(Script("hm"), usage=usage).write(CAPTION, "local", 1)
    assert usage.cost == pytest.approx((200 * 2 + 40 * 10) / 1e6)
    line = usage.line()
    assert line.startswith("1 written; 2 questions (1 again); 200 tokens read, 40 written; cost 0.0008")
    assert line.endswith("2.0 a minute")
    assert usage.to_json()["prompt_tokens"] == 200


def test_orders_go_round_tasks_and_captions():
    captions = [f"a picture of thing {n}" for n in range(5)]
    made = list(orders(captions, ("add", "remove", "style"), 30, 4))
    assert made[:12] == list(orders(captions, ("add", "remove", "style"), 12, 4))
    assert {order.task for order in made} == {"add", "remove", "style"}
    assert {len([o for o in made if o.caption == caption]) for caption in captions} == {6}
    assert len({(o.caption, o.task) for o in made}) == 15 and len({o.seed for o in made}) == 30
    for captions, tasks in (([" "], ["add"]), (["x"], []), (["x"], ["paint"])):
        with pytest.raises(EmuEditError):
            list(orders(captions, tasks, 1, 0))


def test_settings_are_checked():
    for wrong in ({"tries": 0}, {"workers": 0}, {"wait": -1.0}):
        with pytest.raises(EmuEditError, match="instructions: "):
            WriteSettings(**wrong)


def test_waiting_can_be_interrupted():
    gate = threading.Event()

    class Slow:
        name, writes_objects = "slow", False

        def answer(self, request):
            gate.wait(20)
            return Answer(json.dumps(GOOD))

    class Stop(Exception):
        pass

    calls: list[int] = []

    def poll():
        calls.append(1)
        if len(calls) == 3:
            raise Stop

    stream = Writer(Slow(), poll=poll).stream([Order(CAPTION, "local", 1)] * 2)
    with pytest.raises(Stop):
        next(stream)
    gate.set()
    assert len(calls) == 3
    made = list(Writer(Script(), poll=lambda: None).stream([Order(CAPTION, "local", 1)]))
    assert isinstance(made[0], Instruction)
