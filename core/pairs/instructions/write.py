"""Captions in, instructions out: asked again where an answer is of no use, and nothing lost.

Every order ends as an Instruction or as a Dropped with its reason. A backend that is away is waited for with
growing pauses; an order for which it stays away is dropped with a stage of its own (faults.AWAY), for it may
be asked again. When it stays away for several orders in turn, of one stream or of several, the run ends with
one sentence, after those orders were handed out as dropped.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from threading import Event, Lock

from ...errors import EmuEditError
from ..faults import AWAY
from ..record_checks import check_task
from ..records import Dropped, Instruction
from . import agent, possessives
from .backend import Answer, Backend, Nonsense, Request, Trouble, dice
from .dedupe import Seen
from .rules import checked, read_object
from .usage import Usage

STAGE = "instruction"
POLL = 0.1  # seconds
Written = Instruction | Dropped


@dataclass(frozen=True)
class Order:
    """One instruction to write: for a caption, of a task, with a seed of its own."""

    caption: str
    task: str
    seed: int


Result = tuple[
    Written, bool, str
]  # what came of an order, whether the backend is away, the kind for the counts
Waiting = tuple[Order, Future[Result]]
Stopped = Callable[[], bool] | None  # as Request has it


@dataclass(frozen=True)
class WriteSettings:
    """tries: questions for one order. wait, longest_wait: seconds before the second, doubled each time, at
    most. keep: share of the exemplars shown. give_up_after: orders in turn that find the backend away.
    workers: orders under way at once; the result is the same for any number. near: see dedupe.
    """

    tries: int = 3
    wait: float = 1.0
    longest_wait: float = 30.0
    keep: float = agent.KEPT
    give_up_after: int = 5
    workers: int = 1
    near: float = 0.8

    def __post_init__(self) -> None:
        for name in ("tries", "give_up_after", "workers"):
            if getattr(self, name) < 1:
                raise EmuEditError(f"instructions: {name} is {getattr(self, name)}; give 1 or more.")
        if not (self.wait >= 0 and self.longest_wait >= 0):
            raise EmuEditError("instructions: a wait is negative; give 0 seconds or more.")


def orders(captions: Sequence[str], tasks: Sequence[str], count: int, seed: int) -> Iterator[Order]:
    """`count` orders that go round the tasks and, in an order shuffled for each round, the captions.

    Order n follows from the arguments and n alone, so a longer run begins as a shorter one does.
    """
    captions = [" ".join(caption.split()) for caption in captions if caption.strip()]
    if not captions:
        raise EmuEditError("captions: there are none; give at least one line that says what a picture shows.")
    if not tasks:
        raise EmuEditError("tasks: there are none; give at least one.")
    for task in tasks:
        check_task(task, "tasks")
    for n in range(count):
        turn, place = divmod(n, len(captions))
        shuffled = list(range(len(captions)))
        dice("captions", seed, turn).shuffle(shuffled)
        # Shifted by the round, or the same caption would always meet the same task.
        task = tasks[(place + turn) % len(tasks)]
        yield Order(captions[shuffled[place]], task, dice("order", seed, n).getrandbits(31))


class Writer:
    """Asks a backend, checks, reduces possessives, counts.

    sleep: called with seconds, where the orders are written. poll: called several times a second from the
    thread that reads `stream` while an answer is awaited; may raise to interrupt.

    When `stream` is left before its end, orders under way are given up: nothing more is asked, and a backend
    that heeds Request.stopped leaves off. A server's answer is not waited for.
    """

    def __init__(
        self,
        backend: Backend,
        settings: WriteSettings | None = None,
        usage: Usage | None = None,
        sleep: Callable[[float], None] = time.sleep,
        poll: Callable[[], None] | None = None,
    ):
        self.backend, self.settings, self.usage = backend, settings or WriteSettings(), usage or Usage()
        self.sleep, self.poll = sleep, poll
        self._lock = Lock()
        self._away = 0  # orders in turn that found the backend away

    def write(self, caption: str, task: str, seed: int) -> Written:
        """One order, without a look at others. Raises EmuEditError for slips (no caption, a refused key)."""
        found, _, kind = self._written(Order(" ".join(caption.split()), task, seed))
        self._count(kind)
        return found

    def stream(self, todo: Iterable[Order], seen: Seen | None = None) -> Iterator[Written]:
        """One Instruction or Dropped for each order, in the orders' order, doubles dropped.

        seen: what was written before, to go on from. Memory holds the orders under way and `seen` alone.
        """
        seen = Seen(self.settings.near) if seen is None else seen
        for order, (found, broken, kind) in self._each(todo):
            if isinstance(found, Instruction) and (double := seen.why_double(found)):
                detail = {"instruction": found.instruction}
                found, kind = Dropped(STAGE, double, order.task, order.caption, detail), "duplicate"
            self._count(kind)
            self._away = self._away + 1 if broken else 0
            yield found
            if self._away >= self.settings.give_up_after:
                reason = found.reason if isinstance(found, Dropped) else ""
                raise EmuEditError(
                    f"instructions: {self.backend.name} gave no answer for {self._away} orders in turn "
                    f"({reason}); see to it and start again."
                )

    def _each(self, todo: Iterable[Order]) -> Iterator[tuple[Order, Result]]:
        """Orders with their results, in order, `workers` under way at once."""
        if self.settings.workers == 1 and self.poll is None:
            yield from ((order, self._written(order)) for order in todo)
            return
        pool = ThreadPoolExecutor(self.settings.workers)
        under_way: deque[Waiting] = deque()
        stop = Event()  # of this stream: a writer may be asked for another
        try:
            for order in todo:
                under_way.append((order, pool.submit(self._written, order, stop.is_set)))
                if len(under_way) >= 2 * self.settings.workers:
                    yield self._next(under_way)
            while under_way:
                yield self._next(under_way)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _next(self, under_way: deque[Waiting]) -> tuple[Order, Result]:
        """The oldest order's result; poll is called while it is awaited."""
        order, future = under_way.popleft()
        while self.poll is not None and not future.done():
            self.poll()
            wait([future], POLL)
        return order, future.result()

    def _written(self, order: Order, stopped: Stopped = None) -> Result:
        """The result, whether the backend seemed away at last, and the kind of result for the counts.

        Once `stopped` says so nobody reads it.
        """
        reasons: list[str] = []
        detail: dict[str, str] = {}
        broken, kind = False, "nonsense"
        for attempt in range(self.settings.tries):
            if stopped is not None and stopped():
                reasons.append("it was stopped")
                break
            asked = agent.request(order.task, order.caption, order.seed, attempt, self.settings.keep)
            text = ""
            try:
                answer = self._asked(replace(asked, stopped=stopped), attempt > 0)
                text = answer.text
                found = checked(order.task, order.caption, read_object(text))
                return self._without_possessives(found, order, attempt, answer, stopped), False, ""
            except Nonsense as problem:
                reasons.append(str(problem))
                detail = {"answer": text[:400]} if text else detail
                broken, kind = False, "nonsense"
            except Trouble as problem:
                reasons.append(str(problem))
                broken, kind = problem.broken, "no answer" if problem.broken else "refused"
                if not problem.again:
                    break
                if attempt + 1 < self.settings.tries:
                    self.sleep(self._pause(order, attempt, problem.wait))
        times = f" (the last of {len(reasons)} tries)" if len(reasons) > 1 else ""
        stage = AWAY if broken else STAGE
        dropped = Dropped(stage, f"{reasons[-1]}{times}", order.task, order.caption, detail)
        return dropped, broken, kind

    def _asked(self, asked: Request, again: bool) -> Answer:
        with self._lock:
            self.usage.ask(again)
        answer = self.backend.answer(asked)
        with self._lock:
            self.usage.hear(answer)
        return answer

    def _pause(self, order: Order, attempt: int, told: float | None) -> float:
        """Doubled each time, with up to a half more so that many do not come back at once."""
        if told is not None:
            return told
        stretch = 1 + 0.5 * dice("pause", order.seed, attempt).random()
        return min(self.settings.longest_wait, self.settings.wait * 2**attempt * stretch)

    def _without_possessives(
        self, found: Instruction, order: Order, attempt: int, answer: Answer, stopped: Stopped
    ) -> Instruction:
        metadata = {"backend": self.backend.name, "seed": order.seed, "attempt": attempt, **answer.metadata}
        bare: dict[str, str] = {}
        if found.task != "text":  # there the objects are lettering
            for name in ("original_object", "edited_object"):
                thing = getattr(found, name)
                if possessives.is_possessive(thing):
                    bare[name] = self._bare(thing, order.seed, stopped)
                    metadata[f"{name}_was"] = thing
        return replace(found, **bare, metadata=metadata)

    def _bare(self, thing: str, seed: int, stopped: Stopped) -> str:
        """The thing alone: by the backend if it can, else, or if its answer is of no use, by the rule."""
        if self.backend.writes_objects:
            try:
                asked = replace(possessives.request(thing, seed), stopped=stopped)
                return possessives.read(thing, self._asked(asked, False).text)
            except (Nonsense, Trouble):
                return possessives.by_rule(thing)
        return possessives.by_rule(thing)

    def _count(self, kind: str) -> None:
        if kind:
            self.usage.dropped[kind] += 1
        else:
            self.usage.written += 1
