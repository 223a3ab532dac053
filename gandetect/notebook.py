"""Additions to scikit-learn's HTML representation of a detector in a notebook."""

from __future__ import annotations

import inspect
import re
from html import escape
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

_COUNT = re.compile(r"(<div>(?:[\d,]+ of )?[\d,]+ )features?(</div>)")
_ENTRY = re.compile(r"^(\w+(?:, \w+)*) : (.*(?:\n(?:[ \t]+.*|))*)", re.MULTILINE)


def parameter_docs(cls: type) -> dict[str, str]:
    """Return the description of each parameter in the docstring of a class, on one line.

    Examples
    --------
    >>> from gandetect import GANomalyDetector
    >>> from gandetect.notebook import parameter_docs
    >>> parameter_docs(GANomalyDetector)["learning_rate"]
    'float, default=1e-3. Step size of the optimizers.'
    """
    text = inspect.getdoc(cls) or ""
    _, _, text = text.partition("Parameters\n----------\n")
    text = re.split(r"\n\n\w[^\n]*\n-+\n", text, maxsplit=1)[0]
    docs: dict[str, str] = {}
    for names, entry in _ENTRY.findall(text):
        kind, _, description = entry.partition("\n")
        told = " ".join(f"{kind}. {description}".split())
        docs |= dict.fromkeys(names.split(", "), told)
    return docs


def documentation_page(cls: type) -> str:
    """Return the address of the documentation page of a class, or "" if it has none.

    The address of the documentation is that of `project_urls` in setup.cfg.

    Examples
    --------
    >>> from gandetect.notebook import documentation_page
    >>> documentation_page(dict)
    ''
    """
    if cls.__module__.split(".")[0] != "gandetect":
        return ""
    try:
        entries = metadata("gandetect").get_all("Project-URL") or []
    except PackageNotFoundError:  # a checkout that is not installed
        return ""
    for entry in entries:
        label, _, address = entry.partition(",")
        if label.strip().lower() == "documentation":
            return f"{address.strip().rstrip('/')}/api/generated/gandetect.{cls.__name__}.html"
    return ""


def with_tooltips(parameters: Any, cls: type) -> Any:
    """Add the description of each parameter as a tooltip to scikit-learn's table of parameters."""
    drawn = parameters._repr_html_inner

    def with_titles() -> str:
        html: str = drawn()
        for name, text in parameter_docs(cls).items():
            html = html.replace(
                f'<td class="param">{name}</td>',
                f'<td class="param" title="{escape(text)}">{name}</td>',
            )
        return html

    parameters._repr_html_inner = with_titles
    return parameters


def with_codes(html: str) -> str:
    """Return the HTML of a detector with "latent codes" in place of "features" for its outputs."""
    html = _COUNT.sub(r"\1latent codes\2", html)
    return html.replace("Copy output features", "Copy the names of the codes")
