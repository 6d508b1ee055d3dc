import copy
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from helpers import (
    BATCH,
    SRC_LEN,
    SRC_VOCAB,
    TGT_LEN,
    TGT_VOCAB,
    assert_same_weights,
    decisive_model,
    random_tokens,
    small_batch,
    small_model,
    snapshot,
)
from torch import nn

from transformer import END, PAD, START, Transformer, count_parameters
from transformer.observation import record_attention
from transformer.transformer import TransformerConfig

NORMS = pytest.mark.parametrize("norm_first", [False, True])


@NORMS
def test_future_tokens_cannot_change_earlier_logits(norm_first):
    model = small_model(norm_first=norm_first)
    src, tgt_in = random_tokens(SRC_VOCAB, 3, 7), random_tokens(TGT_VOCAB - 1, 3, 5)
    logits = model(src, tgt_in)
    for position in range(5):
        changed = tgt_in.clone()
        changed[:, position] = TGT_VOCAB - 1
        difference = (model(src, changed) - logits).abs().amax(dim=-1)
        assert (difference[:, :position] == 0).all()
        assert (difference[:, position:] > 1e-6).all()


@NORMS
def test_every_source_token_changes_every_logit_row(norm_first):
    model = small_model(norm_first=norm_first)
    src, tgt_in = random_tokens(SRC_VOCAB - 1, 3, 7), random_tokens(TGT_VOCAB, 3, 5)
    logits = model(src, tgt_in)
    for position in range(7):
        changed = src.clone()
        changed[:, position] = SRC_VOCAB - 1
        assert ((model(changed, tgt_in) - logits).abs().amax(dim=-1) > 1e-7).all()


@NORMS
@pytest.mark.parametrize("pad_token_id", [PAD, 6])
def test_more_padding_cannot_change_real_outputs(norm_first, pad_token_id):
    model = small_model(norm_first=norm_first, pad_token_id=pad_token_id)
    src, tgt_in = (
        random_tokens(SRC_VOCAB, 3, 7, lowest=7),
        random_tokens(TGT_VOCAB, 3, 5, lowest=7),
    )
    padded_src = torch.cat([src, src.new_full((3, 4), pad_token_id)], dim=1)
    padded_tgt = torch.cat([tgt_in, tgt_in.new_full((3, 2), pad_token_id)], dim=1)
    torch.testing.assert_close(model.encode(padded_src)[:, :7], model.encode(src))
    torch.testing.assert_close(model(padded_src, padded_tgt)[:, :5], model(src, tgt_in))


@NORMS
def test_padding_inside_the_source_is_never_read(norm_first):
    model = small_model(norm_first=norm_first)
    src, tgt_in = small_batch()
    logits = model(src, tgt_in)
    with torch.no_grad():
        model.src_embedding.weight[PAD] += 3
        model.tgt_embedding.weight[PAD] += 3
    real = tgt_in != PAD
    torch.testing.assert_close(model(src, tgt_in)[real], logits[real])


def test_the_embeddings_of_pad_get_no_gradient_from_real_positions():
    model = small_model()
    src, tgt_in = small_batch()
    model(src, tgt_in)[tgt_in != PAD].square().sum().backward()
    for embedding in (model.src_embedding, model.tgt_embedding):
        assert (embedding.weight.grad[PAD] == 0).all()
        assert (embedding.weight.grad[3:] != 0).any()


@NORMS
def test_batch_rows_do_not_influence_each_other(norm_first):
    model = small_model(norm_first=norm_first)
    src, tgt_in = small_batch()
    logits = model(src, tgt_in)
    for row in range(BATCH):
        alone = model(src[row : row + 1], tgt_in[row : row + 1])
        torch.testing.assert_close(alone[0], logits[row])


@NORMS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_source_row_that_is_all_pad_gives_finite_logits_and_gradients(
    norm_first, dtype
):
    model = small_model(norm_first=norm_first).to(dtype).train()
    src, tgt_in = small_batch()
    src[1] = PAD
    logits = model(src, tgt_in)
    assert logits.isfinite().all()
    with torch.no_grad():
        assert model(src, tgt_in).isfinite().all()
    logits.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_an_all_pad_row_leaves_the_other_rows_alone():
    model = small_model()
    src, tgt_in = small_batch()
    logits = model(src, tgt_in)
    src[1] = PAD
    torch.testing.assert_close(model(src, tgt_in)[[0, 2]], logits[[0, 2]])


def test_a_target_row_that_is_all_pad_gives_finite_logits_and_gradients():
    model = small_model().train()
    src, tgt_in = small_batch()
    tgt_in[2] = PAD
    logits = model(src, tgt_in)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_pad_other_than_zero_makes_zero_an_ordinary_token():
    model = small_model(pad_token_id=6)
    src, tgt_in = (
        random_tokens(SRC_VOCAB, 3, 7, lowest=7),
        random_tokens(TGT_VOCAB, 3, 5, lowest=7),
    )
    logits = model(src, tgt_in)
    src[:, 3] = 0
    assert not torch.allclose(model(src, tgt_in), logits, atol=1e-4)


def test_int32_ids_give_the_same_logits_as_int64():
    model = small_model()
    src, tgt_in = small_batch()
    assert torch.equal(model(src.int(), tgt_in.int()), model(src, tgt_in))


def test_next_logits_equal_the_last_logits_of_the_whole_prefix():
    model = decisive_model()
    src, _ = small_batch()
    tgt_in = random_tokens(TGT_VOCAB, BATCH, 23)
    with torch.no_grad():
        expected = model(src, tgt_in)
        cache = model.start_cache(src, capacity=23)
        for position in range(23):
            logits = model.next_logits(tgt_in[:, position], cache)
            torch.testing.assert_close(logits, expected[:, position])


def test_dropout_acts_in_training_and_not_in_evaluation():
    model = small_model(dropout=0.3)
    src, tgt_in = small_batch()
    assert torch.equal(model(src, tgt_in), model(src, tgt_in))
    model.train()
    assert not torch.allclose(model(src, tgt_in), model(src, tgt_in))


def test_every_dropout_of_the_model_has_the_rate_asked_for():
    model = small_model(dropout=0.3)
    rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    # One for the positions, two an encoder layer, three a decoder layer.
    assert rates == [0.3] * (1 + 2 * 2 + 3 * 3)


@NORMS
def test_using_a_model_never_changes_its_state(norm_first):
    model = decisive_model(norm_first=norm_first)
    before = snapshot(model)
    src, tgt_in = small_batch()
    model(src, tgt_in)
    model.encode(src)
    model.greedy_decode(src, 7, START, END)
    model.generate(src, 7, START, END)
    model.beam_search(src, 7, START, END, beam_size=2)
    with record_attention(model):
        model(src, tgt_in)
    assert_same_weights(model, before)


def test_the_state_holds_trainable_weights_only():
    model = small_model()
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_the_number_of_parameters_follows_the_closed_formula():
    model = small_model()
    attention = 4 * (14 * 14 + 14)
    feed_forward = 14 * 19 + 19 + 19 * 14 + 14
    norm = 2 * 14
    encoder = 2 * (attention + feed_forward + 2 * norm)
    decoder = 3 * (2 * attention + feed_forward + 3 * norm)
    assert count_parameters(model.encoder) == encoder
    assert count_parameters(model.decoder) == decoder
    assert count_parameters(model.src_embedding) == 11 * 14
    assert count_parameters(model.tgt_embedding) == 13 * 14
    assert count_parameters(model.output_projection) == 14 * 13 + 13
    assert (
        count_parameters(model) == encoder + decoder + 11 * 14 + 13 * 14 + 14 * 13 + 13
    )


def test_pre_norm_adds_one_closing_norm_to_each_stack():
    post, pre = small_model(), small_model(norm_first=True)
    assert count_parameters(pre.encoder) - count_parameters(post.encoder) == 2 * 14
    assert count_parameters(pre.decoder) - count_parameters(post.decoder) == 2 * 14


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_final_norm_follows_the_kind_of_norm_unless_it_is_said(norm_first):
    assert small_model(norm_first=norm_first).config.final_norm is norm_first
    for final_norm in (False, True):
        model = small_model(norm_first=norm_first, final_norm=final_norm)
        assert model.config.final_norm is final_norm
        for stack in (model.encoder, model.decoder):
            assert isinstance(stack.norm, nn.LayerNorm) is final_norm


def test_shared_parameters_count_once_and_frozen_ones_not_at_all():
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7), nn.Linear(5, 7))
    assert count_parameters(model) == (3 * 5 + 5) + 2 * (5 * 7 + 7)
    model[2].weight = model[1].weight
    assert count_parameters(model) == (3 * 5 + 5) + 5 * 7 + 2 * 7
    model[0].requires_grad_(False)
    assert count_parameters(model) == 5 * 7 + 2 * 7


def test_the_configuration_holds_every_argument():
    sizes = (5, 7, 6, 3, 1, 2, 11, 13, 0.2)
    model = Transformer(*sizes, norm_first=True, pad_token_id=4, final_norm=False)
    assert model.config == TransformerConfig(*sizes, True, 4, False)
    assert (model.d_model, model.max_len, model.pad_token_id) == (6, 13, 4)
    assert [len(model.encoder.layers), len(model.decoder.layers)] == [1, 2]


def test_the_configuration_cannot_be_changed():
    with pytest.raises(AttributeError):
        small_model().config.d_model = 7


def test_a_printed_model_begins_with_its_configuration():
    assert "src_vocab_size=11, tgt_vocab_size=13, d_model=14" in repr(small_model())


def test_a_source_or_target_of_exactly_max_len_is_read():
    model = small_model(max_len=7)
    logits = model(random_tokens(SRC_VOCAB, 2, 7), random_tokens(TGT_VOCAB, 2, 7))
    assert logits.isfinite().all()


def test_a_copied_model_computes_the_same_and_lives_alone():
    model = small_model()
    src, tgt_in = small_batch()
    twin = copy.deepcopy(model)
    logits = model(src, tgt_in)
    assert torch.equal(twin(src, tgt_in), logits)
    with torch.no_grad():
        twin.output_projection.bias += 1
    assert torch.equal(model(src, tgt_in), logits)


def test_logits_have_a_row_for_every_target_token_and_a_column_for_every_word():
    src, tgt_in = small_batch()
    model = small_model()
    logits, memory = model(src, tgt_in), model.encode(src)
    assert logits.shape == (BATCH, TGT_LEN, TGT_VOCAB)
    assert memory.shape == (BATCH, SRC_LEN, 14)
    # Each column is one row of the output projection.
    with torch.no_grad():
        model.output_projection.bias[4] += 1
    difference = (model(src, tgt_in) - logits).mean(dim=(0, 1))
    torch.testing.assert_close(difference, torch.eye(TGT_VOCAB, dtype=torch.float64)[4])


def fresh_batch(batch, src_len, tgt_len):
    return (
        random_tokens(SRC_VOCAB, batch, src_len),
        random_tokens(TGT_VOCAB, batch, tgt_len),
    )


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_model_computes_the_same_logits(strict):
    model, (src, tgt_in) = small_model(), small_batch()
    exported = torch.export.export(model, (src, tgt_in), strict=strict)
    assert_close = torch.testing.assert_close
    assert_close(exported.module()(src, tgt_in), model(src, tgt_in))
    other = fresh_batch(BATCH, SRC_LEN, TGT_LEN)
    assert_close(exported.module()(*other), model(*other))
    # A look at the ids would stand in the graph and stop every other system.
    targets = {str(node.target) for node in exported.graph.nodes}
    assert not {name for name in targets if "item" in name or "min" in name}


def test_a_model_exported_for_any_shape_computes_the_same_logits_for_other_shapes():
    model = small_model()
    batch = torch.export.Dim("batch")
    lengths = (torch.export.Dim(name, max=model.max_len) for name in ("src", "tgt"))
    exported = torch.export.export(
        model,
        small_batch(),
        dynamic_shapes=tuple({0: batch, 1: length} for length in lengths),
    ).module()
    for sizes in ((2, 3, 5), (5, model.max_len, 2), (7, 2, model.max_len)):
        inputs = fresh_batch(*sizes)
        torch.testing.assert_close(exported(*inputs), model(*inputs))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_is_one_graph_and_computes_the_same_logits(backend):
    torch.compiler.reset()
    model = small_model(num_encoder_layers=1, num_decoder_layers=1)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for inputs in (small_batch(), fresh_batch(2, 3, 11)):
        torch.testing.assert_close(compiled(*inputs), model(*inputs))


def test_a_model_without_values_computes_shapes():
    model = small_model().to("meta")
    src, tgt_in = small_batch()
    logits = model(src.to("meta"), tgt_in.to("meta"))
    assert logits.shape == (BATCH, TGT_LEN, TGT_VOCAB)


def test_ids_that_can_be_seen_are_still_looked_at_after_a_graph_was_traced():
    model, (src, tgt_in) = small_model(), small_batch()
    torch.export.export(model, (src, tgt_in))
    src[1, 2] = SRC_VOCAB
    with pytest.raises(ValueError, match=f"src contains token id {SRC_VOCAB}"):
        model(src, tgt_in)


def test_numpys_integers_are_sizes_and_stand_in_the_configuration_as_plain_ints():
    sizes = dict(
        src_vocab_size=11,
        tgt_vocab_size=13,
        d_model=14,
        num_heads=2,
        num_encoder_layers=2,
        num_decoder_layers=3,
        d_ff=19,
        max_len=23,
        pad_token_id=3,
    )
    model = Transformer(**{name: np.int64(size) for name, size in sizes.items()})
    plain = Transformer(**sizes)
    assert model.config == plain.config
    assert {type(getattr(model.config, name)) for name in sizes} == {int}
    assert json.loads(json.dumps(asdict(model.config))) == asdict(plain.config)
    for owner in (model, model.encoder, model.decoder.layers[0].cross_attention):
        assert type(owner.d_model) is int
    plain.load_state_dict(model.state_dict())
    inputs = small_batch()
    assert torch.equal(model.eval()(*inputs), plain.eval()(*inputs))
