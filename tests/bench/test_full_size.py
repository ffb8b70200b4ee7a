"""The paper's suite on its models at full size, with random weights in the published layouts, on a CPU."""

import json
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from cfkit.bundles.importer import Sources, import_cheff

from ..bundles.test_classifiers import jfhealthcare_file
from ..bundles.test_importer import full_size_files
from ..data.test_layouts import CHEXPERT, write_table

pytestmark = pytest.mark.slow
VIT_B_32 = {
    "embed_dim": 512,
    "vision_cfg": {"layers": 12, "width": 768, "head_width": 64, "patch_size": 32, "image_size": 224},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
    "quick_gelu": True,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    open_clip = pytest.importorskip("open_clip")
    pytest.importorskip("torchxrayvision")
    from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet

    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    full_size_files(folder)
    torch.save(jfhealthcare_file()[2], folder / "pre_train.pth")
    torch.save(open_clip.CLIP(**VIT_B_32).state_dict(), folder / "clip.pt")
    torch.save({f"module.{k}": v for k, v in pspnet(14).state_dict().items()}, folder / "pspnet.pth")
    parts = {"unet": "unet.pt", "autoencoder": "autoencoder.pt", "classifier": "pre_train.pth", "clip": "clip.pt"}
    sources = Sources(segmenter=folder / "pspnet.pth", **{part: folder / name for part, name in parts.items()})
    import_cheff(sources, folder / "cheff", report=lambda line: None)
    return folder / "cheff"


@pytest.fixture
def chexpert(tmp_path):
    root = tmp_path / "CheXpert-v1.0"
    rows = []
    for k, marks in enumerate(({"Cardiomegaly": "1.0"}, {"Cardiomegaly": "0.0", "No Finding": "1.0"})):
        name = f"valid/patient6454{k}/study1/view1_frontal.jpg"
        rows.append({"Path": f"CheXpert-v1.0/{name}", "Frontal/Lateral": "Frontal", "AP/PA": "AP", **marks})
        (root / name).parent.mkdir(parents=True)
        levels = np.random.default_rng(k).integers(0, 255, (390, 320), dtype=np.uint8)
        Image.fromarray(levels).save(root / name)
    write_table(root / "valid.csv", CHEXPERT, rows)
    return root


def test_two_films_end_to_end_within_8_gib(bundle, chexpert, tmp_path):
    methods = "gifsplanation:frames=2,stop_shift=20,ours:preset=paper,num_inference_steps=2,epochs=1"
    command = [sys.executable, "-m", "cfkit", "bench", "--suite", "paper", "--bundle", bundle, "--data", chexpert]
    command += ["--split", "valid", "--methods", methods, "--tasks", "Cardiomegaly removal,Cardiomegaly synthesis"]
    done = subprocess.run(
        [*map(str, command), "--batch-size", "1", "--device", "cpu", "-o", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["cases"] == results["finished"] == 4 and results["features"] == "clip"
    assert {score["metric"] for score in results["scores"]} >= {"clip_accuracy", "esas"}
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 8 * 2**20
