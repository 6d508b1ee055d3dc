"""Saving a model so that it can be rebuilt from the file alone.

A checkpoint is a safetensors file: the weights as plain numbers, and the configuration
as JSON in its metadata. Loading one never runs code from the file, and allocates no more
than its weights account for.
"""

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from transformer.checks import check_weights
from transformer.files import write_atomically
from transformer.packed import PackedTransformer
from transformer.parallel import bare_model
from transformer.transformer import Transformer, TransformerConfig, check_own_parts

#: Where the configuration stands in the metadata of the file.
CONFIG_KEY = "transformer.config"

#: Where the metadata lists the names of weights that are one, if any.
SHARED_KEY = "transformer.shared"

# An encoder layer, the smaller of the two kinds, holds this many tensors.
_TENSORS_PER_LAYER = 16


def save_checkpoint(
    model: Transformer | PackedTransformer,
    path: str | os.PathLike[str],
    dtype: torch.dtype | None = None,
) -> None:
    """Write weights and configuration to `path`, replacing what was there.

    The file appears whole or not at all: it is written beside `path` under another
    name, then moved into place. Of a model that is compiled, packed or otherwise wrapped
    (see `bare_model`), the one inside is saved. Weights that are one under several names,
    as tied embeddings are, will be one again.

    Args:
        dtype: the floating-point type to store; `torch.float16` halves the file. None: the
            type of the weights. `load_checkpoint` can restore another.

    Raises:
        TypeError, ValueError: if `load_checkpoint` could not rebuild `model`, for it has
            parts or weights that its configuration does not say, or if `dtype` is no
            floating-point type, or cannot hold a weight. Nothing is written then.
    """
    model = _model_inside(model)
    check_own_parts(model)
    weights = {
        # A copy: two names may share one tensor, which safetensors refuses to store.
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    if dtype is not None:
        weights = _converted(weights, dtype)
    metadata = {CONFIG_KEY: json.dumps(asdict(model.config))}
    if shared := _shared_names(model):
        metadata[SHARED_KEY] = json.dumps(shared)
    write_atomically(path, save(weights, metadata))


def load_checkpoint(
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Transformer:
    """Rebuild the model that `save_checkpoint` wrote, in evaluation mode.

    Args:
        dtype: the floating-point type to compute with, such as `torch.float32` for a model
            stored in float16. None: as stored.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if the file is truncated or no checkpoint, or if its weights do not
            fit its configuration.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or not a checkpoint: {error}") from error
    if CONFIG_KEY not in metadata:
        raise ValueError(
            f"{path} holds no {CONFIG_KEY!r}: it was not written by save_checkpoint"
        )
    try:
        shared = json.loads(metadata.get(SHARED_KEY, "[]"))
        _check_shared(shared, weights)
        model = _model_without_numbers(metadata[CONFIG_KEY], len(weights))
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path} holds no usable configuration: {error}") from error
    check_weights(f"in {path}", weights, model.state_dict())
    model.to(next(iter(weights.values())).dtype).to_empty(device="cpu")
    _share(model, shared)
    model.load_state_dict(weights)
    return model.to(device=device, dtype=dtype).eval()


def _model_inside(model: nn.Module) -> nn.Module:
    model = bare_model(model)
    return model.model if isinstance(model, PackedTransformer) else model


def _converted(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The same numbers, rounded to `dtype`; raise where one of them exceeds it."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point type, got {dtype!r}")
    for name, tensor in weights.items():
        largest = tensor.abs().nan_to_num(posinf=0.0).max().item()
        if largest > torch.finfo(dtype).max:
            raise ValueError(
                f"{name} holds {largest:g}, more than {dtype} can: "
                f"{torch.finfo(dtype).max:g}"
            )
    return {name: tensor.to(dtype) for name, tensor in weights.items()}


def _shared_names(model: nn.Module) -> list[list[str]]:
    """The names of each parameter that has several."""
    names = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[parameter].append(name)
    return [group for group in names.values() if len(group) > 1]


def _check_shared(shared: list[list[str]], weights: Mapping[str, Tensor]) -> None:
    """Raise unless `shared` is groups of names, each with equal numbers in `weights`."""
    for first, *others in shared:
        for name in others:
            if not {first, name} <= weights.keys():
                raise ValueError(
                    f"{first!r} and {name!r} are not both among the weights"
                )
            one, other = weights[first], weights[name]
            if one.shape != other.shape or not torch.allclose(
                one, other, rtol=0, atol=0, equal_nan=True
            ):
                raise ValueError(f"{first} and {name} should be equal, and are not")


def _share(model: nn.Module, shared: list[list[str]]) -> None:
    for first, *others in shared:
        for name in others:
            module, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(module), attribute, model.get_parameter(first))


def _model_without_numbers(config: str, num_tensors: int) -> Transformer:
    """The model that `config` describes, on the meta device, where no size costs memory.

    Only layers cost some even there. So their number is checked first.
    """
    config = TransformerConfig(**json.loads(config))
    num_layers = config.num_encoder_layers + config.num_decoder_layers
    if num_layers * _TENSORS_PER_LAYER > num_tensors:
        raise ValueError(f"{num_layers} layers cannot be made of {num_tensors} tensors")
    with torch.device("meta"):
        return Transformer(**asdict(config))
