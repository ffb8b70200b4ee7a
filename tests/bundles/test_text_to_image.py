"""The demo bundle's way of telling a U-Net its prompt."""

import torch
from diffusers import UNet2DModel

from cfkit.bundles.kinds import build_part
from cfkit.train.text_denoiser import draw_prompt, real_prompts, virtual_prompts

UNET = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [16, 32],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": 8,
    "norm_num_groups": 8,
}


def make():
    torch.manual_seed(0)
    part = build_part("demo-text-to-image", {"width": 24, "unet": UNET}).eval()
    plain = UNet2DModel(**UNET).eval()
    part.denoiser.unet.load_state_dict(plain.state_dict())
    return part, plain


@torch.no_grad()
def test_the_empty_prompt_is_the_unconditional_model_and_others_are_not():
    part, plain = make()
    x, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([5, 900])
    expected = plain(x, t).sample
    words = part.text_encoder(["", "Present left Pleural Effusion"])
    assert torch.allclose(part.denoiser(x, t, words), expected, atol=1e-6)  # untrained: text says nothing yet
    torch.nn.init.normal_(part.denoiser.project.weight)
    told = part.denoiser(x, t, words)
    assert torch.allclose(told[0], expected[0], atol=1e-6)
    assert not torch.allclose(told[1], expected[1], atol=1e-3)


@torch.no_grad()
def test_padding_and_the_batch_do_not_matter():
    part, _ = make()
    alone = part.text_encoder(["Present Cardiomegaly"])
    together = part.text_encoder(["No apparent left Pleural Effusion of any kind", "Present Cardiomegaly", ""])
    assert torch.allclose(together[1:2], alone, atol=1e-6)
    assert alone.shape == (1, 16, 24)
    assert not alone[0, 2:].any() and alone[0, :2].any(dim=-1).all()
    assert not together[2].any()


def test_prompts_are_true_of_their_films():
    present, absent = virtual_prompts(7, 3)
    assert present[0] == "Present Pleural Effusion" and len(present) == 4
    assert absent == ["No apparent Atelectasis", "No apparent Cardiomegaly"]
    assert virtual_prompts(7, 2)[0][0] == "Present Cardiomegaly" and len(virtual_prompts(7, 2)[0]) == 2
    assert real_prompts([1.0, 0.0, 1.0]) == (
        ["Present Atelectasis", "Present Pleural Effusion"],
        ["No apparent Cardiomegaly"],
    )
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_prompt((present, absent), generator) for _ in range(2000)]
    assert set(drawn) == {"", *present, *absent}
    assert abs(drawn.count("") / 2000 - 0.15) < 0.03
    assert sum(text.startswith("Present") for text in drawn) > 0.65 * 2000
