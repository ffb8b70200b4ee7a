"""The page itself, in Gradio: what is chosen on the left, what came of it on the right."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .. import __version__
from ..anatomy import STRUCTURES
from ..errors import UserError
from ..images import SAMPLES
from ..plugins import list_editors
from .desk import Desk, Wish

NOTICE = "Synthetic films of a research tool; **not for clinical use**. Nothing leaves this machine."
FONTS = ["system-ui", "sans-serif"]


def build_page(desk: Desk) -> gr.Blocks:
    """The page of a desk; `launch` serves it."""
    methods = {spec.name: spec for spec in list_editors()}
    first = "ours" if "ours" in methods else next(iter(methods))
    page: gr.Blocks = gr.Blocks(title="cfkit", analytics_enabled=False, delete_cache=(3600, 3600))
    with page:
        gr.Markdown(f"## cfkit {__version__}: what would this film look like?\n{NOTICE}")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                upload = gr.File(label="Film (PNG, JPEG, TIFF, DICOM)", elem_id="film")
                sample = gr.Dropdown(["", *SAMPLES], value="", label="or a film that ships inside", elem_id="sample")
                direction = gr.Radio(["without", "with"], value="without", label="The same film", elem_id="direction")
                finding = gr.Dropdown(list(desk.findings), value=desk.findings[-1], label="Finding", elem_id="finding")
                method = gr.Dropdown(list(methods), value=first, label="Method", info=methods[first].summary)
                with gr.Accordion("More", open=False):
                    keep = gr.CheckboxGroup(list(STRUCTURES), label="Keep as it is", info="The method decides if none")
                    mask = gr.File(label="Drawn mask of what to keep (white)")
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                    exact = gr.Checkbox(False, label="Exact rather than fast, where the method has both")
                go = gr.Button("Edit", variant="primary", elem_id="go")
                status = gr.Markdown(elem_id="status")
            with gr.Column(scale=2, min_width=420):
                slider = gr.ImageSlider(label="Original | counterfactual", elem_id="slider", max_height=620)
                with gr.Tab("Probabilities"):
                    headers = ["model", "finding", "before", "after"]
                    table = gr.Dataframe(headers=headers, interactive=False, elem_id="probabilities")
                with gr.Tab("Difference"):
                    difference = gr.Image(label="Red brighter, blue darker", elem_id="difference", interactive=False)
                with gr.Tab("The way there"):
                    animation = gr.Image(label="Pass by pass", type="filepath", elem_id="way", interactive=False)
                with gr.Row():
                    files = [gr.DownloadButton(name, interactive=False) for name in ("Film", "Panel", "Record")]

        def look(path: str | None, named: str) -> Any:
            if not path and not named:
                return None
            picture = _or_error(lambda: desk.look(path or f"sample:{named}"))
            return picture, picture

        def edit(*values: Any, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008  as Gradio wants it
            path, named, way, what, how, kept, drawn, number, exactly = values
            film = path or (f"sample:{named}" if named else "")
            wish = Wish(film, how, what, way == "with", kept, drawn, int(number or 0), exactly)
            progress(0.0, desc="starting")
            made = _or_error(lambda: desk.edit(wish, lambda done: progress(done, desc=how)))
            seconds = made.record["seconds"]
            told = f"{what} {'added' if wish.present else 'removed'} by {how} in {seconds:.1f} s."
            paths = (made.result, made.panel, made.record_file)
            downloads = [gr.DownloadButton(value=str(path), interactive=True) for path in paths]
            shown = str(made.animation) if made.animation else None
            return [told, (made.original, made.counterfactual), made.probabilities, made.difference, shown, *downloads]

        upload.change(look, [upload, sample], slider, show_progress="hidden")
        sample.change(look, [upload, sample], slider, show_progress="hidden")
        method.change(lambda name: gr.Dropdown(info=methods[name].summary), method, method, show_progress="hidden")
        chosen = [upload, sample, direction, finding, method, keep, mask, seed, exact]
        outcome = [status, slider, table, difference, animation, *files]
        go.click(edit, chosen, outcome, concurrency_limit=1, show_progress_on=[slider])
    return page


def _or_error(work: Any) -> Any:
    try:
        return work()
    except UserError as error:
        raise gr.Error(str(error), duration=None, print_exception=False) from None


def launch(page: gr.Blocks, host: str, port: int, *, token: str, megabytes: int) -> Any:
    """Serves the page; with a token, only to who gives it as the password of the user "cfkit"."""
    page.queue(max_size=32, default_concurrency_limit=4)
    return page.launch(
        server_name=host,
        server_port=port,
        auth=("cfkit", token) if token else None,
        max_file_size=megabytes * 2**20,
        theme=gr.themes.Default(font=FONTS, font_mono=["ui-monospace", "monospace"]),
        footer_links=[],
        share=False,
        ssr_mode=False,
        enable_monitoring=False,
        quiet=True,
    )
