"""The report on a folder of pairs: counts, reasons, pictures, and nothing outside the one file."""

from __future__ import annotations

import re

import pytest
from test_build_pairs import PLAN, toy, toy_build  # noqa: F401 (the fixture)
from test_build_pairs_faults import FaultyJobs

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs import shards
from emu_edit.training import report


def test_the_report_holds_the_yield_the_reasons_and_the_pictures(tmp_path, capsys):
    toy_build(tmp_path / "build")
    out = tmp_path / "page.html"
    assert report.main([str(tmp_path / "build"), "--out", str(out), "--samples", "3"]) == 0
    page = out.read_text(encoding="utf-8")
    found = report.collect(tmp_path / "build")
    for task in PLAN.tasks:
        jobs, pairs = found.tally.jobs[task], found.tally.pairs[task]
        assert re.search(rf">{task}</a><td>{jobs}<td>\d+<td>{pairs}<td>", page)
        assert found.tally.pairs[task] > 0
    assert "clip_direction: too weak" in page and "instruction: the answer is no JSON" in page
    assert "recipe: its picture cannot be read" in page and "make it bright" in page
    assert page.count("<figure>") == 6 and page.count("data:image/webp;base64,") == 12
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)


def test_sentences_that_differ_in_numbers_and_names_count_as_one():
    one, other = "'red ball' covers 0.2% of the picture.", "'tree' covers 97.1% of the picture."
    assert report._general(one) == report._general(other) == "… covers # of the picture."


def test_an_apostrophe_is_no_quote():
    assert report._general('no "man\'s hat" was found') == "no … was found"
    one, other = (report._general(f"the dog's {n} legs, not 'a {n} b', aren't there") for n in (3, 4))
    assert one == other == "the dog's # legs, not …, aren't there"


def test_jobs_that_had_no_task_yet_are_told_too(tmp_path):
    def wrong(number):
        if number == 3:
            raise LookupError("no such letter")

    toy_build(tmp_path, jobs=FaultyJobs(wrong))
    page = report.write_report(tmp_path).read_text(encoding="utf-8")
    assert '<a href="#none">no task</a><td>1<td>0<td>0<td>' in page
    assert "<td>1<td" in page.split('<h2 id="none">no task</h2>')[1].split("LookupError: no such letter")[1]
    toy_build(tmp_path / "other")
    assert "no task" not in report.write_report(tmp_path / "other").read_text(encoding="utf-8")


@pytest.mark.parametrize("most", [0, 2, 3, 100])
def test_samples_are_spread_over_the_folder(most, tmp_path):
    toy_build(tmp_path)
    pairs = shards.PairFolder(tmp_path)
    shown = report.samples(tmp_path, most)
    assert set(shown) == set(PLAN.tasks)
    for task, some in shown.items():
        places = [place for place, one in enumerate(pairs.tasks) if one == task]
        count = min(most, len(places))
        assert [pair.key for pair in some] == [
            pairs[places[k * len(places) // count]].key for k in range(count)
        ]


def test_what_is_written_is_escaped(tmp_path, monkeypatch):
    toy_build(tmp_path)
    monkeypatch.setattr(report, "_general", lambda reason: "<script>alert(1)</script>")
    assert "<script>" not in report.write_report(tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize("option", ["--again", "--json"])
def test_an_option_of_judging_without_it_is_a_sentence(option, tmp_path, capsys):
    toy_build(tmp_path)
    assert report.main([str(tmp_path), option, "3"]) == 1
    assert f"{option} needs the judgement" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_folder_without_pairs_is_a_sentence(tmp_path, capsys):
    assert report.main([str(tmp_path)]) == 1
    assert "holds no finished shard" in capsys.readouterr().err
    with pytest.raises(EmuEditError):
        report.collect(tmp_path)
