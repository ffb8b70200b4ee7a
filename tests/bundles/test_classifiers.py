"""Published classifiers compute what their authors' code does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cfkit import UserError
from cfkit.bundles.classifiers import JFHEALTHCARE, blur, convert_classifier, equalize

torchvision = pytest.importorskip("torchvision")


def films(count=2, size=64, seed=0):
    smooth = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(smooth, size=(size, size), mode="bicubic").clamp(0, 1)


def settled(model, seed):
    """With statistics of batch norm that are not those of a new network."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 0.05 * torch.randn(module.num_features, generator=generator)
            module.running_var *= 0.5 + torch.rand(module.num_features, generator=generator)
    return model.eval()


def equalize_by_hand(levels):
    """OpenCV's histogram equalisation of a picture of whole levels, a loop at a time."""
    counts = [int((levels == k).sum()) for k in range(256)]
    first = next(k for k in range(256) if counts[k])
    if counts[first] == levels.size:
        return np.full(levels.shape, first)
    scale, total, table = 255.0 / (levels.size - counts[first]), 0, [0] * 256
    for k in range(first + 1, 256):
        total += counts[k]
        table[k] = int(np.rint(np.float32(total * scale)))
    return np.array(table)[levels]


def test_equalisation_and_blur_are_those_of_opencv():
    whole = (films() * 255).round() / 255
    expected = np.stack([equalize_by_hand(film[0].mul(255).round().int().numpy()) for film in whole])
    assert np.abs(equalize(whole)[:, 0].numpy() - expected).max() < 1e-3
    flat = torch.full((1, 1, 8, 8), 51 / 255)
    assert torch.allclose(equalize(flat), torch.full_like(flat, 51.0))
    film = films()[:1]
    padded = np.pad(film[0, 0].numpy(), 1, mode="reflect")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    assert np.allclose(blur(film)[0, 0].numpy(), (rows[:-2] + 2 * rows[1:-1] + rows[2:]) / 4, atol=1e-6)


def test_a_gradient_passes_through_the_equalisation():
    film = films()[:1].requires_grad_(True)
    equalize(film).mean().backward()
    assert film.grad.isfinite().all() and (film.grad > 0).any()


def jfhealthcare_file():
    torch.manual_seed(0)
    net = settled(torchvision.models.densenet121(weights=None), 1)
    state = {f"backbone.{k}": v for k, v in net.state_dict().items()}  # its classifier included, as published
    old = {}
    for name, value in state.items():
        for part in ("norm", "conv"):
            name = name.replace(f".{part}1.", f".{part}.1.").replace(f".{part}2.", f".{part}.2.")
        old[f"module.{name}"] = value
    heads = [nn.Conv2d(1024, 1, 1) for _ in JFHEALTHCARE]
    for k, head in enumerate(heads):
        old |= {f"module.fc_{k}.weight": head.weight.data, f"module.fc_{k}.bias": head.bias.data}
        old |= {f"module.bn_{k}.{n}": v for n, v in nn.BatchNorm2d(1024).state_dict().items()}
    return net, heads, {"state_dict": old}


@torch.no_grad()
def test_jfhealthcare_pools_by_probability():
    net, heads, checkpoint = jfhealthcare_file()
    model, config = convert_classifier(checkpoint, "jfhealthcare", Path("pre_train.pth"))
    assert config == {} and model.findings == JFHEALTHCARE
    x = films(size=96)
    prepared = F.interpolate(blur(equalize(x)), size=(512, 512), mode="bilinear", align_corners=False)
    features = net.features((prepared.repeat(1, 3, 1, 1) - 128) / 64)
    expected = []
    for head in heads:
        share = torch.sigmoid(head(features))
        share = share / share.sum(dim=2, keepdim=True).sum(dim=3, keepdim=True)
        pooled = (features * share).sum(dim=2, keepdim=True).sum(dim=3, keepdim=True)
        expected.append(head(pooled).flatten())
    assert torch.allclose(model(x), torch.stack(expected, dim=1), atol=1e-4)


@torch.no_grad()
def test_torchxrayvision_agrees_with_itself():
    xrv = pytest.importorskip("torchxrayvision")
    name = xrv.models.model_urls["chex"]["weights_url"].rpartition("/")[2]
    points, labels = xrv.models.model_urls["chex"]["op_threshs"], xrv.models.model_urls["chex"]["labels"]
    torch.manual_seed(0)
    theirs = settled(xrv.models.DenseNet(num_classes=18, op_threshs=torch.tensor(points)), 2)
    model, config = convert_classifier({"state_dict": theirs.state_dict()}, "torchxrayvision", Path("there") / name)
    x = films(size=224)
    trained = [k for k, point in enumerate(points) if labels[k] and not np.isnan(point)]
    assert config["outputs"] == trained and "Pleural Effusion" in config["findings"]
    expected = theirs(x * 2048 - 1024)[:, trained]
    assert torch.allclose(torch.sigmoid(model(x)), expected, atol=1e-4)


@torch.no_grad()
def test_a_resnet_of_torchxrayvision():
    pytest.importorskip("torchxrayvision")
    torch.manual_seed(0)
    net = torchvision.models.resnet50(weights=None, num_classes=18)
    net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    settled(net, 3)
    model, _ = convert_classifier(net.state_dict(), "torchxrayvision", Path("unknown.pt"))
    assert torch.allclose(model(films(1, 512)), net(films(1, 512) * 2048 - 1024), rtol=1e-4)


@torch.no_grad()
def test_the_resnet_of_the_release():
    torch.manual_seed(0)
    net = settled(torchvision.models.resnet152(weights=None, num_classes=5), 4)
    state = {f"module.{name}": value.half() for name, value in net.state_dict().items()}
    model, _ = convert_classifier({"state_dict": state}, "resnet152", Path("r.pt"))
    halved = net.half().float()
    x = films(1, 256)
    assert torch.allclose(model(x), halved((x.repeat(1, 3, 1, 1) - 0.5330) / 0.0349), rtol=1e-4)


@pytest.mark.parametrize("kind", ["jfhealthcare", "resnet152", "torchxrayvision"])
def test_another_model_is_not_taken(kind):
    with pytest.raises(UserError, match=r"not (a|jf)"):
        convert_classifier({"state_dict": {"a.weight": torch.ones(2, 2)}}, kind, Path("a.pt"))
