"""The key with which a user's runs tell patients of DICOM files apart."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import platformdirs

from ..errors import UserError
from ..files import write_beside


def patient_key() -> bytes:
    """What patients are told apart with: `CFKIT_PATIENT_KEY`, else random bytes that are drawn once for the user.

    Without it a number of few digits would be found from its digest by trying all.

    Raises:
        UserError: It can be neither read nor written.
    """
    if given := os.environ.get("CFKIT_PATIENT_KEY"):
        return given.encode()
    path = Path(platformdirs.user_data_dir("cfkit")) / "patient-key"
    try:
        if not path.is_file():
            write_beside(path, _draw_key)
        return path.read_bytes()
    except (OSError, UserError):
        raise UserError(f"{path}: cannot be written; set CFKIT_PATIENT_KEY to a long secret text") from None


def _draw_key(part: Path) -> None:
    part.touch(0o600)
    part.write_bytes(secrets.token_bytes(32))
