import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer import END, PAD, START
from transformer.vocabulary import Vocabulary

SYMBOLS = st.text(
    st.characters(exclude_characters="\n\r\ufeff", exclude_categories=["Cs"])
)


def phonemes():
    return Vocabulary(["K", "ER", "N", "AH", "L"])


def test_ids_begin_behind_the_special_tokens_and_follow_the_order_given():
    vocabulary = phonemes()
    assert vocabulary.encode(["L", "K", "AH", "K"]) == [7, 3, 6, 3]
    assert vocabulary.decode([7, 3, 6, 3]) == ["L", "K", "AH", "K"]
    assert len(vocabulary) == 8


def test_decoding_leaves_the_special_tokens_out():
    row = torch.tensor([START, 3, 4, END, PAD, PAD])
    assert phonemes().decode(row) == ["K", "ER"]


def test_a_symbol_may_be_called_like_a_special_token():
    vocabulary = Vocabulary(["PAD", "0", " "])
    assert vocabulary.decode(vocabulary.encode([" ", "PAD", "0"])) == [" ", "PAD", "0"]


def test_the_most_frequent_symbol_comes_first_and_ties_are_sorted():
    # c 3 times, a and d twice, b once.
    words = iter(["cad", "cabd", "c"])
    assert Vocabulary.build(words).symbols == ("c", "a", "d", "b")


def test_rare_symbols_are_left_out():
    vocabulary = Vocabulary.build(["cad", "cabd", "c"], min_count=2)
    assert vocabulary.symbols == ("c", "a", "d")
    assert "b" not in vocabulary
    assert "d" in vocabulary


@settings(deadline=None, max_examples=50)
@given(st.lists(SYMBOLS.filter(len), min_size=1, unique=True))
def test_a_saved_vocabulary_is_loaded_as_it_was(tmp_path_factory, symbols):
    path = tmp_path_factory.getbasetemp() / "vocabulary.txt"
    Vocabulary(symbols).save(path)
    assert Vocabulary.load(path) == Vocabulary(symbols)


def test_the_file_holds_one_symbol_a_line(tmp_path):
    path = tmp_path / "phonemes.txt"
    Vocabulary(["ß", " ", "AH"]).save(path)
    assert path.read_bytes() == "ß\n \nAH\n".encode()


def test_a_file_from_windows_is_read(tmp_path):
    path = tmp_path / "phonemes.txt"
    path.write_bytes(b"\xef\xbb\xbfK\r\nER\r\n")
    assert Vocabulary.load(path).symbols == ("K", "ER")


def test_equal_symbols_in_another_order_are_another_vocabulary():
    assert Vocabulary(["ab"]) != Vocabulary(["a", "b"])
    assert Vocabulary(["b", "a"]) != Vocabulary(["a", "b"])
    assert len({Vocabulary(["a", "b"]), Vocabulary(["a", "b"])}) == 1


def test_it_shows_its_first_symbols():
    assert repr(phonemes()).endswith("5 symbols: 'K', 'ER', 'N', 'AH', 'L'")
    assert repr(Vocabulary("abcdefg"[i] for i in range(7))).endswith("'d', 'e', …")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Vocabulary([]),
            ValueError,
            "^a vocabulary needs at least one symbol$",
        ),
        (lambda: Vocabulary("ab"), TypeError, r"list\('ab'\) makes a symbol of every"),
        (lambda: Vocabulary(["a", 3]), TypeError, "^symbol 2 must be a text, got int$"),
        (lambda: Vocabulary(["a", ""]), ValueError, "^symbol 2 is empty$"),
        (
            lambda: Vocabulary(["a", "b", "a"]),
            ValueError,
            "^symbol 3, 'a', is symbol 1 already$",
        ),
        (lambda: Vocabulary(["a\nb"]), ValueError, r"^symbol 1, 'a\\nb', holds a line"),
        (lambda: Vocabulary(["\ufeffa"]), ValueError, "begins with a byte order mark$"),
        (lambda: Vocabulary(["\ud83d"]), ValueError, "^symbol 1, .* half a character"),
        (
            lambda: Vocabulary.build(["aab"], min_count=3),
            ValueError,
            r"^no symbol occurs 3 times \(min_count\); .* occurs 2 times$",
        ),
        (lambda: Vocabulary.build([]), ValueError, "occurs 0 times$"),
        (
            lambda: phonemes().encode(["K", "ER", "X"]),
            ValueError,
            "^symbol 3 of 3, 'X', is not in the vocabulary$",
        ),
        (
            lambda: phonemes().decode([3, 8]),
            ValueError,
            "^id 2 is 8, outside the vocabulary: ids run from 0 to 7$",
        ),
        (lambda: phonemes().decode([-1]), ValueError, "^id 1 is -1, outside"),
        (
            lambda: phonemes().decode([3.0]),
            TypeError,
            r"^id 1 must be an int, got 3\.0",
        ),
        (
            lambda: phonemes().decode(torch.tensor([[3]])),
            ValueError,
            r"^token_ids must be one row, got shape \[1, 1\]$",
        ),
    ],
)
def test_bad_symbols_and_ids_are_refused_with_their_place(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: a vocabulary needs at least one symbol$"),
        (b"a\n\nb\n", r"line 2 is empty$"),
        (b"a\nb\nc\nb\n", r"line 4: 'b' stands on line 2 already$"),
        (b"a\n\xff\n", "line 2 is not UTF-8: "),
    ],
)
def test_bad_lines_of_a_file_are_named(tmp_path, content, message):
    path = tmp_path / "symbols.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        Vocabulary.load(path)
    assert str(caught.value).startswith(str(path))


def test_symbols_may_come_from_a_generator():
    assert Vocabulary(itertools.chain("ab", "c")).symbols == ("a", "b", "c")
