"""Saving a model so that it can be rebuilt from the file alone.

A checkpoint is a safetensors file: the weights as plain numbers, and the configuration
as JSON in its metadata. Loading one never runs code from the file.
"""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from transformer.transformer import Transformer

CONFIG_KEY = "transformer.config"


def save_checkpoint(model: Transformer, path: str | os.PathLike[str]) -> None:
    """Write weights and configuration to `path`, replacing what was there.

    The file appears whole or not at all: it is written beside `path` under another
    name, then moved into place.
    """
    path = Path(path)
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    try:
        save_file(
            weights, temporary, metadata={CONFIG_KEY: json.dumps(asdict(model.config))}
        )
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no usable configuration: {error}") from error
    problems = _mismatches(expected, weights)
    if problems:
        raise ValueError(
            f"the weights in {path} do not fit its configuration: {'; '.join(problems)}"
        )
    model = Transformer(**config)
    dtypes = {tensor.dtype for tensor in weights.values()}
    if len(dtypes) == 1:
        model.to(dtypes.pop())
    model.load_state_dict(weights, assign=True)
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
    problems.sort()
    rest = len(problems) - most
    return problems[:most] + ([f"and {rest} more"] if rest > 0 else [])
