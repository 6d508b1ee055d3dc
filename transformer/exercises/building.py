"""Checks for the exercises of chapter 3: closed formulas against real modules."""

from transformer.attention import MultiHeadAttention
from transformer.decoder import DecoderLayer
from transformer.exercises.self_check import Mistake, SelfCheck
from transformer.transformer import Transformer, count_parameters


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


def _pre_norm_count(src_vocab: int, tgt_vocab: int, d: int, layers: int, f: int) -> int:
    model = Transformer(
        src_vocab,
        tgt_vocab,
        d_model=d,
        num_heads=1,
        num_encoder_layers=layers,
        num_decoder_layers=layers,
        d_ff=f,
        max_len=2,
        norm_first=True,
    )
    return count_parameters(model)


def _post_norm_count(
    src_vocab: int, tgt_vocab: int, d: int, layers: int, f: int
) -> int:
    return _pre_norm_count(src_vocab, tgt_vocab, d, layers, f) - 4 * d


def _one_final_norm(src_vocab: int, tgt_vocab: int, d: int, layers: int, f: int) -> int:
    return _pre_norm_count(src_vocab, tgt_vocab, d, layers, f) - 2 * d


def _final_norm_in_each_layer(
    src_vocab: int, tgt_vocab: int, d: int, layers: int, f: int
) -> int:
    return _post_norm_count(src_vocab, tgt_vocab, d, layers, f) + layers * 4 * d


def _output_without_bias(
    src_vocab: int, tgt_vocab: int, d: int, layers: int, f: int
) -> int:
    return _pre_norm_count(src_vocab, tgt_vocab, d, layers, f) - tgt_vocab


def _vocabularies_swapped(
    src_vocab: int, tgt_vocab: int, d: int, layers: int, f: int
) -> int:
    return _pre_norm_count(tgt_vocab, src_vocab, d, layers, f)


def _one_stack_only(src_vocab: int, tgt_vocab: int, d: int, layers: int, f: int) -> int:
    decoder = layers * _decoder_layer_count(d, f)
    return _pre_norm_count(src_vocab, tgt_vocab, d, layers, f) - decoder


check_pre_norm_count = SelfCheck(
    solution=_pre_norm_count,
    cases=lambda: [(5, 7, 3, 1, 2), (11, 3, 4, 2, 13), (2, 17, 5, 3, 7)],
    mistakes=(
        Mistake(
            _post_norm_count,
            "This is a post-norm model. The last layer norm of each stack is missing.",
        ),
        Mistake(
            _one_final_norm,
            "One last layer norm is counted. Encoder and decoder have one each.",
        ),
        Mistake(
            _final_norm_in_each_layer,
            "The last layer norm stands once in a stack, not once in a layer.",
        ),
        Mistake(
            _output_without_bias,
            "The output projection has biases: one for each target token.",
        ),
        Mistake(
            _vocabularies_swapped,
            "The output projection belongs to the target's vocabulary, not to the "
            "source's.",
        ),
        Mistake(_one_stack_only, "The layers of the decoder are missing."),
    ),
)
