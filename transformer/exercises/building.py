"""Checks for the exercises of chapter 3: a layer, and formulas against real modules."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.attention import MultiHeadAttention
from transformer.decoder import DecoderLayer
from transformer.exercises.self_check import Mistake, SelfCheck
from transformer.transformer import Transformer, count_parameters

_Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Part:
    """A function of one tensor that is shown by its name."""

    name: str
    function: _Function

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)

    def __repr__(self) -> str:
        return self.name


def _pre_norm_layer(
    x: Tensor,
    attend: _Function,
    attention_norm: _Function,
    feed_forward: _Function,
    feed_forward_norm: _Function,
) -> Tensor:
    x = x + attend(attention_norm(x))
    return x + feed_forward(feed_forward_norm(x))


def _mean_of_positions(x: Tensor) -> Tensor:
    return x.mean(dim=1, keepdim=True).expand_as(x)


def _normalised(x: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:])


_PARTS = (
    _Part("the mean of all positions", _mean_of_positions),
    _Part("a layer norm", lambda x: 2 * _normalised(x) + 1),
    _Part("the ReLU", torch.relu),
    _Part("another layer norm", lambda x: 3 * _normalised(x) - 1),
)


def _layer_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.tensor([[[1.0, 2.0], [4.0, 3.0]]]), *_PARTS),
        (torch.randn(2, 3, 5, generator=generator), *_PARTS),
    ]


def _post_norm_layer(
    x: Tensor, attend: _Function, norm: _Function, feed: _Function, feed_norm: _Function
) -> Tensor:
    x = norm(x + attend(x))
    return feed_norm(x + feed(x))


def _normalised_bypass(
    x: Tensor, attend: _Function, norm: _Function, feed: _Function, feed_norm: _Function
) -> Tensor:
    x = norm(x)
    x = feed_norm(x + attend(x))
    return x + feed(x)


def _no_bypass(
    x: Tensor, attend: _Function, norm: _Function, feed: _Function, feed_norm: _Function
) -> Tensor:
    return feed(feed_norm(attend(norm(x))))


def _normalised_results(
    x: Tensor, attend: _Function, norm: _Function, feed: _Function, feed_norm: _Function
) -> Tensor:
    x = x + norm(attend(x))
    return x + feed_norm(feed(x))


def _side_by_side(
    x: Tensor, attend: _Function, norm: _Function, feed: _Function, feed_norm: _Function
) -> Tensor:
    return x + attend(norm(x)) + feed(feed_norm(x))


def _one_norm_for_both(
    x: Tensor,
    attend: _Function,
    norm: _Function,
    feed: _Function,
    _feed_norm: _Function,
) -> Tensor:
    return _pre_norm_layer(x, attend, norm, feed, norm)


def _attention_alone(
    x: Tensor,
    attend: _Function,
    norm: _Function,
    _feed: _Function,
    _feed_norm: _Function,
) -> Tensor:
    return x + attend(norm(x))


check_pre_norm_layer = SelfCheck(
    solution=_pre_norm_layer,
    cases=_layer_cases,
    mistakes=(
        Mistake(
            _post_norm_layer,
            "This is post-norm: you normalise the sum. Normalise what the sub-layer "
            "reads.",
        ),
        Mistake(
            _normalised_bypass,
            "The sub-layer reads the normalised vectors, and that is right. But you "
            "also add them: add x as it was before.",
        ),
        Mistake(
            _no_bypass,
            "The residual connections are missing: add to x what a sub-layer returns.",
        ),
        Mistake(
            _normalised_results,
            "You normalise what the sub-layer returns. Normalise what it reads.",
        ),
        Mistake(
            _side_by_side,
            "Your feed-forward network reads the x from before the attention. "
            "It comes after it.",
        ),
        Mistake(
            _one_norm_for_both,
            "You use one layer norm twice. Each sub-layer has its own.",
        ),
        Mistake(_attention_alone, "The feed-forward network is missing."),
    ),
)


def _attention_count(d_model: int, num_heads: int) -> int:
    return count_parameters(MultiHeadAttention(d_model, num_heads))


def _attention_without_biases(d_model: int, _num_heads: int) -> int:
    return 4 * d_model**2


def _attention_of_three_maps(d_model: int, _num_heads: int) -> int:
    return 3 * (d_model**2 + d_model)


def _full_width_for_each_head(d_model: int, num_heads: int) -> int:
    return 3 * num_heads * (d_model**2 + d_model) + num_heads * d_model**2 + d_model


def _attention_times_heads(d_model: int, num_heads: int) -> int:
    return num_heads * _attention_count(d_model, num_heads)


def _attention_of_one_head(d_model: int, num_heads: int) -> int:
    d_head = d_model // num_heads
    return 3 * (d_model * d_head + d_head) + d_model**2 + d_model


check_attention_count = SelfCheck(
    solution=_attention_count,
    cases=lambda: [(6, 2), (6, 3), (35, 5), (7, 7)],
    mistakes=(
        Mistake(
            _attention_without_biases,
            "The biases are missing: each linear map has one for each entry that "
            "leaves it.",
        ),
        Mistake(
            _attention_of_three_maps,
            "Three maps are counted. The output projection is the fourth.",
        ),
        Mistake(
            _full_width_for_each_head,
            "A head does not project to the full width, but to its slice only.",
        ),
        Mistake(
            _attention_times_heads,
            "Heads share the four maps, one slice each. They do not multiply them.",
        ),
        Mistake(
            _attention_of_one_head,
            "Queries, keys and values are counted for one head. All heads have theirs.",
        ),
    ),
)


def _decoder_layer_count(d_model: int, d_ff: int) -> int:
    return count_parameters(DecoderLayer(d_model, 1, d_ff))


def _one_attention(d_model: int, d_ff: int) -> int:
    return _decoder_layer_count(d_model, d_ff) - _attention_count(d_model, 1)


def _without_norms(d_model: int, d_ff: int) -> int:
    return _decoder_layer_count(d_model, d_ff) - 6 * d_model


def _two_norms(d_model: int, d_ff: int) -> int:
    return _decoder_layer_count(d_model, d_ff) - 2 * d_model


def _an_encoder_layer(d_model: int, d_ff: int) -> int:
    return _one_attention(d_model, d_ff) - 2 * d_model


def _norms_without_shift(d_model: int, d_ff: int) -> int:
    return _decoder_layer_count(d_model, d_ff) - 3 * d_model


def _feed_forward_without_biases(d_model: int, d_ff: int) -> int:
    return _decoder_layer_count(d_model, d_ff) - d_ff - d_model


check_decoder_layer_count = SelfCheck(
    solution=_decoder_layer_count,
    cases=lambda: [(3, 5), (7, 2), (11, 44)],
    mistakes=(
        Mistake(
            _one_attention, "One attention is missing: a decoder layer has two of them."
        ),
        Mistake(_without_norms, "The three layer norms are missing."),
        Mistake(
            _two_norms, "One layer norm is missing: each of three sub-layers has one."
        ),
        Mistake(
            _an_encoder_layer,
            "This is an encoder layer. A decoder layer has the cross-attention and "
            "its layer norm besides.",
        ),
        Mistake(
            _norms_without_shift, "A layer norm has a shift besides its scale: 2d each."
        ),
        Mistake(
            _feed_forward_without_biases,
            "The biases of the feed-forward network are missing: f and d.",
        ),
    ),
)


def _shared_count(vocab: int, d: int, layers: int, f: int) -> int:
    model = Transformer(
        vocab,
        vocab,
        d_model=d,
        num_heads=1,
        num_encoder_layers=layers,
        num_decoder_layers=layers,
        d_ff=f,
        max_len=2,
    )
    model.tgt_embedding.weight = model.src_embedding.weight
    model.output_projection.weight = model.src_embedding.weight
    return count_parameters(model)


def _three_matrices(vocab: int, d: int, layers: int, f: int) -> int:
    return _shared_count(vocab, d, layers, f) + 2 * vocab * d


def _two_matrices(vocab: int, d: int, layers: int, f: int) -> int:
    return _shared_count(vocab, d, layers, f) + vocab * d


def _no_matrix(vocab: int, d: int, layers: int, f: int) -> int:
    return _shared_count(vocab, d, layers, f) - vocab * d


def _output_without_bias(vocab: int, d: int, layers: int, f: int) -> int:
    return _shared_count(vocab, d, layers, f) - vocab


def _one_stack_only(vocab: int, d: int, layers: int, f: int) -> int:
    return _shared_count(vocab, d, layers, f) - layers * _decoder_layer_count(d, f)


check_shared_count = SelfCheck(
    solution=_shared_count,
    cases=lambda: [(5, 3, 1, 2), (11, 4, 2, 13), (17, 5, 3, 7)],
    mistakes=(
        Mistake(
            _three_matrices, "Three matrices are counted. One serves all three places."
        ),
        Mistake(
            _two_matrices,
            "Two matrices are counted. The output projection uses the one of the "
            "embeddings, too.",
        ),
        Mistake(_no_matrix, "You took away all three matrices. One must remain."),
        Mistake(
            _output_without_bias,
            "The output projection keeps its biases: one for each token.",
        ),
        Mistake(_one_stack_only, "The layers of the decoder are missing."),
    ),
)
