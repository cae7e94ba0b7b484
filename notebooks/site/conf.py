"""Sphinx's settings for the site; ``pipelab site OUT`` uses them."""

from pipelab import __version__

project = "pipelab"
author = "The pipelab authors"
release = version = __version__
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_static", "_templates"]
templates_path = ["_templates"]
nb_execution_mode = "off"  # pages show what is stored
nb_merge_streams = True
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
napoleon_use_ivar = True
autodoc_typehints = "signature"
python_use_unqualified_type_names = True

# A page loads nothing from anywhere but this site: system fonts, no formula renderer, no badges.
html_theme = "furo"
html_title = "pipelab"
html_favicon = "_static/icon.svg"  # else browsers ask the host's root for one
html_static_path = ["_static"]
html_css_files = ["timeline.css", "site.css"]
html_js_files = [("player.js", {"defer": "defer"}), ("site.js", {"defer": "defer"})]
html_copy_source = False
html_show_sourcelink = False
nb_ipywidgets_js = {}
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b57a4",
        "color-brand-content": "#0b57a4",
        "color-brand-visited": "#6b3fa0",
    },
    "dark_css_variables": {
        "color-brand-primary": "#64b5f6",
        "color-brand-content": "#64b5f6",
        "color-brand-visited": "#c9a6f0",
    },
}


def _without_aliases(app, what, name, value, skip, options):
    """Fields of a named tuple without words of their own are in its signature already."""
    return skip or (getattr(value, "__doc__", "") or "").startswith("Alias for field number")


def setup(app):
    app.connect("autodoc-skip-member", _without_aliases)
