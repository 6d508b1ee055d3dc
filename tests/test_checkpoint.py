import json
import os
import pickle
import struct
from dataclasses import asdict

import pytest
import torch
from helpers import assert_same_weights, small_batch, small_model, snapshot
from safetensors import safe_open
from safetensors.torch import save_file

from transformer import Transformer, load_checkpoint, save_checkpoint
from transformer.checkpoint import CONFIG_KEY

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


def test_shared_weights_are_stored_under_both_names(path):
    model = small_model()
    model.output_projection.weight = model.tgt_embedding.weight
    save_checkpoint(model, path)
    assert_same_weights(load_checkpoint(path), snapshot(model))


def test_loading_leaves_the_global_random_state_alone(path):
    save_checkpoint(small_model(), path)
    before = torch.get_rng_state()
    load_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_of_mixed_types_are_refused(path):
    model = small_model()
    weights = model.state_dict()
    weights["output_projection.bias"] = weights["output_projection.bias"].float()
    write_file(path, weights, {CONFIG_KEY: json.dumps(asdict(model.config))})
    with pytest.raises(
        ValueError, match=r"torch\.float32 and torch\.float64, not of one"
    ):
        load_checkpoint(path)


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
