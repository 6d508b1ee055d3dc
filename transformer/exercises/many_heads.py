"""Checks for the exercises of companion B."""

import torch
from torch import Tensor

from transformer.exercises.self_check import Mistake, SelfCheck


def _parts(merged: Tensor, weight: Tensor, num_heads: int) -> Tensor:
    slices = merged.unflatten(-1, (num_heads, -1))
    columns = weight.unflatten(1, (num_heads, -1))
    return torch.einsum("lhe,dhe->hld", slices, columns)


def _parts_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    cases = []
    for length, num_heads, d_head in ((3, 2, 4), (2, 3, 2), (1, 1, 5)):
        d_model = num_heads * d_head
        merged = torch.randn(length, d_model, generator=generator)
        weight = torch.randn(d_model, d_model, generator=generator)
        cases.append((merged, weight, num_heads))
    return cases


def _rows_of_weight(merged: Tensor, weight: Tensor, num_heads: int) -> Tensor:
    return _parts(merged, weight.T, num_heads)


def _interleaved(merged: Tensor, weight: Tensor, num_heads: int) -> Tensor:
    slices = merged.unflatten(-1, (-1, num_heads))
    columns = weight.unflatten(1, (-1, num_heads))
    return torch.einsum("leh,deh->hld", slices, columns)


def _only_slices(merged: Tensor, _weight: Tensor, num_heads: int) -> Tensor:
    return merged.unflatten(-1, (num_heads, -1)).transpose(0, 1)


def _already_added(merged: Tensor, weight: Tensor, _num_heads: int) -> Tensor:
    return merged @ weight.T


def _positions_first(merged: Tensor, weight: Tensor, num_heads: int) -> Tensor:
    return _parts(merged, weight, num_heads).transpose(0, 1)


check_parts = SelfCheck(
    solution=_parts,
    cases=_parts_cases,
    mistakes=(
        Mistake(
            _rows_of_weight,
            "You cut the rows of `weight`. `nn.Linear` multiplies by `weight.T`, so head i "
            "owns a slice of the columns.",
        ),
        Mistake(
            _interleaved,
            "You give a head every so-many-th entry. A head owns neighbouring entries, as "
            "in `split_heads`.",
        ),
        Mistake(
            _only_slices,
            "You have cut the slices out. Multiply each by its slice of `weight.T`.",
        ),
        Mistake(
            _already_added,
            "You give the sum of all heads. Keep the heads apart, one matrix each.",
        ),
        Mistake(
            _positions_first,
            "Positions stand first in your result. Heads come first, then positions.",
        ),
    ),
)


def _query_key(w_query: Tensor, w_key: Tensor, num_heads: int, head: int) -> Tensor:
    d_head = len(w_query) // num_heads
    own = slice(d_head * head, d_head * (head + 1))
    return w_query[own].T @ w_key[own]


def _value_output(
    w_value: Tensor, w_output: Tensor, num_heads: int, head: int
) -> Tensor:
    d_head = len(w_value) // num_heads
    own = slice(d_head * head, d_head * (head + 1))
    return (w_output[:, own] @ w_value[own]).T


def _weight_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(d_model, d_model, generator=generator),
            torch.randn(d_model, d_model, generator=generator),
            num_heads,
            head,
        )
        for d_model, num_heads, head in ((6, 2, 0), (6, 2, 1), (6, 3, 2), (4, 1, 0))
    ]


def _all_heads_at_once(
    w_query: Tensor, w_key: Tensor, _heads: int, _head: int
) -> Tensor:
    return w_query.T @ w_key


def _columns_of_both(
    w_query: Tensor, w_key: Tensor, num_heads: int, head: int
) -> Tensor:
    return _query_key(w_query.T, w_key.T, num_heads, head)


def _key_query(w_query: Tensor, w_key: Tensor, num_heads: int, head: int) -> Tensor:
    return _query_key(w_query, w_key, num_heads, head).T


def _inside_the_head(
    w_query: Tensor, w_key: Tensor, num_heads: int, head: int
) -> Tensor:
    d_head = len(w_query) // num_heads
    own = slice(d_head * head, d_head * (head + 1))
    return w_query[own] @ w_key[own].T


check_query_key = SelfCheck(
    solution=_query_key,
    cases=_weight_cases,
    mistakes=(
        Mistake(
            _all_heads_at_once,
            "You multiply the whole matrices: that adds up all heads. Cut out the head's "
            "rows first.",
        ),
        Mistake(
            _columns_of_both,
            "You cut columns. `nn.Linear` stores one row for each entry of its output, so "
            "a head's query comes from a slice of the rows.",
        ),
        Mistake(
            _key_query,
            "Your matrix is transposed: the query multiplies it from the left.",
        ),
        Mistake(
            _inside_the_head,
            "Your matrix is d_head by d_head. It must take a vector of d_model entries on "
            "each side.",
        ),
    ),
)


def _all_values(w_value: Tensor, w_output: Tensor, _heads: int, _head: int) -> Tensor:
    return (w_output @ w_value).T


def _rows_of_output(
    w_value: Tensor, w_output: Tensor, num_heads: int, head: int
) -> Tensor:
    return _value_output(w_value, w_output.T, num_heads, head)


def _from_the_left(
    w_value: Tensor, w_output: Tensor, num_heads: int, head: int
) -> Tensor:
    return _value_output(w_value, w_output, num_heads, head).T


def _columns_of_value(
    w_value: Tensor, w_output: Tensor, num_heads: int, head: int
) -> Tensor:
    return _value_output(w_value.T, w_output, num_heads, head)


check_value_output = SelfCheck(
    solution=_value_output,
    cases=_weight_cases,
    mistakes=(
        Mistake(
            _all_values,
            "You multiply the whole matrices: that adds up all heads. Cut out the head's "
            "slice of each first.",
        ),
        Mistake(
            _rows_of_output,
            "You cut the rows of `w_output`. Its input is the joined heads, so a head owns "
            "a slice of the columns.",
        ),
        Mistake(
            _columns_of_value,
            "You cut the columns of `w_value`. A head's value comes from a slice of its "
            "rows.",
        ),
        Mistake(
            _from_the_left,
            "Your matrix is transposed: a vector multiplies it from the left, "
            "`x @ matrix`.",
        ),
    ),
)


def _ablate_mean(merged: Tensor, num_heads: int, head: int) -> Tensor:
    changed = merged.clone().unflatten(-1, (num_heads, -1))
    changed[:, :, head] = changed[:, :, head].mean(dim=0)
    return changed.flatten(-2)


def _merged_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(2)
    return [
        (torch.randn(5, 3, 8, generator=generator), 2, 1),
        (torch.randn(4, 2, 6, generator=generator), 3, 0),
        (torch.randn(2, 3, 4, generator=generator) + 3, 4, 2),
    ]


def _replaced(merged: Tensor, num_heads: int, head: int, dims: tuple) -> Tensor:
    changed = merged.clone().unflatten(-1, (num_heads, -1))
    changed[:, :, head] = changed[:, :, head].mean(dim=dims, keepdim=True)
    return changed.flatten(-2)


def _zeros(merged: Tensor, num_heads: int, head: int) -> Tensor:
    changed = merged.clone().unflatten(-1, (num_heads, -1))
    changed[:, :, head] = 0
    return changed.flatten(-2)


def _over_positions(merged: Tensor, num_heads: int, head: int) -> Tensor:
    return _replaced(merged, num_heads, head, (1,))


def _over_both(merged: Tensor, num_heads: int, head: int) -> Tensor:
    return _replaced(merged, num_heads, head, (0, 1))


def _over_entries(merged: Tensor, num_heads: int, head: int) -> Tensor:
    return _replaced(merged, num_heads, head, (2,))


def _every_head(merged: Tensor, _num_heads: int, _head: int) -> Tensor:
    return merged.mean(dim=0).expand_as(merged).clone()


def _strided_head(merged: Tensor, num_heads: int, head: int) -> Tensor:
    changed = merged.clone()
    changed[..., head::num_heads] = changed[..., head::num_heads].mean(dim=0)
    return changed


check_ablate_mean = SelfCheck(
    solution=_ablate_mean,
    cases=_merged_cases,
    mistakes=(
        Mistake(_zeros, "You hand over zeros. The mean over the batch is wanted."),
        Mistake(
            _over_positions,
            "You average over positions. Average over the batch, each position by itself.",
        ),
        Mistake(
            _over_both,
            "You average over batch and positions at once, and lose what depends on the "
            "position. Average over the batch alone.",
        ),
        Mistake(
            _over_entries,
            "You average the entries of a vector. Average over the batch, each entry by "
            "itself.",
        ),
        Mistake(_every_head, "You replace every head. The others stay as they are."),
        Mistake(
            _strided_head,
            "You take every so-many-th entry. A head owns neighbouring entries.",
        ),
    ),
)


def _greedy_order(losses: Tensor) -> list[int]:
    num_heads = len(losses).bit_length() - 1
    gone, order = 0, []
    while len(order) < num_heads:
        left = [head for head in range(num_heads) if not gone >> head & 1]
        best = min(left, key=lambda head: losses[gone | 1 << head].item())
        gone |= 1 << best
        order.append(best)
    return order


def _losses_cases() -> list[tuple]:
    # Heads 0 and 1 do the same: each is harmless to remove, both together are not.
    twins = torch.tensor([0.0, 0.1, 0.2, 5.0, 0.4, 0.6, 0.7, 6.0])
    generator = torch.Generator().manual_seed(3)
    others = [torch.rand(2**heads, generator=generator) for heads in (3, 4)]
    # What is best as a pair does not hold what is best alone.
    pair = torch.tensor([0.0, 0.1, 0.5, 0.9, 0.6, 0.8, 0.2, 1.0])
    return [(twins,), *((losses,) for losses in others), (pair,)]


def _one_shot(losses: Tensor) -> list[int]:
    num_heads = len(losses).bit_length() - 1
    return sorted(range(num_heads), key=lambda head: losses[1 << head].item())


def _most_harm_first(losses: Tensor) -> list[int]:
    return _greedy_order(-losses)


def _sets_and_not_heads(losses: Tensor) -> list[int]:
    order = [0]
    for head in _greedy_order(losses):
        order.append(order[-1] | 1 << head)
    return order[1:]


def _last_first(losses: Tensor) -> list[int]:
    return _greedy_order(losses)[::-1]


def _without_the_last(losses: Tensor) -> list[int]:
    return _greedy_order(losses)[:-1]


check_greedy_order = SelfCheck(
    solution=_greedy_order,
    cases=_losses_cases,
    mistakes=(
        Mistake(
            _one_shot,
            "You sort by the harm that each head does alone. Ask again after each removal: "
            "two heads that can each be spared may not be spared together.",
        ),
        Mistake(
            _most_harm_first,
            "You remove the head that does most harm. Remove the one with the lowest loss.",
        ),
        Mistake(
            _sets_and_not_heads,
            "You return the numbers of the sets. The heads are wanted, in the order in "
            "which they go.",
        ),
        Mistake(
            _last_first, "Your order is backwards: the head removed first comes first."
        ),
        Mistake(
            _without_the_last, "The last head is missing: go on until none is left."
        ),
    ),
)


def _share_keys(keys: Tensor, num_heads: int) -> Tensor:
    return keys.repeat_interleave(num_heads // keys.size(1), dim=1)


def _keys_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(4)
    return [
        (torch.randn(2, groups, 3, 2, generator=generator), num_heads)
        for groups, num_heads in ((2, 4), (1, 3), (3, 3), (2, 6))
    ]


def _tiled(keys: Tensor, num_heads: int) -> Tensor:
    return keys.repeat(1, num_heads // keys.size(1), 1, 1)


def _repeated_positions(keys: Tensor, num_heads: int) -> Tensor:
    return keys.repeat_interleave(num_heads // keys.size(1), dim=2)


def _num_heads_times(keys: Tensor, num_heads: int) -> Tensor:
    return keys.repeat_interleave(num_heads, dim=1)


def _first_group(keys: Tensor, num_heads: int) -> Tensor:
    return keys[:, :1].expand(-1, num_heads, -1, -1)


check_share_keys = SelfCheck(
    solution=_share_keys,
    cases=_keys_cases,
    mistakes=(
        Mistake(
            _tiled,
            "You repeat the groups in turn, 0 1 0 1. Neighbouring heads share a group, "
            "0 0 1 1: use `repeat_interleave`.",
        ),
        Mistake(
            _repeated_positions, "You repeat positions. Repeat along the groups, dim=1."
        ),
        Mistake(
            _num_heads_times,
            "You repeat each group `num_heads` times. It serves `num_heads` divided by the "
            "number of groups.",
        ),
        Mistake(
            _first_group,
            "All heads get the first group. Each group serves the heads of its own.",
        ),
    ),
)


def _cache_bytes(layers: int, groups: int, d_head: int, tokens: int, width: int) -> int:
    return 2 * layers * groups * d_head * tokens * width


def _model_cases() -> list[tuple]:
    return [
        (32, 8, 128, 8_192, 2),
        (2, 4, 16, 5, 4),
        (80, 1, 128, 1, 2),
        (1, 1, 1, 1, 1),
    ]


def _keys_alone(layers: int, groups: int, d_head: int, tokens: int, width: int) -> int:
    return layers * groups * d_head * tokens * width


def _numbers(layers: int, groups: int, d_head: int, tokens: int, _width: int) -> int:
    return 2 * layers * groups * d_head * tokens


def _one_layer(_layers: int, groups: int, d_head: int, tokens: int, width: int) -> int:
    return 2 * groups * d_head * tokens * width


def _one_group(layers: int, _groups: int, d_head: int, tokens: int, width: int) -> int:
    return 2 * layers * d_head * tokens * width


def _pairs(layers: int, groups: int, d_head: int, tokens: int, width: int) -> int:
    return 2 * layers * groups * d_head * tokens**2 * width


check_cache_bytes = SelfCheck(
    solution=_cache_bytes,
    cases=_model_cases,
    mistakes=(
        Mistake(_keys_alone, "You count the keys. The cache holds the values, too."),
        Mistake(_numbers, "You count numbers. Multiply by the bytes that each takes."),
        Mistake(_one_layer, "You count one layer. Each layer has a cache of its own."),
        Mistake(
            _one_group, "You count one group of keys and values. There are `groups`."
        ),
        Mistake(
            _pairs,
            "You count pairs of tokens. Keys and values are one each for a token; weights "
            "are not kept.",
        ),
    ),
)


def _pool(weight: Tensor, num_heads: int, groups: int) -> Tensor:
    d_head = len(weight) // num_heads
    members = weight.unflatten(0, (groups, num_heads // groups, d_head))
    return members.mean(dim=1).flatten(0, 1)


def _pool_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(num_heads * d_head, 3, generator=generator), num_heads, groups)
        for num_heads, d_head, groups in ((4, 2, 2), (4, 2, 1), (6, 3, 2), (3, 2, 3))
    ]


def _pooled_over_groups(weight: Tensor, num_heads: int, groups: int) -> Tensor:
    d_head = len(weight) // num_heads
    members = weight.unflatten(0, (num_heads // groups, groups, d_head))
    return members.mean(dim=0).flatten(0, 1)


def _added(weight: Tensor, num_heads: int, groups: int) -> Tensor:
    return _pool(weight, num_heads, groups) * (num_heads // groups)


def _first_of_each(weight: Tensor, num_heads: int, groups: int) -> Tensor:
    d_head = len(weight) // num_heads
    members = weight.unflatten(0, (groups, num_heads // groups, d_head))
    return members[:, 0].flatten(0, 1)


def _neighbouring_rows(weight: Tensor, num_heads: int, groups: int) -> Tensor:
    return weight.unflatten(0, (-1, num_heads // groups)).mean(dim=1)


check_pool = SelfCheck(
    solution=_pool,
    cases=_pool_cases,
    mistakes=(
        Mistake(
            _pooled_over_groups,
            "You average heads of different groups. Neighbouring heads form a group.",
        ),
        Mistake(_added, "You add the members of a group up. Their mean is wanted."),
        Mistake(
            _first_of_each,
            "You keep the first head of each group. Average all of its members.",
        ),
        Mistake(
            _neighbouring_rows,
            "You average neighbouring rows, within a head. Average whole heads: row 0 of "
            "one with row 0 of the others.",
        ),
    ),
)
