"""A method's options: one frozen dataclass serves Python, command-line flags and TOML.

Precedence, lowest first: the dataclass's defaults, the bundle's recommendation, the preset, what
`speed="fast"` changes, the caller's own.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, field, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import UserError, unknown


def option(default: Any, help: str, *, minimum: float | None = None, maximum: float | None = None) -> Any:
    """A field of a method's options.

    Args:
        default: Its default.
        help: One line for `--help` and the documentation.
        minimum: Least allowed value, if any.
        maximum: Greatest allowed value, if any.
    """
    return field(default=default, metadata={"help": help, "minimum": minimum, "maximum": maximum})


def presets(options: type[Any]) -> dict[str, dict[str, Any]]:
    """The presets that a method's options declare in a class variable `PRESETS`."""
    declared: dict[str, dict[str, Any]] = getattr(options, "PRESETS", {})
    return declared


def has_speed(options: type[Any]) -> bool:
    """Whether a method has a fast way beside its exact one."""
    return any(each.name == "speed" for each in fields(options))


def describe(options: type[Any]) -> list[tuple[Field[Any], type[Any] | str, tuple[Any, ...]]]:
    """Each option with its type and, for a `Literal`, its choices."""
    hints = get_type_hints(options)
    out: list[tuple[Field[Any], type[Any] | str, tuple[Any, ...]]] = []
    for each in fields(options):
        hint = hints[each.name]
        if get_origin(hint) in (Union, types.UnionType):  # X | None
            hint = next(a for a in get_args(hint) if a is not type(None))
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        out.append((each, type(choices[0]) if choices else hint, choices))
    return out


def resolve(
    options: type[Any], given: Mapping[str, Any], *, recommended: Mapping[str, Any] | None = None, method: str = ""
) -> Any:
    """Builds a method's options.

    Args:
        options: The method's dataclass. One with an option `speed` may have a method `faster` that returns
            what is different where it is "fast".
        given: What the caller chose, names with "_" or "-"; `preset` selects one of `PRESETS`.
        recommended: What the bundle recommends for this method; under "fast", what else where speed is "fast"
            and no preset is chosen, in the place of what `faster` says.
        method: Its name, for messages.

    Raises:
        UserError: An unknown option or preset, a wrong type, or a value out of range.
    """
    names = [each.name for each in fields(options)]
    given = {key.replace("-", "_"): value for key, value in given.items()}
    preset = given.pop("preset", None)
    values = {k: v for k, v in (recommended or {}).items() if k in names}
    if preset is not None:
        known = presets(options)
        if preset not in known:
            raise UserError(unknown(f"preset of {method}" if method else "preset", str(preset), known))
        values |= known[preset]
    for key in given:
        if key not in names:
            raise UserError(
                unknown(
                    f"option of {method}" if method else "option",
                    key,
                    [*names, *(["preset"] if presets(options) else [])],
                )
            )
    if given.get("speed") == "fast":
        told = (recommended or {}).get("fast") if preset is None else None
        if told is None and hasattr(options, "faster"):
            told = options(**_checked(options, values)).faster()
        values |= told or {}
    return options(**_checked(options, values | given))


def _checked(options: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    return {
        each.name: _check(each, kind, choices, values[each.name])
        for each, kind, choices in describe(options)
        if each.name in values
    }


def _check(each: Field[Any], kind: type[Any] | str, choices: tuple[Any, ...], value: Any) -> Any:
    flag = "--" + each.name.replace("_", "-")
    if choices:
        if value not in choices:
            raise UserError(unknown(f"value of {flag}", str(value), [str(c) for c in choices]))
        return value
    if value is None and each.default is None:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**1000 else math.inf
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):  # type: ignore[arg-type]
        raise UserError(f"{flag}: {getattr(kind, '__name__', kind)} wanted, {value!r} given")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{flag}: a finite number is wanted, {value} given")
    minimum, maximum = each.metadata.get("minimum"), each.metadata.get("maximum")
    below = minimum is not None and value < minimum
    above = maximum is not None and value > maximum
    if below or above:
        raise UserError(f"{flag}: {value} is out of range; {_range(minimum, maximum)}")
    return value


def _range(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f"choose from {minimum} to {maximum}"
    return f"at least {minimum}" if minimum is not None else f"at most {maximum}"


def as_dict(options: Any) -> dict[str, Any]:
    """Options as plain data, for records and TOML."""
    return asdict(options)


def default_of(each: Field[Any]) -> Any:
    """A field's default, None where it has none."""
    return None if each.default is MISSING else each.default
