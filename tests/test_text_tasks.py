"""Every task draws what it says, and the harness marks answers as a strict examiner."""

import dataclasses
import inspect
import re
from types import SimpleNamespace

import pytest
import torch

from transformer import END, PAD, START, Transformer, numerals, text_tasks
from transformer.text_tasks import TEXT_TASKS, TextTask, is_held_out

TASKS = {task.name: task for task in TEXT_TASKS}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(name, count=300, **options):
    return TASKS[name].pairs(count, seeded(), held_out=False, **options)


def test_there_are_at_least_ten_tasks_and_each_is_short():
    assert len(TASKS) == len(TEXT_TASKS) >= 10
    for task in TEXT_TASKS:
        assert len(inspect.getsource(task.draw).splitlines()) < 20


@pytest.mark.parametrize("task", TEXT_TASKS, ids=lambda task: task.name)
def test_a_batch_of_every_task_can_be_trained_on(task):
    batch = next(task.batches(19, seeded()))
    model = Transformer(
        task.src_vocab_size, task.tgt_vocab_size, 8, 2, 1, 1, 8, max_len=40
    )
    logits = model(batch.src, batch.tgt_in)
    assert logits.shape == (*batch.tgt_out.shape, task.tgt_vocab_size)


@pytest.mark.parametrize("task", TEXT_TASKS, ids=lambda task: task.name)
def test_every_symbol_occurs_and_no_other(task):
    pairs = task.pairs(2_000, seeded(), held_out=False)
    sources, targets = ({*"".join(side)} for side in zip(*pairs, strict=True))
    assert sources == set(task.src_symbols) - set(OFTEN_MISSING.get(task.name, ""))
    assert targets == set(task.tgt_symbols)
    assert len(set(task.src_symbols)) == len(task.src_symbols)


OFTEN_MISSING = {"English words": "abcjkmpqz", "German words": "jkmopqxy"}


@pytest.mark.parametrize("task", TEXT_TASKS, ids=lambda task: task.name)
def test_what_is_held_out_is_never_trained_on(task):
    trained = task.pairs(300, seeded(), held_out=False)
    held_out = task.pairs(50, seeded(), held_out=True)
    assert not {source for source, _ in trained} & {source for source, _ in held_out}
    everything = [task.draw(seeded(seed), 6)[0] for seed in range(400)]
    assert 0.02 < sum(map(is_held_out, everything)) / 400 < 0.25


def test_the_same_seed_draws_the_same_examples():
    assert drawn("dates") == drawn("dates")
    assert drawn("dates") != TASKS["dates"].pairs(300, seeded(1), held_out=False)


def test_sizes_are_those_of_training_unless_others_are_asked_for():
    assert {len(source) for source, _ in drawn("reverse")} == set(range(3, 9))
    assert {len(s) for s, _ in drawn("reverse", sizes=[1, 11])} == {1, 11}


def test_letters_are_reversed_sorted_and_kept_once():
    for source, target in drawn("reverse"):
        assert target == "".join(reversed(source))
    for source, target in drawn("sort"):
        assert list(target) == sorted(source)
    for source, target in drawn("remove duplicates"):
        assert sorted(target) == sorted(set(source))
        first = [source.index(letter) for letter in target]
        assert first == sorted(first)


def key_of(source, target):
    letters = text_tasks.CIPHER_LETTERS
    keys = {
        (letters.index(b) - letters.index(a)) % len(letters)
        for a, b in zip(source, target, strict=True)
    }
    assert len(keys) == 1
    return keys.pop()


def test_a_cipher_has_one_key():
    assert {key_of(*pair) for pair in drawn("shift by 3")} == {3}
    for source, target in drawn("shift by a key"):
        assert key_of(source[1:], target) == int(source[0])
    hidden = [key_of(*pair) for pair in drawn("shift by a hidden key", 900)]
    assert set(hidden) == {1, 2, 3}
    assert min(map(hidden.count, set(hidden))) > 250


def test_brackets_are_closed_from_the_inside():
    depths = set()
    for source, target in drawn("close brackets"):
        text, depth = source + target, len(target)
        while "()" in text or "[]" in text or "{}" in text:
            text = re.sub(r"\(\)|\[\]|\{\}", "", text)
        assert text == ""
        assert not set(target) & set("([{")
        depths.add(depth)
    assert len(depths) >= 5


def test_the_common_prefix_is_common_and_cannot_be_longer():
    lengths = set()
    for source, target in drawn("common prefix"):
        first, second = source.split(",")
        assert len(first) == len(second)
        assert first.startswith(target)
        assert second.startswith(target)
        longer = len(target) + 1
        assert longer > len(first) or first[:longer] != second[:longer]
        lengths.add(len(target))
    assert {0, 1, 2, 3} <= lengths


def test_a_date_is_written_in_four_forms():
    forms = set()
    for source, target in drawn("dates", 1_000):
        year, month, day = target.split("-")
        name = text_tasks.MONTHS[int(month) - 1]
        day, number = int(day), int(month)
        written = [
            f"{day} {name} {year}",
            f"{name} {day}, {year}",
            f"{day}.{number}.{year}",
            f"{year}年{number}月{day}日",
        ]
        forms.add(written.index(source))
        assert 1900 <= int(year) <= 2099
    assert forms == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("name", "write", "largest"),
    [
        ("Roman numerals", numerals.roman, 3_999),
        ("English words", numerals.english, 999),
        ("German words", numerals.german, 999),
        ("Japanese words", numerals.japanese, 999),
    ],
)
def test_numerals_are_read_as_digits(name, write, largest):
    numbers = [int(target) for _, target in drawn(name)]
    assert [write(number) for number in numbers] == [s for s, _ in drawn(name)]
    assert 0.8 * largest < max(numbers) <= largest


def test_a_batch_holds_ids_and_a_source_may_be_cut_into_longer_symbols():
    batch = TASKS["reverse"].make_batch([("cab", "bac"), ("a", "a")])
    assert batch.src.tolist() == [[5, 3, 4], [3, PAD, PAD]]
    assert batch.tgt_in.tolist() == [[START, 4, 3, 5], [START, 3, PAD, PAD]]
    assert batch.tgt_out.tolist() == [[4, 3, 5, END], [3, END, PAD, PAD]]
    words = dataclasses.replace(
        TASKS["English words"], src_symbols=["two", "forty"], split=str.split
    )
    assert words.make_batch([("forty two", "42")]).src.tolist() == [[4, 3]]
    assert words.src_vocab_size == 5


def test_an_answer_is_read_up_to_its_end():
    task = TASKS["reverse"]
    assert task.read(torch.tensor([START, 4, 3, END, 5, PAD])) == "ba"
    assert task.read(torch.tensor([START, END])) == ""
    assert task.read(torch.tensor([START, 4, 3])) == "ba…"


def test_a_mark_within_an_answer_makes_it_wrong():
    task = TASKS["German words"]
    read = task.read(torch.tensor([START, 7, PAD, 5, START, END, PAD]))
    assert read == "4·2⊢"


def test_an_exam_asks_every_source_once():
    task = TASKS["German words"]
    words = {numerals.german(number): str(number) for number in range(1, 1_000)}
    held_out = {pair for pair in words.items() if is_held_out(pair[0])}
    assert len(held_out) == 103
    asked = task.exam(500, seeded())
    assert len(asked) == 103
    assert set(asked) == held_out
    assert len(set(task.exam(50, seeded()))) == 50


def test_an_exam_of_one_size_has_what_there_is_of_it():
    letters = {(letter, letter) for letter in text_tasks.LETTERS}
    assert set(TASKS["sort"].exam(99, seeded(), held_out=None, sizes=[1])) == letters
    hidden = TASKS["shift by a hidden key"].exam(99, seeded(), held_out=None, sizes=[1])
    assert sorted(source for source, _ in hidden) == [*text_tasks.CIPHER_LETTERS]


def test_only_answers_that_are_right_as_a_whole_count():
    task = TASKS["reverse"]
    pairs = [("ab", "ba"), ("b", "b"), ("ccc", "ccc")]
    rows = [[START, 4, 3, END, PAD], [START, 4, 4, END, PAD], [START, 5, 5, 5, 5]]
    model = SimpleNamespace(greedy_decode=lambda *_: torch.tensor(rows))
    assert task.answers(model, pairs) == ["ba", "bb", "cccc…"]
    assert task.share_right(model, pairs) == pytest.approx(1 / 3)


def test_decoding_has_room_for_one_symbol_too_many():
    asked = []

    def greedy_decode(source, max_len, start, end):
        asked.append((max_len, start, end))
        return torch.full((len(source), 1), START)

    model = SimpleNamespace(greedy_decode=greedy_decode)
    TASKS["reverse"].answers(model, [("abcde", "edcba")])
    # START, five letters, one too many, END
    assert asked == [(8, START, END)]


@pytest.mark.parametrize("count", [0, -1, 2.5])
def test_no_examples_are_refused(count):
    with pytest.raises((ValueError, TypeError), match="count"):
        TASKS["sort"].pairs(count, seeded(), held_out=False)


def test_where_nothing_is_held_out_the_search_ends():
    with pytest.raises(
        ValueError, match="none has held_out=False: ask for other sizes"
    ):
        TASKS["reverse"].pairs(1, seeded(), held_out=False, sizes=[0])
    assert TASKS["reverse"].pairs(1, seeded(), held_out=None, sizes=[0]) == [("", "")]


@pytest.mark.parametrize("sizes", [[], [-1], [3, -1]])
def test_sizes_that_no_text_has_are_refused(sizes):
    for draw in (TASKS["sort"].pairs, TASKS["sort"].exam):
        with pytest.raises(ValueError, match=re.escape(f"none below 0, got {sizes}")):
            draw(1, generator=seeded(), held_out=None, sizes=sizes)


def test_a_symbol_that_the_task_does_not_have_is_named():
    task = TASKS["close brackets"]
    with pytest.raises(
        ValueError, match="'x' is none of the 6 source symbols of 'close"
    ):
        task.make_batch([("(x", ")")])
    with pytest.raises(ValueError, match="'3' is none of the 3 target symbols"):
        task.make_batch([("(", "3")])


def test_no_pairs_are_refused():
    model = SimpleNamespace(greedy_decode=lambda *_: torch.tensor([[START]]))
    for ask in (TASKS["sort"].answers, TASKS["sort"].share_right):
        with pytest.raises(ValueError, match="pairs holds 0 examples"):
            ask(model, [])


def test_a_task_of_ones_own_is_a_function_and_two_alphabets():
    def double(generator, size):
        word = text_tasks.random_text("xy", size, generator)
        return word, word + word

    task = TextTask("double", double, "xy", "xy", sizes=[2])
    assert task.sizes == [2]
    pairs = task.pairs(3, seeded(), held_out=False, sizes=range(5, 9))
    assert all(target == source + source for source, target in pairs)
    assert task.src_vocab_size == 5
