"""Findings by their canonical names, the aliases that data sets use, and what is done to them."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UserError, unknown

FINDINGS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
"""The findings that editors of the paper's bundles know (CheXpert's competition tasks)."""

_ALIASES = {
    "effusion": "Pleural Effusion",
    "pleural fluid": "Pleural Effusion",
    "hydrothorax": "Pleural Effusion",
    "enlarged heart": "Cardiomegaly",
    "cardiac enlargement": "Cardiomegaly",
    "collapse": "Atelectasis",
    "pulmonary edema": "Edema",
    "oedema": "Edema",
}


def canonical(name: str, known: tuple[str, ...] = FINDINGS) -> str:
    """The canonical name of a finding, whatever its case, separators or alias.

    Args:
        name: As a user or a data set writes it.
        known: The findings to choose from, such as `bundle.classifier.findings`.

    Raises:
        UserError: It is none of the known ones, with the nearest that is.

    >>> canonical("pleural_effusion"), canonical("Effusion"), canonical("pleural effusion", ("Effusion", "Edema"))
    ('Pleural Effusion', 'Pleural Effusion', 'Effusion')
    """
    wanted = _plain(name)
    for finding in known:
        if _plain(finding) == wanted:
            return finding
    raise UserError(unknown("finding", name, known))


def _plain(name: str) -> str:
    """A name without case and separators, its alias resolved."""
    words = " ".join(name.replace("_", " ").replace("-", " ").lower().split())
    return _ALIASES.get(words, words).lower()


@dataclass(frozen=True)
class Intervention:
    """do(finding = present): what is to be changed in a film.

    Attributes:
        finding: Canonical name; aliases are resolved.
        present: True adds the finding (synthesis), False removes it (removal).

    >>> Intervention("effusion", present=False)
    Intervention(finding='Pleural Effusion', present=False)
    """

    finding: str
    present: bool

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "finding", canonical(self.finding))
        except UserError:
            if not self.finding.strip():
                raise  # other findings than the known five are left to the bundle's classifier

    @property
    def task(self) -> str:
        """ "removal" or "synthesis", as reports say."""
        return "synthesis" if self.present else "removal"
