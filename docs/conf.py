"""Sphinx makes the site of README.md, docs/ and the docstrings: `make docs`.

The source folder is the repository, so that a link means the same file on the site and in the repository.
"""

from __future__ import annotations

from sphinx.application import Sphinx

from goodnet import __version__

project = "goodnet"
author = copyright = "The goodnet maintainers"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "benchmarks", "build", "demo", "dist", "src", "tests"]
html_theme = "furo"
html_title = f"goodnet {release}"
html_copy_source = False
templates_path = ["templates"]
html_additional_pages = {"index": "to_readme.html"}

#: Anchors of headings down to the fourth level, as repositories show them.
myst_heading_anchors = 4
#: Docstrings write code in single backticks.
default_role = "literal"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "model_config"}
autodoc_preserve_defaults = True
#: Short names of long unions; `load_classifier` and `load_dataset` say what they stand for.
autodoc_type_aliases = {name: name for name in ("DataLike", "ModelLike", "RangeOption")}

#: README.md has no list of pages, since it is read elsewhere too.
_PAGES = """
```{toctree}
:hidden:

docs/tutorials/student
docs/tutorials/engineer
docs/tutorials/researcher
docs/scan
docs/methods
docs/serving
docs/pipeline
docs/results
docs/notebook/README
docs/notebook/scan-held-out
docs/notebook/scan-rule
docs/notebook/scan-first-rule
docs/notebook/repair
docs/notebook/repair-first-edition
docs/notebook/guards
docs/notebook/attacks
docs/notebook/pruning
docs/notebook/export-and-server
docs/notebook/files
docs/formats
docs/threat-model
docs/reliability
docs/hostile-files
docs/glossary
docs/api
docs/architecture
CONTRIBUTING
SECURITY
docs/releasing
CHANGELOG
```
"""


def _add_pages(app: Sphinx, page: str, source: list[str]) -> None:
    if page == root_doc:
        source[0] += _PAGES


def setup(app: Sphinx) -> None:
    """Put the list of pages behind README.md."""
    app.connect("source-read", _add_pages)
