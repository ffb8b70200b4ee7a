"""A user's own classifier, brought to the form that a bundle's has."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError, one_line
from ..findings import canonical


class Audited:
    """A classifier to be audited: `audited(images) -> logits (N, K)`, with `findings`.

    Attributes:
        findings: Names of its outputs, canonical where they are known.
        hash: Of its file, or of the name of its function; 16 hex digits.
    """

    def __init__(self, call: Any, findings: Sequence[str], hash: str, device: torch.device, name: str):
        self.call, self.hash, self.device, self.name = call, hash, device, name
        self.findings = tuple(_name(finding) for finding in findings)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, K) of films (N, 1, H, W) in [0, 1].

        Raises:
            UserError: It fails, or returns another shape than (N, K).
        """
        images = images.to(self.device)
        try:
            logits = self.call(images)
        except Exception as error:  # a stranger's model may raise anything
            if len(images) > 1:  # an exported program may have a fixed batch size
                return torch.cat([self(image.unsqueeze(0)) for image in images])
            text = " ".join(str(error).split())[:200]
            raise UserError(f"--classifier {self.name}: fails on a film ({type(error).__name__}: {text})") from None
        if not isinstance(logits, Tensor) or logits.shape != (len(images), len(self.findings)):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(
                f"--classifier {self.name}: logits of shape ({len(images)}, {len(self.findings)}) wanted, one for each "
                f"of {', '.join(self.findings)}; got {shape}"
            )
        return logits.float()


def load_audited(source: str, findings: Sequence[str], device: torch.device) -> Audited:
    """Loads a classifier.

    Args:
        source: A file of `torch.export.save` (.pt2), or "package.module:name" of a function without arguments that
            returns a callable. Either takes films (N, 1, H, W) in [0, 1] and gives logits (N, K).
        findings: Names of its outputs; where empty, those of the callable's attribute `findings` or of the
            file's extra file "findings.json".
        device: Where it goes.

    Raises:
        UserError: There is no such file or function, it cannot be loaded, or its findings are not known.
    """
    named: Sequence[str]
    if source.endswith(".pt2"):
        path = Path(source)
        if not path.is_file():
            raise UserError(f"--classifier {source}: no such file")
        extra = {"findings.json": ""}
        try:
            call: Any = torch.export.load(path, extra_files=extra).module().to(device)
        except Exception as error:
            text = one_line(error, most=200)
            raise UserError(f"--classifier {source}: not a file of torch.export.save ({text})") from None
        named = _read_findings(source, extra["findings.json"]) if extra["findings.json"] else ()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    elif ":" in source:
        call = _call(source)
        call = call.eval().to(device) if isinstance(call, torch.nn.Module) else call
        named = getattr(call, "findings", ())
        named = (named,) if isinstance(named, str) else named
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    else:
        raise UserError(f"--classifier {source}: a .pt2 file or 'package.module:function' is wanted")
    if not (findings or named):
        raise UserError(f"--classifier {source}: says not which findings it gives; name them with --findings A,B,C")
    return Audited(call, findings or named, digest, device, source)


def _read_findings(source: str, text: str) -> list[str]:
    try:
        named = json.loads(text)
    except ValueError:
        named = None
    if not isinstance(named, list) or not all(isinstance(each, str) and each.strip() for each in named):
        raise UserError(
            f"--classifier {source}: its findings.json is no list of names; name them with --findings A,B,C"
        )
    return named


def _call(source: str) -> Any:
    module, _, name = source.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module in the folder where the command is given
    try:
        return getattr(import_module(module), name)()
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"--classifier {source}: cannot be made ({type(error).__name__}: {text})") from None


def _name(finding: str) -> str:
    try:
        return canonical(finding)
    except UserError:
        return finding.strip()
