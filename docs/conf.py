"""Configuration of Sphinx: the manual is Markdown (MyST) and reStructuredText, warnings are errors."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from raftkv import __version__

project = "raftkv"
author = "The raftkv contributors"
copyright = "2026, the raftkv contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "performance-figures.md"]  # the latter is included in a page
html_theme = "furo"
html_title = f"raftkv {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
