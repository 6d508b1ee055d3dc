"""Nested states, of tensors, numbers and texts, in one file.

A safetensors file: the tensors, and everything else as JSON in its metadata. Reading one
never runs code from the file.
"""

import json
import os
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from transformer.files import write_atomically

#: Where the state that is not tensors stands in the metadata of the file.
STATE_KEY = "transformer.state"


def write_state(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write `state` to `path`, whole or not at all.

    Raises:
        OSError: if it cannot be written; what was there is as it was.
        TypeError: if it holds something else than tensors, numbers and texts, in dicts,
            lists and tuples, naming the place.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_packed(state, "state", tensors))
    write_atomically(path, save(tensors, {STATE_KEY: text}))


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `write_state` has written.

    Raises:
        ValueError: if the file is torn, or was written by something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is torn or holds no state: {error}") from error
    try:
        return _unpacked(json.loads(metadata[STATE_KEY]), tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} was not written by write_state: {error}") from error


def _packed(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """`value` for JSON; its tensors, and long lists of numbers, are put into `tensors`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        # A copy: two names may share one tensor, which safetensors refuses to store.
        tensors[place] = (
            value.detach().cpu().clone(memory_format=torch.contiguous_format)
        )
        return {"tensor": place}
    if isinstance(value, list) and value and all(type(item) is float for item in value):
        tensors[place] = torch.tensor(value, dtype=torch.float64)
        return {"floats": place}
    if isinstance(value, dict):  # Of which keys may be numbers, too.
        items = value.items()
        packed = [
            [key, _packed(item, f"{place}/{key}", tensors)] for key, item in items
        ]
        return {"dict": packed}
    if isinstance(value, (list, tuple)):
        packed = [
            _packed(item, f"{place}/{i}", tensors) for i, item in enumerate(value)
        ]
        return {"tuple" if isinstance(value, tuple) else "list": packed}
    raise TypeError(
        f"{place} is a {type(value).__name__}, which the file of a run cannot hold"
    )


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    [(kind, packed)] = value.items()
    if kind == "tensor":
        return tensors[packed]
    if kind == "floats":
        return tensors[packed].tolist()
    if kind == "dict":
        return {key: _unpacked(item, tensors) for key, item in packed}
    items = [_unpacked(item, tensors) for item in packed]
    return tuple(items) if kind == "tuple" else items
