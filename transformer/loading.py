"""Batches of pairs of about the same length, epoch after epoch.

All through PyTorch's `DataLoader`. What batch comes at which step follows from the seed
and the number of the step alone: so a run that was interrupted can go on where it was.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from transformer.batching import Batch, make_batch
from transformer.checks import check_int, check_positive_int
from transformer.pairs import PairFile


class LengthBatchSampler(Sampler[list[int]]):
    """Batches within a budget of tokens, put together anew in every epoch.

    Pairs are sorted by length, equally long ones in random order, and cut into batches as
    large as the budget allows; the batches come in random order. As the lengths are the
    same in every epoch, so are the cuts, and every epoch has equally many batches.
    """

    def __init__(
        self,
        lengths: np.ndarray | Sequence[Sequence[int]],
        max_tokens: int,
        seed: int = 0,
    ) -> None:
        """Sort and cut.

        Args:
            lengths: tokens of every source, and of every target with END, `[pairs, 2]`.
            max_tokens: a batch holds at most so many ids in `src` and `tgt_out` together,
                PAD included: rows times the sum of the two longest lengths.
            seed: another one gives other batches.

        Raises:
            ValueError: if there is no pair, or one alone exceeds `max_tokens`.
        """
        self.max_tokens = check_positive_int("max_tokens", max_tokens)
        self.seed = check_int("seed", seed)
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        lengths = np.asarray(lengths)
        if lengths.ndim != 2 or lengths.shape[1] != 2 or len(lengths) == 0:
            raise ValueError(
                f"lengths must have shape [pairs, 2], got {list(lengths.shape)}"
            )
        longest = int(lengths.sum(axis=1).argmax())
        source, target = (int(length) for length in lengths[longest])
        if source + target > self.max_tokens:
            raise ValueError(
                f"pair {longest} has {source} + {target} tokens, more than max_tokens "
                f"({self.max_tokens})"
            )
        # By source, then by target; where one length of sources ends with long targets,
        # the next begins with long ones: neighbours differ little.
        source, target = lengths.T
        self._keys = (np.where(source % 2, -target, target), source)
        self._cuts = _cut(lengths[np.lexsort(self._keys)].tolist(), self.max_tokens)
        self._step = 0

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self._cuts) - 1

    def set_step(self, step: int) -> None:
        """Let the next iteration begin with batch `step`; epochs count on, from 0."""
        step = check_int("step", step)
        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        self._step = step

    def __iter__(self) -> Iterator[list[int]]:
        """The rest of the epoch that `set_step` led into, as lists of pairs' numbers."""
        epoch, first = divmod(self._step, len(self))
        random = np.random.default_rng([self.seed, epoch])
        shuffled = random.permutation(len(self._keys[0]))
        # A stable sort leaves equally long pairs as they were shuffled.
        order = shuffled[np.lexsort([key[shuffled] for key in self._keys])]
        for batch in random.permutation(len(self))[first:]:
            yield order[self._cuts[batch] : self._cuts[batch + 1]].tolist()


def _cut(lengths: list[list[int]], max_tokens: int) -> list[int]:
    """Where batches begin, as long as possible, and the end of the last one."""
    cuts, widest = [0], (0, 0)
    for row, (source, target) in enumerate(lengths):
        widest = max(widest[0], source), max(widest[1], target)
        if (row + 1 - cuts[-1]) * sum(widest) > max_tokens:
            cuts.append(row)
            widest = source, target
    return [*cuts, len(lengths)]


def collate_pairs(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Batch:
    """The `Batch` of some encoded pairs, padded, with START and END."""
    sources, targets = zip(*pairs, strict=True)
    return make_batch(sources, targets)


def load_pairs(
    pairs: PairFile, max_tokens: int, *, seed: int = 0, num_workers: int = 0
) -> DataLoader:
    """A `DataLoader` whose iteration is one epoch of `LengthBatchSampler`.

    Always the same epoch, as evaluation wants it; `endless` goes through all of them.

    Args:
        pairs: any data set of encoded pairs with their `lengths`.
        max_tokens: the budget of a batch, see `LengthBatchSampler`.
        seed: another one gives other batches.
        num_workers: processes that read ahead; 0 reads in this one.
    """
    return DataLoader(
        pairs,
        batch_sampler=LengthBatchSampler(pairs.lengths, max_tokens, seed),
        collate_fn=collate_pairs,
        num_workers=num_workers,
        # Of its own, or every epoch, and every resumption, would take a number from the
        # global one, from which dropout draws.
        generator=torch.Generator(),
    )


def endless(loader: DataLoader, first_step: int = 0) -> Iterator[Batch]:
    """One epoch of a loader after another, without end, each shuffled anew.

    Args:
        loader: what `load_pairs` returned. Nothing else may iterate over it meanwhile.
        first_step: how many batches to pass over, for a run that goes on; none of them is
            read.
    """
    sampler, step = loader.batch_sampler, first_step
    while True:
        sampler.set_step(step)
        for batch in loader:
            yield batch
            step += 1
