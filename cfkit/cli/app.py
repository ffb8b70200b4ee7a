"""`cfkit app`."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import rich_click as click

from ..errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command("app")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen; wider than here asks for a token."
)
@click.option("--port", default=7860, show_default=True, type=click.IntRange(1, 65535))
@click.option("--token", default="", metavar="TEXT", help="The password of the user cfkit; drawn where one is needed.")
@click.option("--bundle", default="demo", show_default=True, metavar="NAME|DIR", help="The models.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--max-mb", default=64, show_default=True, type=click.IntRange(1, 4096), help="Largest film, megabytes.")
def command(host: str, port: int, token: str, bundle: str, device: str, max_mb: int) -> None:
    """Open a page to edit films in, on this machine.

    Only this machine reaches it unless --host says otherwise; then the page asks for the user cfkit and a
    token, which is printed. Results are kept for an hour, and go when the page is closed.
    """
    _check_port(host, port)
    with tempfile.TemporaryDirectory(prefix="cfkit-app-") as name:
        os.environ.update(GRADIO_TEMP_DIR=name, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1")
        page_module = _import_page()
        from ..app.desk import Desk
        from ..bundles.bundle import load_bundle

        desk = Desk(load_bundle(bundle, device=device), Path(name))
        if host not in LOOPBACK and not token:
            token = secrets.token_urlsafe(16)
        click.echo(f"cfkit: http://{host}:{port}" + (f", user cfkit, password {token}" if token else ""))
        click.echo("cfkit: Ctrl+C closes it")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what ends it otherwise leaves no film behind either
        page_module.launch(page_module.build_page(desk), host, port, token=token, megabytes=max_mb)


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"--port {port}: cannot listen on {host} ({error.strerror}); choose another") from None


def _import_page() -> Any:
    try:
        import_module("gradio")
    except ImportError:
        raise UserError('the page needs Gradio; pip install "cfkit[app]"') from None
    return import_module("cfkit.app.page")
