"""Hooks of the documentation's site: formulas become MathML, so that it needs no script; cards become pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)
CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)
CARDS = {
    "model-card.md": "cfkit/bundles/demo/MODEL_CARD.md",
    "data-card.md": "cfkit/data/DATA_CARD.md",
    "licences.md": "cfkit/data/NOTICE.md",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Formulas outside code."""
    parts = CODE.split(markdown)
    return "".join(part if k % 2 else FORMULA.sub(_mathml, part) for k, part in enumerate(parts))


def _mathml(found: re.Match[str]) -> str:
    made = str(convert((found[1] or found[2]).strip(), display="block" if found[1] else "inline"))
    return made if found[1] else f"<span>{made}</span>"  # a line that began with <math> would be a block


def on_files(files: Files, config: Any) -> Files:
    """The cards, which lie in the package beside what they are of, become pages."""
    root = Path(config["config_file_path"]).parent
    for page, source in CARDS.items():
        text = (root / source).read_text().replace("(NOTICE.md)", "(licences.md)")
        files.append(File.generated(config, page, content=text))
    return files
