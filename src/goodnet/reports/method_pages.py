"""docs/methods.md: every method of the catalogue, from its own docstring and fields.

.venv/bin/python -m goodnet.reports.method_pages > docs/methods.md
"""

from __future__ import annotations

import inspect

from goodnet import catalog
from goodnet.core.method import Method

_INTRODUCTION = """# The methods

Made from the docstrings and fields of the code: `python -m goodnet.reports.method_pages > docs/methods.md`.
One method is one file. The file's name is the method's name on the command line (`--method`, `--attack`).
Its options are flags (`--steps 60`).
"""


def methods_page() -> str:
    """Return the page in Markdown."""
    parts = [_INTRODUCTION]
    for family in catalog.FAMILIES:
        parts.append(f"## {family.capitalize()}\n")
        parts.extend(_describe(name, catalog.find(family, name)) for name in catalog.names(family))
    return "\n".join(parts)


def _describe(name: str, method: type[Method]) -> str:
    """Return one method's section: its docstring, then its options."""
    lines = [
        f"### {name}\n",
        inspect.cleandoc(method.__doc__ or "").replace("\n**", "\n\n**").replace("\n\n\n", "\n\n"),
        "",
    ]
    if method.model_fields:
        lines += ["| option | default | |", "|---|---|---|"]
    for field, info in method.model_fields.items():
        default = "required" if info.is_required() else str(info.default)
        lines.append(f"| `{field}` | `{default}` | {info.description or ''} |".replace("\n", " "))
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(methods_page(), end="")
