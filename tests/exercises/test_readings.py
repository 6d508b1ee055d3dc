"""Checks of what a reader has read off a figure, or foretold, and the runs behind one."""

import pytest
import torch
from helpers import chapters_that_use, exercise_checks

from transformer import END, CopyTask
from transformer.exercises.troubleshooting import (
    Reading,
    check_causes,
    unlabelled_runs,
)

CHECKS = exercise_checks(Reading)
WRONG = [
    pytest.param(check, name, answer, id=f"{label}-{name}-{answer}")
    for label, check in CHECKS.items()
    for name in check.right
    for answer in check.choices
    if answer != check.right[name]
]
each_check = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)


@each_check
def test_the_right_answers_are_right(check):
    assert check.verdict(dict(check.right)) == f"✓ Right on all {len(check.right)}."


@each_check
@pytest.mark.parametrize("blank", [None, ...])
def test_a_blank_is_told_to_be_filled_in(check, blank):
    all_blank = dict.fromkeys(check.right, blank)
    assert "Nothing is filled in yet: put " in check.verdict(all_blank)
    first = next(iter(check.right))
    one_blank = dict(check.right) | {first: blank}
    assert check.verdict(one_blank) == f"✗ {first} has no answer yet."


@pytest.mark.parametrize(("check", "name", "answer"), WRONG)
def test_a_wrong_answer_gets_one_hint_that_is_about_its_name_alone(check, name, answer):
    verdict = check.verdict(dict(check.right) | {name: answer})
    hint = check.confusions.get((name, answer), check.looks[name])
    assert verdict == f"✗ {name}: {hint}"
    assert "\n" not in verdict


@each_check
def test_hints_differ_and_none_belongs_to_a_right_answer(check):
    hints = [*check.looks.values(), *check.confusions.values()]
    assert len(set(hints)) == len(hints)
    assert set(check.looks) == set(check.right)
    for name, answer in check.confusions:
        assert answer in check.choices
        assert answer != check.right[name]


@each_check
def test_every_wrong_name_is_listed_and_no_other(check):
    first, second, *_ = check.right
    wrong = {
        name: next(answer for answer in check.choices if answer != check.right[name])
        for name in (first, second)
    }
    lines = check.verdict(dict(check.right) | wrong).splitlines()
    assert [line.split(":")[0] for line in lines] == [f"✗ {first}", f"✗ {second}"]


@each_check
def test_an_answer_that_is_no_choice_is_shown_what_may_be_chosen(check):
    first = next(iter(check.right))
    for odd in (99, "5", 1.0, [1]):
        verdict = check.verdict(dict(check.right) | {first: odd})
        assert verdict.startswith(f"✗ {first}: put {check.choices[0]!r}")
        assert verdict.endswith(f"not {odd!r}.")
    assert "Pass a dictionary" in check.verdict(5)


def test_true_is_not_cause_1():
    assert check_causes.right["C"] == 1
    assert "not True" in check_causes.verdict(dict(check_causes.right) | {"C": True})


def test_checking_prints_the_verdict(capsys):
    check_causes(dict(check_causes.right))
    assert capsys.readouterr().out == "✓ Right on all 6.\n"


@pytest.mark.parametrize("name", CHECKS)
def test_each_check_is_used_in_a_chapter_and_says_right_there(name):
    (chapter,) = chapters_that_use(name)
    assert f"✓ Right on all {len(CHECKS[name].right)}." in chapter


@pytest.fixture
def calls():
    """How the unlabelled runs call `build` and `run`, without any training."""
    built, ran = [], {}

    def build(**changes):
        built.append(changes)
        return len(built)

    def run(model, **options):
        ran[model] = options
        return model

    task = CopyTask(vocab_size=15, min_length=3, max_length=6)
    models, histories = unlabelled_runs(build, run, task)
    assert list(models) == list(histories) == list(check_causes.right)
    assert models == histories
    return {letter: (built[model - 1], ran[model]) for letter, model in models.items()}


def test_the_healthy_run_differs_in_dropout_alone(calls):
    assert calls["C"] == ({"dropout": 0.1}, {"evaluate_every": 10})
    assert all(built == {} for letter, (built, _) in calls.items() if letter != "C")


def test_each_faulty_run_has_the_fault_that_the_check_asks_for(calls):
    options = {letter: run for letter, (_, run) in calls.items()}

    unshifted = next(options["A"]["batches"])
    assert torch.equal(unshifted.tgt_in, unshifted.tgt_out)
    assert options["B"]["learning_rate"] < 1e-3 < options["F"]["learning_rate"]

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-3)
    scheduler = options["D"]["schedule"](optimizer)
    rates = []
    for _ in range(150):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:75] == [3e-3] * 75
    assert rates[75:] == pytest.approx([9e-2] * 75)

    same, *others = options["E"]["batches"]
    assert len(others) == 149
    assert all(batch is same for batch in others)
    assert (same.tgt_out == END).sum() == len(same.src) == 32
