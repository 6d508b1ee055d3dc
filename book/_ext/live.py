"""Figures that a reader can use: a model of the book, computed in the page.

The figure stays what it is wherever there is no browser with scripts: in JupyterLab, in
Colab, on paper. On a page it is wrapped in an element that a widget can take over, with a
button to open it. What the widget needs is loaded when the button is pressed; weights and
texts come as scripts, because a page opened from a disk may load nothing else.
"""

import base64
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator

#: By page, which figures can be used, and as what.
FIGURES = {
    "book/preface": {"fig-learning-to-add": "preface"},
    "book/01_setup": {"fig-first-attention": "first"},
    "book/05_data": {"fig-target-mask": "masks"},
    "book/07_inference": {"fig-filters": "decode"},
    "book/08_copy": {"fig-copy-attention": "copy"},
    "book/09_addition": {"fig-addition-cross": "sum"},
}
#: Widgets of these kinds are smaller versions of another.
SMALL = {"preface": "sum", "first": "copy"}


class Live(nodes.General, nodes.Element):
    """What a widget takes the place of: the image of a figure."""


def wrap_figures(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Wrap the images of the page's figures that can be used."""
    wanted = dict(FIGURES.get(docname, {})) if app.builder.format == "html" else {}
    for figure in list(doctree.findall(nodes.figure)):
        kind = next((wanted.pop(i) for i in figure["ids"] if i in wanted), None)
        if kind:
            image = figure.next_node(nodes.image)
            live = Live(kind=kind, texts=texts(app)["open"])
            image.parent.replace(image, live)
            live += image
    if wanted:
        raise ExtensionError(f"{docname} has no figure {', '.join(wanted)}")


def visit_live(translator: HTML5Translator, node: Live) -> None:
    """Begin the element, and the figure in it."""
    kind = node["kind"]
    size = {"data-size": "small"} if kind in SMALL else {}
    translator.body.append(
        translator.starttag(
            node, "div", **{"data-live": SMALL.get(kind, kind), "class": "live"}, **size
        )
    )
    translator.body.append('<div class="live-figure">')


def depart_live(translator: HTML5Translator, node: Live) -> None:
    """End the figure; add the button, and the place where the page says what happens."""
    words = node["texts"]
    button = translator.starttag(
        node,
        "button",
        "",
        type="button",
        **{"data-wait": words["wait"], "data-failed": words["failed"], "data-open": ""},
    )
    translator.body.append(
        f"</div>{button}{words[node['kind']]}</button>"
        '<p class="live-status" role="status"></p></div>\n'
    )


def texts(app: Sphinx) -> dict[str, Any]:
    """All that the widgets say, in the language of the book."""
    return json.loads(Path(app.srcdir, "book/live/texts.json").read_text("utf-8"))


def link_scripts(
    app: Sphinx,
    pagename: str,
    _templatename: str,
    _context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Only pages with something to use load the script that opens it."""
    if doctree is not None and pagename in FIGURES:
        app.add_css_file("live/live.css")
        app.add_js_file("live/live.js", defer="defer")


def write_scripts(app: Sphinx, error: Exception | None) -> None:
    """Write weights and texts as scripts."""
    if error or app.builder.format != "html":
        return
    folder = Path(app.outdir, "_static", "live")
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    (folder / "texts.js").write_text(
        f"Live.texts = {json.dumps(texts(app), ensure_ascii=False)};\n", "utf-8"
    )
    for path in Path(app.srcdir, "book/live").glob("*.safetensors"):
        content = base64.b64encode(path.read_bytes()).decode()
        (folder / "weights" / f"{path.stem}.js").write_text(
            f'Live.weights["{path.stem}"] = "{content}";\n', "utf-8"
        )


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once."""
    app.add_node(Live, html=(visit_live, depart_live))
    app.connect("doctree-resolved", wrap_figures)
    app.connect("html-page-context", link_scripts)
    app.connect("build-finished", write_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
