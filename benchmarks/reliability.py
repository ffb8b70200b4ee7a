"""Faults, one after another, while cfkit works: what stays, what is said, whether it goes on.

    python benchmarks/reliability.py --kills 50 -o benchmarks/results/reliability.json

After each fault every file with a final name must be whole, nothing that was finished may be lost or
stand twice, what is said must be one line a problem without a traceback, and the same command given
again (`--resume` for the benchmark) must complete. The full disk needs root, for a small tmpfs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trials import (
    bench_command,
    complete_bench,
    complete_edit,
    edit_command,
    half_written,
    results_of,
    run,
    said_badly,
    timed,
)

from cfkit.origin import origin


def kill(command: list[str], after: float) -> None:
    """Kills a command, and all that it started, after so many seconds."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as it:
        try:
            it.wait(after)
        except subprocess.TimeoutExpired:
            os.killpg(it.pid, signal.SIGKILL)


def killed_edits(folder: Path, kills: int) -> Iterator[list[str]]:
    """`edit` killed at random moments."""
    seconds = timed(edit_command(folder / "whole"))
    whole = sorted(path.name for path in (folder / "whole").iterdir())
    for k in range(kills):
        out = folder / f"edit{k}"
        kill(edit_command(out), random.uniform(0.2, seconds))
        wrong = half_written(out) if out.exists() else []
        wrong += complete_edit(out)
        there = sorted(path.name for path in out.iterdir())
        yield [*wrong, *([] if there == whole else [f"other files than an undisturbed command's: {there}"])]


def killed_benches(folder: Path, kills: int) -> Iterator[list[str]]:
    """`bench` killed at random moments, then resumed."""
    seconds = timed(bench_command(folder / "whole"))
    wanted = results_of(folder / "whole")
    for k in range(kills):
        out = folder / f"bench{k}" / "run"
        out.parent.mkdir()
        kill(bench_command(out), random.uniform(0.2, seconds))
        yield complete_bench(out, wanted)


def undisturbed(folder: Path) -> dict[str, Any]:
    """The results of a run that nothing happens to."""
    run(bench_command(folder / "whole"))
    return results_of(folder / "whole")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A tmpfs of a given size."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def full_disk(folder: Path, kills: int) -> Iterator[list[str]]:
    """The disk fills up; then there is room."""
    with small_disk(folder, "400k") as disk:
        done = run(edit_command(disk / "out"))
        wrong = [*said_badly(done), *half_written(disk)]
        if done.returncode == 0:
            wrong.append("nothing was said of a full disk")
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        yield [*wrong, *complete_edit(disk / "out")]
    wanted = undisturbed(folder)
    for size in ("200k", "500k", "900k"):
        (folder / size).mkdir()
        with small_disk(folder / size, size) as disk:
            done = run(bench_command(disk / "run"))
            wrong = [*said_badly(done), *half_written(disk)]
            subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
            yield [*wrong, *complete_bench(disk / "run", wanted)]


def removed_folder(folder: Path, kills: int) -> Iterator[list[str]]:
    """The output folder goes while films are edited."""
    out = folder / "out"
    with subprocess.Popen(edit_command(out), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(out.glob("*.json")):
            time.sleep(0.05)
        shutil.rmtree(out, ignore_errors=True)
        said = process.communicate()[1]
    done = subprocess.CompletedProcess([], process.returncode, "", said)
    yield [*said_badly(done), *complete_edit(out)]


def revoked_permissions(folder: Path, kills: int) -> Iterator[list[str]]:
    """The output folder may not be written to; root is denied its privilege to do so all the same."""
    out = folder / "out"
    out.mkdir(parents=True)
    folder.chmod(0o755)
    out.chmod(0o555)
    other = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    done = run([*other, *edit_command(out)])
    wrong = said_badly(done)
    if done.returncode != 2 or len(done.stderr.splitlines()) != 1:
        wrong.append(f"not one line and exit code 2: {done.returncode} {done.stderr[-300:]}")
    out.chmod(0o755)
    yield [*wrong, *complete_edit(out)]


def starved_memory(folder: Path, kills: int) -> Iterator[list[str]]:
    """Too little memory for the models, for an edit, and for eight films but not for one."""
    for k, gib in enumerate((1.5, 2.5, 3.5, 4.5)):

        def limit(most: int = int(gib * 2**30)) -> None:
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

        out = folder / f"starved{k}"
        done = run(edit_command(out), preexec_fn=limit)
        yield [*(said_badly(done) if done.returncode > 0 else []), *half_written(out), *complete_edit(out)]


def torn_store(folder: Path, kills: int) -> Iterator[list[str]]:
    """A part of the store is lost between two runs."""
    wanted = undisturbed(folder)
    for k, lost in enumerate((100, 5000, 12000, 20000)):
        out = folder / f"torn{k}" / "run"
        out.parent.mkdir()
        run(bench_command(out))
        store = out / "cases.sqlite"
        os.truncate(store, max(store.stat().st_size - lost, 0))
        yield complete_bench(out, wanted)


def two_runs(folder: Path, kills: int) -> Iterator[list[str]]:
    """Two runs into one folder: one goes on, the other says why not."""
    out = folder / "run"
    both = [subprocess.Popen(bench_command(out), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [subprocess.CompletedProcess([], p.wait(), "", p.stderr.read() if p.stderr else "") for p in both]
    wrong = [line for done in ended for line in said_badly(done)]
    if sorted(done.returncode for done in ended) != [0, 2]:
        wrong.append(f"exit codes {[done.returncode for done in ended]}")
    yield [*wrong, *complete_bench(out, undisturbed(folder))]


def ray_workers() -> list[int]:
    """Process numbers of the Ray workers that edit a batch at this moment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::RemoteWorker.run" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def killed_worker(folder: Path, kills: int) -> Iterator[list[str]]:
    """A worker of a Ray run is killed while it edits; the run goes on without it and ends by itself."""
    wanted = undisturbed(folder)
    for k in range(3):
        out = folder / f"ray{k}" / "run"
        out.parent.mkdir()
        command = [*bench_command(out), "--engine", "ray", "--workers", "2"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
            found: list[int] = []
            while process.poll() is None and not found:
                time.sleep(0.05)
                found = ray_workers()
            if found:
                os.kill(random.choice(found), signal.SIGKILL)
            said = process.communicate()[1]
        done = subprocess.CompletedProcess([], process.returncode, "", said)
        wrong = [] if found else ["no worker was found to kill"]
        if done.returncode:
            wrong.append(f"the run did not end well: {said[-200:]}")
        yield [*wrong, *said_badly(done), *complete_bench(out, wanted)]


SCENARIOS: dict[str, Callable[[Path, int], Iterator[list[str]]]] = {
    "edit, killed at random moments": killed_edits,
    "bench, killed at random moments": killed_benches,
    "a full disk": full_disk,
    "the output folder removed": removed_folder,
    "permissions revoked": revoked_permissions,
    "too little memory": starved_memory,
    "a store with a part lost": torn_store,
    "two runs into one folder": two_runs,
    "a Ray worker killed": killed_worker,
}


def main() -> None:
    """Runs every scenario and tells how many trials went wrong, and how."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--only", default="", help="a part of a scenario's name")
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    random.seed(0)
    kept = json.loads(given.out.read_text()) if given.out and given.out.is_file() else {}  # other scenarios stay
    told: dict[str, Any] = {}
    for name, scenario in SCENARIOS.items():
        if given.only not in name:
            continue
        trials = []
        with tempfile.TemporaryDirectory() as folder:
            for k, wrong in enumerate(scenario(Path(folder), given.kills), 1):
                trials.append(wrong)
                print(f"{name}, {k}: {'; '.join(wrong) or 'as it should be'}", flush=True)
        bad = [wrong for wrong in trials if wrong]
        told[name] = {**origin(), "trials": len(trials), "wrong": len(bad), "how": bad}
        if given.out:
            given.out.write_text(json.dumps({**kept, **told}, indent=1) + "\n")
    sys.exit(any(each["wrong"] for each in told.values()))


if __name__ == "__main__":
    main()
