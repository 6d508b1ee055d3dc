import ast

import pytest
from mutations import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.bug for mutant in MUTANTS])
def test_the_place_of_every_bug_and_the_test_that_catches_it_exist_once(mutant):
    source = (ROOT / "transformer" / mutant.file).read_text("utf-8")
    assert source.count(mutant.old) == 1
    file, _, name = mutant.test.partition("::")
    tests = ast.parse((ROOT / "tests" / file).read_text("utf-8")).body
    assert [test.name for test in tests if hasattr(test, "name")].count(name) == 1


def test_every_bug_leaves_code_that_python_can_read():
    for mutant in MUTANTS:
        source = (ROOT / "transformer" / mutant.file).read_text("utf-8")
        ast.parse(source.replace(mutant.old, mutant.new))


def test_no_two_bugs_are_the_same():
    assert len({mutant.bug for mutant in MUTANTS}) == len(MUTANTS)
    assert len({mutant[1:4] for mutant in MUTANTS}) == len(MUTANTS)
