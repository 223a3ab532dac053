"""How sphinx builds the documentation; `make docs` runs it."""

import sys
from pathlib import Path

import gandetect

# The last extensions below are of this folder.
sys.path.insert(0, str(Path(__file__).parent))

project = "gandetect"
author = "The gandetect developers"
copyright = "2026, The gandetect developers"
version = release = gandetect.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "api_links",
    "benchmark_tables",
    "mathml",
    "method_diagrams",
    "overview_table",
    "paper_links",
]
exclude_patterns = ["_build", "_templates", "generated"]
templates_path = ["_templates"]
# A name alone in backquotes is a link if there is such a thing, and code otherwise.
default_role = "autolink"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# The API pages list what a module's __all__ names, wherever it was defined.
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
toc_object_entries_show_parents = "hide"  # methods are listed without their class
autodoc_typehints = "none"  # the docstrings say the types
numpydoc_show_class_members = False  # _templates/class.rst does

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,  # its page needs scripts from elsewhere
    # The pages of the API show which examples use what they are about.
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("gandetect",),
}

# Of what the copy button copies, prompts and output are left out.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "gandetect"
html_show_sourcelink = False
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# A page that is alone in its part of the site has no neighbours to list beside it.
_ALONE = (
    "architecture",
    "benchmarks",
    "changelog",
    "command_line",
    "faq",
    "genindex",
    "getting_started",
    "glossary",
    "ideas",
    "index",
    "licences",
    "search",
)
# Without it the theme writes an error to the console on a first visit.
html_context = {"default_mode": "auto"}
html_sidebars = {name: [] for name in _ALONE}
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "show_toc_level": 2,
}
