"""Every check of an exercise accepts the truth and knows the mistakes it names."""

import re

import pytest
from helpers import chapters_that_use, exercise_checks

from transformer.exercises.self_check import SelfCheck

CHECKS = exercise_checks(SelfCheck)
MISTAKES = [
    pytest.param(check, mistake, id=f"{name}-{mistake.answer.__name__}")
    for name, check in CHECKS.items()
    for mistake in check.mistakes
]


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_solution_is_right(check):
    assert re.fullmatch(r"✓ Right on all \d+ inputs\.", check.verdict(check.solution))


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_inputs_are_made_anew_and_are_the_same_each_time(check):
    first, second = check.cases(), check.cases()
    assert [check._describe(a) for a in first] == [check._describe(b) for b in second]
    assert len(first) >= 2


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("blank", [None, ...])
def test_a_blank_is_told_to_be_filled_in(check, blank):
    assert "returns nothing yet" in check.verdict(lambda *_: blank)


@pytest.mark.parametrize(("check", "mistake"), MISTAKES)
def test_each_typical_mistake_gets_its_own_hint(check, mistake):
    assert check.verdict(mistake.answer) == f"✗ {mistake.hint}"


@pytest.mark.parametrize("name", CHECKS)
def test_each_check_is_used_in_a_chapter_and_says_right_there(name):
    (chapter,) = chapters_that_use(name)
    assert "✓ Right on all" in chapter
