import math

import pytest
import torch
from helpers import TOLERANCE
from torch import nn

from transformer import MultiHeadAttention, SelfAttention
from transformer.attention import attention_weights, scaled_dot_product_attention
from transformer.kv_cache import KeyValueCache

# Three keys of two dimensions, and two queries chosen so that the scaled scores are
# logarithms of whole numbers.
ROOT2 = math.sqrt(2)
KEYS = torch.tensor([[1.0, 0], [0, 1], [1, 1]], dtype=torch.float64)
QUERIES = ROOT2 * torch.tensor(
    [[0.0, math.log(2)], [math.log(3), 0.0]], dtype=torch.float64
)
VALUES = torch.tensor([[6.0, 0], [0, 6], [12, 30]], dtype=torch.float64)
# A query (a, b) scores the keys a / sqrt(2), b / sqrt(2) and (a + b) / sqrt(2):
#   query 0: 0, log 2, log 2      exp: 1, 2, 2      weights: 1/5, 2/5, 2/5
#   query 1: log 3, 0, log 3      exp: 3, 1, 3      weights: 3/7, 1/7, 3/7
WEIGHTS = torch.tensor(
    [[1 / 5, 2 / 5, 2 / 5], [3 / 7, 1 / 7, 3 / 7]], dtype=torch.float64
)
# query 0: (6 + 24, 12 + 60) / 5 = (6, 14.4)      query 1: (18 + 36, 6 + 90) / 7
OUTPUT = torch.tensor([[6.0, 14.4], [54 / 7, 96 / 7]], dtype=torch.float64)


def test_weights_of_toy_vectors_match_the_arithmetic():
    torch.testing.assert_close(attention_weights(QUERIES, KEYS), WEIGHTS)


def test_output_of_toy_vectors_matches_the_arithmetic():
    output = scaled_dot_product_attention(
        QUERIES[None, None], KEYS[None, None], VALUES[None, None]
    )
    torch.testing.assert_close(output[0, 0], OUTPUT)


def test_a_masked_key_leaves_its_weight_to_the_others():
    mask = torch.tensor([[True, True, False], [True, False, True]])
    expected = torch.tensor([[1 / 3, 2 / 3, 0], [1 / 2, 0, 1 / 2]], dtype=torch.float64)
    torch.testing.assert_close(attention_weights(QUERIES, KEYS, mask), expected)
    fused = scaled_dot_product_attention(
        QUERIES[None, None], KEYS[None, None], VALUES[None, None], mask
    )
    torch.testing.assert_close(fused[0, 0], expected @ VALUES)


def test_masked_weights_are_exactly_zero():
    mask = torch.rand(2, 3, 5, 7) < 0.5
    weights = attention_weights(
        torch.randn(2, 3, 5, 11), torch.randn(2, 3, 7, 11), mask
    )
    assert (weights[~mask] == 0).all()
    assert (weights[mask] > 0).all()


def test_each_row_of_weights_sums_to_one():
    mask = (torch.rand(2, 3, 5, 7) < 0.5) | (torch.arange(7) == 4)
    weights = attention_weights(
        torch.randn(2, 3, 5, 11), torch.randn(2, 3, 7, 11), mask
    )
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_times_values_equal_the_fused_output(dtype):
    query, key = (
        torch.randn(2, 3, 5, 11, dtype=dtype),
        torch.randn(2, 3, 7, 11, dtype=dtype),
    )
    value = torch.randn(2, 3, 7, 13, dtype=dtype)
    mask = torch.rand(2, 1, 5, 7) < 0.5
    torch.testing.assert_close(
        attention_weights(query, key, mask) @ value,
        scaled_dot_product_attention(query, key, value, mask),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_query_that_may_attend_to_nothing_gets_zeros_and_finite_gradients(dtype):
    mask = torch.ones(2, 1, 5, 7, dtype=torch.bool)
    mask[1, :, 2] = False
    inputs = [
        torch.randn(2, 3, n, 11, dtype=dtype, requires_grad=True) for n in (5, 7, 7)
    ]
    for output in (
        scaled_dot_product_attention(*inputs, mask),
        attention_weights(*inputs[:2], mask) @ inputs[2],
    ):
        assert (output[1, :, 2] == 0).all()
        for gradient in torch.autograd.grad(output.square().sum(), inputs):
            assert gradient.isfinite().all()


def test_huge_scores_do_not_overflow():
    # 200 * 200 / sqrt(1) = 40,000, and exp(40,000) is no float.
    weights = attention_weights(
        torch.tensor([[200.0]]), torch.tensor([[200.0], [-200.0]])
    )
    assert weights.tolist() == [[1.0, 0.0]]


def test_one_head_with_identity_projections_is_attention_itself():
    head = SelfAttention(2).double()
    for projection in (
        head.query_projection,
        head.key_projection,
        head.value_projection,
    ):
        nn.init.eye_(projection.weight)
        nn.init.zeros_(projection.bias)
    # x x^T / sqrt(2) = log [[2, 1], [1, 4]], so the weights are [[2/3, 1/3], [1/5, 4/5]].
    x = torch.diag(
        torch.tensor([2.0, 4.0], dtype=torch.float64).log().mul(ROOT2).sqrt()
    )[None]
    output, weights = head(x, need_weights=True)
    expected = torch.tensor([[[2 / 3, 1 / 3], [1 / 5, 4 / 5]]], dtype=torch.float64)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(output, expected @ x)


def test_a_head_of_another_width_projects_to_that_width():
    head = SelfAttention(7, d_head=3)
    x = torch.randn(2, 5, 7)
    output, weights = head(x, need_weights=True)
    scaled = (
        head.query_projection(x) @ head.key_projection(x).transpose(1, 2) / math.sqrt(3)
    )
    torch.testing.assert_close(weights, scaled.softmax(dim=-1))
    torch.testing.assert_close(output, weights @ head.value_projection(x))


def test_one_head_respects_its_mask():
    head = SelfAttention(7)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    x = torch.randn(2, 5, 7)
    output, weights = head(x, mask, need_weights=True)
    assert (weights[:, ~mask] == 0).all()
    torch.testing.assert_close(output[:, 0], head.value_projection(x)[:, 0])


def test_one_head_many_ways_equals_one_head():
    many, one = MultiHeadAttention(7, 1), SelfAttention(7)
    one.load_state_dict(
        {
            n: p
            for n, p in many.state_dict().items()
            if not n.startswith("output_projection")
        }
    )
    x = torch.randn(2, 5, 7)
    output, weights = one(x, need_weights=True)
    many_output, many_weights = many(x, x, x, need_weights=True)
    torch.testing.assert_close(many_weights[:, 0], weights)
    torch.testing.assert_close(many_output, many.output_projection(output))


def test_split_heads_gives_each_head_its_own_slice_of_every_vector():
    attention = MultiHeadAttention(6, 2)
    x = torch.arange(2 * 5 * 6, dtype=torch.float32).reshape(2, 5, 6)
    heads = attention.split_heads(x)
    for head in range(2):
        assert torch.equal(heads[:, head], x[:, :, 3 * head : 3 * head + 3])


def test_merge_heads_undoes_split_heads():
    attention = MultiHeadAttention(15, 3)
    x = torch.randn(2, 5, 15)
    assert torch.equal(attention.merge_heads(attention.split_heads(x)), x)


def test_each_head_attends_with_its_own_slice_of_the_projections():
    attention = MultiHeadAttention(15, 3)
    query, memory = torch.randn(2, 5, 15), torch.randn(2, 7, 15)
    output, weights = attention(query, memory, memory, need_weights=True)
    heads = []
    for head in range(3):
        part = slice(5 * head, 5 * head + 5)
        q = attention.query_projection(query)[:, :, part]
        k = attention.key_projection(memory)[:, :, part]
        v = attention.value_projection(memory)[:, :, part]
        expected = (q @ k.transpose(1, 2) / math.sqrt(5)).softmax(dim=-1)
        torch.testing.assert_close(weights[:, head], expected)
        heads.append(expected @ v)
    torch.testing.assert_close(
        output, attention.output_projection(torch.cat(heads, dim=-1))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_weights_and_gradients_agree_with_torch(dtype):
    ours = MultiHeadAttention(21, 3).to(dtype)
    theirs = nn.MultiheadAttention(21, 3, batch_first=True, dtype=dtype)
    # torch stacks the three projections in one matrix.
    stacked = (ours.query_projection, ours.key_projection, ours.value_projection)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in stacked]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in stacked]))
        theirs.out_proj.load_state_dict(ours.output_projection.state_dict())
    query, memory = (
        torch.randn(2, 5, 21, dtype=dtype),
        torch.randn(2, 7, 21, dtype=dtype),
    )
    hidden = torch.arange(7) >= torch.tensor([[7], [4]])
    output, weights = ours(
        query, memory, memory, ~hidden[:, None, None], need_weights=True
    )
    expected, expected_weights = theirs(
        query, memory, memory, key_padding_mask=hidden, average_attn_weights=False
    )
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(output, expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(
        weights, expected_weights, atol=tolerance, rtol=tolerance
    )
    direction = torch.randn_like(output)
    (output * direction).sum().backward()
    (expected * direction).sum().backward()
    gradients = {
        "in_proj_weight": torch.cat([part.weight.grad for part in stacked]),
        "in_proj_bias": torch.cat([part.bias.grad for part in stacked]),
        "out_proj.weight": ours.output_projection.weight.grad,
        "out_proj.bias": ours.output_projection.bias.grad,
    }
    assert gradients.keys() == dict(theirs.named_parameters()).keys()
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(
            gradients[name], parameter.grad, atol=tolerance, rtol=tolerance
        )


def test_the_value_decides_what_is_gathered_and_the_key_only_where():
    attention = MultiHeadAttention(15, 3)
    query, key, value = (
        torch.randn(2, 5, 15),
        torch.randn(2, 7, 15),
        torch.randn(2, 7, 15),
    )
    output, weights = attention(query, key, value, need_weights=True)
    other_output, other_weights = attention(query, key, 2 * value, need_weights=True)
    assert torch.equal(weights, other_weights)
    assert not torch.allclose(output, other_output)


def test_nobody_who_does_not_look_gets_weights():
    x = torch.randn(2, 5, 15)
    assert MultiHeadAttention(15, 3)(x, x, x)[1] is None
    assert SelfAttention(15)(x)[1] is None


def test_unobserved_attention_does_not_compute_weights(monkeypatch):
    def refuse(*_arguments):
        raise AssertionError("weights were computed")

    monkeypatch.setattr("transformer.attention.attention_weights", refuse)
    x = torch.randn(2, 5, 15)
    MultiHeadAttention(15, 3)(x, x, x)
    SelfAttention(15)(x)
    with pytest.raises(AssertionError, match="weights were computed"):
        SelfAttention(15)(x, need_weights=True)


@pytest.mark.parametrize("attention", [MultiHeadAttention(15, 3), SelfAttention(15)])
def test_looking_does_not_change_the_output(attention):
    x = torch.randn(2, 5, 15)
    arguments = (x, x, x) if isinstance(attention, MultiHeadAttention) else (x,)
    unobserved, _ = attention(*arguments)
    asked, asked_weights = attention(*arguments, need_weights=True)
    seen = []
    handle = attention.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output)
    )
    hooked, hooked_weights = attention(*arguments)
    handle.remove()
    assert torch.equal(unobserved, asked)
    assert torch.equal(unobserved, hooked)
    assert torch.equal(asked_weights, hooked_weights)
    assert torch.equal(seen[0][1], hooked_weights)
    assert attention(*arguments)[1] is None


def test_attention_over_a_cache_equals_attention_over_all_positions_so_far():
    attention = MultiHeadAttention(15, 3).double().eval()
    x = torch.randn(2, 5, 15, dtype=torch.float64)
    causal = torch.ones(5, 5, dtype=torch.bool).tril()
    with torch.no_grad():
        expected, expected_weights = attention(x, x, x, causal, need_weights=True)
        empty = torch.empty(2, 3, 0, 5, dtype=torch.float64)
        cache = KeyValueCache(empty, empty, capacity=5)
        for position in range(5):
            newest = x[:, position : position + 1]
            output, weights = attention(
                newest, newest, newest, cache=cache, need_weights=True
            )
            torch.testing.assert_close(output[:, 0], expected[:, position])
            torch.testing.assert_close(
                weights[:, :, 0], expected_weights[:, :, position, : position + 1]
            )


def test_attention_without_keys_reads_the_cache_and_leaves_it_as_it_is():
    attention = MultiHeadAttention(15, 3).double()
    query, memory = (torch.randn(2, n, 15, dtype=torch.float64) for n in (5, 7))
    cache = KeyValueCache(*attention.project_keys_values(memory, memory))
    expected, _ = attention(query, memory, memory)
    for _ in range(2):
        torch.testing.assert_close(attention(query, cache=cache)[0], expected)
    assert cache.length == 7


def test_batch_rows_do_not_influence_each_other():
    attention = MultiHeadAttention(15, 3)
    query, memory = torch.randn(3, 5, 15), torch.randn(3, 7, 15)
    output, _ = attention(query, memory, memory)
    memory[2] += 1
    query[2] += 1
    changed, _ = attention(query, memory, memory)
    assert torch.equal(output[:2], changed[:2])
    assert not torch.allclose(output[2], changed[2])
