"""The benchmark behind companion C's table of parts."""

import json
from itertools import permutations

import pytest
import torch

from benchmarks import anatomy, measure, number_words
from benchmarks.parts import PARTS
from benchmarks.two_tasks import share_right

STORED = json.loads((measure.RESULTS / "anatomy.json").read_text("utf-8"))


def test_what_is_stored_names_date_machine_and_versions():
    assert STORED["date"] >= "2026"
    assert set(STORED["machine"]) == {"processor", "cores", "system"}
    assert {"python", "torch"} <= set(STORED["versions"])


def test_every_part_was_taken_away_on_both_tasks_with_five_seeds():
    assert [t["task"] for t in STORED["tasks"]] == [t.name for t in anatomy.TASKS]
    for stored, task in zip(STORED["tasks"], anatomy.TASKS, strict=True):
        assert stored["exams"] == list(task.exams)
        assert [p["without"] for p in stored["parts"]] == [p.name for p in PARTS]
        for part in stored["parts"]:
            assert [run["seed"] for run in part["runs"]] == list(anatomy.SEEDS)


@pytest.mark.parametrize("task", anatomy.TASKS, ids=lambda task: task.name)
def test_a_run_with_few_steps_is_examined_on_the_way(task):
    early = task._replace(exams=(1,))
    (part,) = (part for part in PARTS if part.name == "positions")
    result = anatomy.run(early, part, seed=0, num_steps=1)
    assert list(result["right"]) == [1]
    assert 0 <= result["right"][1] < 0.5


def test_who_sees_a_bag_of_letters_cannot_tell_permuted_numbers_apart():
    bags = anatomy.bags_of_letters()
    assert STORED["bags_of_letters"] == len(bags)
    spelled = {
        "".join(sorted(number_words.in_words(int("".join(digits)))))
        for digits in permutations("234")
    }
    assert len(spelled) > 1
    # Hundreds and units change places without a trace.
    one, other = (sorted(number_words.in_words(number)) for number in (203, 302))
    assert one == other


def test_without_positions_no_run_beats_the_bound():
    (words,) = (t for t in STORED["tasks"] if t["task"] == "number words")
    (part,) = (p for p in words["parts"] if p["without"] == "positions")
    best = max(share for run in part["runs"] for share in run["right"].values())
    # 1,000 numbers are asked, so leave room for chance.
    assert best < STORED["bags_of_letters"] / 10_000 + 0.05


def test_of_answers_that_are_cut_short_those_with_their_end_are_right():
    asked = number_words.to_batch([7, 42, 813])
    answers = torch.cat([asked.tgt_in[:, :1], asked.tgt_out], dim=1)
    assert share_right(answers, asked) == 1
    answers[2, 2] += 1
    assert share_right(answers, asked) == pytest.approx(2 / 3)
    # Of the first, END is left.
    assert share_right(answers[:, :3], asked) == pytest.approx(1 / 3)
