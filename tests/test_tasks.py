import itertools

import pytest
import torch

from transformer import END, PAD, START, AdditionTask, CopyTask


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def without_specials(row):
    return [token for token in row.tolist() if token not in (PAD, START, END)]


def test_copying_repeats_the_source_in_the_target():
    batch = CopyTask(vocab_size=11, min_length=2, max_length=7).sample(53, seeded())
    for src, tgt_in, tgt_out in zip(*batch, strict=True):
        symbols = without_specials(src)
        filler = [PAD] * (batch.src.size(1) - len(symbols))
        assert src.tolist() == symbols + filler
        assert tgt_in.tolist() == [START, *symbols, *filler]
        assert tgt_out.tolist() == [*symbols, END, *filler]


def test_copying_draws_every_symbol_and_every_length_and_no_other():
    batch = CopyTask(vocab_size=11, min_length=2, max_length=7).sample(997, seeded())
    lengths = (batch.src != PAD).sum(dim=1)
    assert lengths.unique().tolist() == [2, 3, 4, 5, 6, 7]
    assert batch.src[batch.src != PAD].unique().tolist() == list(range(3, 11))


def test_copying_can_have_one_length_and_one_symbol():
    batch = CopyTask(vocab_size=4, min_length=5, max_length=5).sample(2, seeded())
    assert batch.src.tolist() == [[3] * 5] * 2


def test_the_copy_task_of_the_book_has_fifteen_tokens():
    task = CopyTask()
    assert (task.vocab_size, task.min_length, task.max_length) == (15, 3, 8)


def test_the_same_seed_draws_the_same_batches_and_each_batch_is_fresh():
    task = CopyTask()
    first, second = (
        list(itertools.islice(task.batches(3, seeded(7)), 3)) for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.src, b.src)
        assert torch.equal(a.tgt_out, b.tgt_out)
    assert not torch.equal(first[0].tgt_in, first[1].tgt_in)
    other = task.sample(3, seeded(8))
    assert first[0].src.tolist() != other.src.tolist()


def test_drawing_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    CopyTask().sample(3, seeded())
    AdditionTask().split(10, seeded())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sum_is_written_with_leading_zeros():
    # PLUS is 3 and the digits 0 … 9 are 4 … 13, so 07+85 → 092.
    batch = AdditionTask().make_batch(torch.tensor([[7, 85], [99, 99]]))
    assert batch.src.tolist() == [[4, 11, 3, 12, 9], [13, 13, 3, 13, 13]]
    assert batch.tgt_in.tolist() == [[1, 4, 13, 6], [1, 5, 13, 12]]
    assert batch.tgt_out.tolist() == [[4, 13, 6, 2], [5, 13, 12, 2]]


def test_the_addition_vocabulary_has_fourteen_tokens():
    task = AdditionTask()
    assert (task.PLUS, task.FIRST_DIGIT, task.vocab_size) == (3, 4, 14)


def test_every_pair_occurs_once():
    pairs = AdditionTask(num_digits=1).all_pairs().tolist()
    assert pairs == [[a, b] for a in range(10) for b in range(10)]
    assert len(AdditionTask().all_pairs()) == 10_000


@pytest.mark.parametrize("num_digits", [1, 2])
def test_every_sum_that_is_written_reads_back_as_the_sum(num_digits):
    task = AdditionTask(num_digits)
    pairs = task.all_pairs()
    batch = task.make_batch(pairs)
    decoded = torch.cat([batch.tgt_in, torch.full((len(pairs), 1), END)], dim=1)
    assert torch.equal(task.read_sums(decoded), pairs.sum(dim=1))


def test_eighteen_digits_are_still_exact():
    task = AdditionTask(num_digits=18)
    largest = 10**18 - 1
    batch = task.make_batch(torch.tensor([[largest, largest]]))
    decoded = torch.cat([batch.tgt_in, torch.tensor([[END]])], dim=1)
    assert task.read_sums(decoded).tolist() == [2 * largest]
    assert task.to_text(decoded[0]) == str(2 * largest)


def test_splitting_deals_out_every_pair_once():
    train, held_out = AdditionTask().split(1_000, seeded())
    assert (len(train), len(held_out)) == (9_000, 1_000)
    together = {tuple(pair) for pair in torch.cat([train, held_out]).tolist()}
    assert len(together) == 10_000


def test_no_held_out_pair_is_seen_in_the_other_order():
    seen, held_out = AdditionTask().split(1_000, seeded())
    seen_in_some_order = {frozenset(pair) for pair in seen.tolist()}
    assert not seen_in_some_order & {frozenset(pair) for pair in held_out.tolist()}


def test_all_pairs_of_two_numbers_can_be_held_out():
    seen, held_out = AdditionTask(1).split(90, seeded())
    assert sorted(seen.tolist()) == [[number, number] for number in range(10)]
    assert len(held_out) == 90


def test_splitting_shuffles_and_follows_the_seed():
    task = AdditionTask()
    _, first = task.split(1_000, seeded(1))
    _, again = task.split(1_000, seeded(1))
    _, other = task.split(1_000, seeded(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # A draw without shuffling would hold out small first numbers only.
    assert first[:, 0].unique().numel() > 90


def test_a_round_of_batches_uses_every_pair_at_most_once():
    task = AdditionTask(num_digits=1)
    pairs = task.all_pairs()[:23]
    batches = list(itertools.islice(task.batches(pairs, 5, seeded()), 8))
    assert [len(batch.src) for batch in batches] == [5] * 8
    rounds = [
        [tuple(row) for batch in part for row in batch.src.tolist()]
        for part in (batches[:4], batches[4:])
    ]
    everything = {tuple(row) for row in task.make_batch(pairs).src.tolist()}
    for one_round in rounds:
        assert len(set(one_round)) == 20
        assert set(one_round) <= everything
    assert rounds[0] != rounds[1]


def test_a_batch_as_large_as_the_data_holds_every_pair():
    task = AdditionTask(num_digits=1)
    pairs = task.all_pairs()[:7]
    batch = next(task.batches(pairs, 7, seeded()))
    assert sorted(batch.src.tolist()) == sorted(task.make_batch(pairs).src.tolist())


@pytest.mark.parametrize(
    "row",
    [
        [START, 4, 13, 6, PAD, PAD],  # no END
        [START, 4, 13, END, PAD, PAD],  # two digits
        [START, 4, 13, 6, 6, END],  # four digits
        [START, 4, 3, 6, END, PAD],  # a plus among the digits
        [START, 4, 14, 6, END, PAD],  # an id above the digits
        [4, 4, 13, 6, END, PAD],  # no START
        [START, 4, 13, 6, END, 4],  # more after END
        [START, 4, 13, END, END, PAD],  # END in the place of a digit
    ],
)
def test_what_is_not_a_sum_reads_as_minus_one(row):
    rows = torch.tensor([row, [START, 4, 13, 6, END, PAD]])
    assert AdditionTask().read_sums(rows).tolist() == [-1, 92]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_rows_too_short_for_a_sum_read_as_minus_one(length):
    tokens = torch.tensor([[START, 4, 13, 6, END]] * 2)[:, :length]
    assert AdditionTask().read_sums(tokens).tolist() == [-1, -1]


def test_tokens_become_text_without_the_special_ones():
    task = AdditionTask()
    batch = task.make_batch(torch.tensor([[7, 85]]))
    assert task.to_text(batch.src[0]) == "07+85"
    assert task.to_text(batch.tgt_in[0]) == "092"
    assert task.to_text(torch.tensor([START, 4, 13, 6, END, PAD])) == "092"


@pytest.mark.parametrize(("num_digits", "num_pairs"), [(1, 55), (2, 900), (4, 997)])
def test_no_two_drawn_pairs_are_the_same_in_any_order(num_digits, num_pairs):
    pairs = AdditionTask(num_digits).draw(num_pairs, seeded())
    assert pairs.shape == (num_pairs, 2)
    assert 0 <= pairs.min() <= pairs.max() < 10**num_digits
    assert len({frozenset(pair) for pair in pairs.tolist()}) == num_pairs


@pytest.mark.parametrize("num_digits", [2, 4])
def test_drawn_pairs_stand_in_random_order_and_either_number_may_be_larger(num_digits):
    pairs = AdditionTask(num_digits).draw(2_000, seeded())
    halves = pairs[:1_000].double().mean(), pairs[1_000:].double().mean()
    assert abs(halves[0] - halves[1]) < 0.1 * 10**num_digits
    assert 800 < (pairs[:, 0] < pairs[:, 1]).sum() < 1_200


def test_pairs_can_be_drawn_where_they_cannot_be_listed():
    pairs = AdditionTask(num_digits=18).draw(7, seeded())
    assert pairs.max() > 10**17
    assert torch.equal(pairs, AdditionTask(num_digits=18).draw(7, seeded()))
