"""No file makes cfkit fall over, hang, eat memory, run code, or write where it should not."""

import resource
import signal
from collections import Counter
from contextlib import contextmanager

from cfkit import UserError
from cfkit.bench.suite import read_suite
from cfkit.bundles.bundle import load_bundle
from cfkit.bundles.checkpoints import read_checkpoint, weights_of
from cfkit.data.check import check_folder
from cfkit.data.dataset import open_dataset
from cfkit.images import read_film

from .corpus import TRACE, corpus

SECONDS, GIB = 10, 2.0


def read_data(path):
    for sample in open_dataset(str(path)):
        assert sample.image.isfinite().all()
    check_folder(path, uncertain="ignore", report=lambda line: None)


PARSERS = {
    "film": read_film,
    "data": read_data,
    "bundle": lambda path: load_bundle(path.parent, device="cpu").classifier,
    "suite": lambda path: read_suite(str(path)),
    "checkpoint": lambda path: weights_of(read_checkpoint(path)),
}


@contextmanager
def within(seconds):
    def late(*_):
        raise TimeoutError(f"took more than {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def test_every_file_is_read_or_refused_in_one_line(tmp_path):
    made = corpus(tmp_path)
    assert len(made) >= 300
    wrong, outcomes = [], Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for k, hostile in enumerate(made):
        folder = tmp_path / f"{k}"
        folder.mkdir()
        path = hostile.write(folder)
        there = {p.relative_to(tmp_path) for p in tmp_path.rglob("*")}
        try:
            with within(SECONDS):
                PARSERS[hostile.parser](path)
            outcomes["read"] += 1
        except UserError as error:
            outcomes["refused"] += 1
            if "\n" in str(error) or len(str(error)) > 1000:
                wrong.append(f"{hostile.name}: more than a line: {str(error)[:200]!r}")
        except BaseException as error:
            wrong.append(f"{hostile.name}: {type(error).__name__}: {str(error)[:150]}")
        new = {p.relative_to(tmp_path) for p in tmp_path.rglob("*")} - there
        if new or (folder / TRACE).exists():
            wrong.append(f"{hostile.name}: wrote {new}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    assert not wrong, "\n".join([f"{len(wrong)} of {len(made)}", *wrong])
    assert grown < GIB, f"memory grew by {grown:.1f} GiB"
    assert outcomes["refused"] > 150 and outcomes["read"] > 20, outcomes
