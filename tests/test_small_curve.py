"""The learning curve's page: the fit against a known curve, the parts of a log, slips."""

from __future__ import annotations

import json

import numpy as np
import pytest

from emu_edit.training.small.curve import (
    Scored,
    bins_of,
    main,
    needed,
    prediction,
    read_log,
    read_scored,
    report,
)


def odds_curve(samples: float) -> float:
    """Odds of success that grow as samples ** 0.8, even at 100,000."""
    odds = (samples / 100_000) ** 0.8
    return odds / (1 + odds)


def scored(samples: int, n: int = 20_000) -> Scored:
    return Scored(samples, {"add": (round(odds_curve(samples) * n), n)})


def row(samples: int, size: int = 128, **errors: float) -> dict:
    return {"samples": samples, "size": size, "relative_error": errors}


@pytest.mark.parametrize("target", [0.6, 0.85, 0.95])
def test_a_curve_of_that_kind_is_continued_exactly(target):
    points = [(samples, odds_curve(samples)) for samples in (50_000, 130_000, 250_000)]
    assert odds_curve(needed(points, target)) == pytest.approx(target)


def test_success_that_falls_predicts_nothing():
    assert needed([(1000, 0.5), (2000, 0.4)], 0.85) == pytest.approx(np.exp(700))
    falling = [Scored(1000, {"add": (90, 100)}), Scored(2000, {"add": (10, 100)})]
    assert "do not get better" in report([row(1, add=1.0)], falling, 0.85, "c")
    assert "\n\nMade by `c`.\n\nError" in report([row(1, add=1.0)], falling, 0.85, "c")
    assert "\n\nit grew\n\n" in report([row(1, add=1.0)], falling, 0.85, "c", note="it grew")
    with pytest.raises(ValueError, match="two points"):
        needed([(1000, 0.5), (1000, 0.6)], 0.85)


def test_the_interval_holds_the_truth_and_shrinks_with_the_edits_scored():
    true = 100_000 * (0.85 / 0.15) ** (1 / 0.8)
    few, many = ([scored(samples, n) for samples in (100_000, 250_000)] for n in (300, 30_000))
    wide, narrow = prediction(few, 0.85), prediction(many, 0.85)
    assert wide.low < true < wide.high
    assert narrow.low < true < narrow.high
    assert narrow.high - narrow.low < 0.3 * (wide.high - wide.low)


def test_tasks_count_alike_however_many_edits_were_scored_of_each():
    one = Scored(5, {"add": (1, 10), "pose": (90, 100)})
    assert one.success == pytest.approx(0.5)
    interval = one.interval()
    assert 0.3 < interval.low < 0.5 < interval.high < 0.7


def test_none_of_twenty_is_not_certain():
    interval = Scored(5, {"add": (0, 20), "pose": (20, 20)}).interval()
    assert interval.low < 0.48 < 0.52 < interval.high


def test_a_log_in_parts():
    rows = [row(100 * k, 64 if k < 5 else 128, add=k / 10, pose=k / 10, picture=9.0) for k in range(1, 9)]
    bins = bins_of(rows, 4)
    assert [(end, size) for end, size, _ in bins] == [(200, 64), (400, 64), (600, 128), (800, 128)]
    assert [error.mean for *_, error in bins] == pytest.approx([0.15, 0.35, 0.55, 0.75])
    assert len(bins_of(rows[:2], 4)) == 2
    few = bins_of([*rows, row(900, 64, add=1.0)], 1)  # a change of size begins a part, even for one line
    assert [(end, size) for end, size, _ in few] == [(400, 64), (800, 128), (900, 64)]
    assert bins_of([row(1, picture=0.5)]) == []


def test_the_command_writes_page_and_chart(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row(k * 1000, add=1 / k)) + "\n" for k in range(1, 30)))
    for name, right in (("a", 0.4), ("b", 0.6)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"tasks": {"add": {"success": right, "n": 50}}}))
    scores = [f"--scored=30000={tmp_path}/b.json", f"--scored=10000={tmp_path}/a.json"]
    scores += ["--from", "2000", "--target", "0.9"]
    assert main(["--log", str(log), "--out", str(tmp_path / "out"), *scores]) == 0
    page = (tmp_path / "out" / "learning_curve.md").read_text()
    assert page == capsys.readouterr().out.rstrip("\n") + "\n"
    assert page.index("| 10,000 | 0.400") < page.index("| 30,000 | 0.600")
    assert f"For 90% it predicts {needed([(10_000, 0.4), (30_000, 0.6)], 0.9):,.0f} samples" in page
    assert "=EVALUATION.json --from 2000 --target 0.9`" in page
    assert (tmp_path / "out" / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scored", "many=x.json"], "give SAMPLES=FILE"),
        (["--scored", "0=x.json"], "give SAMPLES=FILE"),
        (["--scored", "²=x.json"], "give SAMPLES=FILE"),
        (["--scored", "10=absent.json"], "absent.json is no result of training.evaluate"),
        (["--target", "85"], "--target 85.0 is no share"),
        (["--from", "9000"], "no errors from sample 9000"),
    ],
)
def test_slips_are_said_in_a_sentence(arguments, said, tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps(row(1000, add=0.5)) + "\n")
    assert main(["--log", str(log), "--out", str(tmp_path), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "learning_curve.md").exists()


NO_LOG = [
    "{",
    "[1]",
    '{"samples": 1}',
    "",
    "\0" * 99,
    '{"samples": 1, "size": null, "relative_error": {}}',
    '{"samples": 1, "size": 64, "relative_error": [1]}',
    '{"samples": 1, "size": 64, "relative_error": {"add": null}}',
]


@pytest.mark.parametrize("text", NO_LOG)
def test_a_file_that_is_no_log(tmp_path, text, capsys):
    log = tmp_path / "log.jsonl"
    log.write_text(text)
    assert main(["--log", str(log), "--out", str(tmp_path)]) == 1
    assert "is no log of small.train; give" in capsys.readouterr().err


def test_places_that_cannot_be_read_or_written(tmp_path, capsys):
    assert main(["--log", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert main(["--log", str(_log(tmp_path)), "--out", str(tmp_path / "log.jsonl")]) == 1
    assert "log.jsonl cannot be written" in capsys.readouterr().err


def test_a_log_that_a_kill_cut_is_read_on(tmp_path):
    log = tmp_path / "log.jsonl"
    first, lost, again = row(10, add=1.0), row(20, add=0.9), row(20, add=0.8)
    last = row(30, add=0.7)
    lines = [first, lost, row(30, add=0.6)]
    half = json.dumps(row(40, add=0.5))[:20]
    log.write_text("\n".join([*map(json.dumps, lines), half, json.dumps(again), json.dumps(last)]))
    assert read_log(log) == [first, again, last]


def test_what_evaluate_wrote_is_counted(tmp_path):
    file = tmp_path / "e.json"
    file.write_text(json.dumps({"tasks": {"add": {"success": 0.35, "n": 20}}}))
    assert read_scored(f"7={file}") == Scored(7, {"add": (7, 20)})
    assert read_log(_log(tmp_path)) == [row(1, add=1.0), row(2, add=0.5)]


def _log(folder):
    path = folder / "log.jsonl"
    path.write_text("\n".join(json.dumps(row(k, add=1 / k) | {"loss": 1}) for k in (1, 2)))
    return path
