"""Images for which room is reserved, and which load when they are needed."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.images import get_image_size
from sphinx.writers.html5 import HTML5Translator

# matplotlib draws the book's figures with this many dots for each of a page's pixels.
DOTS_PER_PIXEL = 130 / 96


def visit_image(translator: HTML5Translator, node: nodes.image) -> None:
    """Write an `<img>` with width and height, to be loaded when it comes into view."""
    source = Path(translator.builder.srcdir, node["uri"])
    width, height = get_image_size(str(source)) or (None, None)
    if width and source.suffix == ".png":
        width, height = (round(size / DOTS_PER_PIXEL) for size in (width, height))
    name = translator.builder.images.get(node["uri"])
    uri = f"{translator.builder.imgpath}/{name}" if name else node["uri"]
    translator.body.append(
        translator.emptytag(
            node,
            "img",
            "\n",
            src=uri,
            alt=node.get("alt", ""),
            loading="lazy",
            decoding="async",
            **({"width": width, "height": height} if width else {}),
        )
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once."""
    app.add_node(
        nodes.image, override=True, html=(visit_image, lambda _translator, _node: None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
