"""Sphinx builds the site: ``make docs``, then open docs/_build/index.html."""

import re
import shutil
from pathlib import Path

import leaf_fer

HERE = Path(__file__).parent

project = "leaf-fer"
author = "the leaf-fer team"
version = release = leaf_fer.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "leaf-fer"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
myst_heading_anchors = 3
myst_url_schemes = {"http": None, "https": None, "mailto": None, "beside": "{{path}}"}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False

BESIDE = ("results", "benchmarks", "src", "tests", "examples")
"""Folders beside docs/ that pages link to; what is linked goes into the site as it is."""

_LINK = re.compile(r"\]\(\.\./((?:" + "|".join(BESIDE) + r")/[^)#]*)")
_linked: set[str] = set()


def _link(app, page, source):
    """In the repository a link goes out of docs/; in the site it goes to a copy."""

    def copied(match):
        path = match[1].rstrip("/")
        if not (HERE.parent / path).exists():
            raise ValueError(f"{page}: a link to ../{path}, which is not there")
        _linked.add(path)
        return f"](beside:{path}"

    source[0] = _LINK.sub(copied, source[0])


def _copy(app, error):
    if error is not None:
        return
    skip = shutil.ignore_patterns("__pycache__")
    for path in sorted(_linked):
        origin, place = HERE.parent / path, Path(app.outdir) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            shutil.copytree(origin, place, dirs_exist_ok=True, ignore=skip)
        else:
            shutil.copyfile(origin, place)


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", _link)
    app.connect("build-finished", _copy)
    return {"parallel_read_safe": False}
