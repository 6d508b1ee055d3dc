import math

import torch
from torch import nn

from transformer import PositionalEncoding
from transformer.embedding import embed, make_embedding


def test_tokens_are_scaled_by_the_root_of_the_width_and_positions_are_not():
    embedding = nn.Embedding.from_pretrained(
        torch.tensor([[0.0, 0, 0, 0], [1, 2, 3, 4]])
    )
    positions = PositionalEncoding(4, max_len=5, dropout=0.0)
    # sqrt(4) = 2; position 0 adds (0, 1, 0, 1),
    # position 1 adds (sin 1, cos 1, sin 0.01, cos 0.01).
    vectors = embed(torch.tensor([[1, 0]]), embedding, positions)
    torch.testing.assert_close(
        vectors,
        torch.tensor(
            [
                [
                    [2.0, 5, 6, 9],
                    [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)],
                ]
            ]
        ),
    )


def test_start_says_which_position_the_first_token_has():
    embedding, positions = make_embedding(11, 6), PositionalEncoding(6, dropout=0.0)
    tokens = torch.tensor([[3, 5, 7, 9, 4]])
    everything = embed(tokens, embedding, positions)
    assert torch.equal(
        embed(tokens[:, 3:], embedding, positions, start=3), everything[:, 3:]
    )


def test_scaled_embeddings_start_with_standard_deviation_one():
    embedding = make_embedding(499, 211)
    scaled = embedding.weight * math.sqrt(211)
    # 105,289 draws: the standard error of the deviation is 1 / sqrt(2 * 105,289) = 0.0022.
    assert abs(scaled.std().item() - 1) < 0.015
    assert abs(scaled.mean().item()) < 0.02


def test_two_embeddings_are_drawn_independently():
    assert not torch.allclose(make_embedding(7, 5).weight, make_embedding(7, 5).weight)
