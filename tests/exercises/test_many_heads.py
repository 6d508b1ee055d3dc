"""What the checks of companion B hold to be right, found in another way."""

import itertools

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from transformer.exercises import many_heads


def solve(check, *arguments):
    return check.solution(*arguments)


def cases(check):
    return [pytest.param(*case, id=str(n)) for n, case in enumerate(check.cases())]


@pytest.mark.parametrize(
    ("merged", "weight", "num_heads"), cases(many_heads.check_parts)
)
def test_a_part_is_what_is_left_when_the_other_heads_are_silent(
    merged, weight, num_heads
):
    parts = solve(many_heads.check_parts, merged, weight, num_heads)
    torch.testing.assert_close(parts.sum(dim=0), merged @ weight.T)
    for head, part in enumerate(parts):
        alone = torch.zeros_like(merged)
        own = slice(
            *(merged.size(-1) // num_heads * bound for bound in (head, head + 1))
        )
        alone[:, own] = merged[:, own]
        torch.testing.assert_close(part, alone @ weight.T)


@pytest.mark.parametrize(
    ("w_query", "w_key", "num_heads", "head"), cases(many_heads.check_query_key)
)
def test_one_matrix_gives_the_score_of_queries_and_keys(
    w_query, w_key, num_heads, head
):
    looks, is_looked_at = torch.randn(2, len(w_query))
    query, key = (w @ x for w, x in [(w_query, looks), (w_key, is_looked_at)])
    score = query.chunk(num_heads)[head] @ key.chunk(num_heads)[head]
    matrix = solve(many_heads.check_query_key, w_query, w_key, num_heads, head)
    torch.testing.assert_close(looks @ matrix @ is_looked_at, score)


@pytest.mark.parametrize(
    ("w_value", "w_output", "num_heads", "head"), cases(many_heads.check_value_output)
)
def test_one_matrix_gives_what_a_head_hands_over(w_value, w_output, num_heads, head):
    found = torch.randn(len(w_value))
    value = (w_value @ found).view(num_heads, -1)
    value[torch.arange(num_heads) != head] = 0
    matrix = solve(many_heads.check_value_output, w_value, w_output, num_heads, head)
    torch.testing.assert_close(found @ matrix, w_output @ value.flatten())


@pytest.mark.parametrize(
    ("merged", "num_heads", "head"), cases(many_heads.check_ablate_mean)
)
def test_a_mean_takes_away_what_depends_on_the_input(merged, num_heads, head):
    changed = solve(many_heads.check_ablate_mean, merged, num_heads, head)
    before, after = (x.unflatten(-1, (num_heads, -1)) for x in (merged, changed))
    others = torch.arange(num_heads) != head
    assert torch.equal(before[:, :, others], after[:, :, others])
    assert (after[:, :, head] == after[:1, :, head]).all()
    torch.testing.assert_close(after.sum(dim=0), before.sum(dim=0))


@pytest.mark.parametrize("losses", cases(many_heads.check_greedy_order))
def test_no_other_head_would_do_less_harm_at_its_turn(losses):
    order = solve(many_heads.check_greedy_order, losses)
    num_heads = len(order)
    assert sorted(order) == list(range(num_heads))
    for turn in range(num_heads):
        gone = sum(2**head for head in order[:turn])
        harms = [losses[gone + 2**head].item() for head in order[turn:]]
        assert harms[0] == min(harms)


@pytest.mark.parametrize(("keys", "num_heads"), cases(many_heads.check_share_keys))
def test_shared_keys_are_those_that_pytorch_shares(keys, num_heads):
    query = torch.randn(keys.size(0), num_heads, 4, keys.size(-1))
    shared = solve(many_heads.check_share_keys, keys, num_heads)
    torch.testing.assert_close(
        scaled_dot_product_attention(query, shared, shared),
        scaled_dot_product_attention(query, keys, keys, enable_gqa=True),
    )


@pytest.mark.parametrize(
    ("layers", "groups", "d_head", "tokens", "width"),
    cases(many_heads.check_cache_bytes),
)
def test_a_cache_has_the_bytes_of_its_tensors(layers, groups, d_head, tokens, width):
    dtype = {2: torch.bfloat16, 4: torch.float32}[width] if width > 1 else torch.int8
    tensors = [
        torch.empty(groups, tokens, d_head, dtype=dtype, device="meta")
        for _ in itertools.product(range(layers), ["keys", "values"])
    ]
    expected = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    found = solve(many_heads.check_cache_bytes, layers, groups, d_head, tokens, width)
    assert found == expected


@pytest.mark.parametrize(
    ("weight", "num_heads", "groups"), cases(many_heads.check_pool)
)
def test_pooled_heads_are_means_of_neighbouring_heads(weight, num_heads, groups):
    pooled = solve(many_heads.check_pool, weight, num_heads, groups).chunk(groups)
    heads = weight.chunk(num_heads)
    size = num_heads // groups
    for group, one in enumerate(pooled):
        members = heads[group * size : (group + 1) * size]
        torch.testing.assert_close(one, sum(members) / size)
