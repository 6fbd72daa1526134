"""How Sphinx makes the documentation site: `python -m sphinx -W --keep-going docs docs/_build`."""

import re
from importlib.metadata import version as version_of

from sphinx.application import Sphinx

project = "ngopt"
author = "The ngopt developers"
project_copyright = author
release = version = version_of("ngopt")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "results"]

# A name in a docstring that leads nowhere is a mistake, unless it is another library's.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(abc|higher|torch)\..*")]

# Markdown, as GitHub reads it too.
myst_heading_anchors = 3

# Docstrings: Google's style, code in single backticks, names as users import them.
default_role = "literal"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {release}"
html_theme_options = {
    "navbar_start": ["navbar-logo"],
    "navbar_center": [],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
}
html_sidebars = {"**": ["all-pages.html"]}
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False

ROOT_PAGES = {"CHANGELOG": "changelog", "CONTRIBUTING": "contributing", "README": "index"}
"""Files in the root of the repository, and the pages of the site that show them."""


def link_to_pages(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Have links to files in the root, which work on GitHub, lead to their pages."""
    for file, page in ROOT_PAGES.items():
        source[0] = re.sub(rf"\]\(\.\./{file}\.md", f"]({page}.md", source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", link_to_pages)
