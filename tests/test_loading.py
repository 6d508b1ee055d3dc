import itertools

import numpy as np
import pytest
import torch

from transformer import END, PAD, START
from transformer.loading import LengthBatchSampler, collate_pairs, endless, load_pairs
from transformer.pairs import PairFile
from transformer.vocabulary import Vocabulary

SYMBOLS = Vocabulary(["a", "b", "c"])


def random_lengths(count, seed=0):
    return np.random.default_rng(seed).integers(1, 12, (count, 2))


def epoch(sampler, number):
    sampler.set_step(number * len(sampler))
    return list(sampler)


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    lines = [
        f"{' '.join('a' * source)}\t{' '.join('b' * target)}\n"
        for source, target in random_lengths(97).tolist()
    ]
    path.write_text("".join(lines))
    return PairFile(path, SYMBOLS, SYMBOLS)


def test_every_epoch_holds_every_pair_once_within_the_budget():
    lengths = random_lengths(997)
    sampler = LengthBatchSampler(lengths, max_tokens=131)
    for number in range(3):
        batches = epoch(sampler, number)
        assert len(batches) == len(sampler)
        assert sorted(itertools.chain(*batches)) == list(range(997))
        for batch in batches:
            assert len(batch) * lengths[batch].max(axis=0).sum() <= 131


def test_cuts_worked_out_by_hand():
    # Sorted by source, then by target, in turns up and down, as the sources are even or
    # odd: (1,5) (1,2) | (2,2) (2,3) | (3,9). With 14 tokens: 2 * (1+5) = 12 fits, a third
    # row of at least 3 * (2+5) does not; 2 * (2+3) fits; (3,9) is alone.
    lengths = [[3, 9], [2, 3], [1, 2], [2, 2], [1, 5]]
    batches = {tuple(batch) for batch in LengthBatchSampler(lengths, 14)}
    assert batches == {(4, 2), (3, 1), (0,)}


def test_little_is_padded():
    lengths = random_lengths(9973)
    sampler = LengthBatchSampler(lengths, max_tokens=499)
    padded = sum(len(b) * lengths[b].max(axis=0).sum() for b in sampler)
    at_random = [range(i, min(i + 40, 9973)) for i in range(0, 9973, 40)]
    padded_at_random = sum(
        len(b) * lengths[list(b)].max(axis=0).sum() for b in at_random
    )
    assert padded < 1.03 * lengths.sum()
    assert padded_at_random > 1.6 * lengths.sum()


def test_epochs_and_seeds_differ_and_the_same_seed_gives_the_same_batches():
    lengths = random_lengths(199)
    samplers = [LengthBatchSampler(lengths, 61, seed) for seed in (0, 0, 1)]
    (first, second), again, other = (
        [epoch(sampler, 0), epoch(sampler, 1)] for sampler in samplers
    )
    assert again == [first, second]
    # Seed 1 is not seed 0 one epoch on.
    assert len({str(e) for e in (first, second, *other)}) == 4
    # Not the order of the batches alone differs, but what is in them.
    assert {tuple(sorted(b)) for b in first} != {tuple(sorted(b)) for b in second}


def test_batches_come_in_random_order():
    lengths = random_lengths(499)
    sources = [lengths[batch][:, 0].min() for batch in LengthBatchSampler(lengths, 61)]
    falls = sum(a > b for a, b in itertools.pairwise(sources))
    # In order of length, sources would never fall.
    assert 0.3 * len(sources) < falls < 0.6 * len(sources)


@pytest.mark.parametrize("step", [0, 5, 23, 46, 1000])
def test_a_run_that_goes_on_meets_the_batches_it_would_have_met(pairs, step):
    loader = load_pairs(pairs, max_tokens=67, seed=3)
    whole = itertools.islice(endless(loader), step, step + 30)
    expected = [torch.cat([t.flatten() for t in batch]) for batch in whole]
    rest = itertools.islice(endless(load_pairs(pairs, 67, seed=3), step), 30)
    found = [torch.cat([t.flatten() for t in batch]) for batch in rest]
    assert all(map(torch.equal, found, expected))


def test_passing_over_steps_reads_no_pair(pairs, monkeypatch):
    loader = load_pairs(pairs, max_tokens=67)
    read = []
    fetch = PairFile.__getitems__
    monkeypatch.setattr(
        PairFile,
        "__getitems__",
        lambda self, wanted: read.append(len(wanted)) or fetch(self, wanted),
    )
    next(endless(loader, 10**9 + 7))
    assert len(read) == 1


def test_a_batch_is_what_make_batch_makes_of_its_pairs():
    batch = collate_pairs([([3, 4], [5]), ([4], [3, 4])])
    assert batch.src.tolist() == [[3, 4], [4, PAD]]
    assert batch.tgt_in.tolist() == [[START, 5, PAD], [START, 3, 4]]
    assert batch.tgt_out.tolist() == [[5, END, PAD], [3, 4, END]]


def test_an_epoch_of_the_loader_holds_every_pair_within_the_budget(pairs):
    loader = load_pairs(pairs, max_tokens=67)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert sum(len(batch.src) for batch in batches) == 97
    assert max(b.src.numel() + b.tgt_out.numel() for b in batches) <= 67
    real = sum(int((b.src != PAD).sum() + (b.tgt_out != PAD).sum()) for b in batches)
    assert real == pairs.lengths.sum()


def test_loading_leaves_the_global_random_numbers_alone(pairs):
    state = torch.get_rng_state()
    list(itertools.islice(endless(load_pairs(pairs, 67)), 50))
    assert torch.equal(torch.get_rng_state(), state)


def test_worker_processes_bring_the_same_batches(pairs):
    here, there = load_pairs(pairs, 67), load_pairs(pairs, 67, num_workers=1)
    for ours, theirs in zip(here, there, strict=True):
        assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: LengthBatchSampler([[3, 4], [5, 9]], 13),
            r"^pair 1 has 5 \+ 9 tokens, more than max_tokens \(13\)$",
        ),
        (lambda: LengthBatchSampler([], 13), r"shape \[pairs, 2\], got \[0\]$"),
        (lambda: LengthBatchSampler([3, 4], 13), r"shape \[pairs, 2\], got \[2\]$"),
        (lambda: LengthBatchSampler([[1, 1]], 0), "^max_tokens must be at least 1"),
        (
            lambda: LengthBatchSampler([[1, 1]], 3, -1),
            "^seed must be at least 0, got -1$",
        ),
        (
            lambda: LengthBatchSampler([[1, 1]], 3).set_step(-1),
            "^step must be at least 0, got -1$",
        ),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
