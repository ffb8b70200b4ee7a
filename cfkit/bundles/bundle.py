"""Bundles: the models that a run needs, from local files alone.

A bundle is a folder with a `bundle.toml` and safetensors files. Nothing is downloaded, nothing is
unpickled, and a file whose hash differs from the one in `bundle.toml` is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import UserError, is_out_of_memory, one_line, unknown
from .kinds import builder_of
from .loading import fill, prepare
from .manifest import file_digest, folder_digest, read_manifest

if TYPE_CHECKING:
    from .text_to_image import RadEditParts

EMBEDDED = ("demo",)


def user_folder() -> Path:
    """Where a user's own bundles are looked for by name."""
    return Path(platformdirs.user_data_dir("cfkit")) / "bundles"


def list_bundles() -> dict[str, Path]:
    """Bundles by name: those inside the package and those of the user's folder."""
    found = {name: Path(str(files("cfkit.bundles") / name)) for name in EMBEDDED}
    if user_folder().is_dir():
        found |= {p.name: p for p in sorted(user_folder().iterdir()) if (p / "bundle.toml").is_file()}
    return found


def choose_device(device: str) -> torch.device:
    """A torch device from "auto", "cpu", "cuda", "cuda:1", "mps" or "meta".

    Raises:
        UserError: There is no such device on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda", "mps", "meta"):
        raise UserError(unknown("device", device, ["auto", "cpu", "cuda", "mps"]))
    if chosen.type == "cuda" and (not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"--device {device}: no such CUDA device on this machine; use --device cpu or auto")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: not available on this machine; use --device cpu or auto")
    return chosen


def load_bundle(name_or_path: str | os.PathLike[str], *, device: str = "auto") -> Bundle:
    """Opens a bundle; its parts are loaded when they are first used.

    Args:
        name_or_path: "demo", the name of a bundle in the user's folder, or a folder.
        device: Where its parts go, as in `choose_device`.

    Raises:
        UserError: No such bundle, or its `bundle.toml` cannot be read.
    """
    known = list_bundles()
    folder = known.get(str(name_or_path), Path(name_or_path))
    if not (folder / "bundle.toml").is_file():
        if folder.is_dir():
            raise UserError(f"{folder}: holds no bundle.toml, so it is no bundle")
        raise UserError(unknown("bundle", str(name_or_path), known) + " A folder with a bundle.toml serves too.")
    return Bundle(folder, read_manifest(folder / "bundle.toml"), choose_device(device))


class Bundle:
    """The models of a run. Each part is None where the bundle has none.

    Attributes:
        folder: Where it lies.
        config: What `bundle.toml` says.
        device: Where its parts are.
    """

    def __init__(self, folder: Path, config: dict[str, Any], device: torch.device):
        self.folder, self.config, self.device = folder, config, device

    @property
    def name(self) -> str:
        return str(self.config.get("name", self.folder.name))

    @property
    def image_size(self) -> int:
        """Side of the working square in pixels."""
        return int(self.config.get("image_size", 256))

    @property
    def recommended(self) -> dict[str, dict[str, Any]]:
        """Options that the bundle recommends, by method."""
        return dict(self.config.get("methods", {}))

    @cached_property
    def hash(self) -> str:
        """Of all that decides a result: the working size, the parts' configurations and files; 16 hex digits."""
        parts = {
            name: {**part, **{key: part.get(key) or _digest(path) for key, path in self._files(part)}}
            for name, part in self.config.get("parts", {}).items()
        }
        text = json.dumps({"image_size": self.image_size, "parts": parts}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def autoencoder(self) -> Any:
        """`encode(images) -> latents (N, C, h, w)` and `decode(latents) -> images`."""
        return self.module("autoencoder")

    @cached_property
    def denoiser(self) -> Any:
        """`denoiser(latents, timesteps) -> predicted noise`."""
        return self.module("denoiser")

    @cached_property
    def schedule(self) -> Any:
        """A diffusers scheduler; `schedule.alphas_cumprod` is (T,)."""
        declared = self.config.get("parts", {}).get("schedule")
        if declared is None:
            return None
        return self._schedule("schedule", declared)

    @cached_property
    def classifier(self) -> Any:
        """`classifier(images) -> logits (N, K)`, with `classifier.findings`."""
        return self.module("classifier")

    @cached_property
    def judge(self) -> Any:
        """As `classifier`; another architecture, other patients, never seen by an editor."""
        return self.module("judge")

    @cached_property
    def segmenter(self) -> Any:
        """`segmenter(images) -> probabilities (N, 14, H, W)`, in the ChestX-Det order."""
        return self.module("segmenter")

    @cached_property
    def clip(self) -> Any:
        """`image_features(images)` and `text_features(prompts)`, normalised."""
        return self.module("clip")

    @cached_property
    def preview(self) -> Any:
        """`preview(latents) -> images` of four pixels a latent: the decoder's small stand-in for gradients."""
        return self.module("preview")

    @cached_property
    def radedit(self) -> RadEditParts | None:
        """RadEdit's own text-conditional denoiser, text encoder, autoencoder and schedule."""
        declared = self.config.get("parts", {}).get("radedit")
        if declared is None:
            return None
        from .text_to_image import RadEditParts

        if "folder" in declared:
            from .radedit import load_radedit

            self._check(self.folder / declared["folder"], declared.get("sha256"))
            return load_radedit(self.folder / declared["folder"], self.device)
        module: Any = self.module("radedit")
        schedule = self._schedule("radedit", declared["schedule"])
        autoencoder = self.autoencoder
        if "vocabulary" in declared:
            from .cheff_text import ScaledAutoencoder, load_vocabulary

            vocabulary = self.folder / declared["vocabulary"]
            self._check(vocabulary, declared.get("vocabulary_sha256"))
            module.text_encoder.tokenizer = load_vocabulary(vocabulary)
            autoencoder = ScaledAutoencoder(self.require("autoencoder")[0], float(declared["scale_factor"]))
        return RadEditParts(module.denoiser, module.text_encoder, autoencoder, schedule)

    @cached_property
    def features(self) -> Callable[[Tensor], Tensor] | None:
        """`features(images) -> (N, D)` for the Fréchet distance."""
        declared = self.config.get("parts", {}).get("features")
        if declared is None:
            return None
        part: Any = self.require(declared["of"])[0] if "of" in declared else self.module("features")
        pooled: Callable[[Tensor], Tensor] = part.pooled
        return pooled

    def require(self, *parts: str) -> list[Any]:
        """The named parts, all of them.

        Raises:
            UserError: The bundle lacks one; says which and how to get it.
        """
        loaded = [getattr(self, part) for part in parts]
        for part, value in zip(parts, loaded, strict=True):
            if value is None:
                raise UserError(
                    f"bundle '{self.name}' has no {part}; add [parts.{part}] to {self.folder / 'bundle.toml'} "
                    "or choose another with --bundle"
                )
        return loaded

    def missing(self) -> list[str]:
        """Parts that are declared but whose files are not there, with the file."""
        out = []
        for part, declared in self.config.get("parts", {}).items():
            out += [f"{part} ({path.name})" for _, path in self._files(declared) if not path.exists()]
        return out

    def _files(self, declared: Mapping[str, Any]) -> list[tuple[str, Path]]:
        """What a part lies in, each with the key under which its hash stands."""
        keys = {"file": "sha256", "folder": "sha256", "vocabulary": "vocabulary_sha256"}
        return [(hashed, self.folder / declared[key]) for key, hashed in keys.items() if key in declared]

    def _check(self, path: Path, wanted: str | None) -> None:
        """Refuses a file or folder that is not what it was when its hash was taken."""
        if wanted and path.exists() and _digest(path) != wanted:
            raise UserError(f"{path}: differs from the sha256 in bundle.toml; copy it again")

    def _schedule(self, part: str, declared: Mapping[str, Any]) -> Any:
        """A diffusers scheduler as a part's table declares it."""
        from diffusers import DDIMScheduler

        try:
            return DDIMScheduler.from_config(dict(declared))
        except (TypeError, ValueError, KeyError, NotImplementedError) as error:
            where = f"{self.folder / 'bundle.toml'}: [parts.{part}]"
            raise UserError(f"{where} describes no schedule ({one_line(error)})") from None

    def describe(self, part: str) -> str:
        """What a part is stored as: its class, file and size; "absent" or "missing" where it is not there."""
        declared = self.config.get("parts", {}).get(part)
        if declared is None:
            return "absent"
        if "of" in declared:
            return f"that of {declared['of']}"
        if part == "schedule":
            return f"{declared.get('beta_schedule')}, {declared.get('num_train_timesteps')} steps"
        path = self.folder / declared.get("file", declared.get("folder", ""))
        size = sum(p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file())
        state = f"{size / 1e6:.1f} MB" if path.exists() else f"missing ({declared.get('source', 'copy it there')})"
        return f"{declared.get('class', 'folder')}, {path.name}, {state}"

    def drop(self, part: str) -> None:
        """Lets go of a part's memory; it is loaded again when it is next used."""
        self.__dict__.pop(part, None)

    def module(self, part: str) -> nn.Module | None:
        """What a part is stored as, loaded and checked against its hash; None where it is not declared.

        Raises:
            UserError: Its file is missing, damaged or fits no such part.
        """
        declared = self.config.get("parts", {}).get(part)
        if declared is None:
            return None
        path = self.folder / declared["file"]
        if not path.is_file():
            source = declared.get("source", "copy it there")
            raise UserError(f"{path}: the {part} of bundle '{self.name}' is not on this machine; {source}")
        try:
            self._check(path, declared.get("sha256"))
            state = load_file(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
        except SafetensorError as error:
            raise UserError(f"{path}: not a safetensors file ({error}); copy it again") from None
        build = builder_of(declared["class"])  # no module is imported on the meta device: some compute then
        try:
            module = fill(lambda: build(**declared.get("config", {})), state)
        except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            first = str(error).splitlines()[1].strip() if "\n" in str(error) else one_line(error)
            raise UserError(f"{path}: does not fit the {part} that bundle.toml describes ({first})") from None
        return prepare(module.eval().requires_grad_(False).to(self.device))


def _digest(path: Path) -> str:
    """SHA-256 of a file or a folder, "" where there is none."""
    if path.is_dir():
        return folder_digest(path)
    return file_digest(path) if path.is_file() else ""
