"""Cheff's text-to-image checkpoint, on random weights in its layout."""

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from torch.nn import functional as F

import cfkit
from cfkit import Intervention, UserError
from cfkit.bundles.cheff_text import convert_text_to_image
from cfkit.bundles.importer import Sources, import_cheff

from ..golden_weights import autoencoder_checkpoint, draw, layout, unet_checkpoint

CONTEXT, LENGTH, DEPTH, INNER = 24, 12, 2, 16
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "apparent", "present", "cardiomegaly", "effusion"]


def transformer_shapes(c):
    shapes = {"norm.weight": [c], "norm.bias": [c], "proj_in.weight": [c, c, 1, 1], "proj_in.bias": [c]}
    shapes |= {"proj_out.weight": [c, c, 1, 1], "proj_out.bias": [c]}
    for name, width in (("attn1", c), ("attn2", CONTEXT)):
        block = f"transformer_blocks.0.{name}"
        shapes |= {
            f"{block}.to_q.weight": [c, c],
            f"{block}.to_k.weight": [c, width],
            f"{block}.to_v.weight": [c, width],
        }
        shapes |= {f"{block}.to_out.0.weight": [c, c], f"{block}.to_out.0.bias": [c]}
    for k in (1, 2, 3):
        shapes |= {f"transformer_blocks.0.norm{k}.weight": [c], f"transformer_blocks.0.norm{k}.bias": [c]}
    shapes |= {
        "transformer_blocks.0.ff.net.0.proj.weight": [8 * c, c],
        "transformer_blocks.0.ff.net.0.proj.bias": [8 * c],
    }
    return shapes | {"transformer_blocks.0.ff.net.2.weight": [c, 4 * c], "transformer_blocks.0.ff.net.2.bias": [c]}


def checkpoint():
    shapes = {}
    for name, shape in layout()["unet"].items():
        if name.endswith("qkv.weight"):
            stem = name.removesuffix("qkv.weight")
            shapes |= {stem + rest: s for rest, s in transformer_shapes(shape[1]).items()}
        elif "qkv" not in name and "proj_out" not in name and not name.endswith((".1.norm.weight", ".1.norm.bias")):
            shapes[name] = shape
    shapes = {f"model.{name}": shape for name, shape in shapes.items()}
    text = {"token_emb.weight": [len(WORDS), CONTEXT], "pos_emb.emb.weight": [LENGTH, CONTEXT]}
    text |= {"norm.weight": [CONTEXT], "norm.bias": [CONTEXT], "to_logits.weight": [len(WORDS), CONTEXT]}
    for k in range(DEPTH):
        a, f = f"attn_layers.layers.{2 * k}", f"attn_layers.layers.{2 * k + 1}"
        text |= {f"{x}.0.{leaf}": [CONTEXT] for x in (a, f) for leaf in ("weight", "bias")}
        text |= {f"{a}.1.to_{q}.weight": [INNER, CONTEXT] for q in "qkv"}
        text |= {f"{a}.1.to_out.weight": [CONTEXT, INNER], f"{a}.1.to_out.bias": [CONTEXT]}
        text |= {f"{f}.1.net.0.0.weight": [4 * CONTEXT, CONTEXT], f"{f}.1.net.0.0.bias": [4 * CONTEXT]}
        text |= {f"{f}.1.net.2.weight": [CONTEXT, 4 * CONTEXT], f"{f}.1.net.2.bias": [CONTEXT]}
    shapes |= {f"cond_stage_model.transformer.{name}": shape for name, shape in text.items()}
    return {"state_dict": {name: draw(name, shape) for name, shape in shapes.items()} | {"betas": torch.ones(1000)}}


def test_the_u_net_is_what_diffusers_own_conversion_makes_of_it():
    model, config, factor = convert_text_to_image(checkpoint())
    assert config["unet"]["cross_attention_dim"] == CONTEXT and factor == pytest.approx(0.18215)
    unet = {k: v for k, v in checkpoint()["state_dict"].items() if k.startswith("model.")}
    theirs = convert_ldm_unet_checkpoint(unet, dict(model.denoiser.unet.config))
    ours = model.denoiser.unet.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@torch.no_grad()
def test_the_text_encoder_computes_its_layers():
    model, _, _ = convert_text_to_image(checkpoint())
    state = {k.removeprefix("cond_stage_model.transformer."): v for k, v in checkpoint()["state_dict"].items()}
    tokens = torch.tensor([[2, 7, 8, 3] + [0] * 8, [2, 5, 9, 3] + [0] * 8])
    x = state["token_emb.weight"][tokens] + state["pos_emb.emb.weight"]
    for k in range(DEPTH):
        a, f = f"attn_layers.layers.{2 * k}", f"attn_layers.layers.{2 * k + 1}"
        h = F.layer_norm(x, (CONTEXT,), state[f"{a}.0.weight"], state[f"{a}.0.bias"])
        q, key, v = (
            torch.einsum("nld,ed->nle", h, state[f"{a}.1.to_{c}.weight"]).view(2, LENGTH, 8, -1) for c in "qkv"
        )
        share = torch.einsum("nihd,njhd->nhij", q, key).mul(q.shape[-1] ** -0.5).softmax(dim=-1)
        mixed = torch.einsum("nhij,njhd->nihd", share, v).reshape(2, LENGTH, INNER)
        x = x + F.linear(mixed, state[f"{a}.1.to_out.weight"], state[f"{a}.1.to_out.bias"])
        h = F.layer_norm(x, (CONTEXT,), state[f"{f}.0.weight"], state[f"{f}.0.bias"])
        h = F.gelu(F.linear(h, state[f"{f}.1.net.0.0.weight"], state[f"{f}.1.net.0.0.bias"]))
        x = x + F.linear(h, state[f"{f}.1.net.2.weight"], state[f"{f}.1.net.2.bias"])
    expected = F.layer_norm(x, (CONTEXT,), state["norm.weight"], state["norm.bias"])
    assert torch.allclose(model.text_encoder.transformer(tokens), expected, atol=1e-5)


def test_radedit_runs_on_an_imported_one(tmp_path):
    pytest.importorskip("transformers")
    torch.save(checkpoint(), tmp_path / "t2i.pt")
    torch.save(autoencoder_checkpoint(), tmp_path / "a.pt")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    sources = Sources(
        autoencoder=tmp_path / "a.pt", text_to_image=tmp_path / "t2i.pt", vocabulary=tmp_path / "vocab.txt"
    )
    import_cheff(sources, tmp_path / "out", report=lambda line: None)
    bundle = cfkit.load_bundle(tmp_path / "out", device="cpu")
    film = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = bundle.radedit.autoencoder.encode(film)
    assert torch.allclose(latents, bundle.autoencoder.encode(film) * 0.18215)
    assert torch.allclose(bundle.radedit.autoencoder.decode(latents), bundle.autoencoder.decode(latents / 0.18215))
    context = bundle.radedit.text_encoder(["Present Cardiomegaly", ""])
    assert context.shape == (2, LENGTH, CONTEXT) and not torch.equal(context[0], context[1])
    editor = cfkit.load_editor("radedit", bundle=bundle, num_inference_steps=3, bone_mask=False)
    edit = editor.edit(film, [Intervention("Cardiomegaly", True)], generators=[torch.Generator().manual_seed(0)])
    assert edit.images.shape == film.shape and edit.images.isfinite().all()


def test_what_is_no_text_to_image_model_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no attn2\.to_k\.weight"):
        convert_text_to_image(unet_checkpoint())
    half = {"state_dict": {k: v for k, v in checkpoint()["state_dict"].items() if k.startswith("model.")}}
    with pytest.raises(UserError, match=r"cond_stage_model\.transformer\.token_emb\.weight is missing"):
        convert_text_to_image(half)
    with pytest.raises(UserError, match="needs --vocabulary"):
        import_cheff(Sources(text_to_image=tmp_path / "t.pt"), tmp_path / "out")
