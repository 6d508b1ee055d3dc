"""Render the package's docstrings, which are written in Markdown, in the API reference.

Sphinx reads docstrings as reStructuredText. Here the little Markdown that ours use is
translated first: code in backticks, an indented formula, a table. Code that is the name
of a function or class of the package becomes a link to it. The sections `Args`, `Returns`
and `Raises` are napoleon's business, which comes after this.
"""

import ast
import inspect
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

OF_NAMED_TUPLES = ("Alias for field number", "Create new instance of")
BACKTICKS = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@cache
def definitions(package: Path) -> dict[str, str]:
    """The functions and classes of `package`, each with its module in front."""
    return {
        node.name: f"{package.name}.{path.stem}.{node.name}"
        for path in sorted(package.glob("*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
    }


def translate(docstring: str, links: Mapping[str, str]) -> str:
    """`docstring` in Markdown → the same in reStructuredText.

    `links` says which names become links, and to which full names.
    """

    def code(match: re.Match) -> str:
        text = " ".join(match[1].split())
        if text in links:
            return f":py:obj:`{text} <{links[text]}>`"
        return f"``{text}``"

    blocks = re.split(r"\n{2,}", BACKTICKS.sub(code, docstring).strip("\n"))
    translated = []
    previous = ""
    for block in blocks:
        is_display = block.startswith("    ")
        if is_display and not previous.splitlines()[-1].startswith(" "):
            translated.append("::")
        translated.append(_table(block) if block.startswith("|") else block)
        previous = block
    return "\n\n".join(translated)


def _table(block: str) -> str:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in block.splitlines()
        if not set(line) <= set("|-: ")
    ]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines)


def translate_docstring(
    app: Sphinx, what: str, name: str, obj: Any, _options: Any, lines: list[str]
) -> None:
    """Translate in place, as autodoc wants it; drop what is not ours.

    Named tuples say something of themselves, and a constant without documentation shows
    that of its type.
    """
    of_type = (inspect.getdoc(type(obj)) or "").splitlines()[:1]
    if lines[:1] == of_type and what == "data":
        lines.clear()
    if lines and lines[0].startswith(OF_NAMED_TUPLES):
        lines.clear()
    links = definitions(Path(app.srcdir) / "transformer")
    others = {short: full for short, full in links.items() if not name.startswith(full)}
    lines[:] = [*translate("\n".join(lines), others).splitlines(), ""]


def keep_call(
    _app: Sphinx, _what: str, name: str, _obj: Any, _skip: bool, _options: Any
) -> bool | None:
    """List `__call__` where a class of ours defines it; leave the rest to autodoc."""
    return False if name == "__call__" else None


def hide_signature_of_protocols(
    _app: Sphinx, _what: str, _name: str, obj: Any, *_rest: Any
) -> tuple[str, None] | None:
    """Nobody builds a protocol, so it shows no arguments."""
    return ("", None) if getattr(obj, "_is_protocol", False) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once."""
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    # Early, so that napoleon reads what comes out of it.
    app.connect("autodoc-process-docstring", translate_docstring, priority=400)
    app.connect("autodoc-skip-member", keep_call)
    app.connect("autodoc-process-signature", hide_signature_of_protocols)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
