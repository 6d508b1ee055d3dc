import itertools
import math
import re

import pytest
import torch
from helpers import (
    BATCH,
    SRC_LEN,
    SRC_VOCAB,
    TGT_LEN,
    TGT_VOCAB,
    TOLERANCE,
    assert_leaves_random_numbers_alone,
    assert_same_weights,
    random_tokens,
    small_model,
    snapshot,
)
from torch import nn

from transformer import PAD, FeedForward, load_checkpoint, save_checkpoint
from transformer.position_encoding import sinusoids
from transformer.torch_conversion import (
    TorchTransformer,
    from_torch,
    to_torch,
    torch_names,
)
from transformer.training import next_token_loss

NORMS = pytest.mark.parametrize("norm_first", [False, True])
FINAL_NORMS = pytest.mark.parametrize("final_norm", [False, True])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])

CONFIGS = [
    {},
    {"norm_first": True},
    {"final_norm": True},
    {"norm_first": True, "final_norm": False},
    {"pad_token_id": 6},
    {"dropout": 0.0},
    {
        "d_model": 15,
        "num_heads": 5,
        "num_encoder_layers": 3,
        "num_decoder_layers": 1,
        "d_ff": 7,
        "max_len": 17,
        "dropout": 0.35,
        "norm_first": True,
        "pad_token_id": 9,
    },
]


def shake(model):
    """Make every bias and layer norm different from its neighbours."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_model(dtype=torch.float64, **changes):
    return shake(small_model(**changes).to(dtype))


def random_batch(padded_src=True, padded_tgt=True, pad=PAD):
    """Source, target input and target output."""
    src = random_tokens(SRC_VOCAB, BATCH, SRC_LEN, lowest=7)
    tgt = random_tokens(TGT_VOCAB, BATCH, TGT_LEN + 1, lowest=7)
    tgt_in, tgt_out = tgt[:, :-1].clone(), tgt[:, 1:].clone()
    if padded_src:
        src[1, 4:] = src[2, 6:] = pad
    if padded_tgt:
        tgt_in[0, 3:] = tgt_out[0, 3:] = pad
    return src, tgt_in, tgt_out


def torch_stacks(**changes):
    sizes = {
        "d_model": 14,
        "nhead": 2,
        "num_encoder_layers": 2,
        "num_decoder_layers": 3,
        "dim_feedforward": 19,
        "batch_first": True,
    }
    return nn.Transformer(**(sizes | changes))


def torch_model(stacks=None, **changes):
    """What a user of `nn.Transformer` brings: float32, in training mode."""
    parts = {
        "stacks": torch_stacks() if stacks is None else stacks,
        "src_embedding": nn.Embedding(SRC_VOCAB, 14),
        "tgt_embedding": nn.Embedding(TGT_VOCAB, 14),
        "output_projection": nn.Linear(14, TGT_VOCAB),
        "max_len": 23,
    }
    return TorchTransformer(**(parts | changes))


def assert_close(ours, theirs, dtype):
    torch.testing.assert_close(
        ours, theirs, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
    )


def storages(model):
    tensors = (*model.parameters(), *model.buffers())
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def batches():
    """Source and target, each with PAD and without."""
    return itertools.starmap(random_batch, itertools.product([True, False], repeat=2))


@NORMS
@FINAL_NORMS
@DTYPES
def test_logits_loss_and_every_gradient_agree_with_torch(norm_first, final_norm, dtype):
    ours = random_model(
        dtype, norm_first=norm_first, final_norm=final_norm, dropout=0.0
    ).train()
    theirs = to_torch(ours)
    names = torch_names(ours)
    assert names.keys() == dict(theirs.named_parameters()).keys()
    for src, tgt_in, tgt_out in batches():
        ours.zero_grad()
        theirs.zero_grad()
        logits, expected = ours(src, tgt_in), theirs(src, tgt_in)
        assert_close(logits, expected, dtype)
        loss, expected_loss = (next_token_loss(x, tgt_out) for x in (logits, expected))
        assert_close(loss, expected_loss, dtype)
        loss.backward()
        expected_loss.backward()
        gradients = {name: weight.grad for name, weight in ours.named_parameters()}
        for name, weight in theirs.named_parameters():
            stacked = torch.cat([gradients.pop(own) for own in names[name]])
            assert_close(stacked, weight.grad, dtype)
        assert not gradients


@NORMS
@FINAL_NORMS
@DTYPES
def test_logits_in_evaluation_agree_with_torch_whichever_path_it_takes(
    norm_first, final_norm, dtype
):
    ours = random_model(dtype, norm_first=norm_first, final_norm=final_norm)
    theirs = to_torch(ours)
    for src, tgt_in, _ in batches():
        # Without gradients, torch computes a whole encoder layer in one fused kernel.
        for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
            with mode():
                assert_close(ours(src, tgt_in), theirs(src, tgt_in), dtype)


@pytest.mark.parametrize("changes", CONFIGS)
def test_every_configuration_agrees_with_torch(changes):
    ours = random_model(**changes)
    src, tgt_in, _ = random_batch(pad=ours.pad_token_id)
    assert_close(ours(src, tgt_in), to_torch(ours)(src, tgt_in), torch.float64)


@NORMS
def test_around_the_stacks_are_the_papers_embedding_and_torchs_masks(norm_first):
    model = to_torch(random_model(norm_first=norm_first))
    src, tgt_in, _ = random_batch()
    table = sinusoids(23, 14, dtype=torch.float64)

    def vectors(tokens, embedding):
        return embedding.weight[tokens] * math.sqrt(14) + table[: tokens.size(1)]

    x = model.stacks(
        vectors(src, model.src_embedding),
        vectors(tgt_in, model.tgt_embedding),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(TGT_LEN).isinf(),
        src_key_padding_mask=src == PAD,
        tgt_key_padding_mask=tgt_in == PAD,
        memory_key_padding_mask=src == PAD,
    )
    assert_close(model(src, tgt_in), model.output_projection(x), torch.float64)


def test_torch_names_stack_the_projections_of_an_attention_and_rename_the_rest():
    model = small_model()
    names = torch_names(model)
    place = "decoder.layers.2.cross_attention"
    assert names["stacks.decoder.layers.2.multihead_attn.in_proj_bias"] == [
        f"{place}.query_projection.bias",
        f"{place}.key_projection.bias",
        f"{place}.value_projection.bias",
    ]
    assert names["stacks.encoder.layers.1.norm2.weight"] == [
        "encoder.layers.1.feed_forward_add_norm.norm.weight"
    ]
    assert names["stacks.decoder.layers.1.norm3.weight"] == [
        "decoder.layers.1.feed_forward_add_norm.norm.weight"
    ]
    assert names["output_projection.bias"] == ["output_projection.bias"]
    assert sorted(itertools.chain(*names.values())) == sorted(model.state_dict())


def test_dropout_acts_in_both_models_at_the_same_rate():
    ours = random_model(dropout=0.35).train()
    theirs = to_torch(ours)
    src, tgt_in, _ = random_batch()
    assert not torch.allclose(theirs(src, tgt_in), theirs(src, tgt_in))
    rates = {module.p for module in theirs.modules() if isinstance(module, nn.Dropout)}
    assert rates == {0.35}
    assert theirs.position_encoding.dropout.p == 0.35


@pytest.mark.parametrize("changes", CONFIGS)
def test_there_and_back_gives_the_same_configuration_and_weights(changes):
    model = random_model(**changes)
    there = to_torch(model)
    back = from_torch(there)
    assert (there.max_len, there.pad_token_id) == (model.max_len, model.pad_token_id)
    assert back.config == model.config
    assert_same_weights(back, snapshot(model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_converted_model_has_the_type_of_numbers_of_the_original(dtype):
    model = random_model(dtype)
    there = to_torch(model)
    back = from_torch(there)
    assert_same_weights(back, snapshot(model))
    for copy in (there, back):
        tensors = (*copy.parameters(), *copy.buffers())
        assert {tensor.dtype for tensor in tensors} == {dtype}


@pytest.mark.parametrize("training", [False, True])
def test_a_converted_model_is_in_the_mode_of_the_original(training):
    there = to_torch(random_model().train(training))
    for copy in (there, from_torch(there)):
        assert all(module.training is training for module in copy.modules())


@pytest.mark.parametrize("convert", [to_torch, from_torch])
def test_a_converted_model_shares_nothing_with_the_original(convert):
    model = random_model()
    model = to_torch(model) if convert is from_torch else model
    before = snapshot(model)
    copy = convert(model)
    assert not storages(copy) & storages(model)
    with torch.no_grad():
        for tensor in (*copy.parameters(), *copy.buffers()):
            tensor.add_(1)
    assert_same_weights(model, before)


@pytest.mark.parametrize("convert", [to_torch, from_torch])
def test_a_hook_on_the_original_is_not_called_by_the_copy(convert):
    model = random_model()
    model = to_torch(model) if convert is from_torch else model
    calls = []
    for module in model.modules():
        module.register_forward_pre_hook(lambda *_arguments: calls.append(1))
    copy = convert(model)
    copy(*random_batch()[:2])
    assert not calls


def test_frozen_weights_can_be_trained_in_the_copy():
    model = random_model()
    model.requires_grad_(False)
    there = to_torch(model)
    assert all(parameter.requires_grad for parameter in there.parameters())
    there.requires_grad_(False)
    assert all(parameter.requires_grad for parameter in from_torch(there).parameters())


def test_weights_that_two_parts_share_become_two_copies():
    model = random_model()
    model.output_projection.weight = model.tgt_embedding.weight
    there = to_torch(model)
    assert there.output_projection.weight is not there.tgt_embedding.weight
    there.output_projection.weight = there.tgt_embedding.weight
    back = from_torch(there)
    assert back.output_projection.weight is not back.tgt_embedding.weight
    src, tgt_in, _ = random_batch()
    for copy in (there, back):
        assert_close(copy(src, tgt_in), model(src, tgt_in), torch.float64)


@pytest.mark.parametrize("convert", [to_torch, from_torch])
def test_neither_conversion_touches_anybodys_random_numbers(convert, monkeypatch):
    model = random_model()
    model = to_torch(model) if convert is from_torch else model
    assert_leaves_random_numbers_alone(lambda: convert(model), monkeypatch)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layers.1.self_attention.key_projection",
        "decoder.layers.0.feed_forward.contract",
        "decoder.layers.2.cross_attention_add_norm.norm",
        "output_projection",
    ],
)
def test_a_missing_bias_is_named_before_anything_is_converted(name):
    model = random_model()
    model.get_submodule(name).bias = None
    with pytest.raises(
        ValueError,
        match=rf"do not fit its configuration: {re.escape(name)}\.bias is missing$",
    ):
        to_torch(model)


@NORMS
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_torchs_model_as_it_is_built_by_default_gives_the_same_logits(norm_first, mode):
    theirs = shake(torch_model(torch_stacks(norm_first=norm_first))).eval()
    ours = from_torch(theirs)
    assert ours.config.norm_first is norm_first
    assert ours.config.final_norm is True
    src, tgt_in, _ = random_batch()
    with mode():
        assert_close(ours(src, tgt_in), theirs(src, tgt_in), torch.float32)


def test_relu_may_be_given_as_a_module():
    theirs = shake(torch_model(torch_stacks(activation=nn.ReLU()))).eval()
    src, tgt_in, _ = random_batch()
    assert_close(from_torch(theirs)(src, tgt_in), theirs(src, tgt_in), torch.float32)


def test_embeddings_that_know_their_padding_are_read_like_others():
    theirs = torch_model(
        src_embedding=nn.Embedding(SRC_VOCAB, 14, padding_idx=4),
        tgt_embedding=nn.Embedding(TGT_VOCAB, 14, padding_idx=4),
        pad_token_id=4,
    ).eval()
    src, tgt_in, _ = random_batch(pad=4)
    ours = from_torch(theirs)
    assert ours.pad_token_id == 4
    assert_close(ours(src, tgt_in), theirs(src, tgt_in), torch.float32)


def test_the_rate_of_dropout_is_that_of_the_sublayers_outputs():
    # A user of nn.Transformer who wants the paper's dropout switches off all other kinds.
    theirs = torch_stacks(dropout=0.2)
    for layer in (*theirs.encoder.layers, *theirs.decoder.layers):
        layer.dropout.p = 0.0
        for attention in (layer.self_attn, getattr(layer, "multihead_attn", None)):
            if attention is not None:
                attention.dropout = 0.0
    model = torch_model(theirs)
    assert model.position_encoding.dropout.p == 0.2
    assert from_torch(model).config.dropout == 0.2


def test_a_checkpoint_of_a_converted_model_loads_again(tmp_path):
    ours = from_torch(shake(torch_model(pad_token_id=6)).double().eval())
    save_checkpoint(ours, tmp_path / "converted.safetensors")
    loaded = load_checkpoint(tmp_path / "converted.safetensors")
    assert loaded.config == ours.config
    assert_same_weights(loaded, snapshot(ours))
    src, tgt_in, _ = random_batch(pad=6)
    assert torch.equal(loaded(src, tgt_in), ours(src, tgt_in))


@pytest.mark.parametrize("argument", ["src", "tgt_in"])
def test_token_ids_outside_the_vocabulary_are_refused(argument):
    src, tgt_in, _ = random_batch()
    tokens = {"src": src, "tgt_in": tgt_in}
    tokens[argument][1, 2] = TGT_VOCAB
    with pytest.raises(
        ValueError, match=f"^{argument} contains token id {TGT_VOCAB}, "
    ):
        torch_model()(**tokens)


def test_sources_and_targets_of_unequal_number_are_refused():
    src, tgt_in, _ = random_batch()
    with pytest.raises(ValueError, match=r"same batch size, got 3 and 2$"):
        torch_model()(src, tgt_in[:2])


def changed(change, **stacks):
    """A torch model whose parts `change` has altered."""
    model = torch_model(torch_stacks(**stacks))
    change(model.stacks)
    return model


def set_at(place, value):
    """Put `value` at `place`, as in `stacks.encoder.layers[0].norm1 = value`."""

    def change(stacks):
        *path, last = place.split(".")
        part = stacks.get_submodule(".".join(path))
        setattr(part, last, value)

    return change


def encoder(**changes):
    sizes = {"d_model": 14, "nhead": 2, "dim_feedforward": 19, "batch_first": True}
    layer = nn.TransformerEncoderLayer(**(sizes | changes))
    return nn.TransformerEncoder(layer, 2, nn.LayerNorm(14), enable_nested_tensor=False)


class DoubledLayer(nn.TransformerEncoderLayer):
    def forward(self, *arguments, **options):
        return 2 * super().forward(*arguments, **options)


class QuietEmbedding(nn.Embedding):
    def forward(self, tokens):
        return super().forward(tokens) / 2


FOREIGN = {
    "stacks of the wrong kind": (
        lambda: torch_model(nn.Sequential()),
        "^stacks must be a torch.nn.*.Transformer, got torch.nn.*.Sequential$",
    ),
    "this package's model as stacks": (
        lambda: torch_model(small_model()),
        "^stacks must be a torch.nn.*.Transformer, got transformer.*.Transformer$",
    ),
    "a custom encoder": (
        lambda: torch_model(torch_stacks(custom_encoder=nn.Linear(14, 14))),
        "^stacks.encoder must be a .*.TransformerEncoder, got .*.Linear$",
    ),
    "a custom decoder": (
        lambda: torch_model(torch_stacks(custom_decoder=encoder())),
        "^stacks.decoder must be a .*.TransformerDecoder, got .*.TransformerEncoder$",
    ),
    "a subclass of a layer": (
        lambda: from_torch(
            changed(set_at("encoder.layers.0", DoubledLayer(14, 2, 19)))
        ),
        r"^stacks.encoder.layers.0 must be a .*\.TransformerEncoderLayer, got .*\.Doubled",
    ),
    "a decoder layer in the encoder": (
        lambda: from_torch(
            changed(set_at("encoder.layers.1", nn.TransformerDecoderLayer(14, 2, 19)))
        ),
        "^stacks.encoder.layers.1 must be a .*, got .*.TransformerDecoderLayer$",
    ),
    "another norm in a layer": (
        lambda: from_torch(changed(set_at("decoder.layers.2.norm3", nn.RMSNorm(14)))),
        "^stacks.decoder.layers.2.norm3 must be a .*.LayerNorm, got .*.RMSNorm$",
    ),
    "another final norm": (
        lambda: from_torch(changed(set_at("encoder.norm", nn.RMSNorm(14)))),
        "^stacks.encoder.norm must be a .*.LayerNorm, got .*.RMSNorm$",
    ),
    "a final norm that does nothing": (
        lambda: from_torch(changed(set_at("decoder.norm", nn.Identity()))),
        "^stacks.decoder.norm must be a .*.LayerNorm, got .*.Identity$",
    ),
    "no source embedding": (
        lambda: torch_model(src_embedding=None),
        "^src_embedding must be a .*.Embedding, got builtins.NoneType$",
    ),
    "a subclass of an embedding": (
        lambda: torch_model(tgt_embedding=QuietEmbedding(TGT_VOCAB, 14)),
        "^tgt_embedding must be a .*.Embedding, got .*.QuietEmbedding$",
    ),
    "an output projection of two parts": (
        lambda: torch_model(output_projection=nn.Sequential(nn.Linear(14, TGT_VOCAB))),
        "^output_projection must be a .*.Linear, got .*.Sequential$",
    ),
    "pad_token_id as text": (
        lambda: torch_model(pad_token_id="0"),
        r"^pad_token_id must be an int, got '0' \(str\)$",
    ),
    "bare stacks": (
        lambda: from_torch(torch_stacks()),
        "^model must be a .*.TorchTransformer, got torch.nn.*.Transformer$",
    ),
    "from torch what is not from torch": (
        lambda: from_torch(small_model()),
        "^model must be a .*.TorchTransformer, got transformer.*.Transformer$",
    ),
    "to torch what is torch's already": (
        lambda: to_torch(torch_model()),
        "^model must be a transformer.*.Transformer, got .*.TorchTransformer$",
    ),
}


@pytest.mark.parametrize(("call", "message"), FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_parts_are_refused_by_name(call, message):
    with pytest.raises(TypeError, match=message):
        call()


REFUSED = {
    "batch second": (
        lambda: torch_model(torch_stacks(batch_first=False)),
        r"^stacks must be built with batch_first=True \(the weights are the same\)$",
    ),
    "batch second in a custom encoder alone": (
        lambda: torch_model(torch_stacks(custom_encoder=encoder(batch_first=False))),
        r"^stacks must be built with batch_first=True \(the weights are the same\)$",
    ),
    "a source embedding too narrow": (
        lambda: torch_model(src_embedding=nn.Embedding(SRC_VOCAB, 13)),
        "^src_embedding has width 13, the stacks have d_model 14$",
    ),
    "a target embedding too wide": (
        lambda: torch_model(tgt_embedding=nn.Embedding(TGT_VOCAB, 15)),
        "^tgt_embedding has width 15, the stacks have d_model 14$",
    ),
    "an output projection too wide": (
        lambda: torch_model(output_projection=nn.Linear(16, TGT_VOCAB)),
        "^output_projection has width 16, the stacks have d_model 14$",
    ),
    "more logits than tokens": (
        lambda: torch_model(output_projection=nn.Linear(14, 17)),
        "^output_projection gives 17 logits, tgt_embedding holds 13 tokens$",
    ),
    "no encoder layer": (
        lambda: torch_model(torch_stacks(num_encoder_layers=0)),
        "^stacks.encoder must have at least 1 layer, got 0$",
    ),
    "no decoder layer": (
        lambda: torch_model(torch_stacks(num_decoder_layers=0)),
        "^stacks.decoder must have at least 1 layer, got 0$",
    ),
    "PAD outside the smaller vocabulary": (
        lambda: torch_model(pad_token_id=12),
        r"^pad_token_id \(12\) is outside the vocabulary: ids run from 0 to 10$",
    ),
    "an embedding of another PAD": (
        lambda: torch_model(tgt_embedding=nn.Embedding(TGT_VOCAB, 14, padding_idx=4)),
        "^tgt_embedding has padding_idx 4, pad_token_id is 0$",
    ),
    "an embedding with a largest norm": (
        lambda: from_torch(
            torch_model(src_embedding=nn.Embedding(SRC_VOCAB, 14, max_norm=0.7))
        ),
        r"^src_embedding must have no max_norm .*, got Embedding\(11, 14, max_norm=0\.7\)$",
    ),
    "an embedding with scaled gradients": (
        lambda: from_torch(
            torch_model(
                tgt_embedding=nn.Embedding(TGT_VOCAB, 14, scale_grad_by_freq=True)
            )
        ),
        r"^tgt_embedding must have .* no scale_grad_by_freq, got Embedding\(13, 14, scale",
    ),
    "no length": (
        lambda: torch_model(max_len=0),
        "^max_len must be at least 1, got 0$",
    ),
    "gelu": (
        lambda: from_torch(torch_model(torch_stacks(activation="gelu"))),
        "^the layers must use ReLU, as in the paper, got <built-in function gelu>$",
    ),
    "gelu as a module": (
        lambda: from_torch(torch_model(torch_stacks(activation=nn.GELU()))),
        r"^the layers must use ReLU, as in the paper, got GELU\(approximate='none'\)$",
    ),
    "no biases": (
        lambda: from_torch(torch_model(torch_stacks(bias=False))),
        "^the layers must have biases, got bias=False$",
    ),
    "an output projection without bias": (
        lambda: from_torch(
            torch_model(output_projection=nn.Linear(14, TGT_VOCAB, bias=False))
        ),
        '(?s)^these weights do not fit .*Missing.*"output_projection.bias"',
    ),
    "an attention without biases": (
        lambda: from_torch(
            changed(
                set_at(
                    "decoder.layers.2.multihead_attn",
                    nn.MultiheadAttention(14, 2, bias=False, batch_first=True),
                )
            )
        ),
        "(?s)^these weights do not fit .*Missing.*2.cross_attention.query_projection.bias",
    ),
    "an attention with keys of its own": (
        lambda: from_torch(
            changed(
                set_at(
                    "decoder.layers.2.multihead_attn",
                    nn.MultiheadAttention(14, 2, add_bias_kv=True, batch_first=True),
                )
            )
        ),
        "(?s)^these weights do not fit .*Unexpected.*layers.2.multihead_attn.bias_k",
    ),
    "an attention to a zero that is not there": (
        lambda: from_torch(
            changed(set_at("encoder.layers.1.self_attn.add_zero_attn", True))
        ),
        "^the layers must attend without add_zero_attn$",
    ),
    "layers of another width than the stacks": (
        lambda: from_torch(
            torch_model(torch_stacks(custom_encoder=encoder(d_model=16)))
        ),
        r"(?s)^these weights do not fit .*\[16, 16\].*\[14, 14\]",
    ),
    "another eps": (
        lambda: from_torch(torch_model(torch_stacks(layer_norm_eps=1e-6))),
        "^layer_norm_eps must be 1e-05, got 1e-06$",
    ),
    "another eps in one norm": (
        lambda: from_torch(changed(set_at("decoder.norm.eps", 1e-3))),
        r"^layer_norm_eps must be 1e-05, got 0\.001$",
    ),
    "a final norm of the decoder alone": (
        lambda: from_torch(changed(set_at("encoder.norm", None))),
        "^either both stacks must end in a layer norm or neither$",
    ),
    "a final norm of the encoder alone": (
        lambda: from_torch(changed(set_at("decoder.norm", None))),
        "^either both stacks must end in a layer norm or neither$",
    ),
    "a layer of other heads": (
        lambda: from_torch(torch_model(torch_stacks(custom_encoder=encoder(nhead=7)))),
        "^all layers must have the same heads, .*num_heads=2, .* and .*num_heads=7, ",
    ),
    "other heads across than within": (
        lambda: from_torch(
            changed(
                set_at(
                    "decoder.layers.1.multihead_attn",
                    nn.MultiheadAttention(14, 7, batch_first=True),
                )
            )
        ),
        "^all layers must have the same heads, .*num_heads=2, .* and .*num_heads=7, ",
    ),
    "a layer of another inner width": (
        lambda: from_torch(
            torch_model(torch_stacks(custom_encoder=encoder(dim_feedforward=17)))
        ),
        "^all layers must have the same .* width, .*d_ff=17, .* and .*d_ff=19, ",
    ),
    "a layer of another dropout": (
        lambda: from_torch(
            torch_model(torch_stacks(custom_encoder=encoder(dropout=0.3)))
        ),
        r"^all layers must have the same .*dropout=0\.1, .* and .*dropout=0\.3, ",
    ),
    "a sub-layer of another dropout": (
        lambda: from_torch(changed(set_at("decoder.layers.0.dropout3.p", 0.7))),
        r"^all layers must have the same .*dropout=0\.1, .* and .*dropout=0\.7, ",
    ),
    "a layer of another norm": (
        lambda: from_torch(
            torch_model(torch_stacks(custom_encoder=encoder(norm_first=True)))
        ),
        "^all layers must have the same .*norm_first=False.* and .*norm_first=True",
    ),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_model_has_no_option_for_is_refused_with_the_numbers(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class SmoothFeedForward(FeedForward):
    def forward(self, x):
        return self.contract(nn.functional.gelu(self.expand(x)))


def test_a_model_whose_parts_were_exchanged_is_not_converted():
    model = small_model()
    model.decoder.layers[1].feed_forward = SmoothFeedForward(14, 19).double()
    with pytest.raises(
        TypeError, match=r"^model.decoder.layers.1.feed_forward must be"
    ):
        to_torch(model)


def test_a_model_that_lost_a_layer_is_not_converted():
    model = small_model()
    model.decoder.layers.pop(1)
    with pytest.raises(TypeError, match=r"^model.decoder.layers.2 must be .*NoneType$"):
        to_torch(model)


def test_a_model_of_another_eps_is_not_converted():
    model = small_model()
    model.encoder.layers[1].feed_forward_add_norm.norm.eps = 1e-3
    with pytest.raises(ValueError, match=r"^layer_norm_eps must be 1e-05, got 0\.001$"):
        to_torch(model)


def test_a_model_whose_dropout_was_changed_is_not_converted():
    model = small_model()
    model.decoder.layers[2].cross_attention_add_norm.dropout.p = 0.7
    message = r"cross_attention_add_norm.dropout drops 0\.7, .* says 0\.1$"
    with pytest.raises(ValueError, match=message):
        to_torch(model)
