"""One measurement of the speed suite, in a process of its own so that its peak memory is its own.

    python benchmarks/speed_case.py '{"method": "ours", "size": "demo", "way": "exact", "films": 8}'

prints a line of JSON: seconds, steps, peak memory, and operations where they are counted.
"""

from __future__ import annotations

import itertools
import json
import resource
import sys
import time
from types import SimpleNamespace
from typing import Any

import torch
from reference import plain_radedit, published_latent_shift, released_edit, released_inversion
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import cfkit
from cfkit import Intervention, UserError
from cfkit.anatomy import resize_mask, union_mask
from cfkit.bundles import bundle as bundle_module
from cfkit.bundles.cheff import SCHEDULE, CheffAutoencoder, Denoiser
from cfkit.data.dataset import virtual_split
from cfkit.diffusion import draw_noise, scheduler_grid
from cfkit.memory import keep_freed_memory
from cfkit.options import resolve

FINDING, TARGET = "Pleural Effusion", 2
DEMO = {"epochs": 24, "num_inference_steps": 6, "skip": 0.65, "lr": 1e-3, "release_grid": False}


class Operations(TorchDispatchMode):
    """Counts floating-point operations, of convolutions and of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = {"convolution": 0, "matrix": 0}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            kind = "convolution" if "conv" in str(func) else "matrix"
            self.counts[kind] += int(flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out))
        return out


def models_of(size: str, device: str) -> Any:
    """Bundle of the demo's models, or of random weights at toy size or at Cheff's full size."""
    if size == "demo":
        return cfkit.load_bundle("demo", device=device)
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DModel

    width, widths, heads = (32, (1, 2), 16) if size == "tiny" else (224, (1, 2, 3, 4), 32)
    torch.manual_seed(0)
    unet = UNet2DModel(
        in_channels=3,
        out_channels=3,
        block_out_channels=tuple(width * k for k in widths),
        layers_per_block=2 if size == "full" else 1,
        down_block_types=("DownBlock2D", *("AttnDownBlock2D",) * (len(widths) - 1)),
        up_block_types=(*("AttnUpBlock2D",) * (len(widths) - 1), "UpBlock2D"),
        attention_head_dim=heads,
    )
    base = 32 if size == "tiny" else 128
    kl = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(base, base * 2, base * 4),
        layers_per_block=2,
        latent_channels=3,
    )
    parts: dict[str, Any] = {
        "denoiser": Denoiser(unet),
        "autoencoder": CheffAutoencoder(kl),
        "classifier": _classifier(size),
    }
    for part in parts.values():
        bundle_module.prepare(part.eval().requires_grad_(False).to(device))
    parts["schedule"] = DDIMScheduler.from_config(SCHEDULE)
    return SimpleNamespace(
        **parts, device=torch.device(device), recommended={}, require=lambda *names: [parts[name] for name in names]
    )


def _classifier(size: str) -> nn.Module:
    if size == "full":
        from cfkit.bundles.classifiers import ResNet152

        return ResNet152()
    from cfkit.bundles.networks import SmoothClassifier

    return SmoothClassifier(widths=(16, 32), size=64)


def films_of(size: str, count: int) -> Tensor:
    """Virtual patients with an effusion, (N, 1, H, W)."""
    films = torch.stack([virtual_split()[4 * (k % 64) + 3].image for k in range(count)])
    return films[..., ::4, ::4].contiguous() if size == "tiny" else films


def mask_of(films: Tensor) -> Tensor:
    """Kept bones of the films, from the demo bundle, (N, 1, H, W)."""
    with torch.no_grad():
        return union_mask(cfkit.load_bundle("demo", device="cpu").segmenter(films))


def tuned(case: dict[str, Any], bundle: Any, films: Tensor, masks: Tensor) -> dict[str, Any]:
    """`ours`: seconds of the inversion's steps, of the passes' steps and of the rest, all for one film."""
    from cfkit_ours import OursOptions
    from cfkit_ours.editor import OursEditor

    given: dict[str, Any] = {"preset": "released", "frames": 1, **(DEMO if case["size"] == "demo" else {})}
    recommended = None
    if case["way"] == "fast":
        given["speed"] = "fast"
        if case["size"] == "demo":  # as `cfkit edit` runs it
            given, recommended = {"speed": "fast", "frames": 1}, bundle.recommended["ours"]
    whole = OursEditor(bundle, resolve(OursOptions, given, recommended=recommended))
    steps = len(whole.grid)
    passes = whole.options.epochs
    some = (4 if case["way"] == "fast" else 3) if case["size"] == "full" else 0
    if some:  # so many of a pass's steps are run, and the rest is reckoned from them
        given |= {"epochs": 1, "skip": 1.0 - some / whole.options.num_inference_steps}
    editor = OursEditor(bundle, resolve(OursOptions, given, recommended=recommended))
    run = _release if case["way"] == "release" else _batch
    run(editor, films[:1], masks[:1], 1) if not some else None  # the machine warms up
    times, latents = run(editor, films, masks, None)
    inversion = (times[len(editor.grid)] - times[0]) / len(editor.grid)
    train = (times[-2] - times[len(editor.grid)]) / (editor.options.epochs * len(editor.grid))
    rest = times[-1] - times[0] - inversion * len(editor.grid) - train * editor.options.epochs * len(editor.grid)
    shown = 1 if case["way"] == "release" else len(films)
    told = {"inversion": inversion / shown, "step": train / shown, "rest": rest / shown, "passes": passes}
    told["steps"] = passes * steps
    told["seconds"] = (rest + inversion * steps + train * passes * steps) / shown
    if case["way"] == "release":  # as published: 3 passes of 50 steps
        told["seconds of 3 x 50 steps"] = rest + 50 * inversion + 150 * train
    told["inversions"] = len(editor.grid)
    told["latents"] = latents[0].flatten()[:64].tolist() if case["way"] != "fast" else None
    if case["way"] != "fast":  # of the inversion and the first step of the passes
        counted = Operations()
        with counted:
            run(editor, films, masks, 1)
        told["operations"] = counted.counts
    return told


class Enough(Exception):
    """Raised from a progress report to stop an edit."""


def _batch(editor: Any, films: Tensor, masks: Tensor, most: int | None) -> tuple[list[float], Tensor]:
    times = [time.perf_counter()]
    kept: dict[str, Tensor] = {}
    original = editor.fine_tune

    def fine_tune(*args: Any, **kwargs: Any) -> Any:
        done = original(*args, **kwargs)
        kept["latents"] = done["passes"][-1]
        return done

    def progress(done: int, total: int) -> None:
        times.append(time.perf_counter())
        if most is not None and done == len(editor.grid) + most:
            raise Enough

    editor.fine_tune = fine_tune
    generators = [torch.Generator().manual_seed(k) for k in range(len(films))]
    try:
        editor.edit(
            films, [Intervention(FINDING, False)] * len(films), masks=masks, generators=generators, progress=progress
        )
    except Enough:
        return times, films
    finally:
        del editor.fine_tune
    return [*times, time.perf_counter()], kept["latents"]


def _release(editor: Any, films: Tensor, masks: Tensor, most: int | None) -> tuple[list[float], Tensor]:
    """The first film alone: the release takes one at a time."""
    times = [time.perf_counter()]
    with torch.no_grad():
        source = editor.autoencoder.encode(films[:1].to(editor.bundle.device))
    path = released_inversion(editor.denoiser, source, editor.grid)
    spread = (time.perf_counter() - times[0]) / len(editor.grid)
    times += [times[0] + spread * (k + 1) for k in range(len(editor.grid))]
    generator = torch.Generator().manual_seed(0)

    def step_done() -> None:
        times.append(time.perf_counter())
        if most is not None and len(times) == 1 + len(editor.grid) + most:
            raise Enough

    try:
        latent, _ = released_edit(
            editor,
            source,
            path[-1],
            grid=editor.grid,
            mask=resize_mask(masks[:1], source.shape[-2:]).to(source.device),
            target=list(editor.classifier.findings).index(FINDING),
            present=False,
            epochs=editor.options.epochs,
            lr=editor.options.lr,
            noises=(draw_noise(source, [generator]) for _ in itertools.count()),
            step_done=step_done,
        )
    except Enough:
        return times, films
    with torch.no_grad():
        editor.autoencoder.decode(latent)
    return [*times, time.perf_counter()], latent


def by_text(case: dict[str, Any], bundle: Any, films: Tensor, masks: Tensor) -> dict[str, Any]:
    """`radedit`: seconds a film."""
    editor = cfkit.load_editor("radedit", bundle=bundle)
    wanted = Intervention(FINDING, False)
    grid = scheduler_grid(editor.parts.schedule, editor.options.num_inference_steps)  # type: ignore[attr-defined]
    latent = resize_mask(masks, (films.shape[-2] // 8, films.shape[-1] // 8)).to(bundle.device)

    def plain(k: int) -> None:
        plain_radedit(
            editor.parts,  # type: ignore[attr-defined]
            films[k : k + 1].to(bundle.device),
            editor.prompt(wanted),  # type: ignore[attr-defined]
            grid=grid,
            replayed=len(editor.grid),  # type: ignore[attr-defined]
            keep=latent[k : k + 1],
            scale=editor.options.guidance_scale,  # type: ignore[attr-defined]
            seed=k,
        )

    if case["way"] == "plain":
        return _timed(lambda: [plain(k) for k in range(len(films))], lambda: plain(0), len(films))
    generators = [torch.Generator().manual_seed(k) for k in range(len(films))]
    edit = lambda n: editor.edit(films[:n], [wanted] * n, masks=masks[:n], generators=generators[:n])  # noqa: E731
    return _timed(lambda: edit(len(films)), lambda: edit(1), len(films))


def by_shift(case: dict[str, Any], bundle: Any, films: Tensor, masks: Tensor) -> dict[str, Any]:
    """`gifsplanation`: seconds a film, search and sweep."""
    search = "preview" if case["way"] == "fast" else "full"
    editor = cfkit.load_editor("gifsplanation", bundle=bundle, preset="released", search=search)
    models = SimpleNamespace(autoencoder=bundle.autoencoder, classifier=bundle.classifier)
    for part in (bundle.autoencoder, bundle.classifier):
        part.requires_grad_(case["way"] == "published")  # the published package freezes nothing

    def published(k: int) -> None:
        film = films[k : k + 1].to(bundle.device)
        published_latent_shift(models, film, TARGET, step=10.0, stop_pixels=0.05, stop_shift=3000.0)

    if case["way"] == "published":
        return _timed(lambda: [published(k) for k in range(len(films))], lambda: published(0), len(films))
    edit = lambda: editor.edit(films, [Intervention(FINDING, False)] * len(films))  # noqa: E731
    return _timed(edit, edit, len(films))  # films leave the search one by one: every number of them is seen first


def _timed(work: Any, warm: Any, films: int) -> dict[str, Any]:
    warm()
    begun = time.perf_counter()
    work()
    return {"seconds": (time.perf_counter() - begun) / films}


def rates(device: str) -> dict[str, Any]:
    """What the machine can do at best: operations a second of convolutions and of matrix products."""
    x = torch.randn(4, 128, 128, 128, device=device).to(memory_format=torch.channels_last)
    conv = nn.Conv2d(128, 128, 3, padding=1).to(device).to(memory_format=torch.channels_last)
    a = torch.randn(2048, 2048, device=device)
    told = {}
    with torch.no_grad():
        for name, work, operations in (
            ("convolution", lambda: conv(x), 2 * 9 * 128 * 128 * x[:, 0].numel()),
            ("matrix", lambda: a @ a, 2 * 2048**3),
        ):
            seconds = min(_timed(work, work, 1)["seconds"] for _ in range(7))
            told[name] = operations / seconds
    return told


def main() -> None:
    """Measures what the argument describes."""
    case = json.loads(sys.argv[1])
    device = case.get("device", "cpu")
    if case["way"] in ("release", "plain", "published"):
        bundle_module.prepare = lambda module: module  # type: ignore[assignment]
    else:
        keep_freed_memory()  # as cfkit's commands do
    if case["method"] == "rates":
        print(json.dumps(rates(device)))
        return
    bundle = models_of(case["size"], device)
    films = films_of(case["size"], case["films"])
    masks = mask_of(films)
    measure = {"ours": tuned, "radedit": by_text, "gifsplanation": by_shift}[case["method"]]
    told = measure(case, bundle, films, masks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated()
    print(json.dumps({**case, **told, "peak_bytes": peak}))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
