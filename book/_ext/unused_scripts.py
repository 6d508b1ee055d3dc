"""Leave out scripts that Jupyter Book adds for its own theme, which this book does not use.

One of them does not even exist under another theme, so every page would ask for it in
vain; others stand in the page itself and name the same thing twice.
"""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

UNUSED = (
    "sphinx-book-theme.js",
    "sphinx-thebe.js",
    "sphinx-thebe.css",
    "design-tabs.js",
    "sphinx-design.min.css",
)
UNUSED_VARIABLES = "THEBE_JS_URL"


def leave_out_unused(
    _app: Sphinx,
    _pagename: str,
    _templatename: str,
    context: dict[str, Any],
    _doctree: nodes.document | None,
) -> None:
    """Filter the files that the page's template will link to."""
    for key in ("script_files", "css_files"):
        context[key] = [
            file
            for file in context.get(key, [])
            if not str(getattr(file, "filename", file)).endswith(UNUSED)
            and UNUSED_VARIABLES not in getattr(file, "attributes", {}).get("body", "")
        ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once."""
    # Late, so that the extensions that add the files have done so.
    app.connect("html-page-context", leave_out_unused, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
