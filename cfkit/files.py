"""Files that are whole under their name, or not there."""

from __future__ import annotations

import os
import platform
import re
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .errors import UserError

HOST = f"{zlib.crc32(platform.node().encode()):08x}"
"""Stands for this machine in the names of unfinished files."""
_UNFINISHED = re.compile(r"\..+\.([0-9a-f]{8})\.(\d+)\.part", re.DOTALL)


def write_beside(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file under another name and renames it, so that no half-written file has its name.

    Raises:
        UserError: The folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        os.replace(part, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); choose another folder with -o"
        ) from None
    finally:
        with suppress(OSError):  # what went wrong before is what is told
            part.unlink(missing_ok=True)


def remove_leftovers(folder: Path, *, age: float = 60.0) -> None:
    """Removes what `write_beside` left half-written in a folder when it was killed.

    Args:
        folder: Where.
        age: Seconds that a file must not have been written to, unless this machine wrote it and its process is gone:
            another machine may be at it.
    """
    for part in folder.glob(".*.part"):
        named = _UNFINISHED.fullmatch(part.name)
        if not named or not part.is_file():
            continue  # somebody else's
        host, process = named.groups()
        if (host == HOST and not _is_alive(process)) or time.time() - part.stat().st_mtime > age:
            part.unlink(missing_ok=True)


def _is_alive(process: str) -> bool:
    """Whether a process of this machine is still there; True where that cannot be told."""
    if os.name != "posix":
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
