"""A method's options as command-line flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import rich_click as click

from ..errors import UserError, read_toml, unknown
from ..options import default_of, describe, presets
from ..plugins import load_plugins
from ..specs import EditorSpec

PREFIX = "method_"


def method_flags(spec: EditorSpec) -> list[click.Option]:
    """One flag for each option of a method; none has a default, so that what the user gave is known."""
    panel = f"Options of {spec.name} ({spec.distribution})"
    flags: list[click.Option] = []
    if presets(spec.options):
        flags.append(
            click.RichOption(
                ["--preset", f"{PREFIX}preset"],
                type=click.Choice(sorted(presets(spec.options))),
                help="A named set of options; single options win over it.",
                panel=panel,
            )
        )
    for each, kind, choices in describe(spec.options):
        flag = "--" + each.name.replace("_", "-")
        declaration = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        kind_of: Any = click.Choice(list(choices)) if choices else (None if kind is bool else kind)
        flags.append(
            click.RichOption(
                [declaration, f"{PREFIX}{each.name}"],
                type=kind_of,
                default=None,
                help=f"{each.metadata.get('help', '')} [default: {default_of(each)}]",
                panel=panel,
            )
        )
    return flags


class MethodCommand(click.RichCommand):
    """A command that takes the flags of the method chosen with --method; its help shows everyone's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["cfkit.method"] = None if {"-h", "--help"} & set(args) else chosen_method(args)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        editors = load_plugins().editors
        method = ctx.meta.get("cfkit.method")
        shown = [editors[method]] if method in editors else ([] if method else list(editors.values()))
        params = [*self.params, *(flag for spec in shown for flag in method_flags(spec))]
        help_option = self.get_help_option(cast(click.RichContext, ctx))
        return [*params, help_option] if help_option else params


def chosen_method(args: Sequence[str], default: str = "ours") -> str:
    """The value of --method among raw arguments."""
    for k, arg in enumerate(args):
        if arg.startswith("--method="):
            return arg.partition("=")[2]
        if arg == "--method" and k + 1 < len(args):
            return args[k + 1]
    return default


def given_options(values: dict[str, Any]) -> dict[str, Any]:
    """Takes the method's flags that the user gave out of a command's values."""
    flags = {key: values.pop(key) for key in list(values) if key.startswith(PREFIX)}
    return {key.removeprefix(PREFIX): value for key, value in flags.items() if value is not None}


def read_config(path: str | None, method: str) -> dict[str, Any]:
    """A method's table of a TOML file, such as `[ours]`.

    Raises:
        UserError: The file cannot be read or has no such table.
    """
    if path is None:
        return {}
    try:
        config = read_toml(Path(path))
    except OSError as error:
        raise UserError(f"--config {path}: cannot be read ({error.strerror})") from None
    table = config.get(method)
    if not isinstance(table, dict):
        raise UserError(
            f"--config {path}: " + unknown("table", method, [k for k, v in config.items() if isinstance(v, dict)])
        )
    return table
