"""How the documentation is built: `make docs`. Warnings are errors; nothing is fetched from the network."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

project = "lightning-diffal"
author = "The lightning-diffal team"
copyright = "the lightning-diffal team"  # noqa: A001  # Sphinx's name
version_line = (ROOT / "lightning_diffal" / "__init__.py").read_text(encoding="utf-8")
release = re.search(r'^__version__ = "(.+)"', version_line, re.MULTILINE).group(1)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autosummary_generate = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
# single backticks in docstrings are code, as torchmetrics and Lightning read them
default_role = "code"
templates_path: list[str] = []
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "lightning-diffal"
html_static_path = ["_static"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
