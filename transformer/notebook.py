"""Helpers for the chapters."""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from transformer.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from IPython.display import Markdown

    from transformer.transformer import Transformer

_RESULTS = resources.files("transformer") / "results"
_IN_ASCII = {"✓": "[right]", "✗": "[wrong]", "⟨": "<", "⟩": ">"}


def show_source(item: type | Callable) -> Markdown:
    """The source of a class, method or function of the package, as a highlighted block."""
    # IPython is there in a notebook; the rest of the package does not need it.
    from IPython.display import Markdown

    source = textwrap.dedent(inspect.getsource(item)).rstrip()
    return Markdown(f"```python\n{source}\n```")


def read_results(name: str) -> dict[str, Any]:
    """What a benchmark, such as `decoding`, has measured and stored in the package."""
    path = _RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8"))


def read_model(name: str) -> Transformer:
    """A model that the book has trained and stores in the package, in evaluation mode.

    Args:
        name: `copy`, which copies as in chapter 8, or `sum-1800`, which adds as in
            chapter 9, after all of its steps.

    Raises:
        FileNotFoundError: no model of this name is stored.
    """
    path = _RESULTS / f"{name}.safetensors"
    with resources.as_file(path) as file:
        # Stored in float16, and computed with in float32.
        return load_checkpoint(file).float()


def print_anywhere(text: str) -> None:
    """Print `text`, also where the output knows few characters.

    A console of Windows, or a file that it writes, may have no ✓. What the encoding of
    `sys.stdout` cannot hold becomes ASCII: "[right]" for ✓, or Python's escape code.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print("".join(_encodable(character, encoding) for character in text))


def _encodable(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return _IN_ASCII.get(character, ascii(character)[1:-1])
    return character
