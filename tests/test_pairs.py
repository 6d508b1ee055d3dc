import pickle

import numpy as np
import pytest

from transformer.pairs import PairFile, PairFormat, read_pairs
from transformer.vocabulary import Vocabulary

LETTERS, PHONEMES = Vocabulary(list("abcdeg")), Vocabulary(["K", "AE", "B", "D"])
SPELLING = PairFormat(source_separator="")


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "words.tsv"
    file.write_bytes(b"cab\tK AE B\nbad\tB AE D\nabe\tAE B\n")
    return file


def write(path, *lines):
    path.write_bytes(b"".join(lines))
    return path


def open_pairs(path):
    return PairFile(path, LETTERS, PHONEMES, SPELLING)


def test_pairs_are_read_one_by_one_with_each_sides_own_separator(path):
    pairs = read_pairs(path, SPELLING)
    assert next(pairs) == (["c", "a", "b"], ["K", "AE", "B"])
    assert [source for source, _ in pairs] == [["b", "a", "d"], ["a", "b", "e"]]


def test_spaces_separate_symbols_unless_said_otherwise(path):
    write(path, b"one two\tun  \xc3\xa9\n".replace(b"  ", b" "))
    assert list(read_pairs(path)) == [(["one", "two"], ["un", "é"])]


def test_a_separator_may_be_longer_than_a_character(path):
    write(path, b"a, b\tK AE\n")
    assert list(read_pairs(path, PairFormat(source_separator=", "))) == [
        (["a", "b"], ["K", "AE"])
    ]


def test_encoded_pairs_are_what_the_vocabularies_make_of_the_lines(path):
    pairs = open_pairs(path)
    assert len(pairs) == 3
    # a b c d e g are 3 … 8; K AE B D are 3 … 6.
    assert [pairs[i] for i in (2, 0, -2)] == [
        ([3, 4, 7], [4, 5]),
        ([5, 3, 4], [3, 4, 5]),
        ([4, 3, 6], [5, 4, 6]),
    ]
    assert pairs.__getitems__([1, 1]) == [pairs[1]] * 2
    assert pairs.lengths.tolist() == [[3, 4], [3, 4], [3, 3]]


@pytest.mark.parametrize(
    "content",
    [
        b"cab\tK AE B\nbad\tB AE D",
        b"cab\tK AE B\r\nbad\tB AE D\r\n",
        b"\xef\xbb\xbfcab\tK AE B\nbad\tB AE D\n",
    ],
    ids=["no last line end", "Windows' line ends", "byte order mark"],
)
def test_how_an_editor_ends_lines_and_begins_files_does_not_matter(path, content):
    pairs = open_pairs(write(path, content))
    assert [pairs[i] for i in range(len(pairs))] == [
        ([5, 3, 4], [3, 4, 5]),
        ([4, 3, 6], [5, 4, 6]),
    ]
    assert len(list(read_pairs(path, SPELLING))) == 2


def test_another_process_can_read_a_copy(path):
    pairs = open_pairs(path)
    assert pickle.loads(pickle.dumps(pairs))[1] == pairs[1]
    # What is sent is the index, not the text.
    write(path, b"cab\tK AE B\n" * 9973)
    assert len(pickle.dumps(open_pairs(path))) < 17 * 9973 + 2000


def test_memory_holds_sixteen_bytes_a_pair(path):
    pairs = open_pairs(path)
    arrays = [value for value in vars(pairs).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) == 16 * len(pairs)


BAD_LINES = [
    (b"cab\n", r"0 TABs instead of one between the sides$"),
    (b"cab\tK\tB\n", r"2 TABs instead of one"),
    (b"\n", r"0 TABs"),
    (b"\tK\n", "the source is empty$"),
    (b"cab\t\n", "the target is empty$"),
    (
        b"cab\tK  B\n",
        "symbol 2 of the target is empty: ' ' at an end, or twice in a row$",
    ),
    (b"cab\tK \n", "symbol 2 of the target is empty"),
    (b"cab\tK \xff\n", "not UTF-8: .*0xff"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_a_line_that_is_no_pair_is_named_with_its_number(path, line, message):
    write(path, b"cab\tK AE B\n" * 6, line, b"cab\tK AE B\n")
    with pytest.raises(ValueError, match=f"words.tsv, line 7: {message}"):
        list(read_pairs(path, SPELLING))
    with pytest.raises(ValueError, match=f"line 7: {message}"):
        open_pairs(path)


def test_an_unknown_symbol_is_named_with_line_side_and_place(path):
    write(path, b"cab\tK AE B\ncaf\tK AE B\ncab\tK OY B\n")
    with pytest.raises(ValueError, match="cannot be used") as caught:
        open_pairs(path)
    assert str(caught.value).splitlines()[1:] == [
        "  line 2: source: symbol 3 of 3, 'f', is not in the vocabulary",
        "  line 3: target: symbol 2 of 3, 'OY', is not in the vocabulary",
    ]


def test_a_long_list_of_bad_lines_is_cut_short(path):
    write(path, b"cab\n" * 17)
    with pytest.raises(ValueError, match=r"and 12 more lines$") as caught:
        open_pairs(path)
    assert str(caught.value).count("TABs") == 5


def test_an_empty_file_holds_no_pair(path):
    with pytest.raises(ValueError, match=r"words\.tsv holds no pair$"):
        open_pairs(write(path))


def test_a_file_that_changes_under_the_reader_is_noticed(path):
    pairs = open_pairs(path)
    write(path, b"bad\tB AE D\n" * 2)
    with pytest.raises(RuntimeError, match="has changed since its pairs were counted"):
        pairs[0]


def test_a_pair_that_does_not_exist_is_refused(path):
    with pytest.raises(IndexError, match=r"3 .* 3"):
        open_pairs(path)[3]
    with pytest.raises(TypeError, match=r"^index must be an int, got 1\.0"):
        open_pairs(path)[1.0]


@pytest.mark.parametrize(
    ("separator", "error", "message"),
    [
        ("\t", ValueError, r"^source_separator must hold no TAB .* got '\\t'$"),
        (None, TypeError, "^source_separator must be a text, got NoneType$"),
    ],
)
def test_a_separator_that_would_cut_the_line_is_refused(separator, error, message):
    with pytest.raises(error, match=message):
        PairFormat(source_separator=separator)
