"""Checks for the exercises of chapter 5."""

import torch
from torch import Tensor

from transformer.batching import pad_sequences
from transformer.exercises.self_check import Mistake, SelfCheck
from transformer.masks import causal_mask, target_mask
from transformer.tokens import END, PAD, START


def _shift(target: list[int]) -> tuple[list[int], list[int]]:
    return [START, *target], [*target, END]


def _shift_cases() -> list[tuple]:
    return [([5, 6, 7],), ([9],), ([],), ([4, 4, 8, 4],)]


def _swapped(target: list[int]) -> tuple[list[int], list[int]]:
    return [*target, END], [START, *target]


def _unshifted(target: list[int]) -> tuple[list[int], list[int]]:
    return [START, *target, END], [START, *target, END]


def _no_start(target: list[int]) -> tuple[list[int], list[int]]:
    return list(target), [*target, END]


def _no_end(target: list[int]) -> tuple[list[int], list[int]]:
    return [START, *target], list(target)


def _last_token_cut(target: list[int]) -> tuple[list[int], list[int]]:
    return [START, *target[:-1]], list(target)


def _end_is_read(target: list[int]) -> tuple[list[int], list[int]]:
    return [START, *target, END], [*target, END]


def _padded_instead(target: list[int]) -> tuple[list[int], list[int]]:
    return [START, *target], [*target, PAD]


check_shift = SelfCheck(
    solution=_shift,
    cases=_shift_cases,
    mistakes=(
        Mistake(
            _swapped,
            "The two are swapped: the decoder reads START first and predicts END last.",
        ),
        Mistake(
            _unshifted,
            "Both lists are the same, so the token to say is the one just read. "
            "Shift one of them.",
        ),
        Mistake(
            _no_start,
            "Nothing stands before the first token: the decoder must read START "
            "in order to say it.",
        ),
        Mistake(
            _no_end,
            "Nothing is to be said after the last token: a model trained like this "
            "never learns to stop.",
        ),
        Mistake(
            _last_token_cut,
            "Your lists are as long as the target. START and END make each of them "
            "one longer.",
        ),
        Mistake(
            _end_is_read,
            "END is only said, never read: the first list ends with the last token.",
        ),
        Mistake(
            _padded_instead,
            "PAD at the end is left out of the loss, so the model never learns to "
            "stop. The last thing to say is END.",
        ),
    ),
)


def _pad(sequences: list[list[int]], pad_token_id: int) -> Tensor:
    return pad_sequences(sequences, pad_token_id=pad_token_id)


def _pad_cases() -> list[tuple]:
    return [
        ([[5, 6, 7], [8]], 0),
        ([[9, 4], [], [3, 5, 7, 11, 13], [6, 6, 6]], 0),
        ([[1, 0, 2], [0]], 99),
        ([[7, 8], [9, 10]], 3),
    ]


def _zeros_behind(sequences: list[list[int]], _pad_token_id: int) -> Tensor:
    return pad_sequences(sequences)


def _on_the_left(sequences: list[list[int]], pad_token_id: int) -> Tensor:
    longest = max(map(len, sequences))
    return torch.tensor([[pad_token_id] * (longest - len(s)) + s for s in sequences])


def _cut_to_shortest(sequences: list[list[int]], _pad_token_id: int) -> Tensor:
    shortest = min(map(len, sequences))
    return torch.tensor([s[:shortest] for s in sequences])


def _one_too_many(sequences: list[list[int]], pad_token_id: int) -> Tensor:
    longest = max(map(len, sequences))
    return pad_sequences(sequences, longest + 1, pad_token_id)


def _first_decides(sequences: list[list[int]], pad_token_id: int) -> Tensor:
    length = len(sequences[0])
    return torch.tensor([s + [pad_token_id] * (length - len(s)) for s in sequences])


def _as_lists(sequences: list[list[int]], pad_token_id: int) -> list[list[int]]:
    return _pad(sequences, pad_token_id).tolist()


def _as_floats(sequences: list[list[int]], pad_token_id: int) -> Tensor:
    return _pad(sequences, pad_token_id).float()


def _as_columns(sequences: list[list[int]], pad_token_id: int) -> Tensor:
    return _pad(sequences, pad_token_id).T


check_pad = SelfCheck(
    solution=_pad,
    cases=_pad_cases,
    mistakes=(
        Mistake(
            _zeros_behind,
            "You fill with 0 whatever PAD is. Fill with `pad_token_id`.",
        ),
        Mistake(
            _on_the_left,
            "You fill on the left. Put PAD behind the tokens, so that they keep "
            "their positions.",
        ),
        Mistake(
            _cut_to_shortest,
            "You cut every row to the shortest and lose tokens. Fill up to the longest.",
        ),
        Mistake(
            _one_too_many,
            "Every row is one too long: the longest one needs no PAD.",
        ),
        Mistake(
            _first_decides,
            "You take the length of the first row. A later one may be longer.",
        ),
        Mistake(_as_lists, "The rows are right. Make one tensor of them."),
        Mistake(
            _as_floats,
            "The values are right, but they are floats. Ids are whole numbers.",
        ),
        Mistake(
            _as_columns,
            "You turned rows into columns. The shape is `[batch, length]`, one "
            "sequence a row.",
        ),
    ),
)


def _causal(length: int) -> Tensor:
    return causal_mask(length)


def _causal_cases() -> list[tuple]:
    return [(4,), (1,), (2,), (7,)]


def _future_only(length: int) -> Tensor:
    return ~causal_mask(length)


def _itself_and_future(length: int) -> Tensor:
    return causal_mask(length).T


def _not_itself(length: int) -> Tensor:
    return causal_mask(length).tril(-1)


def _one_ahead(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril(1)


def _ones_and_zeros(length: int) -> Tensor:
    return causal_mask(length).int()


def _float_ones(length: int) -> Tensor:
    return torch.ones(length, length).tril()


def _minus_infinity(length: int) -> Tensor:
    return torch.zeros(length, length).masked_fill(~causal_mask(length), -torch.inf)


check_causal_mask = SelfCheck(
    solution=_causal,
    cases=_causal_cases,
    mistakes=(
        Mistake(
            _future_only,
            "The mask is turned round: yours is True for the future. "
            "True means that a query may look.",
        ),
        Mistake(
            _itself_and_future,
            "The triangle is on the wrong side: rows are queries, and a query looks "
            "back, to the left.",
        ),
        Mistake(
            _not_itself,
            "Off by one: the diagonal is missing. A position may look at itself, and "
            "the first one has nothing else.",
        ),
        Mistake(
            _one_ahead,
            "Off by one: each position sees one step ahead, which is the answer "
            "it must give.",
        ),
        Mistake(
            _ones_and_zeros,
            "The pattern is right, but it is made of whole numbers. "
            "A mask is boolean: True or False.",
        ),
        Mistake(
            _float_ones,
            "The pattern is right, but it is made of floats, which PyTorch would add "
            "to the scores. A mask is boolean: True or False.",
        ),
        Mistake(
            _minus_infinity,
            "You made the numbers to add to the scores. Here a mask is boolean: "
            "True where a query may look.",
        ),
    ),
)


def _both(tokens: Tensor, pad_token_id: int) -> Tensor:
    return target_mask(tokens, pad_token_id)


def _both_cases() -> list[tuple]:
    return [
        (torch.tensor([[1, 5, 6, 0, 0], [1, 7, 8, 9, 4], [1, 0, 0, 0, 0]]), 0),
        # As many rows as columns: a forgotten axis goes unnoticed.
        (torch.tensor([[1, 5, 0], [1, 6, 7], [1, 0, 0]]), 0),
        # Another PAD, and 0 is an ordinary token.
        (torch.tensor([[1, 0, 3, 9], [0, 9, 9, 9]]), 9),
        # PAD in front, where the causal mask does not hide it.
        (torch.tensor([[0, 0, 1, 5, 6], [0, 1, 7, 8, 9]]), 0),
        (torch.tensor([[1, 4]]), 0),
    ]


def _is_token(tokens: Tensor, pad_token_id: int) -> Tensor:
    return tokens != pad_token_id


def _pad_is_zero(tokens: Tensor, _pad_token_id: int) -> Tensor:
    return target_mask(tokens)


def _only_future(tokens: Tensor, _pad_token_id: int) -> Tensor:
    rows, length = tokens.shape
    return causal_mask(length).expand(rows, 1, length, length)


def _only_pad(tokens: Tensor, pad_token_id: int) -> Tensor:
    rows, length = tokens.shape
    keys = _is_token(tokens, pad_token_id)[:, None, None, :]
    return keys.expand(rows, 1, length, length)


def _either(tokens: Tensor, pad_token_id: int) -> Tensor:
    keys = _is_token(tokens, pad_token_id)[:, None, None, :]
    return keys | causal_mask(tokens.size(1))


def _queries_instead(tokens: Tensor, pad_token_id: int) -> Tensor:
    queries = _is_token(tokens, pad_token_id)[:, None, :, None]
    return queries & causal_mask(tokens.size(1))


def _queries_too(tokens: Tensor, pad_token_id: int) -> Tensor:
    queries = _is_token(tokens, pad_token_id)[:, None, :, None]
    return queries & target_mask(tokens, pad_token_id)


def _all_turned_round(tokens: Tensor, pad_token_id: int) -> Tensor:
    return ~target_mask(tokens, pad_token_id)


def _pad_turned_round(tokens: Tensor, pad_token_id: int) -> Tensor:
    keys = (tokens == pad_token_id)[:, None, None, :]
    return keys & causal_mask(tokens.size(1))


def _no_axes(tokens: Tensor, pad_token_id: int) -> Tensor:
    return _is_token(tokens, pad_token_id) & causal_mask(tokens.size(1))


def _no_axis_of_heads(tokens: Tensor, pad_token_id: int) -> Tensor:
    return target_mask(tokens, pad_token_id)[:, 0]


def _integers(tokens: Tensor, pad_token_id: int) -> Tensor:
    return target_mask(tokens, pad_token_id).int()


check_target_mask = SelfCheck(
    solution=_both,
    cases=_both_cases,
    mistakes=(
        Mistake(
            _pad_is_zero,
            "You compare with 0 whatever PAD is. Compare with `pad_token_id`.",
        ),
        Mistake(_only_future, "The future is hidden, but PAD is not."),
        Mistake(_only_pad, "PAD is hidden, but the future is not."),
        Mistake(
            _either,
            "A cell of yours is True if one of the masks says so. Both must: "
            "join them with `&`.",
        ),
        Mistake(
            _queries_instead,
            "You hide PAD queries instead of PAD keys. The condition on PAD belongs on "
            "the last axis.",
        ),
        Mistake(
            _queries_too,
            "You hide PAD queries as well. Nobody uses them, and their rows are then "
            "empty: hide PAD keys only.",
        ),
        Mistake(
            _all_turned_round,
            "The mask is turned round: True means that a query may look.",
        ),
        Mistake(
            _pad_turned_round,
            "The condition on PAD is turned round: it must be True where a token is "
            "*not* PAD.",
        ),
        Mistake(
            _no_axes,
            "A condition of shape `[batch, key]` meets the causal mask as if a row of "
            "the batch were a query. Give it axes for heads and queries: "
            "`[:, None, None, :]`.",
        ),
        Mistake(
            _no_axis_of_heads,
            "The pattern is right, but the axis of the heads is missing: "
            "the shape is `[batch, 1, query, key]`.",
        ),
        Mistake(
            _integers,
            "The pattern is right, but it is made of whole numbers. "
            "A mask is boolean: True or False.",
        ),
    ),
)


def _buckets(lengths: list[int], batch_size: int) -> list[list[int]]:
    return _cut(sorted(range(len(lengths)), key=lengths.__getitem__), batch_size)


def _cut(items: list[int], size: int) -> list[list[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _bucket_cases() -> list[tuple]:
    return [
        ([5, 2, 9, 1], 2),
        ([3, 1, 3, 1, 3], 2),
        ([4, 4, 4], 5),
        ([7], 1),
        ([6, 5, 4, 3, 2, 1, 6], 3),
    ]


def _unsorted_buckets(lengths: list[int], batch_size: int) -> list[list[int]]:
    return _cut(list(range(len(lengths))), batch_size)


def _lengths_instead(lengths: list[int], batch_size: int) -> list[list[int]]:
    return _cut(sorted(lengths), batch_size)


def _rest_dropped(lengths: list[int], batch_size: int) -> list[list[int]]:
    batches = _buckets(lengths, batch_size)
    return [batch for batch in batches if len(batch) == batch_size]


def _longest_first(lengths: list[int], batch_size: int) -> list[list[int]]:
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    return _cut(order, batch_size)


def _later_first(lengths: list[int], batch_size: int) -> list[list[int]]:
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], -index))
    return _cut(order, batch_size)


def _batches_counted(lengths: list[int], batch_size: int) -> list[list[int]]:
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return _cut(order, -(-len(lengths) // batch_size))


check_buckets = SelfCheck(
    solution=_buckets,
    cases=_bucket_cases,
    mistakes=(
        Mistake(_unsorted_buckets, "Sort by length before you cut."),
        Mistake(
            _lengths_instead,
            "These are lengths. Wanted are the indices of the sequences, so that you "
            "find them again.",
        ),
        Mistake(_rest_dropped, "Sequences are lost: the last batch may be smaller."),
        Mistake(_longest_first, "Begin with the shortest sequence."),
        Mistake(
            _later_first, "Where two lengths are equal, the earlier index comes first."
        ),
        Mistake(
            _batches_counted,
            "`batch_size` is the number of sequences in a batch, not the number of "
            "batches.",
        ),
    ),
)


def _share_of_pad(lengths: list[int], batches: list[list[int]]) -> float:
    entries = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return 1 - sum(lengths[i] for batch in batches for i in batch) / entries


def _share_cases() -> list[tuple]:
    return [
        ([5, 2, 9, 1], [[0, 1], [2, 3]]),
        ([5, 2, 9, 1], [[3, 1], [0, 2]]),
        ([4, 4, 4], [[0, 1, 2]]),
        ([1, 8, 8, 8, 8], [[0, 1, 2, 3], [4]]),
    ]


def _one_width_for_all(lengths: list[int], batches: list[list[int]]) -> float:
    entries = max(lengths) * sum(len(batch) for batch in batches)
    return 1 - sum(lengths) / entries


def _share_of_tokens(lengths: list[int], batches: list[list[int]]) -> float:
    return 1 - _share_of_pad(lengths, batches)


def _mean_of_batches(lengths: list[int], batches: list[list[int]]) -> float:
    return sum(_share_of_pad(lengths, [batch]) for batch in batches) / len(batches)


def _pad_to_token(lengths: list[int], batches: list[list[int]]) -> float:
    share = _share_of_pad(lengths, batches)
    return share / (1 - share)


def _pad_counted(lengths: list[int], batches: list[list[int]]) -> float:
    entries = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return float(entries - sum(lengths))


check_share_of_pad = SelfCheck(
    solution=_share_of_pad,
    cases=_share_cases,
    mistakes=(
        Mistake(
            _one_width_for_all,
            "Each batch is as wide as its own longest sequence, not as the longest of all.",
        ),
        Mistake(_share_of_tokens, "That is the share of real tokens, not of PAD."),
        Mistake(
            _mean_of_batches,
            "Batches differ in size: count all entries and all PAD, and divide once.",
        ),
        Mistake(
            _pad_to_token, "Divide by all entries, PAD included, not by the tokens."
        ),
        Mistake(
            _pad_counted, "That is how many entries are PAD. Divide by all of them."
        ),
    ),
)
