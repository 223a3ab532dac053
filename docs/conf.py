"""How sphinx builds the documentation; `make docs` runs it."""

import sys
from pathlib import Path

import gandetect

sys.path.insert(0, str(Path(__file__).parent))  # benchmark_tables.py, method_diagrams.py

project = "gandetect"
author = "The gandetect developers"
copyright = "2026, The gandetect developers"
version = release = gandetect.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "benchmark_tables",
    "method_diagrams",
]
exclude_patterns = ["_build", "_templates", "generated"]
templates_path = ["_templates"]
# A name alone in backquotes is a link if there is such a thing, and code otherwise.
default_role = "autolink"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# The API pages list what a module's __all__ names, wherever it was defined.
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # the docstrings say the types
numpydoc_show_class_members = False  # _templates/autosummary/class.rst does

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "gandetect"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
