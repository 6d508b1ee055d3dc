import pytest
import torch

from transformer import END, PAD, START, Transformer
from transformer.decoding import decode_uncached
from transformer.intervention import edit_attention
from transformer.observation import record_attention
from transformer.packed import PackedTransformer

CROSS = "decoder.layers.1.cross_attention"
SRC = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, PAD, PAD]])
TGT_IN = torch.tensor([[START, 5, 6], [START, 10, 11]])


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"num_encoder_layers": 2, "num_decoder_layers": 2}
    return Transformer(13, 13, d_model=12, num_heads=3, d_ff=17, **sizes).eval()


def unchanged(*inputs):
    return inputs


def hide_key_one(query, key, value, mask):
    return query, key, value, mask & (torch.arange(key.size(1)) != 1)


def test_an_edit_that_changes_nothing_changes_no_logit(model):
    with torch.no_grad():
        plain = model(SRC, TGT_IN)
        with edit_attention(model, {CROSS: unchanged}):
            assert torch.equal(model(SRC, TGT_IN), plain)


def test_a_hidden_key_gets_no_weight_and_only_in_the_named_module(model):
    with (
        torch.no_grad(),
        edit_attention(model, {CROSS: hide_key_one}),
        record_attention(model) as weights,
    ):
        model(SRC, TGT_IN)
    other = weights["decoder.layers.0.cross_attention"]
    assert (weights[CROSS][..., 1] == 0).all()
    assert (other[..., 1] > 0).all()
    torch.testing.assert_close(weights[CROSS].sum(dim=-1), torch.ones(2, 3, 3))


def test_the_mask_it_receives_is_that_of_the_model(model):
    seen = []

    def keep(query, key, value, mask):
        seen.append((list(query.shape), list(key.shape), mask))
        return query, key, value, mask

    with edit_attention(model, {CROSS: keep}):
        model(SRC, TGT_IN)
    [(query_shape, key_shape, mask)] = seen
    assert (query_shape, key_shape) == ([2, 3, 12], [2, 5, 12])
    assert torch.equal(mask[:, 0, 0], SRC != PAD)


def test_values_in_another_order_equal_the_same_keys_in_that_order(model):
    """Attention is a sum over pairs of key and value: only the pairing counts."""
    src = SRC[:1]
    with torch.no_grad():
        with edit_attention(model, {CROSS: lambda q, k, v, m: (q, k, v.flip(1), m)}):
            values_turned = model(src, TGT_IN[:1])
        with edit_attention(model, {CROSS: lambda q, k, v, m: (q, k.flip(1), v, m)}):
            keys_turned = model(src, TGT_IN[:1])
        plain = model(src, TGT_IN[:1])
    torch.testing.assert_close(values_turned, keys_turned)
    assert (values_turned - plain).abs().max() > 1e-3


def test_it_acts_on_uncached_decoding_and_refuses_the_cache(model):
    def from_nowhere(query, key, value, mask):
        return query, key, torch.zeros_like(value), mask

    arguments = (model, SRC, 7, START, END)
    with edit_attention(model, {CROSS: from_nowhere}):
        decode_uncached(*arguments)
        with pytest.raises(ValueError, match="with a cache: use model"):
            model.greedy_decode(*arguments[1:])
        with pytest.raises(ValueError, match=f"{CROSS} has a forward hook"):
            PackedTransformer(model).greedy_decode(*arguments[1:])


def test_an_edit_of_the_encoder_acts_on_decoding_with_a_cache(model):
    def hide_all(query, key, value, mask):
        return query, key, value, torch.zeros_like(mask)

    def first_logits(decoding_model):
        cache = decoding_model.start_cache(SRC, capacity=1)
        return decoding_model.next_logits(torch.tensor([START, START]), cache)

    plain = first_logits(model)
    with edit_attention(model, {"encoder.layers.0.self_attention": hide_all}):
        edited = first_logits(model)
        torch.testing.assert_close(first_logits(PackedTransformer(model)), edited)
    assert (edited - plain).abs().max() > 1e-3


def test_hooks_are_gone_afterwards_even_after_an_error(model):
    def broken(*_inputs):
        raise RuntimeError("broken edit")

    with (
        pytest.raises(RuntimeError, match="broken edit"),
        edit_attention(model, {CROSS: broken}),
    ):
        model(SRC, TGT_IN)
    assert not model.get_submodule(CROSS)._forward_pre_hooks
    model(SRC, TGT_IN)


def test_only_attention_can_be_edited(model):
    with (
        pytest.raises(TypeError, match="must be a MultiHeadAttention, got FeedForward"),
        edit_attention(model, {"encoder.layers.0.feed_forward": unchanged}),
    ):
        pass
    with (
        pytest.raises(AttributeError),
        edit_attention(model, {"encoder.layers.7.self_attention": unchanged}),
    ):
        pass
