"""Taking a trained model to production: CTranslate2, a C++ runtime that needs no PyTorch.

CTranslate2 (https://opennmt.net/CTranslate2) is optional: `pip install ctranslate2` or, in
the folder of the repository, `pip install ".[export]"`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from transformer.batching import pad_sequences
from transformer.checks import TOKEN_DTYPES, check_positive_int, check_token_id
from transformer.decoder import DecoderLayer
from transformer.encoder import EncoderLayer
from transformer.tokens import END, PAD, START
from transformer.transformer import Transformer, check_own_parts

if TYPE_CHECKING:
    import ctranslate2

# In place of -inf, which a runtime could turn into NaN.
_NEVER = -1e9


def export_to_ctranslate2(
    model: Transformer,
    directory: str | os.PathLike[str],
    start_token_id: int = START,
    end_token_id: int = END,
) -> None:
    """Write `model` in float32 so that `ctranslate2.Translator(directory)` can run it.

    CTranslate2 reads and writes tokens as text. Ours have no text: each is called by its
    id, in decimal. `decode_with_ctranslate2` translates between the two.

    Args:
        directory: new or empty.
        start_token_id: the first token of every target.
        end_token_id: the token after which a target has ended.

    Raises:
        ImportError: if CTranslate2 is not installed.
        FileExistsError: if there is something in `directory` already.
        TypeError, ValueError: if a part of `model` is not as its configuration says, or a
            token id cannot be used.
    """
    check_own_parts(model)
    try:
        from ctranslate2.specs import TransformerSpec
    except ImportError as error:
        raise ImportError(
            "export needs CTranslate2: pip install ctranslate2"
        ) from error
    config = model.config
    check_token_id("start_token_id", start_token_id, config.tgt_vocab_size)
    check_token_id("end_token_id", end_token_id, config.tgt_vocab_size)
    if model.pad_token_id in (start_token_id, end_token_id):
        raise ValueError(
            f"start_token_id ({start_token_id}) and end_token_id ({end_token_id}) must "
            f"differ from pad_token_id ({model.pad_token_id})"
        )
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty: choose another directory")

    # Only a pre-norm specification has room for a final norm; which norm it is, is said
    # again below.
    spec = TransformerSpec.from_config(
        (config.num_encoder_layers, config.num_decoder_layers),
        config.num_heads,
        pre_norm=True,
        no_final_norm=not config.final_norm,
    )
    positions = model.position_encoding.rows(
        0, config.max_len, like=model.src_embedding.weight
    )
    for stack_spec, stack in (
        (spec.encoder, model.encoder),
        (spec.decoder, model.decoder),
    ):
        stack_spec.pre_norm = config.norm_first
        stack_spec.position_encodings.encodings = _numbers(positions)
        for layer_spec, layer in zip(stack_spec.layer, stack.layers, strict=True):
            _fill_layer(layer_spec, layer)
        if config.final_norm:
            _fill_norm(stack_spec.layer_norm, stack.norm)
    spec.encoder.embeddings[0].weight = _numbers(model.src_embedding.weight)
    spec.decoder.embeddings.weight = _numbers(model.tgt_embedding.weight)
    _fill_linear(spec.decoder.projection, model.output_projection)
    spec.decoder.projection.bias[model.pad_token_id] = _NEVER

    spec.register_source_vocabulary(
        [str(token) for token in range(config.src_vocab_size)]
    )
    spec.register_target_vocabulary(
        [str(token) for token in range(config.tgt_vocab_size)]
    )
    spec.config.decoder_start_token = spec.config.bos_token = str(start_token_id)
    spec.config.eos_token = str(end_token_id)
    spec.config.unk_token = str(model.pad_token_id)
    spec.config.layer_norm_epsilon = nn.LayerNorm(1).eps
    spec.validate()
    spec.optimize("float32")
    directory.mkdir(parents=True, exist_ok=True)
    spec.save(str(directory))


def decode_with_ctranslate2(
    translator: ctranslate2.Translator,
    src: Tensor,
    max_len: int,
    start_token_id: int = START,
    pad_token_id: int = PAD,
    beam_size: int = 1,
) -> Tensor:
    """Decode with an exported model; the result has the form of `greedy_decode`'s.

    Args:
        translator: `ctranslate2.Translator(directory)`.
        src: source ids `[batch, src_len]`, PAD only at the end of a row.
        max_len: longest result, START and END included; at least 2.
        start_token_id: the first token of every row.
        pad_token_id: the id that fills short rows.
        beam_size: 1 decodes greedily.

    Returns:
        Ids `[batch, ≤ max_len]`; a row that has ended is filled with PAD.
    """
    check_positive_int("max_len", max_len)
    if src.dtype not in TOKEN_DTYPES or src.dim() != 2:
        raise TypeError(
            f"src must hold integer token ids [batch, length], got {src.dtype} of shape "
            f"{list(src.shape)}"
        )
    if max_len == 1:
        raise ValueError(
            "max_len must be at least 2: CTranslate2 writes a token or more"
        )
    lengths = (src != pad_token_id).sum(dim=1).tolist()
    sources = [row[:length] for row, length in zip(src.tolist(), lengths, strict=True)]
    if any(pad_token_id in row for row in sources) or 0 in lengths:
        raise ValueError(
            f"every row must hold a token, with PAD ({pad_token_id}) only at its end"
        )
    results = translator.translate_batch(
        [[str(token) for token in row] for row in sources],
        beam_size=beam_size,
        # END may come first, as it may in `decode`.
        min_decoding_length=0,
        max_decoding_length=max_len - 1,
        return_end_token=True,
        # By default everything after 1,024 tokens is cut off without a word.
        max_input_length=0,
    )
    for source, result in zip(sources, results, strict=True):
        if not result.hypotheses[0]:
            raise ValueError(
                f"CTranslate2 takes the source {source} for an empty one: START and END "
                "have no place in it"
            )
    rows = [[start_token_id, *map(int, result.hypotheses[0])] for result in results]
    return pad_sequences(rows, pad_token_id=pad_token_id).to(src.device)


def _fill_layer(spec: Any, layer: EncoderLayer | DecoderLayer) -> None:
    attention = layer.self_attention
    _fill_linear(
        spec.self_attention.linear[0],
        attention.query_projection,
        attention.key_projection,
        attention.value_projection,
    )
    _fill_linear(spec.self_attention.linear[1], attention.output_projection)
    _fill_norm(spec.self_attention.layer_norm, layer.self_attention_add_norm.norm)
    if isinstance(layer, DecoderLayer):
        attention = layer.cross_attention
        _fill_linear(spec.attention.linear[0], attention.query_projection)
        _fill_linear(
            spec.attention.linear[1],
            attention.key_projection,
            attention.value_projection,
        )
        _fill_linear(spec.attention.linear[2], attention.output_projection)
        _fill_norm(spec.attention.layer_norm, layer.cross_attention_add_norm.norm)
    _fill_linear(spec.ffn.linear_0, layer.feed_forward.expand)
    _fill_linear(spec.ffn.linear_1, layer.feed_forward.contract)
    _fill_norm(spec.ffn.layer_norm, layer.feed_forward_add_norm.norm)


def _fill_linear(spec: Any, *linears: nn.Linear) -> None:
    """One linear map, or several stacked one above the other."""
    spec.weight = _numbers(torch.cat([linear.weight for linear in linears]))
    spec.bias = _numbers(torch.cat([linear.bias for linear in linears]))


def _fill_norm(spec: Any, norm: nn.LayerNorm) -> None:
    spec.gamma = _numbers(norm.weight)
    spec.beta = _numbers(norm.bias)


def _numbers(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().float().contiguous()
