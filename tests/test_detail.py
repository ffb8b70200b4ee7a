"""The change of an edit, put onto the film."""

import pytest
import torch

from cfkit.detail import compose, shrink_change


def test_an_edit_that_changes_nothing_returns_the_film_or_its_round_trip():
    image, roundtrip = torch.rand(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).unbind()
    for shrink in (0.0, 0.02):
        assert torch.equal(compose(image, roundtrip, roundtrip, restore_detail=True, shrink=shrink), image)
        assert torch.equal(compose(image, roundtrip, roundtrip, restore_detail=False, shrink=shrink), roundtrip)


def test_the_garrote_in_closed_form():
    change = torch.linspace(-0.5, 0.5, 1001, dtype=torch.float64)
    shrunk = shrink_change(change, 0.1)
    expected = [0.0 if abs(c) <= 0.1 else c - 0.01 / c for c in change.tolist()]
    assert (shrunk - torch.tensor(expected, dtype=torch.float64)).abs().max() < 1e-9
    assert (shrunk.diff() >= 0).all()  # never turns round
    assert shrink_change(change, 0.0) is change


@pytest.mark.parametrize("value", [-1.0, 2.0])
def test_the_result_stays_in_range(value):
    zero = torch.zeros(1, 1, 2, 2)
    edited = compose(zero, zero + value, zero, restore_detail=True, shrink=0.0)
    assert float(edited.min()) >= 0.0 and float(edited.max()) <= 1.0
