"""RadEdit from files in the published layout, made tiny and random."""

import pickle

import pytest
import torch

import cfkit
from cfkit import UserError
from cfkit.bundles.radedit import load_radedit

from ..radedit_files import write_radedit

CPU = torch.device("cpu")


@pytest.mark.parametrize("pickled", [False, True])
@torch.no_grad()
def test_every_part_computes_what_it_was_saved_from(tmp_path, pickled):
    made = write_radedit(tmp_path, pickled=pickled)
    parts = load_radedit(tmp_path, CPU)
    tokens = torch.tensor([[2, 5, 8, 9, 3] + [0] * 123])
    assert torch.equal(parts.text_encoder.tokenize(["Present pleural EFFUSION"]), tokens)
    context = parts.text_encoder(["Present pleural effusion"])
    assert context.shape == (1, 128, 24)
    # nothing is masked: padding is attended to, as in the published pipeline
    everything = torch.ones_like(tokens)
    assert torch.equal(context, made.bert(input_ids=tokens, attention_mask=everything).last_hidden_state)
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = parts.autoencoder.encode(images)
    mode = made.vae.encode(images.expand(-1, 3, -1, -1) * 2 - 1).latent_dist.mode()
    assert torch.allclose(latents, 0.13025 * mode)
    decoded = made.vae.decode(mode).sample.mean(dim=1, keepdim=True) / 2 + 0.5
    assert torch.allclose(parts.autoencoder.decode(latents), decoded, atol=1e-5)
    t = torch.tensor([3, 700])
    noise = parts.denoiser(latents, t, context.expand(2, -1, -1))
    assert torch.equal(noise, made.unet(latents, t, encoder_hidden_states=context.expand(2, -1, -1)).sample)
    assert parts.schedule.config.timestep_spacing == "trailing"


def test_a_bundle_serves_it(tmp_path):
    write_radedit(tmp_path / "files")
    (tmp_path / "bundle.toml").write_text('name = "mine"\nimage_size = 64\n[parts.radedit]\nfolder = "files"\n')
    editor = cfkit.load_editor("radedit", bundle=str(tmp_path), device="cpu", num_inference_steps=4, bone_mask=False)
    images = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    edit = editor.edit(images, [cfkit.Intervention("Pleural Effusion", True)])
    assert edit.images.shape == images.shape
    assert edit.record["films"] == [{"prompt": "Present Pleural Effusion"}]
    with pytest.raises(UserError, match="has no segmenter"):
        cfkit.load_editor("radedit", bundle=str(tmp_path), device="cpu", num_inference_steps=4).edit(
            images, [cfkit.Intervention("Pleural Effusion", True)]
        )


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code in the pickle was run",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("unet/config.json", None, "microsoft/radedit"),
        ("vae/diffusion_pytorch_model.safetensors", None, "stabilityai/sdxl-vae"),
        ("vae/diffusion_pytorch_model.safetensors", b"half a file", "does not load as AutoencoderKL"),
        ("text_encoder/vocab.txt", None, "BioViL-T"),
        ("text_encoder/model.safetensors", b"half a file", "not a safetensors file"),
        ("text_encoder/config.json", b"[1]", "not a JSON object"),
        ("text_encoder/config.json", b'{"hidden_size": 48}', "not the BERT that config.json describes"),
        ("text_encoder/config.json", b'{"hidden_size": 32}', "no configuration of a BERT"),
    ],
)
def test_a_faulty_file_is_named_in_one_line(tmp_path, name, content, message):
    write_radedit(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_radedit(tmp_path, CPU)
    assert "\n" not in str(caught.value)
    assert name.split("/")[0] in str(caught.value)


def test_a_pickle_with_code_is_refused(tmp_path):
    write_radedit(tmp_path)
    (tmp_path / "text_encoder" / "model.safetensors").unlink()
    (tmp_path / "text_encoder" / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="not a file of weights alone"):
        load_radedit(tmp_path, CPU)
