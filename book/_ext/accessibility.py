"""What Sphinx and two extensions write that screen readers stumble over, put right."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

# sphinx-exercise gives every exercise's content the same name.
REPEATED = {"exercise-content", "solution-content"}
# A heading must say its level; a bibliography is no list in the sense of these roles.
CORRECTIONS = {
    'role="heading"': 'role="heading" aria-level="2"',
    ' role="doc-biblioentry"': "",
    '<div role="list" class="citation-list">': '<div class="citation-list">',
}

# A long signature is a list of descriptions without anything described.
PARAMETERS = re.compile(r"<dl>\n((?:<dd>.*</dd>\n)+)</dl>")


def as_plain_boxes(signature: re.Match) -> str:
    """One box a parameter."""
    lines = signature[1].replace("<dd>", "<div>").replace("</dd>", "</div>")
    return f'<div class="sig-params">\n{lines}</div>'


def forget_repeated_names(_app: Sphinx, doctree: nodes.document, _docname: str) -> None:
    """A name must be unique on its page."""
    for section in doctree.findall(nodes.section):
        section["ids"] = [name for name in section["ids"] if name not in REPEATED]


def correct(
    _app: Sphinx,
    _pagename: str,
    _templatename: str,
    context: dict[str, Any],
    _doctree: nodes.document | None,
) -> None:
    """Correct the navigation and the text of a page that is about to be written."""
    for key in ("furo_navigation_tree", "body"):
        text = context.get(key, "")
        for wrong, right in CORRECTIONS.items():
            text = text.replace(wrong, right)
        context[key] = PARAMETERS.sub(as_plain_boxes, text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once."""
    app.connect("doctree-resolved", forget_repeated_names)
    # After Furo has made the navigation.
    app.connect("html-page-context", correct, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
