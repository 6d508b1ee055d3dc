import pytest

pytest.importorskip("rapidfuzz")

from transformer.error_rates import error_rates


def words(text):
    return [word.split() for word in text.split("|")]


def test_rates_worked_out_by_hand():
    # Of colonel one phoneme is missing; cat is right; to the first pronunciation of dog a
    # substitution and an insertion lead, to the second an insertion alone.
    results = words("K ER N L | K AE T | D AO G Z")
    references = [words("K ER N AH L"), words("K AE T"), words("D AA G | D AO G")]
    symbols, sequences = error_rates(results, references)
    assert symbols == pytest.approx(2 / (5 + 3 + 3))
    assert sequences == pytest.approx(2 / 3)


def test_a_symbol_is_compared_as_a_whole():
    assert error_rates([["AH"]], [[["AA"]]]) == (1, 1)


def test_of_equally_near_references_the_longest_counts():
    # One error from each.
    assert error_rates([["a", "b"]], [[["a"], ["a", "b", "c"]]]).symbols == 1 / 3


def test_too_much_written_may_exceed_one():
    assert error_rates([["a", "b", "c"]], [[["d"]]]) == (3, 1)


@pytest.mark.parametrize(
    ("results", "references", "message"),
    [
        ([["a"]], [], "^got 1 results but 0 references$"),
        ([["a"], ["b"]], [[["a"]], []], "^result 1 has no reference$"),
        ([], [], "^the references of 0 results hold no symbol$"),
    ],
)
def test_what_cannot_be_compared_is_refused(results, references, message):
    with pytest.raises(ValueError, match=message):
        error_rates(results, references)
