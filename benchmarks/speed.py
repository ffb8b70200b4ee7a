"""How fast cfkit is beside the published code, all measured in one run, each measurement in a process of its own.

    python benchmarks/speed.py -o benchmarks/results/speed.json
    python benchmarks/speed.py --only tiny,demo -o FILE  # these alone; what else FILE holds stays

Three ways: the published loop (benchmarks/reference.py), cfkit exact, cfkit fast. A ratio is the
seconds of a film of the published loop over those of cfkit; seconds of two machines never compare.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from cfkit.bench.store import png_bytes
from cfkit.data.dataset import virtual_split
from cfkit.origin import origin

HERE = Path(__file__).parent
FULL_BATCHES, BATCHES = (1, 2), (1, 2, 4, 8)
GROWTH = (8, 64, 512)


def measure(repeats: int = 1, **case: Any) -> dict[str, Any]:
    """Runs one case; of several runs the one of the median seconds."""
    runs = []
    for _ in range(repeats):
        command = [sys.executable, str(HERE / "speed_case.py"), json.dumps(case)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{case}: {done.stderr.strip().splitlines()[-1:]}")
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    if "seconds" not in runs[0]:
        return runs[0]  # type: ignore[no-any-return]
    runs.sort(key=lambda run: float(run["seconds"]))
    told: dict[str, Any] = runs[len(runs) // 2]
    shown = {k: case[k] for k in ("method", "size", "way", "films")}
    print(*shown.values(), f"{told['seconds']:.2f} s a film, {told['peak_bytes'] / 2**30:.2f} GiB", flush=True)
    return told


def share_of_limit(told: dict[str, Any], rates: dict[str, float]) -> float:
    """The time that the counted operations take at the machine's best rate, over the time they took."""
    least = sum(count / rates[kind] for kind, count in told["operations"].items())
    return least / (told["films"] * (told["inversion"] * told["inversions"] + told["step"]))


def tuned(size: str, device: str, rates: dict[str, float], repeats: int) -> dict[str, Any]:
    """`ours` at one size: every way, every batch, and the ratios to the published loop."""
    common: dict[str, Any] = {"method": "ours", "size": size, "device": device}
    rows = [measure(repeats, **common, way="release", films=1)]
    for films in FULL_BATCHES if size == "full" else BATCHES:
        rows += [measure(repeats, **common, way=way, films=films) for way in ("exact", "fast")]
    release, exact = rows[0], rows[1]
    agreed = zip(release.pop("latents"), exact["latents"], strict=True)
    scale = statistics.fmean(abs(x) for x in exact["latents"])
    difference = statistics.fmean(abs(a - b) for a, b in agreed) / scale
    for row in rows:
        row.pop("latents", None)
        row["ratio"] = round(release["seconds"] / row["seconds"], 2)
        row["ratio to 3 x 50 steps"] = round(release["seconds of 3 x 50 steps"] / row["seconds"], 2)
        row["memory"] = round(row["peak_bytes"] / release["peak_bytes"], 2)
        if "operations" in row:
            row["share of the limit"] = round(share_of_limit(row, rates), 2)
    return {"rows": rows, "exact differs from the published loop by": round(difference, 6)}


def growth(device: str) -> dict[str, Any]:
    """`cfkit edit` on more and more films, two passes each: seconds and peak memory of the whole command."""
    rows = []
    for count in GROWTH:
        with tempfile.TemporaryDirectory() as name:
            paths = []
            for k in range(count):
                paths.append(Path(name) / f"{k}.png")
                paths[-1].write_bytes(png_bytes(virtual_split()[4 * (k % 64) + 3].image))
            command = [sys.executable, "-m", "cfkit", "edit", *map(str, paths), "--remove", "Pleural Effusion"]
            command += ["--epochs", "2", "--device", device, "-o", str(Path(name) / "out")]
            begun = time.perf_counter()
            with open(os.devnull, "w") as null:
                process = subprocess.Popen(command, stdout=null, stderr=null)
                _, status, used = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"{' '.join(command[:5])} ...: exit code {status}")
            rows.append({"films": count, "seconds": time.perf_counter() - begun, "peak_bytes": used.ru_maxrss * 1024})
            print(
                f"cfkit edit, {count} films: {rows[-1]['seconds']:.1f} s, {used.ru_maxrss / 2**20:.2f} GiB", flush=True
            )
    (a, b, c) = rows
    early = (b["seconds"] - a["seconds"]) / (b["films"] - a["films"])
    late = (c["seconds"] - b["seconds"]) / (c["films"] - b["films"])
    return {"rows": rows, "seconds a film, 8 to 64": round(early, 3), "64 to 512": round(late, 3)}


FIRST_STEP = """
import os, sys, time
import cfkit.cli, cfkit.specs

import_target = cfkit.specs.import_target

def first(done, total):
    print(time.time(), flush=True)
    os._exit(0)

def patched(target):
    def build(bundle, options):
        editor = import_target(target)(bundle, options)
        edit = editor.edit
        editor.edit = lambda *args, progress, **rest: edit(*args, progress=first, **rest)
        return editor
    return build

cfkit.specs.import_target = patched
given = ["sample:effusion", "--remove", "Pleural Effusion", "--device", sys.argv[1], "-o", sys.argv[2]]
sys.argv = ["cfkit", "edit", *given]
cfkit.cli.main()
"""


def start_up(device: str) -> float:
    """Seconds from the call of `cfkit edit` to the end of its first step."""
    times = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as name:
            begun = time.time()
            done = subprocess.run(
                [sys.executable, "-c", FIRST_STEP, device, name], capture_output=True, text=True, check=True
            )
            times.append(float(done.stdout.split()[-1]) - begun)
    return statistics.median(times)


def main() -> None:
    """Measures, prints, and writes what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="tiny, demo, full, peers, growth, start; all by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=1, help="of each measurement; the median counts")
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else ["tiny", "demo", "full", "peers", "growth", "start"]
    where = origin(f"torch {torch.__version__}", given.device)
    rates = measure(method="rates", way="cfkit", device=given.device)
    best = {kind: f"{rate:.3g}" for kind, rate in rates.items()}
    told: dict[str, Any] = {}
    for size in ("tiny", "demo", "full"):
        if size in wanted:
            told[size] = tuned(size, given.device, rates, given.repeats)
    if "peers" in wanted:
        peers = ("radedit", "plain", ("exact",)), ("gifsplanation", "published", ("exact", "fast"))
        for method, reference, ways in peers:
            common = {"method": method, "size": "demo", "device": given.device}
            rows = [measure(given.repeats, **common, way=reference, films=8)]
            rows += [measure(given.repeats, **common, way=way, films=films) for way in ways for films in (1, 8)]
            for row in rows:
                row["ratio"] = round(rows[0]["seconds"] / row["seconds"], 2)
            told[method] = {"rows": rows}
    if "growth" in wanted:
        told["growth"] = growth(given.device)
    if "start" in wanted:
        told["seconds to the first step"] = round(start_up(given.device), 2)
    whole = {**where, "operations a second, at best": best, **told}
    print(json.dumps(whole, indent=1))
    if given.out:
        if given.only and given.out.exists():  # what is measured again says for itself when and where
            again = {name: {**where, **part} if isinstance(part, dict) else part for name, part in told.items()}
            whole = {**json.loads(given.out.read_text()), **again}
        given.out.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
