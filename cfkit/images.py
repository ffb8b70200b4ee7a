"""Films: PNG, JPEG, TIFF and DICOM to (H, W) in [0, 1], and edits back onto the original.

A film is shown bright where the patient is dense, whatever the file says. An edit is made on the
working square, the largest centred one, at the bundle's size, and is put back as a difference: a
pixel that the edit does not touch keeps the very value it had.
"""

from __future__ import annotations

import io
import warnings
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .dicom import is_dicom, read_dicom, stored_range
from .errors import UserError, one_line, unknown
from .files import write_beside
from .film import Film, centred_square, check_size, resize

PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # of TIFF
ASPECT = 1.6  # beyond it a film is no frontal chest film
SAMPLES = ("effusion", "cardiomegaly", "normal", "atelectasis", "effusion-real")  # the first two are virtual


def sample_path(name: str) -> Path:
    """The file of a film that ships inside, such as "effusion".

    Raises:
        UserError: No such sample.
    """
    if name not in SAMPLES:
        raise UserError(unknown("sample", name, SAMPLES))
    return Path(str(files("cfkit.data") / "samples" / f"{name}.png"))


def read_film(source: str | Path, *, any_shape: bool = False) -> Film:
    """Reads a film.

    Args:
        source: A path, or "sample:NAME" for a film that ships inside.
        any_shape: Accept a film whose shape or colours are not a frontal chest film's.

    Raises:
        UserError: The file is missing, empty, unreadable, too large or no frontal chest film.
    """
    text = str(source)
    path = sample_path(text.removeprefix("sample:")) if text.startswith("sample:") else Path(source)
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, not an image; give the files in it") from None
    except FileNotFoundError:
        raise UserError(f"{path}: not found; check the path") from None
    except OSError as error:
        raise UserError(f"{text[:300]}: cannot be read ({error.strerror}); check its name and permissions") from None
    except ValueError as error:
        raise UserError(f"{text[:300]!r}: no path ({error}); check it") from None
    if not data:
        raise UserError(f"{path}: the file is empty; copy it again")
    film = read_dicom(path, data) if is_dicom(path, data) else _read_image(path, data, any_shape)
    height, width = film.shown.shape
    if min(height, width) < 32:
        raise UserError(f"{path}: {width} x {height} pixels is too small for a film; at least 32 x 32 are needed")
    if not any_shape and max(height, width) > ASPECT * min(height, width):
        raise UserError(
            f"{path}: {width} x {height} is not the shape of a frontal chest film (a lateral one, or cropped?); "
            "use --any-shape to edit it all the same"
        )
    if film.shown.max() == film.shown.min():
        raise UserError(f"{path}: every pixel has the same value; it holds no film")
    return film


def read_mask(source: str | Path, size: int) -> Tensor:
    """A mask from a picture: white is 1, on the largest centred square, as films are taken.

    Args:
        source: A PNG, JPEG or TIFF file of a film's own shape, or a square one.
        size: Side of the result in pixels.

    Returns:
        (1, size, size) float32 in [0, 1].

    Raises:
        UserError: The file is missing or no image.
    """
    path = Path(source)
    try:
        with Image.open(path) as image:
            check_size(path, *image.size)
            grey = np.asarray(image.convert("L"), np.float32) / 255.0
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: not found; check the path of the mask") from None
    except Exception as error:  # Pillow's decoders raise many kinds
        raise UserError(f"{path}: not a readable mask ({one_line(error)}); give a PNG") from None
    square = torch.from_numpy(np.ascontiguousarray(grey[centred_square(grey.shape)]))[None, None]
    return resize(square, (size, size))[0].clamp(0.0, 1.0)


def _read_image(path: Path, data: bytes, any_shape: bool) -> Film:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decompression bombs are refused by check_size
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(io.BytesIO(data))
                check_size(path, *image.size)
                image.load()
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"{path}: not an image (PNG, JPEG, TIFF or DICOM wanted)") from None
    except Exception as error:  # Pillow's decoders raise many kinds
        raise UserError(f"{path}: truncated or damaged ({one_line(error)}); copy it again") from None
    stored = _grey(path, image, any_shape)
    if stored.dtype.kind == "f":
        if not np.isfinite(stored).all():
            raise UserError(f"{path}: NaN or infinite pixels; mend them first")
        low, high = float(min(stored.min(), 0.0)), float(stored.max())
        high = 1.0 if low >= 0.0 and high <= 1.0 else high
        stored = np.round((stored - low) / max(high - low, 1e-12) * 65535).astype(np.uint16)
        tops: tuple[int, ...] = (65535,)
    else:
        tops = (255,) if stored.dtype == np.uint8 else (4095, 16383, 65535)  # 12 and 14 bits come in files of 16
    depth = 8 if stored.dtype == np.uint8 else 16
    top = next(t for t in tops if t >= int(stored.max()))
    if image.mode.startswith("I") and getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:
        stored = top - stored  # as Pillow does with 8 bits, so that the results are no negatives either

    def display(values: np.ndarray) -> np.ndarray:
        return np.asarray(values, np.float32) / np.float32(top)

    return Film(path, stored, display(stored).clip(0.0, 1.0), display, depth)


def _grey(path: Path, image: Image.Image, any_shape: bool) -> np.ndarray:
    """One channel at the file's own depth; alpha is left out."""
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("L"))
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            return values.astype(np.float64)
        return values.astype(np.uint16)
    if image.mode == "F":
        return np.asarray(image, np.float64)
    colour = np.asarray(image.convert("RGBA").convert("RGB") if image.mode in ("P", "PA") else image.convert("RGB"))
    spread = (colour.max(axis=-1).astype(np.int16) - colour.min(axis=-1)).mean()
    if spread > 12 and not any_shape:
        raise UserError(f"{path}: a colour picture, not a radiograph; use --any-shape to edit its grey levels")
    return np.asarray(Image.fromarray(colour).convert("L"))


def put_back(film: Film, factual: Tensor, edited: Tensor) -> np.ndarray:
    """The full-size film with the edit, in the file's own values.

    Args:
        film: As read.
        factual: What the method was given, (1, S, S) in [0, 1].
        edited: What it returned, same shape.

    Returns:
        (H, W) of the film's own dtype; where the edit changes nothing, the film's own values.
    """
    rows, columns = film.square
    side = rows.stop - rows.start
    change = resize((edited - factual).cpu().float()[None], (side, side), mode="bicubic")[0, 0].numpy()
    levels = display_levels(film)
    shown = film.display(levels)
    if shown[0] > shown[-1]:  # MONOCHROME1
        levels, shown = levels[::-1], shown[::-1]
    target = (film.shown[rows, columns] + change).clip(0.0, 1.0)
    # the middle of a flat stretch of the display would be arbitrary: the nearest stored value is kept
    found = np.interp(target, shown, levels.astype(np.float64))
    out = film.stored.copy()
    half_level = 0.5 / 255 if film.depth == 8 else 1e-4
    touched = np.abs(change) >= half_level
    region = out[rows, columns]
    region[touched] = np.round(found[touched]).astype(out.dtype)
    return out


def display_levels(film: Film) -> np.ndarray:
    """The stored values at which the display is strictly monotone enough to be inverted."""
    if film.dataset is None:
        return np.arange(256 if film.depth == 8 else 65536)
    low, high = stored_range(film.dataset)
    levels = np.arange(low, high + 1)
    shown = film.display(levels)
    inside = np.flatnonzero(np.diff(shown) != 0)
    return levels[inside[0] : inside[-1] + 2] if inside.size else levels


def write_png(path: Path, pixels: np.ndarray, *, text: dict[str, str] | None = None) -> None:
    """Writes a grey or RGB image, with text entries that say what it is."""
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    write_beside(path, lambda part: Image.fromarray(pixels).save(part, format="PNG", pnginfo=info))
