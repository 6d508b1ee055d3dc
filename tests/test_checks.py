import numpy as np
import pytest
import torch

from transformer import MultiHeadAttention
from transformer.attention import attention_weights, scaled_dot_product_attention
from transformer.checks import (
    check_dropout,
    check_heads,
    check_mask,
    check_number,
    check_positive_int,
    check_token_id,
    check_tokens,
    check_vectors,
    visible_value,
)


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        (check_number, ("rate", 0)),
        (check_number, ("rate", -1.5)),
        (check_dropout, (0,)),
        (check_dropout, (0.0,)),
        (check_dropout, (0.999,)),
        (check_tokens, ("src", torch.tensor([[0, 4]]), 5, 2)),
        (check_tokens, ("src", torch.tensor([[0, 4]], dtype=torch.int32), 5, 2)),
        (check_vectors, ("x", torch.zeros(2, 3, 5, dtype=torch.bfloat16), 5)),
        (check_mask, (None, (2, 3, 5, 7))),
    ],
)
def test_values_at_the_edge_of_what_is_allowed_pass(check, arguments):
    assert check(*arguments) is None


@pytest.mark.parametrize("kind", [int, np.int64, np.int32, np.uint8])
def test_sizes_and_ids_come_back_as_plain_ints(kind):
    for result in (
        check_positive_int("size", kind(1)),
        check_token_id("id", kind(0), 5),
        check_token_id("id", kind(4), 5),
        *check_heads(kind(6), kind(6)),
        *check_heads(kind(6), kind(1)),
    ):
        assert type(result) is int
    assert check_positive_int("size", kind(7)) == 7
    assert check_heads(kind(6), kind(2)) == (6, 2)


@pytest.mark.parametrize(
    "value", [True, np.True_, 2.0, np.float32(2), "2", None, torch.tensor(2)]
)
def test_what_is_no_integer_is_refused_with_its_type(value):
    name = type(value).__name__
    with pytest.raises(TypeError, match=rf"^size must be an int, got .* \({name}\)$"):
        check_positive_int("size", value)


def test_a_value_is_seen_where_there_is_one():
    assert visible_value(torch.tensor([3, 1, 2]).max) == 3
    assert visible_value((torch.tensor([3, 1]) > 7).any) == 0


def test_a_tensor_without_a_value_shows_none():
    assert visible_value(torch.empty(3, device="meta").max) is None
    seen = []

    def look(x):
        seen.append(visible_value(x.max))
        return x

    torch.func.vmap(look)(torch.ones(5, 3))
    assert seen == [None]


def test_while_a_graph_is_traced_nothing_is_computed_for_a_check():
    class Looking(torch.nn.Module):
        def forward(self, x):
            return x + 1 if visible_value(x.max) is None else x

    x = torch.ones(3)
    assert torch.equal(Looking()(x), x)
    exported = torch.export.export(Looking(), (x,))
    assert torch.equal(exported.module()(x), x + 1)
    called = [n.target for n in exported.graph.nodes if n.op == "call_function"]
    assert called == [torch.ops.aten.add.Tensor]


@pytest.mark.parametrize(
    "shape",
    [(2, 3, 5, 7), (1, 1, 1, 1), (2, 1, 1, 7), (3, 5, 7), (5, 7), (1, 7), (5, 1)],
)
def test_every_mask_that_passes_can_be_used(shape):
    mask = torch.ones(shape, dtype=torch.bool)
    check_mask(mask, (2, 3, 5, 7))
    query, key = torch.randn(2, 3, 5, 11), torch.randn(2, 3, 7, 11)
    torch.testing.assert_close(
        scaled_dot_product_attention(query, key, key, mask),
        attention_weights(query, key, mask) @ key,
    )


def test_a_mask_of_keys_alone_hides_the_same_keys_from_every_query():
    attention, mask = MultiHeadAttention(6, 3), torch.arange(7) < 4
    query, memory = torch.randn(2, 5, 6), torch.randn(2, 7, 6)
    output, _ = attention(query, memory, memory, mask)
    torch.testing.assert_close(output, attention(query, memory, memory, mask[None])[0])


@pytest.mark.parametrize("offender", [-7, 5, 99])
def test_the_offending_id_is_the_one_that_is_named(offender):
    tokens = torch.tensor([[0, 4, offender], [1, 2, 3]])
    with pytest.raises(
        ValueError, match=rf"^src contains token id {offender}, .* 0 to 4$"
    ):
        check_tokens("src", tokens, 5, 3)
