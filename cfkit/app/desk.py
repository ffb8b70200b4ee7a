"""What the page asks for: a film to look at, an edit of it, everything that belongs to the edit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..anatomy import STRUCTURES
from ..bundles.bundle import Bundle
from ..editing import Job, Run, edit_batch
from ..errors import UserError
from ..film import Film
from ..findings import Intervention
from ..images import read_film, read_mask
from ..options import has_speed
from ..outcome import describe_error
from ..panel import difference_colours
from ..plugins import find_editor, options_on
from ..specs import import_target

SHOWN = 1024  # most pixels of a side that the page is sent


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        film: A path, or "sample:NAME".
        method: By name.
        finding: By canonical name.
        present: Whether it is to be there.
        keep: Structures to keep; the method decides where empty.
        mask: A picture of what to keep, or None.
        seed: Of the noise.
        exact: Whether a method that has a fast way takes the exact one.
    """

    film: str
    method: str
    finding: str
    present: bool
    keep: Sequence[str] = ()
    mask: str | None = None
    seed: int = 0
    exact: bool = False


@dataclass(frozen=True)
class Made:
    """What came of it: pictures as (H, W, 3) uint8, files by path, and the record."""

    original: np.ndarray
    counterfactual: np.ndarray
    difference: np.ndarray
    animation: Path | None
    result: Path
    panel: Path
    record_file: Path
    record: dict[str, Any]

    @property
    def probabilities(self) -> list[list[str]]:
        """A row a model and finding: before, after."""
        return [
            [name, finding, f"{told['before'][finding]:.2f}", f"{told['after'][finding]:.2f}"]
            for name in ("classifier", "judge")
            if (told := self.record.get(name))
            for finding in told["before"]
        ]


class Desk:
    """A bundle and a folder that results go to, each edit's in a folder of its own."""

    def __init__(self, bundle: Bundle, folder: Path):
        self.bundle, self.folder = bundle, folder
        (classifier,) = bundle.require("classifier")
        self.findings = tuple(classifier.findings)

    def look(self, source: str) -> np.ndarray:
        """A film as it is shown, (H, W, 3) uint8.

        Raises:
            UserError: It cannot be read, or is no film.
        """
        return _picture(read_film(source).shown)

    def edit(self, wish: Wish, advance: Callable[[float], None]) -> Made:
        """Edits one film.

        Args:
            wish: What is asked for.
            advance: Called with the share that is done.

        Raises:
            UserError: In one line, whatever went wrong.
        """
        if not wish.film:
            raise UserError("choose a film first")
        spec = find_editor(wish.method)
        given = {"speed": "exact" if wish.exact else "fast"} if has_speed(spec.options) else {}
        options = options_on(spec, self.bundle, given)
        film = read_film(wish.film)
        out = Path(tempfile.mkdtemp(dir=self.folder))
        mask = read_mask(wish.mask, self.bundle.image_size) if wish.mask else None
        run = Run(
            spec,
            options,
            import_target(spec.target)(self.bundle, options),
            self.bundle,
            Intervention(wish.finding, wish.present),
            out,
            seed=wish.seed,
            keep=tuple(STRUCTURES.index(name) for name in wish.keep) or None,
            keep_mask=mask,
        )
        job = Job(Path(wish.film).name, "counterfactual", film, film.working(self.bundle.image_size))
        try:
            (record,) = edit_batch(run, [job], advance)
        except UserError:
            raise
        except Exception as error:  # a stranger's method may raise anything
            raise UserError(describe_error(error, spec)) from None
        return self._gather(out, film, record)

    def _gather(self, out: Path, film: Film, record: dict[str, Any]) -> Made:
        result = Path(record["output"])
        edited = read_film(result, any_shape=True).shown
        change = edited - film.shown
        limit = max(float(np.quantile(np.abs(change), 0.999)), 0.05)
        animation = out / "counterfactual.gif"
        return Made(
            _picture(film.shown),
            _picture(edited),
            _shrunk(difference_colours(change, limit)),
            animation if animation.is_file() else None,
            result,
            out / "counterfactual.panel.png",
            out / "counterfactual.json",
            record,
        )


def _picture(shown: np.ndarray) -> np.ndarray:
    grey = (shown * 255).round().astype(np.uint8)
    return _shrunk(np.repeat(grey[..., None], 3, axis=-1))


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((SHOWN, SHOWN))
    return np.asarray(picture)
