"""The segmenter and the Fréchet features compute what their own packages do, on random weights in their files."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cfkit
from cfkit.bundles.importer import Sources, import_cheff

pytestmark = pytest.mark.slow


def settle(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 0.05 * torch.randn(module.num_features, generator=generator)
    return model.eval()


def film(size=256):
    smooth = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(smooth, size=(size, size), mode="bicubic").clamp(0, 1)


@torch.no_grad()
def test_the_segmenter_is_torchxrayvision_s(tmp_path, monkeypatch):
    pytest.importorskip("torchxrayvision")
    from torchxrayvision.baseline_models import chestx_det
    from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet

    torch.manual_seed(0)
    state = {f"module.{name}": value for name, value in settle(pspnet(14), 1).state_dict().items()}
    cache = tmp_path / ".torchxrayvision" / "models_data"
    cache.mkdir(parents=True)
    path = cache / "pspnet_chestxray_best_model_4.pth"
    torch.save(state, path)
    monkeypatch.setenv("HOME", str(tmp_path))  # where their class looks before it downloads
    theirs = chestx_det.PSPNet()
    import_cheff(Sources(segmenter=path), tmp_path / "out", report=lambda line: None)
    ours = cfkit.load_bundle(tmp_path / "out", device="cpu").segmenter
    expected = torch.sigmoid(theirs(film(512) * 2048 - 1024))
    assert torch.allclose(ours(film(512)), expected, atol=1e-4)
    assert ours(film()).shape == (1, 14, 256, 256)


@torch.no_grad()
def test_the_features_are_torch_fidelity_s(tmp_path):
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    from cfkit.bundles.inception import Inception

    torch.manual_seed(0)
    torch.save(settle(Inception().net, 2).state_dict(), tmp_path / "inception.pth")
    theirs = fidelity.FeatureExtractorInceptionV3("x", ["2048"], str(tmp_path / "inception.pth"))
    import_cheff(Sources(inception=tmp_path / "inception.pth"), tmp_path / "out", report=lambda line: None)
    bundle = cfkit.load_bundle(tmp_path / "out", device="cpu")
    levels = (film() * 255).round().to(torch.uint8).repeat(1, 3, 1, 1)
    features = bundle.features(film())
    assert features.shape == (1, 2048) and torch.allclose(features, theirs(levels)[0], atol=1e-4)
