"""What the text-conditional denoiser is told."""

import torch

from cfkit.data.virtual.patient import FINDINGS
from cfkit.train.text_denoiser import draw_present, draw_prompt, draw_timesteps, real_prompts, virtual_prompts


def test_prompts_of_a_virtual_film_are_true_of_it():
    for seed in range(20):
        for variant in range(4):
            present, absent = virtual_prompts(seed, variant)
            finding = FINDINGS[variant - 1] if variant else None
            assert absent == [f"No apparent {f}" for f in FINDINGS if f != finding]
            assert all(p.startswith("Present ") and p.endswith(finding or "?") for p in present)
            assert bool(present) == bool(variant)


def test_prompts_of_a_real_film_follow_its_labels():
    assert real_prompts(torch.tensor([0.0, 1.0, 0.0]).numpy()) == (
        ["Present Cardiomegaly"],
        ["No apparent Atelectasis", "No apparent Pleural Effusion"],
    )


def test_a_prompt_is_left_out_now_and_then_and_the_plain_form_is_the_commonest():
    generator = torch.Generator().manual_seed(0)
    prompts = virtual_prompts(3, 3)
    drawn = [draw_prompt(prompts, generator) for _ in range(400)]
    assert 0.08 < drawn.count("") / 400 < 0.22
    assert set(drawn) - {""} <= {*prompts[0], *prompts[1]}
    present = [draw_present(prompts[0], generator) for _ in range(400)]
    assert present.count(prompts[0][0]) > 200 and set(present) == set(prompts[0])


def test_timesteps_cover_their_range_evenly():
    drawn = draw_timesteps(8, torch.Generator().manual_seed(0), 200)
    assert drawn.min() >= 200 and drawn.max() <= 999
    assert torch.equal(((drawn - 200) // 100).sort().values, torch.arange(8))
