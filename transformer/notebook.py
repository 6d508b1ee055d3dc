"""Helpers for the chapters."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import Markdown


def show_source(item: type | Callable) -> Markdown:
    """The source of a class, method or function of the package, as a highlighted block."""
    # IPython is there in a notebook; the rest of the package does not need it.
    from IPython.display import Markdown

    source = textwrap.dedent(inspect.getsource(item)).rstrip()
    return Markdown(f"```python\n{source}\n```")
