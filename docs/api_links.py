"""A sphinx extension: names of the API in the code of a Markdown page are links to their pages.

`gandetect.load`, `GANomalyDetector` and `gandetect.metrics.roc_auc_scorer` in backquotes, with
or without arguments, lead to where they are documented. What is not documented stays as it is.
"""

from importlib import import_module

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms import SphinxTransform

# Where a name that stands alone is looked for.
MODULES = (
    "gandetect",
    "gandetect.plotting",
    "gandetect.metrics",
    "gandetect.export",
    "gandetect.datasets",
)


def setup(app):
    """Have the names of each page looked up once all pages are known."""
    app.add_transform(ApiLinks)
    return {"parallel_read_safe": True}


class ApiLinks(SphinxTransform):
    """Puts a reference around each piece of code that is a public name."""

    default_priority = 500

    def apply(self, **kwargs):
        """Change the page, if it is one of Markdown."""
        if not str(self.env.doc2path(self.env.docname)).endswith(".md"):
            return
        for node in list(self.document.findall(nodes.literal)):
            target = public_name(node.astext())
            if target and not isinstance(node.parent, nodes.reference | pending_xref):
                reference = pending_xref(
                    "",
                    refdomain="py",
                    reftype="obj",
                    reftarget=target,
                    refdoc=self.env.docname,
                    refwarn=False,
                )
                node.replace_self(reference)
                reference += node


def public_name(text):
    """The full name of what a piece of code names, or None."""
    name = text.partition("(")[0] if text.endswith(")") else text
    if name.startswith("gandetect."):
        return name
    modules = (module for module in MODULES if name in import_module(module).__all__)
    return next((f"{module}.{name}" for module in modules), None)
