"""The command line. Nothing here imports torch: a command does when it runs."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import rich_click as click
from click.exceptions import Exit

from .. import __version__
from ..errors import UserError, is_out_of_memory
from ..memory import keep_freed_memory

COMMANDS = (
    *("edit", "bench", "report", "compare", "audit"),
    *("app", "methods", "doctor", "data", "train", "bundles", "new-method", "completion"),
)


class LazyGroup(click.RichGroup):
    """A group whose commands are modules of this package, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f".{name.replace('-', '_')}", __name__).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from ..errors import unknown

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.ClickException(unknown("command", args[0], COMMANDS))
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cfkit")
def cli() -> None:
    """Counterfactual editing of chest radiographs. Not for clinical use."""


def main() -> None:
    """Runs the command line; whatever the user can mend is one line and exit code 2."""
    keep_freed_memory()
    try:
        code = cli.main(standalone_mode=False)
    except click.Abort:
        click.echo("cfkit: interrupted", err=True)
        code = 130
    except Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        click.echo(f"cfkit: {' '.join(error.format_message().split())}", err=True)
        code = 2
    except UserError as error:
        click.echo(f"cfkit: {' '.join(str(error).split())}", err=True)
        code = 2
    except BrokenPipeError:
        code = 0
    except (MemoryError, ImportError, OSError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        click.echo("cfkit: not enough memory; close other programs or give this one more", err=True)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
