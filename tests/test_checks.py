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
)


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        (check_positive_int, ("size", 1)),
        (check_number, ("rate", 0)),
        (check_number, ("rate", -1.5)),
        (check_dropout, (0,)),
        (check_dropout, (0.0,)),
        (check_dropout, (0.999,)),
        (check_heads, (6, 6)),
        (check_heads, (6, 1)),
        (check_token_id, ("id", 0, 5)),
        (check_token_id, ("id", 4, 5)),
        (check_tokens, ("src", torch.tensor([[0, 4]]), 5, 2)),
        (check_tokens, ("src", torch.tensor([[0, 4]], dtype=torch.int32), 5, 2)),
        (check_vectors, ("x", torch.zeros(2, 3, 5, dtype=torch.bfloat16), 5)),
        (check_mask, (None, (2, 3, 5, 7))),
    ],
)
def test_values_at_the_edge_of_what_is_allowed_pass(check, arguments):
    assert check(*arguments) is None


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
