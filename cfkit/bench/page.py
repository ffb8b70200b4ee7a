"""A run as one page that opens offline: tables, plots, and the films with a slider."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from PIL import Image

from ..anatomy import BONES
from ..files import write_beside
from ..plugins import load_plugins
from .report import HEADLINE, TITLES, footnote
from .run import structures_name
from .store import CaseRow, FilmRow, Store

MOST_FILMS = 600  # edits on the page; beyond them, the first of each method and task


def write_page(store: Store, folder: Path, results: Mapping[str, Any]) -> Path:
    """Writes `report.html`; everything that it shows is inside it.

    Returns:
        Its path.
    """
    films = store.films()
    rows = [row for row in store.cases([c.key for c in store.plan() if c.kind == "edit"])]
    kept = choose_rows(rows)
    used = {row.film for row in kept}
    known = load_plugins().metrics
    data = {
        "methods": list(results["methods"]),
        "scores": [{k: v for k, v in score.items() if k != "draws"} for score in results["scores"]],
        "comparisons": results["comparisons"],
        "responses": results["responses"],
        "audited": results.get("audited", []),
        "headline": list(HEADLINE),
        "titles": TITLES,
        "summaries": {name: spec.summary for name, spec in known.items()},
        "films": {name: _film(store, films[name]) for name in sorted(used)},
        "cases": [_case(store, row, films[row.film]) for row in kept],
        "left_out": len(rows) - len(kept),
    }
    suite = results["suite"]
    template = files("cfkit.bench.templates")
    page = (
        Environment(autoescape=True)
        .from_string((template / "report.html").read_text())
        .render(
            title=suite["title"],
            subtitle=f"{len(data['methods'])} methods, {results['cases']} cases, {len(results['failures'])} failed; "
            f"data: {suite['data']}",
            features=results["features"] or "no model",
            footer=footnote(results) + " Synthetic films; not for clinical use.",
            css=_safe((template / "report.css").read_text()),
            js=_safe((template / "report.js").read_text()),
            data=_safe(json.dumps(data).replace("<", "\\u003c")),
        )
    )
    path = folder / "report.html"
    write_beside(path, lambda part: part.write_text(page))
    return path


def choose_rows(rows: Sequence[CaseRow], most: int = MOST_FILMS) -> list[CaseRow]:
    """All edits, or as many of each method and task as `most` allows, failures first."""
    if len(rows) <= most:
        return list(rows)
    groups: dict[tuple[str, str, bool], list[CaseRow]] = {}
    for row in rows:
        groups.setdefault((row.method, row.finding, row.present), []).append(row)
    share = max(most // len(groups), 1)
    kept = {r.key for group in groups.values() for r in sorted(group, key=lambda r: not r.error)[:share]}
    return [row for row in rows if row.key in kept]


def _safe(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)  # our own files, and JSON in which no "<" is left


def _film(store: Store, film: FilmRow) -> dict[str, Any]:
    found: dict[str, Any] = {"image": _picture(store, film.name)}
    if store.image_path(structures_name(film.name)).exists():
        bones = store.read_masks(structures_name(film.name), 14)[list(BONES)].any(dim=0).numpy()
        found["bones"] = _url(Image.fromarray(bones.astype(np.uint8) * 255), "PNG")
    return found


def _case(store: Store, row: CaseRow, film: FilmRow) -> dict[str, Any]:
    case: dict[str, Any] = {"method": row.method, "task": row.task, "film": row.film, "error": row.error}
    if row.error:
        return {**case, "outcome": "failed", "margin": None}
    case["image"] = _picture(store, row.key)
    if "target" in row.arrays and "judge" in film.arrays:
        target = int(row.arrays["target"])
        before, after = (float(a[target]) for a in (film.arrays["judge"], row.arrays["judge_after"]))
        flipped = (after > 0.5) == row.present and (before > 0.5) != row.present
        case |= {
            "before": round(before, 4),
            "after": round(after, 4),
            "margin": round((after - before) * (1 if row.present else -1), 4),
            "outcome": "flipped" if flipped else "not",
        }
    return {"outcome": "", "margin": None, **case}


def _picture(store: Store, name: str) -> str:
    pixels = (store.read_image(name)[0].numpy() * 255).round().astype(np.uint8)
    return _url(Image.fromarray(pixels), "WEBP", quality=92)


def _url(image: Image.Image, kind: str, **how: Any) -> str:
    stream = BytesIO()
    image.save(stream, kind, **how)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
