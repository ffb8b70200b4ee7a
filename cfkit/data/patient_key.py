"""The key with which a user's runs tell patients of DICOM files apart."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs

from ..errors import UserError


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
            _draw_key(path)
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: neither read nor written ({error.strerror}); set CFKIT_PATIENT_KEY to a long secret text"
        ) from None


def _draw_key(path: Path) -> None:
    """Draws a key, whole when it gets its name; of several processes that do so at once one's key stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent) as part:  # for its owner alone
        part.write(secrets.token_bytes(32))
        part.flush()
        with suppress(FileExistsError):
            os.link(part.name, path)
