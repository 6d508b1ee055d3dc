import json
import math
import os
import pickle
import struct
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from helpers import (
    assert_leaves_random_numbers_alone,
    assert_same_weights,
    small_batch,
    small_model,
    snapshot,
)
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from transformer import (
    END,
    START,
    EncoderLayer,
    FeedForward,
    Transformer,
    count_parameters,
    load_checkpoint,
    save_checkpoint,
)
from transformer.checkpoint import _TENSORS_PER_LAYER, CONFIG_KEY, SHARED_KEY
from transformer.packed import PackedTransformer

CONFIGS = [
    {},
    {"norm_first": True},
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


def write_file(path, weights, metadata):
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, path, metadata
    )


def write_config(path, config):
    """A file with a small model's weights and the JSON text `config`."""
    write_file(path, small_model().state_dict(), {CONFIG_KEY: config})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("changes", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_model_of_any_configuration_is_rebuilt_from_the_file_alone(
    path, changes, dtype
):
    model = small_model(**changes).to(dtype)
    save_checkpoint(model, path)
    loaded = load_checkpoint(path)
    assert loaded.config == model.config
    assert_same_weights(loaded, snapshot(model))
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    src, tgt_in = small_batch()
    assert torch.equal(loaded(src, tgt_in), model(src, tgt_in))


@pytest.mark.parametrize("name", list(asdict(small_model().config)))
def test_every_field_of_the_configuration_is_in_the_file(path, name):
    model = small_model(**CONFIGS[-1])
    save_checkpoint(model, path)
    with safe_open(path, framework="pt") as file:
        config = json.loads(file.metadata()[CONFIG_KEY])
    assert config[name] == getattr(model.config, name)
    assert len(config) == len(asdict(model.config))


def test_a_loaded_model_is_in_evaluation_mode_and_its_dropout_is_the_old_one(path):
    save_checkpoint(small_model(dropout=0.35).train(), path)
    loaded = load_checkpoint(path)
    assert not any(module.training for module in loaded.modules())
    assert loaded.train().position_encoding.dropout.p == 0.35


def test_a_loaded_model_can_be_trained(path):
    save_checkpoint(small_model(), path)
    loaded = load_checkpoint(path)
    src, tgt_in = small_batch()
    loaded(src, tgt_in).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in loaded.parameters())


def test_saving_changes_neither_the_model_nor_its_mode(path):
    model = small_model().train()
    before = snapshot(model)
    save_checkpoint(model, path)
    assert_same_weights(model, before)
    assert model.training


def test_a_loaded_model_can_be_saved_over_its_own_file(path):
    save_checkpoint(small_model(), path)
    loaded = load_checkpoint(path)
    with torch.no_grad():
        loaded.output_projection.bias += 1
    weights = snapshot(loaded)
    save_checkpoint(loaded, path)
    assert_same_weights(loaded, weights)
    assert_same_weights(load_checkpoint(path), weights)


def test_a_path_may_be_a_string(path):
    model = small_model()
    save_checkpoint(model, str(path))
    assert_same_weights(load_checkpoint(str(path)), snapshot(model))


def test_the_device_asked_for_is_the_models_device(path):
    save_checkpoint(small_model(), path)
    assert load_checkpoint(path, "meta").output_projection.weight.device.type == "meta"


def test_a_link_goes_on_pointing_at_the_checkpoint(path):
    link = path.with_name("latest.safetensors")
    link.symlink_to(path)
    save_checkpoint(small_model(), link)
    assert link.is_symlink()
    assert_same_weights(load_checkpoint(path), load_checkpoint(link).state_dict())


def test_others_may_read_a_checkpoint_as_they_may_read_any_new_file(path):
    plain = path.with_name("plain.txt")
    plain.write_text("")
    save_checkpoint(small_model(), path)
    assert path.stat().st_mode == plain.stat().st_mode


def test_tied_weights_stay_tied(path):
    model = small_model()
    model.output_projection.weight = model.tgt_embedding.weight
    model.decoder.layers[0].feed_forward = model.encoder.layers[0].feed_forward
    save_checkpoint(model, path)
    loaded = load_checkpoint(path)
    assert_same_weights(loaded, snapshot(model))
    assert loaded.output_projection.weight is loaded.tgt_embedding.weight
    assert count_parameters(loaded) == count_parameters(model)
    assert count_parameters(loaded) < count_parameters(small_model())


def test_tied_weights_may_be_no_numbers(path):
    model = small_model()
    model.output_projection.weight = model.tgt_embedding.weight
    with torch.no_grad():
        model.tgt_embedding.weight[1, 1] = math.nan
    save_checkpoint(model, path)
    assert load_checkpoint(path).tgt_embedding.weight[1, 1].isnan()


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        ("null", "not iterable"),
        ("[3]", "unpack"),
        ("[[]]", "not enough values"),
        ('[["tgt_embedding.weight", ["tgt_embedding.weight"]]]', "unhashable"),
        ('[["tgt_embedding.weight", "colour"]]', "'colour' are not both among"),
        (
            '[["tgt_embedding.weight", "output_projection.weight"]]',
            "tgt_embedding.weight and output_projection.weight should be equal",
        ),
        (
            '[["tgt_embedding.weight", "output_projection.bias"]]',
            "tgt_embedding.weight and output_projection.bias should be equal",
        ),
    ],
)
def test_a_bad_list_of_tied_weights_is_refused(path, shared, message):
    model = small_model()
    metadata = {CONFIG_KEY: json.dumps(asdict(model.config)), SHARED_KEY: shared}
    write_file(path, model.state_dict(), metadata)
    with pytest.raises(ValueError, match=f"holds no usable configuration: .*{message}"):
        load_checkpoint(path)


def test_loading_leaves_everybodys_random_numbers_alone(path, monkeypatch):
    save_checkpoint(small_model(), path)
    assert_leaves_random_numbers_alone(lambda: load_checkpoint(path), monkeypatch)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: torch.compile(model, backend="eager"),
        PackedTransformer,
        lambda model: torch.compile(PackedTransformer(model), backend="eager"),
    ],
    ids=["compiled", "packed", "packed and compiled"],
)
def test_of_a_compiled_or_packed_model_the_model_inside_is_saved(path, wrap):
    model = small_model()
    save_checkpoint(wrap(model), path)
    loaded = load_checkpoint(path)
    assert loaded.config == model.config
    assert_same_weights(loaded, snapshot(model))


def test_a_model_that_is_compiled_in_place_is_saved_like_any_other(path):
    model = small_model()
    model.compile(backend="eager")
    save_checkpoint(model, path)
    assert_same_weights(load_checkpoint(path), snapshot(model))


class Subclass(Transformer):
    pass


class OtherFeedForward(FeedForward):
    """The same weights, another function."""

    def forward(self, x):
        return self.contract(nn.functional.gelu(self.expand(x)))


def exchange_feed_forward(model):
    model.encoder.layers[1].feed_forward = OtherFeedForward(14, 19).double()


def drop_bias(model):
    projection = nn.Linear(14, 14, bias=False, dtype=torch.float64)
    model.decoder.layers[2].cross_attention.query_projection = projection


def hold_integers(model):
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        parameter.data = parameter.data.long()


def compile_a_part(model):
    model.encoder = torch.compile(model.encoder, backend="eager")


# What was done to the model, the type of the error, and what it says.
UNSAVEABLE = {
    "pruned": (
        lambda m: prune.l1_unstructured(m.output_projection, "weight", 0.3),
        ValueError,
        r"output_projection\.weight is missing; output_projection\.weight_mask is unknown",
    ),
    "parametrized": (
        lambda m: parametrizations.weight_norm(m.encoder.layers[0].feed_forward.expand),
        TypeError,
        r"^model\.encoder\.layers\.0\.feed_forward\.expand must be .*Linear, got ",
    ),
    "a part of another class": (
        exchange_feed_forward,
        TypeError,
        r"^model\.encoder\.layers\.1\.feed_forward must be .* got .*OtherFeedForward$",
    ),
    "a compiled part": (
        compile_a_part,
        TypeError,
        r"^model\.encoder must be .* got .*OptimizedModule$",
    ),
    "a subclass": (
        lambda m: setattr(m, "__class__", Subclass),
        TypeError,
        r"^model must be a transformer\.transformer\.Transformer, got .*Subclass$",
    ),
    "a part without bias": (
        drop_bias,
        ValueError,
        r"decoder\.layers\.2\.cross_attention\.query_projection\.bias is missing$",
    ),
    "a larger vocabulary": (
        lambda m: setattr(m, "src_embedding", nn.Embedding(17, 14).double()),
        ValueError,
        r"src_embedding\.weight has shape \[17, 14\], not \[11, 14\]$",
    ),
    "two types": (
        lambda m: m.decoder.half(),
        ValueError,
        r"torch\.float16 and torch\.float64, not of one float type$",
    ),
    "integers": (hold_integers, ValueError, r"torch\.int64, not of one float type$"),
    "no numbers": (
        lambda m: m.to("meta"),
        ValueError,
        r"holds no plain numbers \(meta, torch\.strided\)",
    ),
}


@pytest.mark.parametrize(
    ("change", "error", "message"), UNSAVEABLE.values(), ids=UNSAVEABLE.keys()
)
def test_what_could_not_be_loaded_is_not_saved_and_the_old_file_stays(
    path, change, error, message
):
    save_checkpoint(small_model(), path)
    before = path.read_bytes()
    model = small_model()
    change(model)
    with pytest.raises(error, match=message):
        save_checkpoint(model, path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_weights_of_mixed_types_are_refused(path):
    model = small_model()
    weights = model.state_dict()
    weights["output_projection.bias"] = weights["output_projection.bias"].float()
    write_file(path, weights, {CONFIG_KEY: json.dumps(asdict(model.config))})
    with pytest.raises(
        ValueError, match=r"torch\.float32 and torch\.float64, not of one"
    ):
        load_checkpoint(path)


def test_saving_and_loading_do_not_wait_for_pytorchs_compiler(path):
    code = """
import sys
from transformer import Transformer, load_checkpoint, save_checkpoint
save_checkpoint(Transformer(5, 7, 6, 3, 1, 1, 11, 13), sys.argv[1])
load_checkpoint(sys.argv[1])
sys.exit("torch._dynamo" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(path)]
    root = str(Path(__file__).parents[1])
    assert subprocess.run(command, cwd=root, check=False).returncode == 0


def test_saving_leaves_one_file(path):
    save_checkpoint(small_model(), path)
    save_checkpoint(small_model(), path)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_a_failing_write_leaves_the_old_file_and_nothing_beside_it(
    path, monkeypatch, error
):
    save_checkpoint(small_model(), path)
    before = path.read_bytes()

    def fail_half_way(_descriptor):
        raise error

    monkeypatch.setattr("transformer.checkpoint.os.fsync", fail_half_way)
    with pytest.raises(type(error)):
        save_checkpoint(small_model(), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_failing_move_leaves_the_old_file_and_nothing_beside_it(path, monkeypatch):
    save_checkpoint(small_model(), path)
    before = path.read_bytes()

    def refuse(_source, _target):
        raise PermissionError

    monkeypatch.setattr("transformer.checkpoint.os.replace", refuse)
    with pytest.raises(PermissionError):
        save_checkpoint(small_model(), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_the_file_is_never_seen_half_written(path, monkeypatch):
    save_checkpoint(small_model(), path)
    before = path.read_bytes()
    seen = []

    def watch(_descriptor):
        seen.append(path.read_bytes())

    monkeypatch.setattr("transformer.checkpoint.os.fsync", watch)
    with torch.no_grad():
        model = small_model()
        model.output_projection.bias += 1
    save_checkpoint(model, path)
    assert seen == [before]
    assert path.read_bytes() != before


def test_a_missing_file_is_named(path):
    with pytest.raises(
        FileNotFoundError, match=r"there is no checkpoint at .*model\.safetensors"
    ):
        load_checkpoint(path)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100, 4_000, -1])
def test_a_truncated_file_is_refused(path, size):
    save_checkpoint(small_model(), path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
        ValueError, match=r"model\.safetensors is truncated or not a checkpoint"
    ):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        b"hello, I am a text file\n",
        b"PK\x03\x04",
        b"\x89PNG\r\n\x1a\n" * 20,
        os.urandom(999),
    ],
)
def test_a_foreign_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"model\.safetensors is truncated or not a checkpoint"
    ):
        load_checkpoint(path)


class Trap:
    """Unpickling this calls `os.mkdir` with a path of the attacker's choice."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize(
    "write", [torch.save, lambda value, file: file.write_bytes(pickle.dumps(value))]
)
def test_a_pickle_is_refused_and_never_run(path, tmp_path, write):
    trace = tmp_path / "trace"
    write({"weights": small_model().state_dict(), "trap": Trap(trace)}, path)
    with pytest.raises(
        ValueError, match=r"model\.safetensors is truncated or not a checkpoint"
    ):
        load_checkpoint(path)
    assert not trace.exists()


def test_loading_unpickles_nothing(path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise AssertionError("something was unpickled")

    save_checkpoint(small_model(), path)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    assert load_checkpoint(path).config == small_model().config


def test_safetensors_of_another_program_are_refused(path):
    write_file(path, small_model().state_dict(), {"format": "pt"})
    with pytest.raises(
        ValueError,
        match=r"holds no 'transformer\.config': it was not written by save_checkpoint",
    ):
        load_checkpoint(path)


def test_safetensors_without_any_metadata_are_refused(path):
    write_file(path, small_model().state_dict(), None)
    with pytest.raises(ValueError, match=r"holds no 'transformer\.config'"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("no JSON", "Expecting value"),
        ("[11, 13]", "mapping"),
        ("null", "mapping"),
        ("{}", "missing 2 required positional arguments"),
        (
            '{"src_vocab_size": 11}',
            "missing 1 required positional argument: 'tgt_vocab_size'",
        ),
        (
            '{"src_vocab_size": 11, "tgt_vocab_size": 13, "colour": 1}',
            "argument 'colour'",
        ),
        (
            '{"src_vocab_size": 11, "tgt_vocab_size": 13, "d_model": 14, "num_heads": 3}',
            r"num_heads \(3\) must divide d_model \(14\)",
        ),
        (
            '{"src_vocab_size": 0, "tgt_vocab_size": 13}',
            "src_vocab_size must be at least 1, got 0",
        ),
        (
            '{"src_vocab_size": "11", "tgt_vocab_size": 13}',
            "src_vocab_size must be an int",
        ),
        (
            '{"src_vocab_size": 11, "tgt_vocab_size": 13, "dropout": NaN}',
            "dropout must be finite",
        ),
    ],
)
def test_a_bad_configuration_is_refused(path, config, message):
    write_config(path, config)
    with pytest.raises(ValueError, match=f"holds no usable configuration: .*{message}"):
        load_checkpoint(path)


def config_with(**changes):
    return json.dumps(asdict(small_model().config) | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"final_norm": True},
            r"decoder\.norm\.bias is missing; decoder\.norm\.weight is missing",
        ),
        ({"num_encoder_layers": 1}, r"encoder\.layers\.1\..* is unknown"),
        (
            {"d_ff": 23},
            r"feed_forward\.contract\.weight has shape \[14, 19\], not \[14, 23\]",
        ),
        (
            {"src_vocab_size": 17},
            r"src_embedding\.weight has shape \[11, 14\], not \[17, 14\]",
        ),
        (
            {"tgt_vocab_size": 17},
            r"output_projection\.bias has shape \[13\], not \[17\]; "
            r"output_projection\.weight has shape \[13, 14\], not \[17, 14\]; "
            r"tgt_embedding\.weight has shape \[13, 14\], not \[17, 14\]$",
        ),
    ],
)
def test_weights_that_do_not_fit_the_configuration_are_named_with_their_shapes(
    path, changes, message
):
    write_config(path, config_with(**changes))
    with pytest.raises(ValueError, match=f"do not fit its configuration: .*{message}"):
        load_checkpoint(path)


def test_a_long_list_of_mismatches_is_cut_short(path):
    # Every tensor but the output bias and the biases of `expand` has a side of d_model.
    write_config(path, config_with(d_model=28))
    with pytest.raises(ValueError, match=r"; and \d+ more$") as caught:
        load_checkpoint(path)
    assert str(caught.value).count(" has shape ") == 3


def test_a_missing_and_an_unknown_tensor_are_both_named(path):
    weights = small_model().state_dict()
    weights["extra"] = weights.pop("output_projection.bias")
    write_file(path, weights, {CONFIG_KEY: config_with()})
    with pytest.raises(
        ValueError, match=r"extra is unknown; output_projection\.bias is missing$"
    ):
        load_checkpoint(path)


def test_weights_that_are_no_floats_are_refused(path):
    weights = {
        name: tensor.long() for name, tensor in small_model().state_dict().items()
    }
    write_file(path, weights, {CONFIG_KEY: config_with()})
    with pytest.raises(ValueError, match="int64"):
        load_checkpoint(path)


def test_a_header_that_promises_more_than_the_file_holds_is_refused(path):
    header = json.dumps(
        {"weight": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 12)
    with pytest.raises(ValueError, match="is truncated or not a checkpoint"):
        load_checkpoint(path)


def test_a_checkpoint_of_two_arguments_needs_no_more(path):
    model = Transformer(5, 7, 6, 3, 1, 1, 11, 13)
    write_file(
        path,
        model.state_dict(),
        {
            CONFIG_KEY: json.dumps(
                {
                    "src_vocab_size": 5,
                    "tgt_vocab_size": 7,
                    "d_model": 6,
                    "num_heads": 3,
                    "num_encoder_layers": 1,
                    "num_decoder_layers": 1,
                    "d_ff": 11,
                    "max_len": 13,
                }
            )
        },
    )
    assert load_checkpoint(path).config == model.config


@pytest.mark.parametrize(
    "name",
    [
        "src_vocab_size",
        "tgt_vocab_size",
        "d_model",
        "num_encoder_layers",
        "num_decoder_layers",
        "d_ff",
    ],
)
@pytest.mark.parametrize("size", [10**9, 10**18, 10**40])
def test_sizes_that_no_tensor_backs_up_are_refused_before_anything_is_built(
    path, name, size, monkeypatch
):
    write_config(path, config_with(**{name: size}))
    built = []
    build = EncoderLayer.__init__

    def count(*arguments, **options):
        built.append(arguments)
        assert len(built) < 100
        build(*arguments, **options)

    monkeypatch.setattr(EncoderLayer, "__init__", count)
    with pytest.raises(
        ValueError, match=r"do not fit its conf|no usable configuration"
    ):
        load_checkpoint(path)


def test_more_layers_than_the_tensors_can_make_are_named(path):
    write_config(path, config_with(num_decoder_layers=10**9))
    tensors = len(small_model().state_dict())
    with pytest.raises(
        ValueError, match=f"1000000002 layers cannot be made of {tensors} tensors$"
    ):
        load_checkpoint(path)


def test_a_layer_has_at_least_as_many_tensors_as_loading_counts_on():
    layers = [*small_model().encoder.layers, *small_model().decoder.layers]
    assert min(len(layer.state_dict()) for layer in layers) == _TENSORS_PER_LAYER


def test_a_length_that_no_tensor_backs_up_costs_nothing(path):
    model = small_model()
    write_file(path, model.state_dict(), {CONFIG_KEY: config_with(max_len=10**12)})
    loaded = load_checkpoint(path)
    assert loaded.max_len == 10**12
    src, tgt_in = small_batch()
    assert torch.equal(loaded(src, tgt_in), model(src, tgt_in))
    decoded = loaded.greedy_decode(src, 9, START, END)
    assert torch.equal(decoded, model.greedy_decode(src, 9, START, END))
    save_checkpoint(loaded, path)
    assert load_checkpoint(path).config == loaded.config


def test_the_weights_of_a_loaded_model_are_its_own_and_not_the_files(path):
    save_checkpoint(small_model(), path)
    loaded = load_checkpoint(path)
    weights = snapshot(loaded)
    with path.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"\0" * 1000)
    assert_same_weights(loaded, weights)


def test_half_the_size_on_disk_and_the_type_to_compute_with_restored(path):
    model = small_model().float()
    before = snapshot(model)
    save_checkpoint(model, path)
    full = path.stat().st_size
    save_checkpoint(model, path, torch.float16)
    numbers = sum(tensor.numel() for tensor in before.values())
    assert full - path.stat().st_size >= 2 * numbers - 8 * len(before)
    assert_same_weights(model, before)
    assert load_checkpoint(path).output_projection.weight.dtype == torch.float16
    rounded = {name: tensor.half().float() for name, tensor in before.items()}
    restored = load_checkpoint(path, dtype=torch.float32)
    assert_same_weights(restored, rounded)
    assert torch.equal(
        restored.position_encoding(torch.zeros(1, 23, 14)),
        model.position_encoding(torch.zeros(1, 23, 14)),
    )


def test_a_weight_that_the_stored_type_cannot_hold_is_named(path):
    model = small_model()
    with torch.no_grad():
        model.output_projection.bias[3] = -1e5
        model.output_projection.bias[4] = math.inf
    message = (
        r"^output_projection\.bias holds 100000, more than torch\.float16 can: 65504$"
    )
    with pytest.raises(ValueError, match=message):
        save_checkpoint(model, path, torch.float16)
    with pytest.raises(TypeError, match=r"floating-point type, got torch\.int8$"):
        save_checkpoint(model, path, torch.int8)
    assert not path.exists()


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel])
def test_of_a_wrapped_model_the_one_inside_is_saved(path, wrap):
    model = small_model()
    save_checkpoint(wrap(model), path)
    assert_same_weights(load_checkpoint(path), snapshot(model))
