"""Bad input is refused at once, with a message that carries the numbers.

Every case is one call, the exact type of its error and what its message must say.
Checkpoints have their own cases in test_checkpoint.py.
"""

import functools
import itertools
import math

import pytest
import torch
from torch import nn

from transformer import (
    AdditionTask,
    CopyTask,
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderLayer,
    FeedForward,
    MultiHeadAttention,
    PositionalEncoding,
    SelfAttention,
    Transformer,
    TransformerDecoder,
    TransformerEncoder,
    evaluate,
    make_batch,
    next_token_loss,
    pad_sequences,
    token_accuracy,
    train,
    train_step,
    warmup_rate,
    warmup_schedule,
)
from transformer.add_norm import AddNorm
from transformer.decoding import decode, decode_uncached
from transformer.kv_cache import KeyValueCache
from transformer.plotting import plot_attention
from transformer.sampling import Sampler


@functools.cache
def model():
    return Transformer(11, 13, 6, 2, 1, 1, 7, max_len=17)


@functools.cache
def attention():
    return MultiHeadAttention(6, 2)


@functools.cache
def encoder():
    return TransformerEncoder(11, 6, 2, 1, 7, max_len=17)


@functools.cache
def decoder():
    return TransformerDecoder(13, 6, 2, 1, 7, max_len=17)


def tokens(*shape, value=3, dtype=torch.int64):
    return torch.full(shape, value, dtype=dtype)


SRC, TGT = tokens(3, 7), tokens(3, 5)
X, MEMORY = torch.zeros(3, 5, 6), torch.zeros(3, 7, 6)


def with_id(like, value):
    changed = like.clone()
    changed[1, 2] = value
    return changed


def build(**changes):
    return Transformer(**({"src_vocab_size": 11, "tgt_vocab_size": 13} | changes))


def greedy(src=SRC, max_len=9, start=1, end=2):
    return model().greedy_decode(src, max_len, start, end)


def generate(**options):
    return model().generate(SRC, 9, 1, 2, **options)


def beam(**options):
    return model().beam_search(SRC, 9, 1, 2, **options)


def attend(mask):
    return attention()(X, MEMORY, MEMORY, mask)


def training(data=(), num_steps=3, **options):
    small = Transformer(11, 13, 6, 2, 1, 1, 7, max_len=17)
    return train(
        small,
        data,
        torch.optim.SGD(small.parameters(), lr=0.1),
        num_steps,
        progress=False,
        **options,
    )


def one_batch():
    return itertools.repeat(make_batch([[3, 4]], [[5, 6]]))


def generator():
    return torch.Generator().manual_seed(0)


def next_addition(pairs, batch_size):
    return next(AdditionTask().batches(pairs, batch_size, generator()))


def cache(capacity):
    return KeyValueCache(torch.zeros(2, 3, 5, 7), torch.zeros(2, 3, 5, 7), capacity)


ONE_BATCH = make_batch([[3]], [[4]])
LOGITS = torch.zeros(3, 5, 13)

CASES = {
    # Sizes of a model
    "heads that do not divide the width": (
        lambda: build(d_model=128, num_heads=5),
        ValueError,
        r"num_heads \(5\) must divide d_model \(128\): 128 / 5 leaves a remainder of 3",
    ),
    "heads of an attention that do not divide": (
        lambda: MultiHeadAttention(10, 4),
        ValueError,
        r"num_heads \(4\) must divide d_model \(10\): 10 / 4 leaves a remainder of 2",
    ),
    "more heads than width": (
        lambda: EncoderLayer(6, 7, 11),
        ValueError,
        r"num_heads \(7\) must divide d_model \(6\): 6 / 7 leaves a remainder of 6",
    ),
    "no source vocabulary": (
        lambda: build(src_vocab_size=0),
        ValueError,
        "^src_vocab_size must be at least 1, got 0$",
    ),
    "negative target vocabulary": (
        lambda: build(tgt_vocab_size=-3),
        ValueError,
        "^tgt_vocab_size must be at least 1, got -3$",
    ),
    "no width": (
        lambda: build(d_model=0),
        ValueError,
        "^d_model must be at least 1, got 0$",
    ),
    "no heads": (
        lambda: build(num_heads=0),
        ValueError,
        "^num_heads must be at least 1, got 0$",
    ),
    "no encoder layers": (
        lambda: build(num_encoder_layers=0),
        ValueError,
        "^num_encoder_layers must be at least 1, got 0$",
    ),
    "negative decoder layers": (
        lambda: build(num_decoder_layers=-1),
        ValueError,
        "^num_decoder_layers must be at least 1, got -1$",
    ),
    "no inner width": (
        lambda: build(d_ff=0),
        ValueError,
        "^d_ff must be at least 1, got 0$",
    ),
    "no length": (
        lambda: build(max_len=0),
        ValueError,
        "^max_len must be at least 1, got 0$",
    ),
    "width of half a number": (
        lambda: build(d_model=64.0),
        TypeError,
        r"^d_model must be an int, got 64\.0 \(float\)$",
    ),
    "vocabulary as text": (
        lambda: build(src_vocab_size="15"),
        TypeError,
        r"^src_vocab_size must be an int, got '15' \(str\)$",
    ),
    "layers as a truth value": (
        lambda: build(num_encoder_layers=True),
        TypeError,
        r"^num_encoder_layers must be an int, got True \(bool\)$",
    ),
    "no length at all": (
        lambda: build(max_len=None),
        TypeError,
        r"^max_len must be an int, got None \(NoneType\)$",
    ),
    "norm_first as a number": (
        lambda: build(norm_first=1),
        TypeError,
        r"^norm_first must be True or False, got 1 \(int\)$",
    ),
    "final_norm as a number": (
        lambda: build(final_norm=0),
        TypeError,
        r"^final_norm must be True or False, got 0 \(int\)$",
    ),
    "final_norm as text": (
        lambda: build(norm_first=True, final_norm="yes"),
        TypeError,
        r"^final_norm must be True or False, got 'yes' \(str\)$",
    ),
    "norm_first as text": (
        lambda: AddNorm(6, norm_first="no"),
        TypeError,
        r"^norm_first must be True or False, got 'no' \(str\)$",
    ),
    "dropout of one": (
        lambda: build(dropout=1.0),
        ValueError,
        r"^dropout must lie in \[0, 1\), got 1\.0$",
    ),
    "negative dropout": (
        lambda: build(dropout=-0.1),
        ValueError,
        r"^dropout must lie in \[0, 1\), got -0\.1$",
    ),
    "dropout that is no number": (
        lambda: build(dropout=math.nan),
        ValueError,
        "^dropout must be finite, got nan$",
    ),
    "dropout as text": (
        lambda: PositionalEncoding(6, dropout="0.1"),
        TypeError,
        r"^dropout must be a number, got '0\.1' \(str\)$",
    ),
    "dropout of a layer": (
        lambda: DecoderLayer(6, 2, 7, dropout=1.5),
        ValueError,
        r"^dropout must lie in \[0, 1\), got 1\.5$",
    ),
    "PAD outside the smaller vocabulary": (
        lambda: build(pad_token_id=11),
        ValueError,
        r"^pad_token_id \(11\) is outside the vocabulary: ids run from 0 to 10$",
    ),
    "negative PAD": (
        lambda: TransformerEncoder(11, pad_token_id=-1),
        ValueError,
        r"^pad_token_id \(-1\) is outside the vocabulary: ids run from 0 to 10$",
    ),
    "PAD of the decoder alone": (
        lambda: TransformerDecoder(13, pad_token_id=13),
        ValueError,
        r"^pad_token_id \(13\) is outside the vocabulary: ids run from 0 to 12$",
    ),
    "PAD as half a number": (
        lambda: build(pad_token_id=0.0),
        TypeError,
        r"^pad_token_id must be an int, got 0\.0 \(float\)$",
    ),
    "encoder without layers": (
        lambda: Encoder(0, 6, 2, 7),
        ValueError,
        "^num_layers must be at least 1, got 0$",
    ),
    "decoder without layers": (
        lambda: Decoder(-2, 6, 2, 7),
        ValueError,
        "^num_layers must be at least 1, got -2$",
    ),
    "vocabulary of the encoder alone": (
        lambda: TransformerEncoder(0),
        ValueError,
        "^vocab_size must be at least 1, got 0$",
    ),
    "feed-forward without inner width": (
        lambda: FeedForward(6, 0),
        ValueError,
        "^d_ff must be at least 1, got 0$",
    ),
    "head of no width": (
        lambda: SelfAttention(6, 0),
        ValueError,
        "^d_head must be at least 1, got 0$",
    ),
    "positions without length": (
        lambda: PositionalEncoding(6, max_len=-5),
        ValueError,
        "^max_len must be at least 1, got -5$",
    ),
    # Token ids
    "source id too large": (
        lambda: model()(with_id(SRC, 11), TGT),
        ValueError,
        "^src contains token id 11, outside the vocabulary: ids run from 0 to 10$",
    ),
    "source id negative": (
        lambda: model()(with_id(SRC, -1), TGT),
        ValueError,
        "^src contains token id -1, outside the vocabulary: ids run from 0 to 10$",
    ),
    "target id too large": (
        lambda: model()(SRC, with_id(TGT, 99)),
        ValueError,
        "^tgt_in contains token id 99, outside the vocabulary: ids run from 0 to 12$",
    ),
    "target id negative": (
        lambda: model()(SRC, with_id(TGT, -100)),
        ValueError,
        "^tgt_in contains token id -100, outside the vocabulary: ids run from 0 to 12$",
    ),
    "id too large to encode": (
        lambda: model().encode(with_id(SRC, 12)),
        ValueError,
        "^src contains token id 12, outside the vocabulary: ids run from 0 to 10$",
    ),
    "id too large for the encoder alone": (
        lambda: encoder()(with_id(SRC, 11)),
        ValueError,
        "^tokens contains token id 11, outside the vocabulary: ids run from 0 to 10$",
    ),
    "id negative for the decoder alone": (
        lambda: decoder()(with_id(TGT, -2), MEMORY),
        ValueError,
        "^tokens contains token id -2, outside the vocabulary: ids run from 0 to 12$",
    ),
    "source too long": (
        lambda: model()(tokens(3, 18), TGT),
        ValueError,
        r"^src has length 18, longer than max_len \(17\): shorten it or build",
    ),
    "target too long": (
        lambda: model()(SRC, tokens(3, 19)),
        ValueError,
        r"^tgt_in has length 19, longer than max_len \(17\)",
    ),
    "too long for the encoder alone": (
        lambda: encoder()(tokens(3, 18)),
        ValueError,
        r"^tokens has length 18, longer than max_len \(17\)",
    ),
    "different batch sizes": (
        lambda: model()(SRC, tokens(2, 5)),
        ValueError,
        "^src and tgt_in must have the same batch size, got 3 and 2$",
    ),
    "one source for many targets": (
        lambda: model()(tokens(1, 7), TGT),
        ValueError,
        "^src and tgt_in must have the same batch size, got 1 and 3$",
    ),
    "different batch sizes for the decoder alone": (
        lambda: decoder()(tokens(2, 5), MEMORY),
        ValueError,
        "^tokens and memory must have the same batch size, got 2 and 3$",
    ),
    "a row without a batch": (
        lambda: model()(tokens(7), TGT),
        ValueError,
        r"^src must have 2 dimensions \[batch, length\], got 1 with shape \[7\]$",
    ),
    "a target of three dimensions": (
        lambda: model()(SRC, tokens(3, 5, 1)),
        ValueError,
        r"^tgt_in must have 2 dimensions \[batch, length\], got 3 with shape \[3, 5, 1\]$",
    ),
    "ids as floats": (
        lambda: model()(SRC.float(), TGT),
        TypeError,
        r"^src must hold integer token ids \(torch\.int64 or .*\), got torch\.float32$",
    ),
    "ids as truth values": (
        lambda: model()(SRC, TGT.bool()),
        TypeError,
        r"^tgt_in must hold integer token ids .*, got torch\.bool$",
    ),
    "ids as lists": (
        lambda: model()([[3, 4]], TGT),
        TypeError,
        "^src must be a tensor of token ids, got list$",
    ),
    "a batch without rows": (
        lambda: model()(tokens(0, 7), tokens(0, 5)),
        ValueError,
        r"^src is empty: its shape \[batch, length\] is \[0, 7\]$",
    ),
    "a target without tokens": (
        lambda: model()(SRC, tokens(3, 0)),
        ValueError,
        r"^tgt_in is empty: its shape \[batch, length\] is \[3, 0\]$",
    ),
    # Vectors and masks
    "query of another width": (
        lambda: attention()(torch.zeros(3, 5, 8), MEMORY, MEMORY),
        ValueError,
        r"^query must have shape \[batch, length, d_model=6\], got \[3, 5, 8\]$",
    ),
    "key of another width": (
        lambda: attention()(X, torch.zeros(3, 7, 5), MEMORY),
        ValueError,
        r"^key must have shape \[batch, length, d_model=6\], got \[3, 7, 5\]$",
    ),
    "vectors without a batch": (
        lambda: SelfAttention(6)(torch.zeros(5, 6)),
        ValueError,
        r"^x must have shape \[batch, length, d_model=6\], got \[5, 6\]$",
    ),
    "whole numbers as vectors": (
        lambda: FeedForward(6, 7)(torch.zeros(3, 5, 6, dtype=torch.int64)),
        TypeError,
        r"^x must hold floating-point vectors, got torch\.int64$",
    ),
    "lists as vectors": (
        lambda: PositionalEncoding(6)([[0.0] * 6]),
        TypeError,
        "^x must be a tensor, got list$",
    ),
    "memory of another width": (
        lambda: Decoder(1, 6, 2, 7)(X, torch.zeros(3, 7, 4)),
        ValueError,
        r"^memory must have shape \[batch, length, d_model=6\], got \[3, 7, 4\]$",
    ),
    "query and key of different batches": (
        lambda: attention()(X, MEMORY[:2], MEMORY[:2]),
        ValueError,
        "^query and key must have the same batch size, got 3 and 2$",
    ),
    "key and value of different lengths": (
        lambda: attention()(X, MEMORY, X),
        ValueError,
        r"^key and value must have the same shape, got \[3, 7, 6\] and \[3, 5, 6\]$",
    ),
    "query alone": (
        lambda: attention()(X),
        ValueError,
        "^key and value must both be given, or neither and a cache$",
    ),
    "key without a value": (
        lambda: attention()(X, MEMORY),
        ValueError,
        "^key and value must both be given, or neither and a cache$",
    ),
    "mask of numbers": (
        lambda: attend(torch.ones(5, 7)),
        TypeError,
        r"^mask must be a boolean tensor \(True = may attend\), got torch\.float32$",
    ),
    "mask as a list": (
        lambda: attend([[True] * 7]),
        TypeError,
        r"^mask must be a boolean tensor \(True = may attend\), got list$",
    ),
    "mask with query and key swapped": (
        lambda: attend(torch.ones(7, 5, dtype=torch.bool)),
        ValueError,
        r"^mask of shape \[7, 5\] does not broadcast to \[3, 2, 5, 7\]$",
    ),
    "mask of one row per batch without heads": (
        lambda: attend(torch.ones(3, 5, 7, dtype=torch.bool)),
        ValueError,
        r"^mask of shape \[3, 5, 7\] does not broadcast to \[3, 2, 5, 7\]$",
    ),
    "mask of five dimensions": (
        lambda: attend(torch.ones(1, 1, 1, 5, 7, dtype=torch.bool)),
        ValueError,
        r"^mask of shape \[1, 1, 1, 5, 7\] does not broadcast to \[3, 2, 5, 7\]$",
    ),
    "mask of a single head with heads": (
        lambda: SelfAttention(6)(X, torch.ones(3, 1, 1, 5, dtype=torch.bool)),
        ValueError,
        r"^mask of shape \[3, 1, 1, 5\] does not broadcast to \[3, 5, 5\]$",
    ),
    "position beyond the last": (
        lambda: PositionalEncoding(6, max_len=5)(torch.zeros(1, 2, 6), start=4),
        ValueError,
        "^position 5 does not exist: max_len is 5$",
    ),
    "position before the first": (
        lambda: PositionalEncoding(6)(X, start=-1),
        ValueError,
        "^start must not be negative, got -1$",
    ),
    "cache smaller than what it holds": (
        lambda: cache(capacity=4),
        ValueError,
        r"^capacity \(4\) is below the 5 positions given$",
    ),
    "cache that is full": (
        lambda: cache(capacity=6).append(
            torch.zeros(2, 3, 2, 7), torch.zeros(2, 3, 2, 7)
        ),
        ValueError,
        "room for 6 positions, 5 are taken: no room for 2 more$",
    ),
    # Decoding
    "no room for START": (
        lambda: greedy(max_len=0),
        ValueError,
        "^max_len must be at least 1, got 0$",
    ),
    "negative length to generate": (
        lambda: model().generate(SRC, -4, 1, 2),
        ValueError,
        "^max_len must be at least 1, got -4$",
    ),
    "length as half a number": (
        lambda: greedy(max_len=9.5),
        TypeError,
        r"^max_len must be an int, got 9\.5 \(float\)$",
    ),
    "longer than the model reads": (
        lambda: greedy(max_len=18),
        ValueError,
        r"^max_len \(18\) is longer than the model's max_len \(17\): ask for fewer tokens",
    ),
    "beams longer than the model reads": (
        lambda: model().beam_search(SRC, 18, 1, 2),
        ValueError,
        r"^max_len \(18\) is longer than the model's max_len \(17\)",
    ),
    "START outside the vocabulary": (
        lambda: greedy(start=13),
        ValueError,
        r"^start_token_id \(13\) is outside the vocabulary: ids run from 0 to 12$",
    ),
    "END outside the vocabulary": (
        lambda: greedy(end=-1),
        ValueError,
        r"^end_token_id \(-1\) is outside the vocabulary: ids run from 0 to 12$",
    ),
    "START that is PAD": (
        lambda: greedy(start=0),
        ValueError,
        r"^start_token_id \(0\) must differ from pad_token_id \(0\): nothing attends to",
    ),
    "END that is PAD": (
        lambda: model().beam_search(SRC, 9, 1, 0),
        ValueError,
        r"^end_token_id \(0\) must differ from pad_token_id \(0\)",
    ),
    "START as a tensor": (
        lambda: greedy(start=torch.tensor(1)),
        TypeError,
        r"^start_token_id must be an int, got tensor\(1\) \(Tensor\)$",
    ),
    "decoding an empty batch": (
        lambda: greedy(src=tokens(0, 7)),
        ValueError,
        r"^src is empty: its shape \[batch, length\] is \[0, 7\]$",
    ),
    "decoding an id outside the vocabulary": (
        lambda: decode_uncached(model(), with_id(SRC, 11), 9, 1, 2),
        ValueError,
        "^src contains token id 11, outside the vocabulary: ids run from 0 to 10$",
    ),
    "decoding a source too long": (
        lambda: decode(model(), tokens(3, 18), 9, 1, 2),
        ValueError,
        r"^src has length 18, longer than max_len \(17\)",
    ),
    "temperature of zero": (
        lambda: generate(temperature=0),
        ValueError,
        "^temperature must be above 0, got 0: for the likeliest token use greedy_decode",
    ),
    "temperature below zero": (
        lambda: generate(temperature=-0.5),
        ValueError,
        r"^temperature must be above 0, got -0\.5: ",
    ),
    "temperature that is no number": (
        lambda: generate(temperature=math.nan),
        ValueError,
        "^temperature must be finite, got nan$",
    ),
    "temperature without end": (
        lambda: generate(temperature=math.inf),
        ValueError,
        "^temperature must be finite, got inf$",
    ),
    "temperature as text": (
        lambda: Sampler("hot"),
        TypeError,
        r"^temperature must be a number, got 'hot' \(str\)$",
    ),
    "top_k of zero": (
        lambda: generate(top_k=0),
        ValueError,
        "^top_k must be at least 1, got 0$",
    ),
    "top_k below zero": (
        lambda: generate(top_k=-5),
        ValueError,
        "^top_k must be at least 1, got -5$",
    ),
    "top_k as half a number": (
        lambda: generate(top_k=2.0),
        TypeError,
        r"^top_k must be an int, got 2\.0 \(float\)$",
    ),
    "top_p of zero": (
        lambda: generate(top_p=0.0),
        ValueError,
        r"^top_p must lie in \(0, 1\], got 0\.0$",
    ),
    "top_p above one": (
        lambda: generate(top_p=1.01),
        ValueError,
        r"^top_p must lie in \(0, 1\], got 1\.01$",
    ),
    "top_p that is no number": (
        lambda: generate(top_p=math.nan),
        ValueError,
        "^top_p must be finite, got nan$",
    ),
    "top_p as text": (
        lambda: generate(top_p="0.9"),
        TypeError,
        r"^top_p must be a number, got '0\.9' \(str\)$",
    ),
    "no beams": (
        lambda: beam(beam_size=0),
        ValueError,
        "^beam_size must be at least 1, got 0$",
    ),
    "half a beam": (
        lambda: beam(beam_size=1.5),
        TypeError,
        r"^beam_size must be an int, got 1\.5 \(float\)$",
    ),
    "negative length penalty": (
        lambda: beam(length_penalty=-0.5),
        ValueError,
        r"^length_penalty must lie in \[0, 10\], got -0\.5$",
    ),
    "length penalty beyond a float": (
        lambda: beam(length_penalty=500.0),
        ValueError,
        r"^length_penalty must lie in \[0, 10\], got 500\.0$",
    ),
    "length penalty without end": (
        lambda: beam(length_penalty=math.inf),
        ValueError,
        "^length_penalty must be finite, got inf$",
    ),
    # Batching
    "nothing to pad": (
        lambda: pad_sequences([]),
        ValueError,
        "^there is nothing to pad: 0 sequences, all empty$",
    ),
    "empty rows only": (
        lambda: pad_sequences([[], [], []]),
        ValueError,
        "^there is nothing to pad: 3 sequences, all empty$",
    ),
    "row longer than the length": (
        lambda: pad_sequences([[3], [4, 5, 6]], length=2),
        ValueError,
        r"^a sequence has 3 tokens, more than length \(2\)$",
    ),
    "length of nothing": (
        lambda: pad_sequences([[3]], length=0),
        ValueError,
        "^length must be at least 1, got 0$",
    ),
    "tokens as text": (
        lambda: pad_sequences([["a", "b"]]),
        TypeError,
        r"^every token id must be an int, got 'a' \(str\)$",
    ),
    "tokens as truth values": (
        lambda: pad_sequences([[3, True]]),
        TypeError,
        r"^every token id must be an int, got True \(bool\)$",
    ),
    "tokens as floats": (
        lambda: make_batch([[3.0]], [[4]]),
        TypeError,
        r"^every token id must be an int, got 3\.0 \(float\)$",
    ),
    "a source with PAD inside": (
        lambda: make_batch([[3, 4], [5, 0, 6]], [[3], [4]]),
        ValueError,
        "^source 1 contains 0, which is PAD: the model would never look at it$",
    ),
    "a batch whose START is PAD": (
        lambda: make_batch([[3]], [[4]], start_token_id=0),
        ValueError,
        r"^PAD \(0\) must differ from START \(0\) and END \(2\)$",
    ),
    "target outside the vocabulary of the logits": (
        lambda: next_token_loss(torch.zeros(1, 2, 5), torch.tensor([[3, 99]])),
        ValueError,
        "^tgt_out contains token id 99, outside the vocabulary: ids run from 0 to 4$",
    ),
    "pairs as floats": (
        lambda: AdditionTask().make_batch(torch.tensor([[1.0, 2.0]])),
        TypeError,
        r"^pairs must be a tensor of torch\.int64, got torch\.float32$",
    ),
    "pairs as a list": (
        lambda: AdditionTask().make_batch([[1, 2]]),
        TypeError,
        r"^pairs must be a tensor of torch\.int64, got list$",
    ),
    "text of an unknown token": (
        lambda: AdditionTask().to_text(torch.tensor([4, 14, 15])),
        ValueError,
        r"^tokens \[14, 15\] are outside the vocabulary: ids run from 0 to 13$",
    ),
    "more pairs than can be listed": (
        lambda: AdditionTask(4).all_pairs(),
        ValueError,
        r"^there are 10\^8 pairs of 4-digit numbers, too many to list",
    ),
    "more pairs drawn than there are": (
        lambda: AdditionTask(1).draw(56, generator()),
        ValueError,
        r"^num_pairs \(56\) exceeds the 55 pairs of 1-digit numbers that differ in",
    ),
    "no batch size, before the first batch": (
        lambda: CopyTask().batches(0, generator()),
        ValueError,
        "^batch_size must be at least 1, got 0$",
    ),
    "sources without targets": (
        lambda: make_batch([[3], [4], [5]], [[3], [4]]),
        ValueError,
        "^got 3 sources but 2 targets$",
    ),
    "no sources": (
        lambda: make_batch([], []),
        ValueError,
        "^there is nothing to pad: 0 sequences, all empty$",
    ),
    "PAD in a target": (
        lambda: make_batch([[3], [3]], [[4], [5, 0]]),
        ValueError,
        "^target 1 contains 0, which is PAD: tokens of a task must differ",
    ),
    "START in a target": (
        lambda: make_batch([[3]], [[1, 4]]),
        ValueError,
        "^target 0 contains 1, which is START: ",
    ),
    "END in a target": (
        lambda: make_batch([[3]], [[4, 9]], end_token_id=9),
        ValueError,
        "^target 0 contains 9, which is END: ",
    ),
    # Tasks
    "copying without symbols": (
        lambda: CopyTask(vocab_size=3),
        ValueError,
        r"^vocab_size \(3\) leaves no symbol: the first 3 ids are PAD, START and END$",
    ),
    "lengths in the wrong order": (
        lambda: CopyTask(min_length=9, max_length=8),
        ValueError,
        r"^min_length \(9\) exceeds max_length \(8\)$",
    ),
    "copying rows of no length": (
        lambda: CopyTask(min_length=0),
        ValueError,
        "^min_length must be at least 1, got 0$",
    ),
    "copying no rows": (
        lambda: CopyTask().sample(0, generator()),
        ValueError,
        "^batch_size must be at least 1, got 0$",
    ),
    "adding without digits": (
        lambda: AdditionTask(0),
        ValueError,
        "^num_digits must be at least 1, got 0$",
    ),
    "adding too many digits": (
        lambda: AdditionTask(19),
        ValueError,
        "^num_digits must be at most 18, got 19$",
    ),
    "holding more pairs out than have two orders": (
        lambda: AdditionTask(1).split(92, generator()),
        ValueError,
        r"^num_held_out \(92\) must be even and at most 90: pairs are held out in both "
        "orders$",
    ),
    "holding one order of a pair out": (
        lambda: AdditionTask(1).split(31, generator()),
        ValueError,
        r"^num_held_out \(31\) must be even and at most 90: pairs are held out in both "
        "orders$",
    ),
    "holding no pair out": (
        lambda: AdditionTask(1).split(0, generator()),
        ValueError,
        "^num_held_out must be at least 1, got 0$",
    ),
    "number with too many digits": (
        lambda: AdditionTask().make_batch(torch.tensor([[7, 100], [3, 4]])),
        ValueError,
        "^numbers must lie between 0 and 99, got 3 to 100$",
    ),
    "negative number": (
        lambda: AdditionTask().make_batch(torch.tensor([[7, -1]])),
        ValueError,
        "^numbers must lie between 0 and 99, got -1 to 7$",
    ),
    "three numbers": (
        lambda: AdditionTask().make_batch(torch.zeros(5, 3, dtype=torch.int64)),
        ValueError,
        r"^pairs must have shape \[batch, 2\], got \[5, 3\]$",
    ),
    "no pairs": (
        lambda: AdditionTask().make_batch(torch.zeros(0, 2, dtype=torch.int64)),
        ValueError,
        r"^pairs must have shape \[batch, 2\], got \[0, 2\]$",
    ),
    "batch larger than the data": (
        lambda: next_addition(torch.zeros(5, 2, dtype=torch.int64), 7),
        ValueError,
        r"^batch_size \(7\) exceeds the 5 pairs$",
    ),
    # Schedule
    "step before the first": (
        lambda: warmup_rate(0, 512),
        ValueError,
        "^step must be at least 1, got 0$",
    ),
    "rate of no width": (
        lambda: warmup_rate(1, 0),
        ValueError,
        "^d_model must be at least 1, got 0$",
    ),
    "no warm-up": (
        lambda: warmup_rate(1, 512, 0),
        ValueError,
        "^warmup_steps must be at least 1, got 0$",
    ),
    "schedule without warm-up": (
        lambda: warmup_schedule(
            torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0),
            512,
            warmup_steps=-4,
        ),
        ValueError,
        "^warmup_steps must be at least 1, got -4$",
    ),
    # Training
    "logits of another length than the target": (
        lambda: next_token_loss(LOGITS, tokens(3, 4)),
        ValueError,
        r"do not fit: \[3, 5, 13\] and \[3, 4\]$",
    ),
    "flattened logits": (
        lambda: token_accuracy(LOGITS.flatten(0, 1), TGT.flatten()),
        ValueError,
        r"do not fit: \[15, 13\] and \[15\]$",
    ),
    "nothing but PAD to learn from": (
        lambda: next_token_loss(LOGITS, tokens(3, 5, value=0)),
        ValueError,
        r"^tgt_out \[3, 5\] holds no token but PAD: nothing to learn from$",
    ),
    "nothing but PAD to be right about": (
        lambda: token_accuracy(LOGITS, tokens(3, 5, value=7), pad_token_id=7),
        ValueError,
        r"^tgt_out \[3, 5\] holds no token but PAD",
    ),
    "no steps": (
        lambda: training(one_batch(), num_steps=0),
        ValueError,
        "^num_steps must be at least 1, got 0$",
    ),
    "steps as a float": (
        lambda: training(num_steps=1e3),
        TypeError,
        r"^num_steps must be an int, got 1000\.0 \(float\)$",
    ),
    "evaluating every zero steps": (
        lambda: training(evaluate_every=0),
        ValueError,
        "^evaluate_every must be at least 1, got 0$",
    ),
    "clipping at zero": (
        lambda: training(one_batch(), clip_norm=0),
        ValueError,
        "^clip_norm must be above 0, got 0; None means no clipping$",
    ),
    "clipping below zero": (
        lambda: training(one_batch(), clip_norm=-1.5),
        ValueError,
        r"^clip_norm must be above 0, got -1\.5; None means no clipping$",
    ),
    "clipping at no number": (
        lambda: training(one_batch(), clip_norm=math.nan),
        ValueError,
        "^clip_norm must be finite, got nan$",
    ),
    "held out but empty": (
        lambda: training(one_batch(), held_out=[]),
        ValueError,
        "^held_out holds no batch; None means no evaluation$",
    ),
    "patience with nothing to watch": (
        lambda: training(one_batch(), patience=3),
        ValueError,
        r"^patience \(3\) needs held_out batches to watch$",
    ),
    "no patience": (
        lambda: training(one_batch(), patience=0, held_out=[ONE_BATCH]),
        ValueError,
        "^patience must be at least 1, got 0$",
    ),
    "batches that run out": (
        lambda: training(iter([ONE_BATCH, ONE_BATCH]), num_steps=5),
        ValueError,
        "^the batches ran out after 2 of 5 steps$",
    ),
    "fewer batches than steps": (
        lambda: training([ONE_BATCH, ONE_BATCH], num_steps=5),
        ValueError,
        r"^batches holds 2, fewer than num_steps \(5\)$",
    ),
    "no batches": (
        lambda: training([]),
        ValueError,
        r"^batches holds 0, fewer than num_steps \(3\)$",
    ),
    "one batch for many": (
        lambda: training(ONE_BATCH),
        TypeError,
        r"^batches is one batch: itertools\.repeat\(batch\) trains on it again and again$",
    ),
    "batches that are none": (
        lambda: training(iter([[SRC, TGT]])),
        TypeError,
        r"^a batch must be three tensors \(src, tgt_in, tgt_out\), "
        "got a list of Tensor, Tensor$",
    ),
    "held out without a length": (
        lambda: training(one_batch(), held_out=iter([ONE_BATCH])),
        TypeError,
        r"^held_out must have a length, .* got a list_iterator: take what you need with "
        r"list\(itertools\.islice\(batches, count\)\)$",
    ),
    "held out but no batch": (
        lambda: training(one_batch(), held_out=[ONE_BATCH, SRC]),
        TypeError,
        r"^a batch must be three tensors .* got a Tensor$",
    ),
    "evaluating without a length": (
        lambda: evaluate(model(), iter([ONE_BATCH])),
        TypeError,
        "^batches must have a length, .* got a list_iterator: ",
    ),
    "training on an id outside the vocabulary": (
        lambda: training(iter([make_batch([[11]], [[4]])])),
        ValueError,
        "^src contains token id 11, outside the vocabulary: ids run from 0 to 10$",
    ),
    "a step on different batch sizes": (
        lambda: training(iter([ONE_BATCH._replace(src=SRC)])),
        ValueError,
        "^src and tgt_in must have the same batch size, got 3 and 1$",
    ),
    "the optimizer of another model": (
        lambda: train_step(
            model(), ONE_BATCH, torch.optim.SGD([nn.Parameter(X)], lr=0.1)
        ),
        ValueError,
        r"^the optimizer holds no trainable parameter of the model: build it anew ",
    ),
    "nothing to evaluate on": (
        lambda: evaluate(model(), []),
        ValueError,
        "^there is no batch to evaluate on$",
    ),
    "evaluating a batch of PAD": (
        lambda: evaluate(model(), [ONE_BATCH._replace(tgt_out=tokens(1, 2, value=0))]),
        ValueError,
        r"^tgt_out \[1, 2\] holds no token but PAD: nothing to learn from$",
    ),
    # Plots
    "a query label too many": (
        lambda: plot_attention(torch.zeros(2, 3, 5), "abcd", "vwxyz"),
        ValueError,
        r"shape \[heads=2, query=4, key=5\], got \[2, 3, 5\]$",
    ),
    "a key label missing": (
        lambda: plot_attention(torch.zeros(2, 3, 5), "abc", "vwxy"),
        ValueError,
        r"shape \[heads=2, query=3, key=4\], got \[2, 3, 5\]$",
    ),
    "weights of a whole batch": (
        lambda: plot_attention(torch.zeros(7, 2, 3, 5), "abc", "vwxyz"),
        ValueError,
        r"shape \[heads=7, query=3, key=5\], got \[7, 2, 3, 5\]$",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), CASES.values(), ids=CASES.keys())
def test_bad_input_is_refused_with_the_numbers(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert caught.type is error
