import pytest
import torch
from helpers import (
    SRC_VOCAB,
    random_tokens,
    small_batch,
    small_model,
)

from transformer import TransformerEncoder
from transformer.encoder import Encoder


def small_encoder(**options):
    return (
        TransformerEncoder(SRC_VOCAB, 14, 2, 2, 19, max_len=23, **options)
        .double()
        .eval()
    )


@pytest.mark.parametrize("norm_first", [False, True])
def test_layers_run_one_after_the_other_and_only_pre_norm_ends_in_a_norm(norm_first):
    encoder = Encoder(2, 14, 2, 19, norm_first=norm_first).double().eval()
    x = torch.randn(3, 7, 14, dtype=torch.float64)
    expected = encoder.layers[1](encoder.layers[0](x))
    if norm_first:
        expected = (expected - expected.mean(-1, keepdim=True)) / torch.sqrt(
            expected.var(-1, keepdim=True, correction=0) + 1e-5
        )
    torch.testing.assert_close(encoder(x), expected)


@pytest.mark.parametrize("norm_first", [False, True])
def test_without_positions_permuting_tokens_permutes_the_memory(norm_first):
    encoder = small_encoder(norm_first=norm_first)
    encoder.position_encoding.table.zero_()
    tokens = random_tokens(SRC_VOCAB, 3, 7)
    order = torch.tensor([4, 2, 6, 0, 1, 5, 3])
    torch.testing.assert_close(encoder(tokens[:, order]), encoder(tokens)[:, order])


def test_with_positions_the_order_of_tokens_matters():
    encoder = small_encoder()
    tokens = random_tokens(SRC_VOCAB, 3, 7)
    order = torch.tensor([4, 2, 6, 0, 1, 5, 3])
    assert not torch.allclose(
        encoder(tokens[:, order]), encoder(tokens)[:, order], atol=1e-3
    )


def test_every_token_reads_every_other():
    encoder = small_encoder()
    tokens = random_tokens(SRC_VOCAB - 1, 1, 7)
    memory = encoder(tokens)
    for position in range(7):
        changed = tokens.clone()
        changed[0, position] = SRC_VOCAB - 1
        difference = (encoder(changed) - memory).abs().amax(dim=-1)
        assert (difference > 1e-6).all()


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_encoder_alone_equals_the_encoder_of_a_model(norm_first):
    model = small_model(norm_first=norm_first)
    alone = small_encoder(norm_first=norm_first)
    alone.encoder.load_state_dict(model.encoder.state_dict())
    alone.embedding.load_state_dict(model.src_embedding.state_dict())
    src, _ = small_batch()
    assert torch.equal(alone(src), model.encode(src))


def test_the_encoder_alone_takes_another_pad():
    encoder = small_encoder(pad_token_id=5)
    tokens = torch.tensor([[3, 4, 7, 5, 5]])
    torch.testing.assert_close(encoder(tokens)[:, :3], encoder(tokens[:, :3]))


def test_a_row_that_is_all_pad_gives_finite_vectors():
    assert small_encoder()(torch.zeros(2, 5, dtype=torch.int64)).isfinite().all()
