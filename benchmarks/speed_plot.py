"""Draws what benchmarks/speed.py measured; needs matplotlib.

python benchmarks/speed_plot.py benchmarks/results/speed.json docs/speed.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

COLOURS = {"release": "#9aa0a6", "exact": "#3b7dd8", "fast": "#e07b39"}
NAMES = {"release": "published loop", "exact": "cfkit exact", "fast": "cfkit fast"}
TITLES = {"tiny": "toy size", "demo": "demo bundle", "full": "Cheff's full size"}


def draw(results: dict, out: Path) -> None:
    """A panel a size: seconds a film by films edited together; the last: times as fast as the published loop."""
    sizes = [size for size in TITLES if size in results]
    figure, axes = pyplot.subplots(1, len(sizes) + 1, figsize=(3.4 * (len(sizes) + 1), 3.2), layout="constrained")
    for axis, size in zip(axes, sizes, strict=False):
        rows = results[size]["rows"]
        release = next(row for row in rows if row["way"] == "release")
        axis.axhline(release["seconds"], color=COLOURS["release"], label=NAMES["release"])
        for way in ("exact", "fast"):
            mine = [row for row in rows if row["way"] == way]
            seconds = [row["seconds"] for row in mine]
            axis.plot([row["films"] for row in mine], seconds, "o-", color=COLOURS[way], label=NAMES[way])
        axis.set_ylim(0, None)
        axis.set_xscale("log", base=2)
        counts = sorted({row["films"] for row in rows})
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.set_xlabel("films together")
        axis.set_title(TITLES[size], fontsize=10)
    axes[0].set_ylabel("seconds a film")
    axes[0].legend(fontsize=8, frameon=False)
    bars = [(TITLES[size], row) for size in sizes for row in results[size]["rows"] if row["way"] != "release"]
    best = {(title, row["way"]): row["ratio"] for title, row in bars}  # the largest batch comes last
    last = axes[-1]
    places = range(len(best))
    last.barh(list(places), list(best.values()), color=[COLOURS[way] for _, way in best])
    last.set_yticks(list(places), [f"{title}, {way}" for title, way in best], fontsize=8)
    last.axvline(1.0, color=COLOURS["release"])
    last.invert_yaxis()
    last.set_xlabel("times as fast as the published loop")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{results['machine']}, commit {results['commit']}", fontsize=8, color="#666666")
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
