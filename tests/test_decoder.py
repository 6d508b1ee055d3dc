import pytest
import torch
from helpers import (
    TGT_VOCAB,
    random_tokens,
    small_batch,
    small_model,
)

from transformer import TransformerDecoder
from transformer.decoder import Decoder
from transformer.masks import causal_mask, padding_mask


def small_decoder(**options):
    return (
        TransformerDecoder(TGT_VOCAB, 14, 2, 3, 19, max_len=23, **options)
        .double()
        .eval()
    )


def random_memory():
    return torch.randn(3, 7, 14, dtype=torch.float64)


@pytest.mark.parametrize("norm_first", [False, True])
def test_layers_run_one_after_the_other_and_only_pre_norm_ends_in_a_norm(norm_first):
    decoder = Decoder(2, 14, 2, 19, norm_first=norm_first).double().eval()
    x, memory = torch.randn(3, 5, 14, dtype=torch.float64), random_memory()
    expected = decoder.layers[1](decoder.layers[0](x, memory), memory)
    if norm_first:
        expected = (expected - expected.mean(-1, keepdim=True)) / torch.sqrt(
            expected.var(-1, keepdim=True, correction=0) + 1e-5
        )
    torch.testing.assert_close(decoder(x, memory), expected)


@pytest.mark.parametrize("norm_first", [False, True])
def test_step_by_step_equals_all_at_once(norm_first):
    decoder = Decoder(3, 14, 2, 19, norm_first=norm_first).double().eval()
    x, memory = torch.randn(3, 5, 14, dtype=torch.float64), random_memory()
    mask = padding_mask(small_batch()[0])
    with torch.no_grad():
        expected = decoder(x, memory, causal_mask(5), mask)
        cache = decoder.start_cache(memory, mask, capacity=5)
        steps = [decoder.step(x[:, i : i + 1], cache) for i in range(5)]
    torch.testing.assert_close(torch.cat(steps, dim=1), expected)


def test_every_memory_position_that_is_not_masked_is_read():
    decoder = small_decoder()
    tokens, memory = random_tokens(TGT_VOCAB, 3, 5), random_memory()
    mask = torch.tensor([[True, True, False, True, True, True, False]])
    output = decoder(tokens, memory, mask)
    for position in range(7):
        changed = memory.clone()
        changed[:, position] += 1
        difference = (decoder(tokens, changed, mask) - output).abs().amax(dim=-1)
        if mask[0, position]:
            assert (difference > 1e-6).all()
        else:
            assert (difference == 0).all()


def test_future_tokens_cannot_change_earlier_vectors():
    decoder = small_decoder()
    tokens, memory = random_tokens(TGT_VOCAB - 1, 3, 5), random_memory()
    output = decoder(tokens, memory)
    for position in range(5):
        changed = tokens.clone()
        changed[:, position] = TGT_VOCAB - 1
        difference = (decoder(changed, memory) - output).abs().amax(dim=-1)
        assert (difference[:, :position] == 0).all()
        assert (difference[:, position:] > 1e-6).all()


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_decoder_alone_equals_the_decoder_of_a_model(norm_first):
    model = small_model(norm_first=norm_first)
    alone = small_decoder(norm_first=norm_first)
    alone.decoder.load_state_dict(model.decoder.state_dict())
    alone.embedding.load_state_dict(model.tgt_embedding.state_dict())
    src, tgt_in = small_batch()
    vectors = alone(tgt_in, model.encode(src), padding_mask(src))
    assert torch.equal(model.output_projection(vectors), model(src, tgt_in))


def test_the_decoder_alone_takes_another_pad():
    decoder = small_decoder(pad_token_id=5)
    memory = random_memory()[:1]
    real, padded = torch.tensor([[1, 4, 7]]), torch.tensor([[1, 5, 4, 7]])
    decoder.position_encoding.table.zero_()
    torch.testing.assert_close(
        decoder(padded, memory)[:, 2:], decoder(real, memory)[:, 1:]
    )
