"""cfkit stays faster than the published loops: ratios in one run, never seconds."""

import pytest
from speed import measure

pytestmark = pytest.mark.slow


def test_exact_and_fast_beat_the_published_loop():
    common = {"method": "ours", "size": "demo", "device": "cpu"}
    release = measure(**common, way="release", films=1)
    exact = measure(**common, way="exact", films=8)
    fast = measure(**common, way="fast", films=8)
    assert release["seconds"] / exact["seconds"] > 1.5
    assert release["seconds"] / fast["seconds"] > 2.8
    pairs = zip(release["latents"], exact["latents"], strict=True)
    scale = sum(abs(x) for x in exact["latents"])
    assert sum(abs(a - b) for a, b in pairs) < 0.02 * scale


@pytest.mark.parametrize(
    ("method", "reference", "way", "least"),
    [("radedit", "plain", "exact", 1.5), ("gifsplanation", "published", "fast", 1.5)],
)
def test_the_other_methods_beat_theirs(method, reference, way, least):
    common = {"method": method, "size": "demo", "device": "cpu", "films": 8}
    assert measure(**common, way=reference)["seconds"] > least * measure(**common, way=way)["seconds"]
