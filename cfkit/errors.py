"""The one exception that a user is meant to see, and what often leads to it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

NO_ROOM = ("not enough memory", "allocate memory", "bad_alloc", "failed to map segment", "out of memory")


class UserError(ValueError):
    """An error the user can mend: one line that names the file or option and the way out."""

    def __init__(self, message: str):
        super().__init__("".join(c if c.isprintable() else " " for c in message))


def unknown(kind: str, given: str, known: Iterable[str]) -> str:
    """The line for a name that is none of the known ones.

    >>> unknown("method", "our", ["ours", "radedit"])
    "Unknown method 'our'. Did you mean 'ours'? Known: ours, radedit."
    """
    names = list(known)
    lowered = {name.lower(): name for name in names}
    close = get_close_matches(given.lower(), lowered, n=1, cutoff=0.5)
    hint = f" Did you mean '{lowered[close[0]]}'?" if close else ""
    return f"Unknown {kind} '{given}'.{hint} Known: {', '.join(names) or 'none'}."


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        OSError: It cannot be read.
        UserError: It is not TOML.
    """
    import tomllib

    try:
        return tomllib.loads(path.read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid TOML ({error})") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what it came of, says that there was not enough memory, on any device."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    return any(
        isinstance(each, MemoryError)
        or type(each).__name__ == "OutOfMemoryError"
        or any(w in str(each).lower() for w in NO_ROOM)
        for each in chain
    )


def one_line(error: BaseException, *, most: int = 160) -> str:
    """What another library's error says, in a line of at most so many characters; its kind where it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__
