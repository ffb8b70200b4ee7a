"""Each parser against what hypothesis makes up: a value, or one line that says what is wrong with it."""

import io
import json
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from cfkit import UserError
from cfkit.bench.store import seal, unseal
from cfkit.bench.suite import Suite, parse_methods, task_list
from cfkit.bundles.manifest import read_manifest, toml_value
from cfkit.data.dataset import open_dataset
from cfkit.findings import FINDINGS, canonical
from cfkit.images import read_mask
from cfkit.options import resolve
from cfkit_ours import OursOptions

from ..test_images import dicom_film
from .corpus import BUNDLE, SUITE, TABLE, picture
from .test_hostile import PARSERS

EXAMPLES = int(os.environ.get("CFKIT_FUZZ", "40"))
"""A test's examples; of more than 40 each run makes up others."""
few = settings(
    max_examples=EXAMPLES, deadline=10_000, derandomize=EXAMPLES <= 40, suppress_health_check=list(HealthCheck)
)


def refused_in_a_line(call: Callable[[], object]) -> object | None:
    """What the call returns; None where it refuses in one line. Every other exception is a fault."""
    try:
        return call()
    except UserError as error:
        said = str(error)
    assert "\n" not in said and 0 < len(said) < 1000, said[:200]
    return None


def on_file(name: str, data: bytes, parse: Callable[[Path], object]) -> object | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        read = refused_in_a_line(lambda: parse(path))
        assert list(Path(folder).iterdir()) == [path]
        return read


@st.composite
def harmed(draw, good: bytes) -> bytes:
    """A good file of which parts are overwritten, cut out, doubled or put in."""
    data = bytearray(good)
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(1, 64))
        match draw(st.sampled_from(("set", "cut", "double", "insert", "end"))):
            case "set":
                new = draw(st.binary(min_size=1, max_size=8))
                data[at : at + len(new)] = new
            case "cut":
                del data[at : at + length]
            case "double":
                data[at:at] = data[at : at + length]
            case "insert":
                data[at:at] = draw(st.binary(max_size=64))
            case "end":
                del data[at:]
    return bytes(data)


def seed_dicom() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return dicom_film(Path(folder) / "f.dcm", window=(2047.5, 4096)).read_bytes()


DICOM = seed_dicom()
SAFETENSORS = save({"a": torch.arange(60.0), "b": torch.ones(3, 4)})


@pytest.mark.parametrize(("form", "name"), [("PNG", "f.png"), ("JPEG", "f.jpg"), ("TIFF", "f.tif")])
@few
@given(st.data())
def test_pictures(form, name, data):
    film = on_file(name, data.draw(harmed(picture(form))), PARSERS["film"])
    assert film is None or (film.shown.ndim == 2 and 0 <= film.shown.min() <= film.shown.max() <= 1)


@few
@given(harmed(picture("PNG")))
def test_masks(data):
    mask = on_file("m.png", data, lambda path: read_mask(path, 32))
    assert mask is None or (mask.shape == (1, 32, 32) and bool(((mask >= 0) & (mask <= 1)).all()))


@few
@given(harmed(DICOM))
def test_dicom_bytes(data):
    on_file("f.dcm", data, PARSERS["film"])


TAGS = ("BitsStored", "BitsAllocated", "HighBit", "PixelRepresentation", "Rows", "Columns", "SamplesPerPixel")
TEXTS = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "PhotometricInterpretation", "PatientName")


@few
@given(
    st.dictionaries(st.sampled_from(TAGS), st.integers(0, 65535), max_size=3),
    st.dictionaries(
        st.sampled_from(TEXTS),
        st.one_of(st.floats(-1e6, 1e6), st.sampled_from(("", "0", "-0", "1e300", "MONOCHROME1", "<b>", "1\\2\\3"))),
        max_size=3,
    ),
)
def test_dicom_tags(numbers, texts):
    with pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(io.BytesIO(DICOM))
        for name, value in numbers.items():
            setattr(dataset, name, value)
        for name, value in texts.items():
            try:
                setattr(dataset, name, str(value)[:16])
            except (ValueError, OverflowError):
                return  # pydicom itself does not write such a file
        stream = io.BytesIO()
        dataset.save_as(stream)
    film = on_file("f.dcm", stream.getvalue(), PARSERS["film"])
    assert film is None or bool(np.isfinite(film.shown).all())


def read_all(path: Path) -> object:
    return open_dataset(str(path.parent)).entries()


words = st.text(max_size=30)
columns = st.sampled_from(("file", "patient", "view", "findings", "split", "Edema", "Cardiomegaly", "Path", "x"))


@few
@given(harmed(TABLE))
def test_table_bytes(data):
    on_file("labels.csv", data, read_all)


@few
@given(st.lists(columns, min_size=1, max_size=5), st.lists(st.lists(words, max_size=6), max_size=4))
def test_table_cells(header, rows):
    text = "\n".join([",".join(header), *(",".join(f'"{cell}"' for cell in row) for row in rows)])
    on_file("labels.csv", text.encode("utf-8", "surrogatepass"), read_all)


values = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)
suite_keys = st.sampled_from(("data", "tasks", "limit", "methods", "seeds", "bundle", "batch_size", "split", "title"))
part_keys = st.sampled_from(("class", "file", "sha256", "config", "of", "url", "schedule"))


@few
@given(harmed(SUITE))
def test_suite_bytes(data):
    on_file("suite.toml", data, PARSERS["suite"])


@few
@given(st.dictionaries(suite_keys, values, max_size=5))
def test_suite_values(table):
    text = "\n".join(f"{key} = {toml_value(value)}" for key, value in table.items())
    on_file("suite.toml", text.encode("utf-8", "replace"), PARSERS["suite"])


@few
@given(harmed(BUNDLE))
def test_bundle_bytes(data):
    on_file("bundle.toml", data, read_manifest)


@few
@given(st.dictionaries(part_keys, values, max_size=4), values)
def test_bundle_values(part, name):
    lines = [f"name = {toml_value(name)}", "[parts.classifier]"]
    lines += [f"{key} = {toml_value(value)}" for key, value in part.items()]
    on_file("bundle.toml", "\n".join(lines).encode("utf-8", "replace"), read_manifest)


@few
@given(harmed(SAFETENSORS))
def test_safetensors_bytes(data):
    on_file("w.safetensors", data, PARSERS["checkpoint"])


@few
@given(
    st.dictionaries(
        words,
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(("F32", "F16", "I64", "BOOL", "EVIL", "")),
                "shape": st.lists(st.integers(-1, 2**40), max_size=3),
                "data_offsets": st.lists(st.integers(-1, 2**40), max_size=3),
            }
        ),
        max_size=3,
    ),
    st.binary(max_size=64),
)
def test_safetensors_headers(header, tensors):
    told = json.dumps(header).encode("utf-8", "replace")
    data = struct.pack("<Q", len(told)) + told + tensors
    on_file("w.safetensors", data, PARSERS["checkpoint"])


def pickled(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@few
@given(harmed(pickled({"state_dict": {"a": torch.arange(60.0)}})))
def test_checkpoint_bytes(data):
    on_file("w.pt", data, PARSERS["checkpoint"])


@few
@given(values)
def test_checkpoint_values(value):
    on_file("w.pt", pickled(value), PARSERS["checkpoint"])


spec = st.text(st.sampled_from("oursradeditgifsplanation:=,.-+0123456789 <>\"'\\\n\0é[]{}"), max_size=40)


@few
@given(st.one_of(spec, words))
def test_method_texts(text):
    refused_in_a_line(lambda: parse_methods(text))


@few
@given(st.sampled_from(("epochs", "lr", "layers", "bone_mask", "speed", "keep")), words)
def test_method_options(name, value):
    refused_in_a_line(lambda: resolve(OursOptions, parse_methods(f"ours:{name}={value}")[0].options))


@few
@given(words)
def test_findings(text):
    refused_in_a_line(lambda: canonical(text))
    refused_in_a_line(lambda: task_list(Suite(tasks=(text, f"{text} removal")), FINDINGS))


@few
@given(harmed(seal(["a", 1, None], {"x": torch.arange(20.0)})))
def test_rows_of_the_store(data):
    try:
        told = unseal(["a", 1, None], data)
    except ValueError:
        return
    assert torch.equal(told["x"], torch.arange(20.0))
