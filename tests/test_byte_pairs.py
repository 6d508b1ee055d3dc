"""Byte-pair encoding: merges by hand, and the same as a well-kept library."""

import re
from pathlib import Path

import nbformat
import pytest

from transformer.byte_pairs import BytePairs, learn_byte_pairs, merge
from transformer.numerals import english, german, japanese

COMPANION = Path(__file__).parents[1] / "book/companion_d_other_tasks.ipynb"
GERMAN = [german(number) for number in range(1, 1_000)]


@pytest.mark.parametrize(
    ("symbols", "merged"),
    [
        ("abc", ["ab", "c"]),
        ("aabab", ["a", "ab", "ab"]),
        ("ba", ["b", "a"]),
        ("", []),
    ],
)
def test_a_pair_is_joined_wherever_it_stands(symbols, merged):
    assert merge(list(symbols), ("a", "b")) == merged


@pytest.mark.parametrize(
    ("symbols", "merged"),
    [("aaa", ["aa", "a"]), ("aaaa", ["aa", "aa"]), ("aaaaa", ["aa", "aa", "a"])],
)
def test_a_symbol_is_joined_once_from_the_left(symbols, merged):
    assert merge(list(symbols), ("a", "a")) == merged


def test_what_was_joined_is_not_joined_again_in_the_same_step():
    assert merge(["a", "b", "b"], ("a", "b")) == ["ab", "b"]
    assert merge(["a", "b", "ab"], ("a", "b")) == ["ab", "ab"]
    assert merge(["a", "b", "c"], ("ab", "c")) == ["a", "b", "c"]


def test_the_most_frequent_pair_comes_first_then_pairs_with_it():
    # xab, yab: a-b twice; then x-ab and y-ab once each, of which x is older.
    pieces = learn_byte_pairs(["xab", "yab"], 3)
    assert pieces.letters == ("a", "b", "x", "y")
    assert pieces.merges == (("a", "b"), ("x", "ab"), ("y", "ab"))
    assert pieces.symbols == ["a", "b", "x", "y", "ab", "xab", "yab"]
    assert pieces.split("xaby") == ["xab", "y"]


def test_learning_ends_when_every_word_is_one_symbol():
    assert learn_byte_pairs(["ab", "a"], 99).merges == (("a", "b"),)
    assert learn_byte_pairs(["ab"], 0) == BytePairs(("a", "b"), ())


def test_a_negative_number_of_merges_is_refused():
    with pytest.raises(ValueError, match="num_merges must not be below 0, got -1"):
        learn_byte_pairs(["ab"], -1)


def test_one_string_is_not_taken_for_words():
    with pytest.raises(TypeError, match="a list of words, got one string, 'abc'"):
        learn_byte_pairs("abc", 2)


@pytest.mark.parametrize("language", [english, german, japanese])
def test_symbols_make_up_the_word_and_words_get_shorter(language):
    words = [language(number) for number in range(1, 1_000)]
    pieces = learn_byte_pairs(words, 30)
    assert len(pieces.symbols) == len(set(pieces.symbols))
    lengths = [len(pieces.split(word)) for word in words]
    assert sum(lengths) < 0.7 * sum(map(len, words))
    for word in words:
        assert "".join(pieces.split(word)) == word
        assert set(pieces.split(word)) <= set(pieces.symbols)


def test_the_same_symbol_made_in_two_ways_is_listed_once():
    pieces = BytePairs(("a",), (("a", "a"), ("aa", "a"), ("a", "aa")))
    assert pieces.symbols == ["a", "aa", "aaa"]


def test_und_is_the_second_merge_and_zig_the_eighth():
    made = ["".join(pair) for pair in learn_byte_pairs(GERMAN, 8).merges]
    assert made[1] == "und"
    assert made[7] == "zig"


def code_with_tokenizers():
    cells = nbformat.read(COMPANION, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    [code] = re.findall(r"```python\n(from tokenizers .*?)```", text, re.DOTALL)
    return code


def test_the_library_finds_the_same_symbols(capsys):
    pytest.importorskip("tokenizers")
    pieces = learn_byte_pairs(GERMAN, 60)
    names = {"pieces": pieces, "words": GERMAN}
    exec(code_with_tokenizers(), names)
    tokenizer = names["tokenizer"]
    ids = tokenizer.get_vocab()
    assert sorted(ids, key=ids.get) == pieces.symbols
    for word in GERMAN:
        assert tokenizer.encode(word).tokens == pieces.split(word)
    assert "'zwei', 'und', 'vierzig'" in capsys.readouterr().out
