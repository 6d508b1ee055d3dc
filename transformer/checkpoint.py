"""Saving a model so that it can be rebuilt from the file alone.

A checkpoint is a safetensors file: the weights as plain numbers, and the configuration
as JSON in its metadata. Loading one never runs code from the file.
"""

import json
import os
import uuid
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from transformer.transformer import Transformer

#: Where the configuration stands in the metadata of the file.
CONFIG_KEY = "transformer.config"


def save_checkpoint(model: Transformer, path: str | os.PathLike[str]) -> None:
    """Write weights and configuration to `path`, replacing what was there.

    The file appears whole or not at all: it is written beside `path` under another
    name, then moved into place.
    """
    path = Path(path).resolve()
    weights = {
        # A copy: two names may share one tensor, and safetensors stores no sharing.
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    metadata = {CONFIG_KEY: json.dumps(asdict(model.config))}
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(save(weights, metadata))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(
    path: str | os.PathLike[str], device: torch.device | str = "cpu"
) -> Transformer:
    """Rebuild the model that `save_checkpoint` wrote, in evaluation mode.

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
        config = json.loads(metadata[CONFIG_KEY])
        with torch.device("meta"):
            expected = Transformer(**config).state_dict()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path} holds no usable configuration: {error}") from error
    problems = _mismatches(expected, weights)
    if problems:
        raise ValueError(
            f"the weights in {path} do not fit its configuration: {'; '.join(problems)}"
        )
    # The fresh weights are replaced at once: nobody's random numbers should pay for them.
    with torch.random.fork_rng(devices=[]):
        model = Transformer(**config)
    model.to(next(iter(weights.values())).dtype)
    model.load_state_dict(weights)
    return model.to(device).eval()


def _mismatches(
    expected: dict[str, torch.Tensor], weights: dict[str, torch.Tensor], most: int = 3
) -> list[str]:
    problems = [f"{name} is missing" for name in expected.keys() - weights.keys()]
    problems += [f"{name} is unknown" for name in weights.keys() - expected.keys()]
    problems += [
        f"{name} has shape {list(weights[name].shape)}, not {list(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    ]
    dtypes = sorted({str(tensor.dtype) for tensor in weights.values()})
    if len(dtypes) > 1 or not all(map(torch.is_floating_point, weights.values())):
        problems.append(
            f"the numbers are {' and '.join(dtypes)}, not of one float type"
        )
    problems.sort()
    rest = len(problems) - most
    return problems[:most] + ([f"and {rest} more"] if rest > 0 else [])
