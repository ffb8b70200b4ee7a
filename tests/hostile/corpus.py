"""Malformed and malicious files, made from good ones: every one with the parser that it is given to."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from ..test_images import RAMP, dicom_film

TRACE = "executed"  # a file of this name says that code of a file was run


@dataclass(frozen=True)
class Hostile:
    """A file, or what lies in a folder.

    Attributes:
        name: What it is.
        parser: Who is to read it.
        write: Writes it into an empty folder and returns the path that the parser gets.
    """

    name: str
    parser: str
    write: Callable[[Path], Path]


class Executes:
    """Unpickled by a careless reader, it leaves a trace."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / TRACE),)


def of_bytes(name: str, parser: str, file: str, data: bytes) -> Hostile:
    def write(folder: Path) -> Path:
        (folder / file).write_bytes(data)
        return folder / file

    return Hostile(name, parser, write)


def harmed(data: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """A good file cut off, overwritten, lengthened and shuffled."""
    draw = random.Random(seed)
    for share in (0.01, 0.1, 0.3, 0.6, 0.9, 0.99):
        yield f"cut to {share:.0%}", data[: int(len(data) * share)]
    for k in range(12):
        changed = bytearray(data)
        for _ in range(1 + k):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        yield f"{1 + k} bytes changed", bytes(changed)
    for k in range(6):
        start = draw.randrange(max(min(len(data), 400), 1))
        length = draw.choice((1, 4, 64))
        yield f"{length} header bytes set, {k}", data[:start] + b"\xff" * length + data[start + length :]
    yield "twice", data + data
    yield "a byte inserted", data[: len(data) // 3] + b"\0" + data[len(data) // 3 :]
    yield "zeroed middle", data[: len(data) // 4] + bytes(len(data) // 2) + data[3 * len(data) // 4 :]
    yield "random bytes after its magic", data[:8] + draw.randbytes(2000)


def picture(form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((RAMP * 255).astype(np.uint8)).save(stream, form)
    return stream.getvalue()


def png_of(width: int, height: int, rows: bytes = b"", depth: int = 8, kind: int = 0) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def films(folder: Path) -> Iterator[Hostile]:
    for form, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("TIFF", "tif")):
        for what, data in harmed(picture(form), len(form)):
            yield of_bytes(f"{form} {what}", "film", f"f.{suffix}", data)
    for what, data in harmed(dicom_film(folder / "seed.dcm", window=(2047.5, 4096)).read_bytes(), 7):
        yield of_bytes(f"DICOM {what}", "film", "f.dcm", data)
    for width, height in ((50_000, 50_000), (2**31 - 1, 2**31 - 1), (0, 10), (1_000_000, 1), (20_000, 20_000)):
        yield of_bytes(f"PNG that says {width} x {height}", "film", "f.png", png_of(width, height, b"\0" * 100))
    bomb = png_of(9000, 9000, bytes(9001 * 9000))
    yield of_bytes("PNG bomb of 81 megapixels", "film", "f.png", bomb)
    yield of_bytes("an empty file", "film", "f.png", b"")
    yield of_bytes("HTML with an image's name", "film", "f.png", b"<html><script>alert(1)</script></html>")
    yield of_bytes("a zip with an image's name", "film", "f.png", zipped({"a": b"b" * 1000}))
    yield of_bytes("a gzip bomb with an image's name", "film", "f.png", gzip.compress(bytes(50_000_000)))
    yield Hostile("a link to nothing", "film", lambda at: link(at / "f.png", at / "nowhere"))
    yield Hostile("a link to itself", "film", lambda at: link(at / "f.png", at / "f.png"))
    yield Hostile("a folder with an image's name", "film", lambda at: made(at / "f.png"))


def link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def made(path: Path) -> Path:
    path.mkdir()
    return path


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


TABLE = b"file,patient,view,findings\na.png,1,PA,Edema\nb.png,2,AP,No Finding\n"
CELLS = (
    *("../../../etc/passwd", "/etc/passwd", "a\0b.png", "~root/x.png", "file:///etc/passwd", "..", "", "a" * 5000),
    *("<script>alert(1)</script>.png", '"><img src=x onerror=alert(1)>.png', "=cmd|' /C calc'!A0", "CON", "a\r\nb"),
)


def tables() -> Iterator[Hostile]:
    def folder_with(data: bytes) -> Callable[[Path], Path]:
        def write(at: Path) -> Path:
            (at / "labels.csv").write_bytes(data)
            for name in ("a.png", "b.png"):
                (at / name).write_bytes(picture("PNG"))
            return at

        return write

    for what, data in harmed(TABLE, 3):
        yield Hostile(f"CSV {what}", "data", folder_with(data))
    for cell in CELLS:
        row = f'file,patient,findings\n"{cell}",1,Edema\n'.encode()
        yield Hostile(f"CSV with the file {cell[:40]!r}", "data", folder_with(row))
        row = f'file,patient,findings\na.png,"{cell}","{cell}"\n'.encode()
        yield Hostile(f"CSV with the patient and finding {cell[:40]!r}", "data", folder_with(row))
    yield Hostile("CSV of no lines", "data", folder_with(b""))
    yield Hostile("CSV of one huge cell", "data", folder_with(b"file,patient\n" + b"x" * 3_000_000 + b",1\n"))
    yield Hostile("CSV of many columns", "data", folder_with(b",".join(b"c%d" % k for k in range(20_000)) + b"\n1\n"))
    yield Hostile("CSV that is UTF-16", "data", folder_with(TABLE.decode().encode("utf-16")))

    def outside(at: Path) -> Path:
        folder_with(b"file,patient\nout.png,1\n")(at)
        return link(at / "out.png", Path("/etc/passwd")).parent

    yield Hostile("CSV with a link that leads outside", "data", outside)


BUNDLE = b"""
name = "x"
[parts.classifier]
class = "demo-classifier"
file = "c.safetensors"
sha256 = "00"
config = { findings = ["Edema"], widths = [8, 8], size = 32 }
"""
SUITE = b"""
data = "virtual"
tasks = ["Cardiomegaly removal"]
limit = 1
methods = [{ name = "ours", options = { epochs = 1 } }]
"""


def settings() -> Iterator[Hostile]:
    for what, data in harmed(BUNDLE, 5):
        yield of_bytes(f"bundle.toml {what}", "bundle", "bundle.toml", data)
    for what, data in harmed(SUITE, 6):
        yield of_bytes(f"suite {what}", "suite", "suite.toml", data)
    for file in ("../c.safetensors", "/etc/passwd", "c\\0.safetensors", "", ".", "https://example.org/c.safetensors"):
        data = BUNDLE.replace(b"c.safetensors", file.encode())
        yield of_bytes(f"bundle with the file {file!r}", "bundle", "bundle.toml", data)
    for old, new in (
        (b'"demo-classifier"', b'"os.system"'), (b'"demo-classifier"', b"7"), (b"widths = [8, 8]", b'widths = "ab"'),
        (b"widths = [8, 8]", b"widths = [100000000, 8]"), (b"size = 32", b"size = -1"), (b'name = "x"', b"parts = 3"),
        (b"config = {", b"config = { evil = 1,"), (b"[parts.classifier]", b"[parts]\nclassifier = 1\n[other]"),
        (b'file = "c.safetensors"', b"file = 3"),
    ):  # fmt: skip
        yield of_bytes(f"bundle with {new.decode()[:40]}", "bundle", "bundle.toml", BUNDLE.replace(old, new))
    for old, new in (
        (b"limit = 1", b"limit = -5"), (b"limit = 1", b'limit = "many"'), (b"limit = 1", b"limit = 1e400"),
        (b'"virtual"', b"7"), (b'"virtual"', b'"../../.."'), (b'["Cardiomegaly removal"]', b"[1]"),
        (b'["Cardiomegaly removal"]', b'"Cardiomegaly removal"'), (b"epochs = 1", b"epochs = []"),
        (b"methods = [", b"methods = 3 #"), (b'name = "ours"', b'name = "__import__"'), (b'name = "ours"', b"name = 1"),
        (b'name = "ours"', b'label = "<script>", name = "ours"'), (b"limit = 1", b"unknown = 1"),
    ):  # fmt: skip
        yield of_bytes(f"suite with {new.decode()}", "suite", "suite.toml", SUITE.replace(old, new))
    deep = b"a = " + b"[" * 5000 + b"]" * 5000
    yield of_bytes("suite that is nested deeply", "suite", "suite.toml", deep)
    yield of_bytes("bundle that is nested deeply", "bundle", "bundle.toml", deep)


def weights(folder: Path) -> Iterator[Hostile]:
    good = save({"a": torch.arange(600.0), "b": torch.ones(3, 4)})
    for what, data in harmed(good, 8):
        yield of_bytes(f"safetensors {what}", "checkpoint", "w.safetensors", data)
    for size in (2**63, 2**31, 100_000_000, 0):
        yield of_bytes(f"safetensors, header of {size}", "checkpoint", "w.safetensors", struct.pack("<Q", size) + b"{}")
    for told in (
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
        {"a": {"dtype": "EVIL", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 10**12]}},
        {"a": 3},
    ):
        header = json.dumps(told).encode()
        data = struct.pack("<Q", len(header)) + header + bytes(4)
        yield of_bytes(f"safetensors that says {json.dumps(told)}", "checkpoint", "w.safetensors", data)
    torch.save({"state_dict": {"a": torch.arange(600.0)}}, folder / "good.pt")
    for what, data in harmed((folder / "good.pt").read_bytes(), 9):
        yield of_bytes(f"checkpoint {what}", "checkpoint", "w.pt", data)
    for what, wrap in (
        ("alone", lambda x: x),
        ("in a dict", lambda x: {"state_dict": x}),
        ("in a list", lambda x: [x]),
    ):
        for kind in ("zip", "old", "pickle"):
            yield Hostile(f"code in the pickle, {what}, {kind}", "checkpoint", executing(wrap, kind))
    yield of_bytes("a zip bomb as a checkpoint", "checkpoint", "w.pt", zipped({"archive/data.pkl": bytes(200_000_000)}))
    names = {"../../evil": b"x", "/etc/evil": b"x", "archive/data.pkl": pickle.dumps({})}
    yield of_bytes("a zip whose names lead outside", "checkpoint", "w.pt", zipped(names))
    for what, value in (("a number", 3), ("a text", "x"), ("a list", [1]), ("nothing", {}), ("no tensors", {"a": "b"})):
        yield of_bytes(f"a pickle of {what}", "checkpoint", "w.pt", pickle.dumps(value))


def executing(wrap: Callable[[object], object], kind: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        evil = wrap(Executes(folder))
        if kind == "pickle":
            (folder / "w.pt").write_bytes(pickle.dumps(evil))
        else:
            torch.save(evil, folder / "w.pt", _use_new_zipfile_serialization=kind == "zip")
        return folder / "w.pt"

    return write


def corpus(folder: Path) -> list[Hostile]:
    """All of them; `folder` is for the files that they are made of."""
    return [*films(folder), *tables(), *settings(), *weights(folder)]
