"""What a search engine or a shared link says about a page: its first paragraph.

A chapter's first paragraph is "You will …", its goals.
"""

from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

OPENING = "You will "


def describe(doctree: nodes.document) -> str:
    """The first paragraph in one line; a chapter's goals as an invitation."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        goals = text.removeprefix(OPENING)
        return text if goals == text else goals[0].upper() + goals[1:]
    return ""


def add_description(
    _app: Sphinx,
    _pagename: str,
    _templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Put the description where search engines and sphinxext-opengraph look for it."""
    description = describe(doctree) if doctree is not None else ""
    if description:
        context["metatags"] += (
            f'<meta name="description" content="{escape(description)}">\n'
        )
        context["meta"] = (context["meta"] or {}) | {"og:description": description}


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once."""
    # Before sphinxext-opengraph.
    app.connect("html-page-context", add_description, priority=300)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
