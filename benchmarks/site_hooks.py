"""Hooks of the documentation's site: formulas become MathML, so that the site needs no script and no network."""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)
CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Formulas outside code."""
    parts = CODE.split(markdown)
    return "".join(part if k % 2 else FORMULA.sub(_mathml, part) for k, part in enumerate(parts))


def _mathml(found: re.Match[str]) -> str:
    made = str(convert((found[1] or found[2]).strip(), display="block" if found[1] else "inline"))
    return made if found[1] else f"<span>{made}</span>"  # a line that began with <math> would be a block
