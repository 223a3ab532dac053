"""A sphinx extension: formulas as MathML, which browsers draw without a script or a network."""

import re

from docutils.nodes import SkipNode
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import ExtensionError

# MathML stretches brackets by itself, and the converter does not know these commands.
_SIZES = re.compile(r"\\[bB]igg?[lrm]?(?![A-Za-z])")


def setup(app):
    """Have the HTML builders draw formulas so; conf.py sets `html_math_renderer`."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True}


def visit_math(translator, node):
    """Write a formula within a line."""
    write(translator, node, as_block=False)


def visit_math_block(translator, node):
    """Write a formula of its own lines, in a frame that scrolls if it is too wide."""
    translator.body.append('<div class="formula">')
    write(translator, node, as_block=True)


def write(translator, node, as_block):
    """Write a formula and leave the node, whose text is written by that."""
    formula = _SIZES.sub("", node.astext())
    try:
        translator.body.append(tex2mathml(formula, as_block=as_block))
    except MathError as error:
        raise ExtensionError(f"The formula {node.astext()!r} cannot be drawn: {error}") from error
    if as_block:
        translator.body.append("</div>\n")
    raise SkipNode
