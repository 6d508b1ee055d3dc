"""Formulas as MathML, made at build: no script, no network, and they print.

Browsers lay MathML out by themselves. The pages bring a font for it, because not every
system has one with the tables that formulas need.
"""

from html import escape

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)
converter = LatexToMathML()


def to_mathml(node: nodes.math | nodes.math_block) -> str:
    """The formula of `node`; one that cannot be read is a warning and stays as it is."""
    try:
        return converter.convert_with_local_state(
            node.astext(), displaystyle=isinstance(node, nodes.math_block)
        )
    except LatexError as error:
        logger.warning("formula: %s", error, location=node)
        return f"<code>{escape(node.astext())}</code>"


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Put the formula into the line."""
    translator.body.append(f'<span class="math notranslate">{to_mathml(node)}</span>')
    raise nodes.SkipNode


def visit_displayed(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Give the formula a line of its own; if it is numbered, the number and a link."""
    # The target before the formula carries its name.
    translator.body.append(f'<div class="math notranslate">{to_mathml(node)}')
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once; `html_math_renderer: mathml` chooses it."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
