"""Classifiers as they are published, each with its own preprocessing: films in [0, 1] to logits.

jfhealthcare's DenseNet-121 with PCAM pooling (Ye et al. 2020), the ResNet-152 of the paper's public
release, and torchxrayvision's DenseNet-121 and ResNet-50 (Cohen et al., MIDL 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..film import resize
from ..findings import canonical
from .checkpoints import bare_weights, load_exactly

JFHEALTHCARE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
RESNET152 = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")


class PcamDenseNet(nn.Module):
    """jfhealthcare's DenseNet-121 with probabilistic-CAM pooling, one head a finding.

    A film is equalised, blurred, brought to 512 px and scaled by (x - 128) / 64, as its authors do.
    """

    findings = JFHEALTHCARE
    size = 512

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import densenet121

        self.features = densenet121(weights=None).features
        self.heads = nn.Conv2d(1024, len(self.findings), 1)

    def forward(self, films: Tensor) -> Tensor:
        """Logits (N, 5) of films (N, 1, H, W) in [0, 1]."""
        blurred = blur(equalize(films))
        x = F.interpolate(blurred, size=(self.size, self.size), mode="bilinear", align_corners=False)
        features = self.features((x.expand(-1, 3, -1, -1) - 128.0) / 64.0)  # (N, 1024, h, w), not rectified
        weights = torch.sigmoid(self.heads(features))  # (N, 5, h, w)
        weights = weights / weights.sum(dim=(2, 3), keepdim=True)
        pooled = torch.einsum("nchw,nkhw->nkc", features, weights)
        head = self.heads.weight.flatten(1)  # (5, 1024)
        logits = (pooled * head).sum(dim=-1)
        return logits if self.heads.bias is None else logits + self.heads.bias


def equalize(films: Tensor) -> Tensor:
    """Histogram equalisation as OpenCV's `equalizeHist`, (N, 1, H, W) in [0, 1] to [0, 255].

    The table is a constant; between grey levels it is interpolated, so that a gradient passes.
    """
    levels = films.clamp(0.0, 1.0) * 255.0
    rounded = levels.detach().round().long().flatten(1)  # (N, P)
    counts = torch.zeros(len(films), 256, dtype=torch.long, device=films.device)
    counts.scatter_add_(1, rounded, torch.ones_like(rounded))
    first = counts[torch.arange(len(films), device=films.device), rounded.amin(dim=1)]  # films of the darkest level
    rest = rounded.shape[1] - first  # (N,)
    table = (counts.cumsum(dim=1) - first.unsqueeze(1)).clamp(min=0) * (255.0 / rest.clamp(min=1).unsqueeze(1))
    flat = rest == 0
    table = torch.where(flat.unsqueeze(1), torch.arange(256.0, device=films.device), table.round())
    low = levels.detach().floor().long().flatten(1).clamp(max=254)
    a, b = table.gather(1, low), table.gather(1, low + 1)
    return (a + (b - a) * (levels.flatten(1) - low)).view_as(films)


def blur(films: Tensor) -> Tensor:
    """OpenCV's Gaussian blur of 3 px: weights 1, 2, 1, the border mirrored."""
    weights = torch.tensor([0.25, 0.5, 0.25], device=films.device)
    padded = F.pad(films, (1, 1, 1, 1), mode="reflect")
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, 1, 3)), weights.view(1, 1, 3, 1))


class ResNet152(nn.Module):
    """torchvision's ResNet-152 at 256 px, input (x - 0.5330) / 0.0349, of the paper's public release."""

    findings = RESNET152

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet152

        self.net = resnet152(weights=None, num_classes=len(self.findings))

    def forward(self, films: Tensor) -> Tensor:
        """Logits (N, 5) of films (N, 1, H, W) in [0, 1]."""
        logits: Tensor = self.net((resize(films, (256, 256)).expand(-1, 3, -1, -1) - 0.5330) / 0.0349)
        return logits


class XrvClassifier(nn.Module):
    """torchxrayvision's DenseNet-121 (224 px) or ResNet-50 (512 px) on films scaled to [-1024, 1024].

    Args:
        kind: "densenet121" or "resnet50".
        findings: Names of the outputs that are kept.
        outputs: Their places among the network's outputs.
        outward: How many outputs the network has.
        thresholds: Of those kept, the probability that counts as even (torchxrayvision's operating points).
    """

    def __init__(
        self, kind: str, findings: Sequence[str], outputs: Sequence[int], outward: int, thresholds: Sequence[float]
    ):
        super().__init__()
        from torchvision import models

        self.findings, self.outputs = tuple(findings), list(outputs)
        self.net = getattr(models, kind)(weights=None, num_classes=outward)
        if kind == "densenet121":
            self.size = 224
            self.net.features.conv0 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        else:
            self.size = 512
            self.net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.register_buffer("thresholds", torch.tensor(list(thresholds)), persistent=False)
        self.thresholds: Tensor

    def forward(self, films: Tensor) -> Tensor:
        """Logits (N, K) of films (N, 1, H, W) in [0, 1]."""
        raw = self.net((resize(films, (self.size, self.size)) * 2.0 - 1.0) * 1024.0)[:, self.outputs]
        # their probability is p / 2t below the threshold t, 1 - (1 - p) / 2(1 - t) above: here as a logit
        p, t = torch.sigmoid(raw), self.thresholds
        below = F.logsigmoid(raw) - (2.0 * t - p).clamp(min=1e-6).log()
        above = (1.0 - 2.0 * t + p).clamp(min=1e-6).log() - F.logsigmoid(-raw)
        return torch.where(p < t, below, above)


def convert_classifier(checkpoint: Mapping[str, Any], kind: str, path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A published classifier, and the configuration that builds it again.

    Args:
        checkpoint: The file, read.
        kind: "jfhealthcare", "resnet152" or "torchxrayvision".
        path: The file; torchxrayvision's names tell which of its models it is.

    Raises:
        UserError: It is no classifier of that kind.
    """
    if kind == "jfhealthcare":
        return _jfhealthcare(bare_weights(checkpoint)), {}
    if kind == "resnet152":
        model: nn.Module = ResNet152()
        state = {f"net.{name}": value for name, value in bare_weights(checkpoint, "model.", "net.").items()}
        load_exactly(model, state, "ResNet-152 of five findings")
        return model, {}
    return _torchxrayvision(bare_weights(checkpoint, "model."), path)


def _jfhealthcare(state: dict[str, Tensor]) -> nn.Module:
    heads = [(state.pop(f"fc_{k}.weight", None), state.pop(f"fc_{k}.bias", None)) for k in range(len(JFHEALTHCARE))]
    weights, biases = [w for w, _ in heads if w is not None], [b for _, b in heads if b is not None]
    if len(weights) != len(JFHEALTHCARE) or len(biases) != len(JFHEALTHCARE):
        raise UserError("not jfhealthcare's DenseNet-121: fc_0.weight to fc_4.bias are wanted")
    renamed = {"heads.weight": torch.cat(weights), "heads.bias": torch.cat(biases)}
    for name, value in state.items():
        if name.startswith("backbone.features."):
            renamed[_dense(name.removeprefix("backbone."))] = value
    model = PcamDenseNet()
    load_exactly(model, renamed, "DenseNet-121 of jfhealthcare")
    return model


def _dense(name: str) -> str:
    """Old names of a dense layer, "norm.1", as torchvision has them now, "norm1"."""
    for part in ("norm", "conv", "relu"):
        name = name.replace(f".{part}.1.", f".{part}1.").replace(f".{part}.2.", f".{part}2.")
    return name


def _torchxrayvision(state: dict[str, Tensor], path: Path) -> tuple[nn.Module, dict[str, Any]]:
    names, thresholds = _outputs_of(path)
    head = "classifier.weight" if "classifier.weight" in state else "fc.weight"
    if head not in state:
        raise UserError("not a DenseNet or ResNet of torchxrayvision: classifier.weight or fc.weight is wanted")
    outward = state[head].shape[0]
    if outward != len(names):
        raise UserError(f"not a model of torchxrayvision's {len(names)} findings: {head} has {outward} rows")
    kept = [k for k, threshold in enumerate(thresholds) if names[k] and threshold == threshold]  # NaN: not trained
    config: dict[str, Any] = {
        "kind": "densenet121" if head == "classifier.weight" else "resnet50",
        "findings": [_name(names[k]) for k in kept],
        "outputs": kept,
        "outward": outward,
        "thresholds": [thresholds[k] for k in kept],
    }
    model = XrvClassifier(**config)
    weights = {f"net.{_dense(name)}": value for name, value in state.items() if not name.startswith("op_thresh")}
    load_exactly(model, weights, f"{config['kind']} of torchxrayvision")
    return model, config


def _outputs_of(path: Path) -> tuple[list[str], list[float]]:
    """Names of torchxrayvision's outputs, and the operating points of the file's own model, else one half."""
    try:
        from torchxrayvision.models import model_urls
    except ImportError:
        raise UserError('torchxrayvision\'s classifiers need it: pip install "cfkit[cheff]"') from None
    own = next((told for told in model_urls.values() if told["weights_url"].rpartition("/")[2] == path.name), None)
    labels = (own or model_urls["all"])["labels"]
    points = own.get("op_threshs") if own else None
    return list(labels), [float(x) for x in points] if points is not None else [0.5] * len(labels)


def _name(finding: str) -> str:
    try:
        return canonical(finding)
    except UserError:
        return finding.replace("_", " ")
