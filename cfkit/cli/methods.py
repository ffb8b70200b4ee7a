"""`cfkit methods`."""

from __future__ import annotations

import json

import rich_click as click


@click.command("methods")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the installed methods, and the plugins that do not load."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ..options import default_of, describe, presets
    from ..plugins import load_plugins

    found = load_plugins()
    if as_json:
        rows = [
            {
                "name": spec.name,
                "summary": spec.summary,
                "reference": spec.reference,
                "distribution": spec.distribution,
                "presets": presets(spec.options),
                "options": {each.name: default_of(each) for each, _, _ in describe(spec.options)},
            }
            for _, spec in sorted(found.editors.items())
        ]
        click.echo(json.dumps({"methods": rows, "problems": found.problems}, indent=2))
        return
    table = Table("method", "summary", "distribution", box=None, pad_edge=False)
    for name, spec in sorted(found.editors.items()):
        table.add_row(escape(name), escape(spec.summary), escape(spec.distribution))
    Console().print(table)
    for problem in found.problems:
        click.echo(f"cfkit: {problem}", err=True)
