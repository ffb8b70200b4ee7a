"""Writes docs/cli.md from the commands themselves.

python benchmarks/cli_reference.py
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from cfkit.cli import cli
from cfkit.cli.flags import method_flags
from cfkit.plugins import list_editors

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """# Commands

Made by `benchmarks/cli_reference.py`. `cfkit COMMAND --help` says the same. The defaults of a method's options are
those without a bundle: what a bundle recommends (`cfkit bundles show`) goes before them, and `cfkit edit` takes
`--speed fast`.
"""


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and those under it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            under = command.get_command(context, name)
            assert under is not None
            yield from commands(under, (*path, name))


def option_lines(params: list[click.Parameter]) -> list[str]:
    """A table of options."""
    lines = []
    for param in params:
        if not isinstance(param, click.Option):
            continue
        names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
        kind = "" if param.is_flag or param.secondary_opts else _kind(param)
        default = (
            "" if param.is_flag or param.default in (None, "") or callable(param.default) else f"`{param.default}`"
        )
        if "UNSET" in default.upper():
            default = ""
        text = (param.help or "").replace("|", "\\|")
        lines.append(f"| {names} | {kind} | {text} | {default} |")
    return ["| option | | | default |", "|---|---|---|---|", *lines] if lines else []


def _kind(param: click.Option) -> str:
    if isinstance(param.type, click.Choice):
        return " \\| ".join(str(choice) for choice in param.type.choices)
    return (param.metavar or param.type.name).upper().replace("|", "\\|")


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for path, command in commands(cli, ("cfkit",)):
        arguments = [
            param.make_metavar(click.Context(command)) for param in command.params if isinstance(param, click.Argument)
        ]
        parts.append(f"## {' '.join(path)}\n")
        usage = " ".join([*path, *arguments, *(["COMMAND"] if isinstance(command, click.Group) else [])])
        parts.append(f"`{usage}`\n")
        parts.append(inspect.cleandoc(command.help or "") + "\n")
        table = option_lines(command.params)
        parts += ["\n".join(table) + "\n"] if table else []
        if path == ("cfkit", "edit"):
            for spec in (each for each in list_editors() if each.distribution.startswith("cfkit ")):
                parts.append(f"With `--method {spec.name}`:\n")
                parts.append("\n".join(option_lines(list(method_flags(spec)))) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
