"""The names and call forms that readers of the original tutorial type."""

import importlib

import pytest
import torch
from helpers import assert_above, decisive_model, small_batch, small_model
from torch import nn

import transformer
from transformer.attention import MultiHeadAttention
from transformer.transformer import Transformer, count_parameters

PARTS = ("src_embedding", "tgt_embedding", "encoder", "decoder", "output_projection")


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("attention", ["SelfAttention", "MultiHeadAttention"]),
        ("position_encoding", ["PositionalEncoding"]),
        ("feed_forward", ["FeedForward"]),
        ("encoder", ["EncoderLayer", "Encoder", "TransformerEncoder"]),
        ("decoder", ["DecoderLayer", "Decoder", "TransformerDecoder"]),
        ("transformer", ["Transformer", "count_parameters"]),
    ],
)
def test_every_promised_name_is_where_it_was_promised(module, names):
    there = importlib.import_module(f"transformer.{module}")
    for name in names:
        assert getattr(there, name) is getattr(transformer, name)


@pytest.fixture(scope="module")
def base_model():
    return Transformer(1000, 1200)


def test_two_sizes_build_the_papers_base_model(base_model):
    config = base_model.config
    assert (config.src_vocab_size, config.tgt_vocab_size) == (1000, 1200)
    assert (config.d_model, config.num_heads, config.d_ff) == (512, 8, 2048)
    assert (config.num_encoder_layers, config.num_decoder_layers) == (6, 6)
    assert (config.max_len, config.dropout) == (5000, 0.1)
    assert (config.norm_first, config.pad_token_id) == (False, 0)


def test_the_base_model_has_the_number_of_parameters_of_the_closed_formula(base_model):
    attention, feed_forward, norm = (
        4 * (512 * 512 + 512),
        2 * 512 * 2048 + 2048 + 512,
        2 * 512,
    )
    encoder = 6 * (attention + feed_forward + 2 * norm)
    decoder = 6 * (2 * attention + feed_forward + 3 * norm)
    assert (encoder, decoder) == (18_914_304, 25_224_192)
    vocabularies = (1000 + 1200) * 512 + 1200 * 513
    assert count_parameters(base_model) == encoder + decoder + vocabularies


def test_percentages_over_the_five_parts_add_up_to_one_hundred(base_model):
    total = count_parameters(base_model)
    percentages = [
        100 * count_parameters(getattr(base_model, part)) / total for part in PARTS
    ]
    assert all(percentage > 0 for percentage in percentages)
    assert sum(percentages) == pytest.approx(100)


def test_the_five_parts_hold_every_trainable_parameter_once():
    model = small_model()
    held = [id(p) for part in PARTS for p in getattr(model, part).parameters()]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())


def test_all_nine_arguments_can_be_named():
    model = Transformer(
        src_vocab_size=11,
        tgt_vocab_size=13,
        d_model=128,
        num_heads=4,
        num_encoder_layers=3,
        num_decoder_layers=2,
        d_ff=512,
        max_len=512,
        dropout=0.2,
    )
    assert model.d_model == 128
    assert model.src_embedding.weight.shape == (11, 128)
    assert model.tgt_embedding.weight.shape == (13, 128)
    assert (len(model.encoder.layers), len(model.decoder.layers)) == (3, 2)
    attention = model.encoder.layers[0].self_attention
    assert (attention.num_heads, attention.d_head) == (4, 32)
    assert model.encoder.layers[2].feed_forward.expand.weight.shape == (512, 128)


def test_nine_positional_arguments_mean_the_same_as_nine_named_ones():
    positional = Transformer(11, 13, 6, 3, 2, 1, 7, 17, 0.2)
    named = Transformer(
        tgt_vocab_size=13,
        src_vocab_size=11,
        num_heads=3,
        d_model=6,
        num_decoder_layers=1,
        num_encoder_layers=2,
        dropout=0.2,
        max_len=17,
        d_ff=7,
    )
    assert positional.config == named.config


def test_the_attributes_are_what_the_tutorial_uses():
    model = small_model()
    assert isinstance(model.src_embedding, nn.Embedding)
    assert isinstance(model.tgt_embedding, nn.Embedding)
    assert isinstance(model.output_projection, nn.Linear)
    layers = [*model.encoder.layers, *model.decoder.layers]
    assert all(isinstance(layer.self_attention, MultiHeadAttention) for layer in layers)


def test_the_default_is_post_norm():
    model = Transformer(11, 13, 6, 3, 1, 1, 7, 17)
    memory = model.eval().encode(torch.tensor([[3, 4, 5, 6, 7]]))
    # A layer norm that has not been trained leaves mean 0 and variance 1.
    torch.testing.assert_close(memory.mean(-1), torch.zeros(1, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        memory.var(-1, correction=0), torch.ones(1, 5), atol=1e-3, rtol=0
    )


def test_a_plain_forward_hook_receives_output_and_weights():
    model = small_model()
    src, tgt_in = small_batch()
    seen = {}

    def hook(_module, _inputs, output):
        seen["output"], seen["weights"] = output

    handle = model.encoder.layers[0].self_attention.register_forward_hook(hook)
    model(src, tgt_in)
    handle.remove()
    assert seen["output"].shape == (3, 7, 14)
    assert seen["weights"].shape == (3, 2, 7, 7)
    torch.testing.assert_close(seen["weights"].sum(-1), torch.ones(3, 2, 7).double())
    assert (seen["weights"][1, :, :, 4:] == 0).all()


@pytest.mark.parametrize("name", ["self_attention", "cross_attention"])
def test_a_plain_forward_hook_on_a_decoder_layer_receives_weights_too(name):
    model = small_model()
    src, tgt_in = small_batch()
    seen = []
    attention = getattr(model.decoder.layers[1], name)
    attention.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output[1])
    )
    model(src, tgt_in)
    assert seen[0].shape == (3, 2, 5, 5 if name == "self_attention" else 7)


@pytest.mark.parametrize("gradients", [True, False])
def test_every_call_form_works_with_and_without_gradients(gradients):
    model = decisive_model()
    src, tgt_in = small_batch()
    with torch.set_grad_enabled(gradients):
        logits = model(src, tgt_in)
        memory = model.encode(src)
        greedy = model.greedy_decode(src, 9, 1, 2)
        drawn = model.generate(src, 9, 1, 2, 0.7, 5, 0.9)
        one = model.generate(src, 9, 1, 2, top_k=1)
    assert logits.requires_grad is gradients
    assert memory.requires_grad is gradients
    assert torch.equal(one, greedy)
    for tokens in (greedy, drawn):
        assert tokens.dtype == torch.int64
        assert tokens.size(0) == 3
        assert tokens.size(1) <= 9
        assert (tokens[:, 0] == 1).all()


def test_decoding_can_be_called_with_the_names_of_the_tutorial():
    model = decisive_model()
    src, _ = small_batch()
    greedy = model.greedy_decode(src=src, max_len=9, start_token_id=1, end_token_id=2)
    drawn = model.generate(
        src=src,
        max_len=9,
        start_token_id=1,
        end_token_id=2,
        temperature=1.5,
        top_k=1,
        top_p=0.5,
    )
    assert torch.equal(greedy, drawn)


def test_the_models_masks_are_its_own():
    model = small_model()
    src, tgt_in = small_batch()
    real = tgt_in != 0
    wide_src = torch.nn.functional.pad(src, (0, 3))
    wide_tgt = torch.nn.functional.pad(tgt_in, (0, 2))
    wide = model(wide_src, wide_tgt)[:, :5]
    torch.testing.assert_close(wide[real], model(src, tgt_in)[real])


@pytest.mark.trains
def test_five_hundred_steps_learn_to_copy(record_property):
    task = transformer.CopyTask(vocab_size=15)
    model = Transformer(15, 15, 64, 4, 2, 2, 256, max_len=32, dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = task.batches(64, torch.Generator().manual_seed(0))
    transformer.train(model, data, optimizer, 500, progress=False)
    fresh = task.sample(997, torch.Generator().manual_seed(1))
    decoded = model.greedy_decode(fresh.src, 10, transformer.START, transformer.END)
    written = torch.nn.functional.pad(decoded[:, 1:], (0, 10 - decoded.size(1)))
    share = (written == fresh.tgt_out).all(dim=1).double().mean().item()
    assert_above(0.8, share, "share of exact copies", record_property)
