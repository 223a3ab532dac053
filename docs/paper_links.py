"""A sphinx extension: papers and issues that a page names are links.

``arXiv:1805.06725`` leads to the paper, ``owner/repository#9`` to the issue, and
``owner/repository`` to the repository if it is one of those below. It changes Markdown pages and
docstrings alike.
"""

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform

# Of the methods, and of what they are compared with.
REPOSITORIES = (
    "samet-akcay/ganomaly",
    "khalooei/ALOCC-CVPR2018",
    "houssamzenati/Efficient-GAN-Anomaly-Detection",
    "houssamzenati/Adversarially-Learned-Anomaly-Detection",
    "SeldonIO/alibi-detect",
    "VitjanZ/DRAEM",
)
_NAMED = re.compile(
    r"(?P<paper>arXiv:\d{4}\.\d{4,5})"
    r"|(?P<issue>\b[A-Za-z][\w.-]*/[\w.-]+#\d+)"
    rf"|(?P<repository>\b(?:{'|'.join(map(re.escape, REPOSITORIES))})\b)"
)


def setup(app):
    """Have the text of each page looked through."""
    app.add_transform(PaperLinks)
    return {"parallel_read_safe": True}


class PaperLinks(SphinxTransform):
    """Puts a reference around each paper, issue and repository."""

    default_priority = 510

    def apply(self, **kwargs):
        """Change the page."""
        kept = (nodes.reference, nodes.literal, nodes.literal_block, nodes.FixedTextElement)
        for node in list(self.document.findall(nodes.Text)):
            if not _NAMED.search(node) or any(isinstance(above, kept) for above in above_of(node)):
                continue
            node.parent.replace(node, linked(str(node)))


def above_of(node):
    """The nodes that a node is in."""
    while node.parent is not None:
        node = node.parent
        yield node


def linked(text):
    """The text as nodes, with a reference for each thing that is named."""
    found, end = [], 0
    for match in _NAMED.finditer(text):
        name = match[0]
        found += [nodes.Text(text[end : match.start()])] if match.start() > end else []
        found.append(nodes.reference("", name, refuri=address_of(match), internal=False))
        end = match.end()
    return [*found, nodes.Text(text[end:])] if end < len(text) else found


def address_of(match):
    """Where what is named is."""
    if match["paper"]:
        return f"https://arxiv.org/abs/{match['paper'].removeprefix('arXiv:')}"
    repository, _, number = match[0].partition("#")
    return f"https://github.com/{repository}" + (f"/issues/{number}" if number else "")
