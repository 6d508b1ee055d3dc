"""From lists of token ids to the tensors that training needs."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from transformer.checks import check_int, check_positive_int
from transformer.tokens import END, PAD, START


class Batch(NamedTuple):
    """What one training step needs.

    `tgt_in` and `tgt_out` are the same target, shifted by one: after reading `tgt_in[:,
    :t+1]` the decoder must predict `tgt_out[:, t]`.
    """

    src: Tensor
    """Source ids `[batch, src_len]`."""
    tgt_in: Tensor
    """What the decoder reads, START and then the target, `[batch, tgt_len]`."""
    tgt_out: Tensor
    """What the decoder must predict, the target and then END, `[batch, tgt_len]`."""

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(*(tokens.to(device) for tokens in self))


def is_batch(value: Any) -> bool:
    """Whether `value` is a list or tuple of three tensors, as every `Batch` is."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(isinstance(tokens, Tensor) for tokens in value)
    )


def as_batch(value: Batch | Sequence[Tensor]) -> Batch:
    """The `Batch` that three tensors make, such as a `DataLoader` puts together.

    Raises:
        TypeError: if `value` is something else.
    """
    if not is_batch(value):
        kind = type(value).__name__
        if isinstance(value, (list, tuple)):
            kind += (
                f" of {', '.join(type(part).__name__ for part in value) or 'nothing'}"
            )
        raise TypeError(
            f"a batch must be three tensors (src, tgt_in, tgt_out), got a {kind}"
        )
    return Batch(*value)


def as_parts(value: Batch | Sequence[Tensor] | Sequence[Batch]) -> list[Batch]:
    """The parts of one step: those of a list of batches, or a batch as a whole.

    Raises:
        TypeError: if `value` is something else.
    """
    if isinstance(value, list) and value and all(map(is_batch, value)):
        return [as_batch(part) for part in value]
    return [as_batch(value)]


def part_of(
    batch: Batch, number: int, num_parts: int, pad_token_id: int = PAD
) -> Batch:
    """Every `num_parts`-th row of a batch, from row `number` on.

    If it has no such row, another one with an empty target: it costs a little time, counts
    for nothing, and spares everybody a special case.
    """
    if number < len(batch.src):
        return Batch(*(tokens[number::num_parts] for tokens in batch))
    src, tgt_in, tgt_out = (tokens[:1] for tokens in batch)
    return Batch(src, tgt_in, torch.full_like(tgt_out, pad_token_id))


def in_parts(
    batches: Iterable[Batch], num_parts: int, pad_token_id: int = PAD
) -> Iterator[list[Batch]]:
    """Cut every batch into `num_parts` parts, row by row in turn.

    A training step takes the parts of a batch one after the other, with the memory that one
    of them needs, and comes to the same gradients as with the whole.
    """
    num_parts = check_positive_int("num_parts", num_parts)
    for batch in map(as_batch, batches):
        yield [
            part_of(batch, number, num_parts, pad_token_id)
            for number in range(num_parts)
        ]


def as_collection(name: str, batches: Any) -> Collection:
    """`batches`, if they can be counted; a single batch becomes a list of one.

    Raises:
        TypeError: if `batches` has no length, as an iterator, which may never end.
    """
    if is_batch(batches):
        return [batches]
    try:
        len(batches)
    except TypeError:
        raise TypeError(
            f"{name} must have a length, as a list or a DataLoader has, got a "
            f"{type(batches).__name__}: take what you need with "
            "list(itertools.islice(batches, count))"
        ) from None
    return batches


def pad_sequences(
    sequences: Sequence[Sequence[int]],
    length: int | None = None,
    pad_token_id: int = PAD,
) -> Tensor:
    """Fill short rows on the right with PAD, so that all rows are equally long.

    Args:
        sequences: lists of token ids, not all of them empty.
        length: length of every row; None takes the longest.

    Returns:
        Ids `[batch, length]`.

    Raises:
        ValueError: if there is nothing to pad, or a row is longer than `length`.
    """
    longest = max((len(sequence) for sequence in sequences), default=0)
    if longest == 0:
        raise ValueError(
            f"there is nothing to pad: {len(sequences)} sequences, all empty"
        )
    length = longest if length is None else check_positive_int("length", length)
    if longest > length:
        raise ValueError(
            f"a sequence has {longest} tokens, more than length ({length})"
        )
    pad_token_id = check_int("pad_token_id", pad_token_id)
    rows = [
        [check_int("every token id", token) for token in sequence]
        + [pad_token_id] * (length - len(sequence))
        for sequence in sequences
    ]
    return torch.tensor(rows, dtype=torch.int64)


def make_batch(
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    start_token_id: int = START,
    end_token_id: int = END,
    pad_token_id: int = PAD,
) -> Batch:
    """Pad sources and targets; put START before what is read, END after what is predicted.

    Args:
        sources: lists of token ids.
        targets: as many lists of token ids, without START and END.

    Raises:
        ValueError: if the numbers of sources and targets differ or there are none, if
            a source contains PAD, or if a target contains PAD, START or END.
    """
    if len(sources) != len(targets):
        raise ValueError(f"got {len(sources)} sources but {len(targets)} targets")
    reserved = {"PAD": pad_token_id, "START": start_token_id, "END": end_token_id}
    if pad_token_id in (start_token_id, end_token_id):
        raise ValueError(
            f"PAD ({pad_token_id}) must differ from START ({start_token_id}) "
            f"and END ({end_token_id})"
        )
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        if pad_token_id in source:
            raise ValueError(
                f"source {row} contains {pad_token_id}, which is PAD: "
                "the model would never look at it"
            )
        for name, token_id in reserved.items():
            if token_id in target:
                raise ValueError(
                    f"target {row} contains {token_id}, which is {name}: "
                    "tokens of a task must differ from the special tokens"
                )
    return Batch(
        src=pad_sequences(sources, pad_token_id=pad_token_id),
        tgt_in=pad_sequences(
            [[start_token_id, *t] for t in targets], pad_token_id=pad_token_id
        ),
        tgt_out=pad_sequences(
            [[*t, end_token_id] for t in targets], pad_token_id=pad_token_id
        ),
    )
