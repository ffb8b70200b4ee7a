"""DICOM films: read as they are shown, written back as derived objects."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError, one_line
from .files import write_beside
from .film import Film, check_size


def is_dicom(path: Path, data: bytes) -> bool:
    """Whether a file is DICOM, by its preamble or its name."""
    return data[128:132] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom")


def read_dicom(path: Path, data: bytes) -> Film:
    """Reads a single-frame grey film: rescale, then window or VOI LUT, MONOCHROME1 turned over.

    Raises:
        UserError: Not DICOM, no pixels, several frames, colour, or a compression that no installed
            decoder knows.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), force=False)
            if "PixelData" not in dataset:
                raise UserError(f"{path}: a DICOM object without pixels; give an image object")
            check_size(path, int(dataset.Columns), int(dataset.Rows))
            if int(dataset.get("NumberOfFrames") or 1) > 1 or int(dataset.SamplesPerPixel) != 1:
                raise UserError(f"{path}: several frames or colour; a single grey film is wanted")
            if not 1 <= int(dataset.BitsStored) <= 16:  # the pipeline below is worked out for every value
                raise UserError(f"{path}: {dataset.BitsStored} bits a pixel; a film of 1 to 16 is wanted")
            return _as_shown(path, dataset)
    except UserError:
        raise
    except Exception as error:  # pydicom and its decoders raise many kinds
        raise UserError(f"{path}: unreadable DICOM ({one_line(error)})") from None


def _as_shown(path: Path, dataset: Any) -> Film:
    stored = dataset.pixel_array
    if stored.ndim != 2:  # pydicom returns what lies beyond the last frame as further frames
        raise UserError(f"{path}: pixels of more than one frame; a single grey film is wanted")
    low, high = stored_range(dataset)
    raw = _modality_and_voi(dataset, np.arange(low, high + 1))
    used = raw[stored.clip(low, high).astype(np.int64) - low]
    bottom, top = (float(raw.min()), float(raw.max())) if _windowed(dataset) else (float(used.min()), float(used.max()))
    inverted = str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1"

    def display(values: np.ndarray) -> np.ndarray:
        index = np.asarray(values).clip(low, high).astype(np.int64) - low
        shown = ((raw[index] - bottom) / max(top - bottom, 1e-12)).clip(0.0, 1.0)
        return (1.0 - shown if inverted else shown).astype(np.float32)

    depth = 8 if int(dataset.BitsStored) <= 8 else 16
    return Film(path, stored, display(stored), display, depth, dataset)


def _windowed(dataset: Any) -> bool:
    """Whether the object says how it is to be shown; what is there but empty says nothing."""
    window = (dataset.get("WindowCenter"), dataset.get("WindowWidth"))
    return (None not in window and "" not in window) or bool(dataset.get("VOILUTSequence"))


def _modality_and_voi(dataset: Any, values: np.ndarray) -> np.ndarray:
    """Output of the grey-scale pipeline for stored values, float64."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    return np.asarray(apply_voi_lut(apply_modality_lut(values, dataset), dataset), np.float64)


def stored_range(dataset: Any) -> tuple[int, int]:
    """Least and greatest value that the object's bits can store."""
    bits = int(dataset.BitsStored)
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if int(dataset.PixelRepresentation) else (0, (1 << bits) - 1)


KEPT = {
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "Modality", "ConversionType", "PresentationIntentType",
    "BodyPartExamined", "ViewPosition", "ViewCodeSequence", "AnatomicRegionSequence", "PatientOrientation",
    "ImageLaterality", "PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", "DetectorType", "FieldOfViewShape",
    "PixelIntensityRelationship", "PixelIntensityRelationshipSign", "SamplesPerPixel", "PhotometricInterpretation",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "ModalityLUTSequence", "RescaleIntercept", "RescaleSlope",
    "RescaleType", "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth", "PresentationLUTShape",
    "PresentationLUTSequence", "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
    "BurnedInAnnotation",
}  # fmt: skip
"""What a derived object keeps of its source: what its pixels mean and how they are shown, nothing of whom or when."""
EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"),
    *("ReferringPhysicianName", "StudyID", "SeriesNumber", "InstanceNumber"),
)
"""What the standard wants to be there, be it empty (type 2 of the Patient, Study, Series and Image modules)."""


def write_dicom(path: Path, film: Film, pixels: np.ndarray, *, description: str, keep_identity: bool = False) -> None:
    """Writes a counterfactual as a derived object: new UIDs, image type DERIVED, said to be synthetic.

    Args:
        path: Where.
        film: The film it was made from.
        pixels: Stored values, (H, W).
        description: What was done, for DerivationDescription.
        keep_identity: Keep every attribute of the source, those of the patient and the study among them, and
            refer to it; otherwise only `KEPT` stays. Neither touches what is burnt into the pixels.
    """
    from pydicom.dataset import Dataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    out = _copy(film.dataset, keep_identity)
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out.PixelData = np.ascontiguousarray(pixels).astype(film.stored.dtype.newbyteorder("<")).tobytes()
    out["PixelData"].VR = "OB" if int(out.BitsAllocated) == 8 else "OW"
    out["PixelData"].is_undefined_length = False
    if len(out.PixelData) % 2:
        out.PixelData += b"\0"
    out.SOPInstanceUID = generate_uid()
    out.SeriesInstanceUID = generate_uid()
    out.file_meta.MediaStorageSOPInstanceUID = out.SOPInstanceUID
    kept = list(out.get("ImageType", []))[2:]
    out.ImageType = ["DERIVED", "SECONDARY", *kept]
    out.SeriesDescription = "SYNTHETIC counterfactual (cfkit)"
    out.DerivationDescription = description[:1024]
    source = str(film.dataset.get("SOPInstanceUID", ""))
    if source and keep_identity:
        reference = Dataset()
        reference.ReferencedSOPClassUID = out.get("SOPClassUID", "")
        reference.ReferencedSOPInstanceUID = source
        out.SourceImageSequence = [reference]
    for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue"):
        if keyword in out:
            del out[keyword]
    write_beside(path, lambda part: out.save_as(part, enforce_file_format=True))


def _copy(dataset: Any, keep_identity: bool) -> Any:
    """What stays of a source: everything, or what its pixels mean alone."""
    import copy

    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import generate_uid

    if keep_identity:
        return copy.deepcopy(dataset)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "")
    out = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for element in dataset:
        if element.keyword in KEPT:
            out.add(copy.deepcopy(element))
    for keyword in EMPTY:
        setattr(out, keyword, "")
    out.StudyInstanceUID = generate_uid()
    out.PatientIdentityRemoved = "YES"
    out.DeidentificationMethod = "cfkit: attributes of the pixels kept; pixels not searched"
    return out
