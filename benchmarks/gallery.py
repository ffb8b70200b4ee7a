"""Draws docs/gallery: edits of real films that no part of the demo bundle was trained on.

    python benchmarks/gallery.py NIH_FOLDER --out docs/gallery

The films are taken in the order of their names, each patient in turn, and none is left out for its
result: for each task those whose classifier does not see the target yet.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import cfkit
from cfkit.anatomy import BONES, STRUCTURES
from cfkit.data.virtual.patient import FINDINGS
from cfkit.outcome import measure
from cfkit.panel import draw_panel
from cfkit.train.demo import describe_run
from cfkit.train.real import read_real

PANELS, QUALITY = 20, 88
TASKS = [(finding, present) for present in (False, True) for finding in FINDINGS]


def choose(films: Tensor, patients: np.ndarray, classifier: object, count: int) -> list[tuple[int, str, bool]]:
    """(film, finding, present) of the panels, tasks in turn, a task's films from patients in turn."""
    logits = classifier(films)  # type: ignore[operator]
    queues = []
    for finding, present in TASKS:
        k = list(classifier.findings).index(finding)  # type: ignore[attr-defined]
        wanted = [i for i in range(len(films)) if bool(logits[i, k] > 0) != present]
        seen: dict[int, int] = {}
        order = []
        for i in wanted:
            seen[int(patients[i])] = seen.get(int(patients[i]), -1) + 1
            order.append((seen[int(patients[i])], i))
        queues.append([(i, finding, present) for _, i in sorted(order)])
    panels = []
    while len(panels) < count and any(queues):
        panels += [queue.pop(0) for queue in queues if queue]
    return panels[:count]


def draw_structures(films: Tensor, probabilities: Tensor, path: Path) -> None:
    """Films with the segmenter's 14 structures: bones in green, the others in orange."""
    font = ImageFont.load_default(13)
    rows = []
    for film, maps in zip(films, probabilities, strict=True):
        grey = np.repeat((film[0].numpy() * 255).astype(np.float32)[..., None], 3, axis=2)
        tiles = [grey]
        for k in range(len(STRUCTURES)):
            colour = np.array([70, 190, 170] if k in BONES else [240, 160, 60], np.float32)
            share = 0.5 * (maps[k].numpy() > 0.5)[..., None]
            tiles.append(grey * (1 - share) + colour * share)
        small = [Image.fromarray(tile.astype(np.uint8)).resize((128, 128)) for tile in tiles]
        rows.append(np.concatenate([np.asarray(tile) for tile in small], axis=1))
    sheet = Image.fromarray(np.concatenate(rows))
    canvas = Image.new("RGB", (sheet.width, sheet.height + 22), (18, 18, 20))
    canvas.paste(sheet, (0, 22))
    for k, name in enumerate(["film", *STRUCTURES]):
        ImageDraw.Draw(canvas).text((128 * k + 3, 3), name[:19], fill=(235, 235, 235), font=font)
    canvas.save(path, quality=QUALITY)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nih", type=Path, help="folder of NIH films with labels.csv")
    parser.add_argument("--method", default="ours")
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"))
    given = parser.parse_args()
    bundle = cfkit.load_bundle("demo")
    editor = cfkit.load_editor(given.method, bundle=bundle)
    real = read_real(given.nih, "test", small=False)
    films = torch.from_numpy(real.films).unsqueeze(1).float() / 255.0
    given.out.mkdir(parents=True, exist_ok=True)
    few = films[:: max(len(films) // 6, 1)][:6]
    draw_structures(few, bundle.segmenter(few), given.out / "structures.jpg")
    lines = []
    panels = choose(films, real.patients, bundle.classifier, PANELS)
    for number, (index, finding, present) in enumerate(panels, 1):
        intervention = cfkit.Intervention(finding, present)
        film = films[index : index + 1]
        edit = editor.edit(film, [intervention])
        (row,) = measure(bundle, film, edit.images, [intervention])
        verb = "with" if present else "without"
        said = [
            f"{name}: P({finding}) {row[name]['before'][finding]:.2f} to {row[name]['after'][finding]:.2f}"
            for name in ("classifier", "judge")
        ]
        panel = draw_panel(
            film[0, 0].numpy(),
            edit.images[0, 0].numpy(),
            None if edit.mask is None else edit.mask[0, 0].numpy(),
            title=f"NIH {Path(real.names[index]).stem} {verb} {finding} ({given.method})",
            lines=[";  ".join(said)],
        )
        name = (
            f"{number:02d}-{Path(real.names[index]).stem}-{intervention.task}-{finding.lower().replace(' ', '-')}.jpg"
        )
        Image.fromarray(panel).save(given.out / name, quality=QUALITY)
        lines.append(f"![NIH film {Path(real.names[index]).stem} {verb} {finding}; {'; '.join(said)}]({name})\n")
        print(number, name, said, flush=True)
    text = f"""# Gallery

Real films (NIH ChestX-ray14, Wang et al., CVPR 2017) of patients that no part of the demo bundle was trained
on, edited by `{given.method}` with that bundle. Nothing was picked by its result: tasks and patients in turn,
films in the order of their names, each where the classifier does not see the target yet.
Made by `benchmarks/gallery.py`; {describe_run()}. Synthetic; not for clinical use.

The segmenter's structures on real films, bones in green (no reference exists for these films):

![14 structures of six real films](structures.jpg)

"""
    (given.out / "README.md").write_text(text + "\n".join(lines))


if __name__ == "__main__":
    main()
