"""The two tasks of the book: copying a sequence, and adding two numbers."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.batching import Batch, make_batch
from transformer.checks import check_positive_int
from transformer.tokens import END, FIRST_TASK_TOKEN, PAD, START


@dataclass(frozen=True)
class CopyTask:
    """Repeat the source. Symbols are the ids 3 … `vocab_size - 1`, lengths vary."""

    vocab_size: int = 15
    min_length: int = 3
    max_length: int = 8

    def __post_init__(self) -> None:
        """Refuse sizes that leave no symbol or no length to draw from."""
        check_positive_int("vocab_size", self.vocab_size)
        check_positive_int("min_length", self.min_length)
        check_positive_int("max_length", self.max_length)
        if self.vocab_size <= FIRST_TASK_TOKEN:
            raise ValueError(
                f"vocab_size ({self.vocab_size}) leaves no symbol: "
                f"the first {FIRST_TASK_TOKEN} ids are PAD, START and END"
            )
        if self.min_length > self.max_length:
            raise ValueError(
                f"min_length ({self.min_length}) exceeds max_length ({self.max_length})"
            )

    def sample(self, batch_size: int, generator: torch.Generator) -> Batch:
        """Draw `batch_size` random sequences, each of a random length."""
        check_positive_int("batch_size", batch_size)
        lengths = torch.randint(
            self.min_length, self.max_length + 1, (batch_size,), generator=generator
        ).tolist()
        symbols = torch.randint(
            FIRST_TASK_TOKEN,
            self.vocab_size,
            (batch_size, self.max_length),
            generator=generator,
        ).tolist()
        sequences = [row[:length] for row, length in zip(symbols, lengths, strict=True)]
        return make_batch(sequences, sequences)

    def batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Fresh random batches without end."""
        check_positive_int("batch_size", batch_size)
        return (self.sample(batch_size, generator) for _ in itertools.count())


@dataclass(frozen=True)
class AdditionTask:
    """Add two numbers of `num_digits` digits, written as tokens in plain order.

    Source: the digits of a, `+`, the digits of b. Target: the sum in `num_digits + 1`
    digits. All numbers carry leading zeros, so 7 + 85 is `07+85` → `092`.
    """

    num_digits: int = 2

    PLUS = FIRST_TASK_TOKEN
    FIRST_DIGIT = FIRST_TASK_TOKEN + 1
    vocab_size = FIRST_DIGIT + 10

    def __post_init__(self) -> None:
        """Refuse numbers without digits, and more digits than an int64 sum can hold."""
        check_positive_int("num_digits", self.num_digits)
        if self.num_digits > 18:
            raise ValueError(f"num_digits must be at most 18, got {self.num_digits}")

    def all_pairs(self) -> Tensor:
        """Every pair of numbers, `[10^(2 * num_digits), 2]`, in counting order."""
        if self.num_digits > 3:
            raise ValueError(
                f"there are 10^{2 * self.num_digits} pairs of {self.num_digits}-digit "
                "numbers, too many to list; `draw` gives you some"
            )
        numbers = torch.arange(10**self.num_digits)
        return torch.cartesian_prod(numbers, numbers)

    def draw(self, num_pairs: int, generator: torch.Generator) -> Tensor:
        """Draw pairs of which no two are the same, nor the same in the other order.

        So whatever part of them is held out, the rest does not give it away. This works
        for any number of digits, where `split` must list all pairs.

        Returns:
            Pairs of numbers, one a row, in random order.
        """
        check_positive_int("num_pairs", num_pairs)
        limit = 10**self.num_digits
        if num_pairs > limit * (limit + 1) // 2:
            raise ValueError(
                f"num_pairs ({num_pairs}) exceeds the {limit * (limit + 1) // 2} pairs "
                f"of {self.num_digits}-digit numbers that differ in more than their order"
            )
        if self.num_digits <= 3:
            distinct = torch.combinations(torch.arange(limit), with_replacement=True)
        else:
            distinct = torch.empty(0, 2, dtype=torch.int64)
            while len(distinct) < num_pairs:
                more = torch.randint(limit, (num_pairs, 2), generator=generator)
                drawn = torch.cat([distinct, more.sort(dim=1).values])
                distinct = drawn.unique(dim=0)
        order = torch.randperm(len(distinct), generator=generator)[:num_pairs]
        turned = torch.randint(2, (num_pairs, 1), generator=generator) == 1
        pairs = distinct[order]
        return torch.where(turned, pairs.flip(1), pairs)

    def split(
        self, num_held_out: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Keep `num_held_out` pairs apart, an even number; shuffle the others.

        Adding is symmetric, so one order of a pair would give the other away: both are
        held out together. A number plus itself has one order, and is always seen.

        Returns:
            `(seen, held_out)`: pairs of numbers, one a row.
        """
        pairs = self.all_pairs()
        one_order = pairs[pairs[:, 0] < pairs[:, 1]]
        check_positive_int("num_held_out", num_held_out)
        if num_held_out % 2 or num_held_out > 2 * len(one_order):
            raise ValueError(
                f"num_held_out ({num_held_out}) must be even and at most "
                f"{2 * len(one_order)}: pairs are held out in both orders"
            )
        shuffled = one_order[torch.randperm(len(one_order), generator=generator)]
        chosen = shuffled[: num_held_out // 2]
        held_out = torch.cat([chosen, chosen.flip(1)])
        is_seen = torch.ones(len(pairs), dtype=torch.bool)
        is_seen[held_out @ torch.tensor([10**self.num_digits, 1])] = False
        seen = pairs[is_seen]
        return seen[torch.randperm(len(seen), generator=generator)], held_out

    def make_batch(self, pairs: Tensor) -> Batch:
        """Write `pairs [batch, 2]`, numbers of type int64, as tokens."""
        if not isinstance(pairs, Tensor) or pairs.dtype != torch.int64:
            kind = pairs.dtype if isinstance(pairs, Tensor) else type(pairs).__name__
            raise TypeError(f"pairs must be a tensor of torch.int64, got {kind}")
        if pairs.dim() != 2 or pairs.size(1) != 2 or len(pairs) == 0:
            raise ValueError(
                f"pairs must have shape [batch, 2], got {list(pairs.shape)}"
            )
        limit = 10**self.num_digits
        if pairs.min() < 0 or pairs.max() >= limit:
            raise ValueError(
                f"numbers must lie between 0 and {limit - 1}, "
                f"got {pairs.min().item()} to {pairs.max().item()}"
            )
        a, b = pairs.T
        column = torch.ones(len(pairs), 1, dtype=torch.int64, device=pairs.device)
        total = self._digits(a + b, self.num_digits + 1)
        plus = self.PLUS * column
        return Batch(
            src=torch.cat(
                [self._digits(a, self.num_digits), plus, self._digits(b)], dim=1
            ),
            tgt_in=torch.cat([START * column, total], dim=1),
            tgt_out=torch.cat([total, END * column], dim=1),
        )

    def batches(
        self, pairs: Tensor, batch_size: int, generator: torch.Generator
    ) -> Iterator[Batch]:
        """Go through `pairs` again and again without end, shuffled anew each time.

        The last batch of a round is left out when it would be smaller than
        `batch_size`.
        """
        check_positive_int("batch_size", batch_size)
        if batch_size > len(pairs):
            raise ValueError(
                f"batch_size ({batch_size}) exceeds the {len(pairs)} pairs"
            )
        rounds = (
            pairs[torch.randperm(len(pairs), generator=generator)]
            for _ in itertools.count()
        )
        return (
            self.make_batch(shuffled[row : row + batch_size])
            for shuffled in rounds
            for row in range(0, len(pairs) - batch_size + 1, batch_size)
        )

    def read_sums(self, tokens: Tensor) -> Tensor:
        """Numbers that decoded rows stand for.

        Args:
            tokens: ids `[batch, length]`, beginning with START.

        Returns:
            `[batch]`; -1 for a row that is not exactly START, `num_digits + 1` digits,
            END.
        """
        width = self.num_digits + 1
        sums = torch.full((len(tokens),), -1, dtype=torch.int64, device=tokens.device)
        if tokens.size(1) < width + 2:
            return sums
        digits = tokens[:, 1 : width + 1] - self.FIRST_DIGIT
        is_sum = (tokens[:, 0] == START) & (tokens[:, width + 1] == END)
        is_sum &= ((digits >= 0) & (digits <= 9)).all(dim=1)
        is_sum &= (tokens[:, width + 2 :] == PAD).all(dim=1)
        powers = 10 ** torch.arange(width - 1, -1, -1, device=tokens.device)
        return torch.where(is_sum, (digits * powers).sum(dim=1), sums)

    def to_text(self, tokens: Tensor) -> str:
        """One row of ids as text, special tokens left out: `07+85`."""
        names = {self.PLUS: "+"} | {self.FIRST_DIGIT + d: str(d) for d in range(10)}
        unknown = {token for token in tokens.tolist() if token >= self.vocab_size}
        if unknown:
            raise ValueError(
                f"tokens {sorted(unknown)} are outside the vocabulary: "
                f"ids run from 0 to {self.vocab_size - 1}"
            )
        return "".join(
            names[token] for token in tokens.tolist() if token >= FIRST_TASK_TOKEN
        )

    def _digits(self, numbers: Tensor, width: int | None = None) -> Tensor:
        width = self.num_digits if width is None else width
        powers = 10 ** torch.arange(width - 1, -1, -1, device=numbers.device)
        return numbers[:, None] // powers % 10 + self.FIRST_DIGIT
