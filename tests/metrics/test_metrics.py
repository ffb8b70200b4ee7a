"""Every metric against an implementation of another kind, and in parts against the whole."""

import inspect
import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter
from sklearn.metrics import accuracy_score

from cfkit.bench.columns import COLUMNS
from cfkit.metrics import SPECS
from cfkit.metrics.frechet import FrechetDistance
from cfkit.metrics.split_frechet import SplitFrechetDistance
from cfkit.metrics.transition import insertion_curve
from cfkit.metrics.validity import FlipRate
from cfkit.specs import import_target

N, K, D, F = 12, 3, 5, 4


@pytest.fixture(scope="module")
def columns():
    """Random cases, with every column that a metric may ask for."""
    g = torch.Generator().manual_seed(0)

    def unit(*shape):
        return torch.nn.functional.normalize(torch.randn(*shape, generator=g), dim=-1)

    film = torch.rand(N, 1, 24, 24, generator=g)

    def near(scale):
        return (film + scale * torch.randn(film.shape, generator=g)).clamp(0, 1)

    made = {
        "factual": film,
        "counterfactual": near(0.1),
        "truth": torch.where(torch.rand(film.shape, generator=g) < 0.3, near(0.3), film),
        "structures": torch.rand(N, 14, 24, 24, generator=g) < 0.3,
        "present": torch.rand(N, generator=g) < 0.5,
        "target": torch.randint(K, (N,), generator=g),
        "judge_before": torch.rand(N, K, generator=g),
        "judge_after": torch.rand(N, K, generator=g),
        "classifier_before": torch.rand(N, K, generator=g),
        "classifier_after": torch.rand(N, K, generator=g),
        "audited_before": torch.rand(N, 2, generator=g),
        "audited_after": torch.rand(N, 2, generator=g),
        "audited_target": torch.randint(2, (N,), generator=g),
        "clip_before": unit(N, D),
        "clip_after": unit(N, D),
        "clip_positive": unit(N, D),
        "clip_negative": unit(N, D),
        "features_before": torch.randn(N, F, generator=g),
        "features_after": torch.randn(N, F, generator=g) + 0.5,
        "reference": torch.randn(30, F, generator=g),
        "transition": torch.rand(N, 11, generator=g),
        "perceptual": torch.rand(N, generator=g),
        "null_edit": near(0.01),
        "returned": near(0.05),
    }
    assert set(made) == set(COLUMNS)
    return made


def feed(metric, columns, parts=1):
    names = list(inspect.signature(metric.update).parameters)
    for k, rows in enumerate(torch.arange(N).chunk(parts)):
        given = {n: columns[n][rows] for n in names if n != "reference"}
        if "reference" in names:
            given["reference"] = columns["reference"] if k == 0 else columns["reference"][:0]
        metric.update(**given)
    return metric.compute()


def test_the_specs_say_what_the_classes_say():
    assert len({spec.name for spec in SPECS}) == len(SPECS)
    for spec in SPECS:
        metric = import_target(spec.target)()
        assert metric.higher_is_better == spec.higher_is_better, spec.name
        assert set(inspect.signature(metric.update).parameters) <= set(COLUMNS), spec.name


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_parts_agree_with_the_whole(spec, columns):
    whole = feed(import_target(spec.target)(), columns)
    parts = feed(import_target(spec.target)(), columns, parts=5)
    assert torch.allclose(whole, parts, rtol=1e-5, atol=1e-6) and whole.isfinite().all()


def of(c, name):
    return c[name].double().numpy()


def expected_clip(c):
    positive, negative = (np.exp((of(c, "clip_after") * of(c, f"clip_{s}")).sum(1)) for s in ("positive", "negative"))
    return accuracy_score(c["present"].numpy(), positive / (positive + negative) > 0.5)


def expected_esas(c):
    total = 0.0
    for k in range(N):
        sign = 1 if c["present"][k] else -1
        target = of(c, "clip_before")[k] + sign * (of(c, "clip_positive")[k] - of(c, "clip_negative")[k])
        total += np.linalg.norm(of(c, "clip_after")[k] - target) ** 2
    return total / N


def frechet(a, b):
    s = sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * s)


def expected_fid(c):
    return frechet(of(c, "features_after"), of(c, "reference"))


def column(model):
    return {"judge": "target", "audited": "audited_target"}[model]


def targets(c, model):
    rows = np.arange(N), c[column(model)]
    return of(c, f"{model}_before")[rows], of(c, f"{model}_after")[rows], c["present"].numpy()


def flips(c, model):
    """By film: whether it could flip, and whether it did."""
    before, after, present = targets(c, model)
    return [((b > 0.5) != p, (b > 0.5) != p and (a > 0.5) == p) for b, a, p in zip(before, after, present, strict=True)]


def expected_flips(model):
    def expected(c):
        could = [did for might, did in flips(c, model) if might]
        return sum(could) / len(could)

    return expected


def expected_margin(model):
    def expected(c):
        before, after, present = targets(c, model)
        return np.mean([a - b if p else b - a for a, b, p in zip(after, before, present, strict=True)])

    return expected


def expected_collateral(model):
    def expected(c):
        change = np.abs(of(c, f"{model}_after") - of(c, f"{model}_before"))
        return np.mean([np.delete(row, t).mean() for row, t in zip(change, c[column(model)].tolist(), strict=True)])

    return expected


def expected_missed(c):
    pairs = zip(flips(c, "judge"), flips(c, "audited"), strict=True)
    seen = [not own_did for (_, did), (own_might, own_did) in pairs if did and own_might]
    return sum(seen) / len(seen)


def expected_psnr(c):
    a, b = of(c, "factual"), of(c, "counterfactual")
    return np.mean([10 * math.log10(1 / ((x - y) ** 2).mean()) for x, y in zip(a, b, strict=True)])


def expected_ssim(c):
    def blur(x):
        return gaussian_filter(x, 1.5, truncate=3.5, mode="mirror")

    values = []
    for x, y in zip(of(c, "factual")[:, 0], of(c, "counterfactual")[:, 0], strict=True):
        mx, my = blur(x), blur(y)
        vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        s = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
        values.append(s.mean())
    return np.mean(values)


def expected_bones(c):
    change = np.abs(of(c, "counterfactual") - of(c, "factual"))[:, 0]
    masks = c["structures"][:, [0, 1, 2, 3, 9, 11, 12, 13]].any(1).numpy()
    return np.mean([d[m].mean() for d, m in zip(change, masks, strict=True)])


def expected_structures(c):
    change = np.abs(of(c, "counterfactual") - of(c, "factual"))[:, 0]
    return np.array(
        [np.mean([d[m[s]].mean() for d, m in zip(change, c["structures"].numpy(), strict=True)]) for s in range(14)]
    )


def l1(a, b):
    return lambda c: np.abs(of(c, a) - of(c, b)).mean()


def expected_nearer(c):
    def error(name):
        return np.abs(of(c, name) - of(c, "truth")).mean((1, 2, 3))

    return (error("counterfactual") < error("factual")).mean()


def where_true(inside):
    def expected(c):
        change = np.abs(of(c, "counterfactual") - of(c, "factual"))
        true = np.abs(of(c, "truth") - of(c, "factual")) > 0.02
        return np.mean([d[m == inside].mean() for d, m in zip(change, true, strict=True)])

    return expected


def expected_dice(c):
    made, wanted = (np.abs(of(c, n) - of(c, "factual")) > 0.02 for n in ("counterfactual", "truth"))
    return np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in zip(made, wanted, strict=True)])


def expected_cout(c):
    p = of(c, "transition")

    def area(q):
        return np.mean([(q[:, k] + q[:, k + 1]) / 2 for k in range(10)], axis=0)

    return (area(p) - area(1 - p)).mean()


def expected_sfid(c):
    a, b = of(c, "features_after"), of(c, "features_before")
    order = np.argsort(b.sum(1), kind="stable")
    a, b = a[order], b[order]
    values = []
    for k in range(10):
        halves = np.split(torch.randperm(N, generator=torch.Generator().manual_seed(k)).numpy(), 2)
        values += [frechet(a[halves[0]], b[halves[1]]), frechet(a[halves[1]], b[halves[0]])]
    return np.mean(values)


EXPECTED = {
    "clip_accuracy": expected_clip,
    "esas": expected_esas,
    "fid": expected_fid,
    "sfid": expected_sfid,
    "flip_rate": expected_flips("judge"),
    "margin": expected_margin("judge"),
    "collateral": expected_collateral("judge"),
    "l1": l1("counterfactual", "factual"),
    "psnr": expected_psnr,
    "ssim": expected_ssim,
    "perceptual": lambda c: of(c, "perceptual").mean(),
    "bone_change": expected_bones,
    "structure_change": expected_structures,
    "truth_error": l1("counterfactual", "truth"),
    "truth_nearer": expected_nearer,
    "change_inside": where_true(True),
    "change_outside": where_true(False),
    "change_dice": expected_dice,
    "composition": l1("null_edit", "factual"),
    "reversibility": l1("returned", "factual"),
    "cout": expected_cout,
    "audit_flip_rate": expected_flips("audited"),
    "audit_margin": expected_margin("audited"),
    "audit_collateral": expected_collateral("audited"),
    "audit_missed": expected_missed,
}


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_agrees_with_an_independent_implementation(spec, columns):
    value = feed(import_target(spec.target)(), columns)
    assert np.allclose(value.numpy(), EXPECTED[spec.name](columns), rtol=2e-4, atol=1e-6)


def test_the_frechet_distance_of_few_films_in_many_features_is_that_of_the_definition():
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(6, 20, generator=g), torch.randn(50, 20, generator=g) + 1.0
    from cfkit.metrics.frechet import frechet_distance

    eigen = np.linalg.eigvals(np.cov(a.numpy(), rowvar=False) @ np.cov(b.numpy(), rowvar=False)).real.clip(min=0)
    means = ((a.mean(0) - b.mean(0)) ** 2).sum()
    expected = (
        means + np.trace(np.cov(a.numpy(), rowvar=False) + np.cov(b.numpy(), rowvar=False)) - 2 * np.sqrt(eigen).sum()
    )
    assert abs(float(frechet_distance(a, b)) - float(expected)) < 1e-3
    assert math.isnan(float(frechet_distance(a[:1], b)))


def test_the_insertion_curve_enters_the_most_changed_pixels_first():
    factual = torch.zeros(1, 1, 2, 5)
    counterfactual = torch.arange(10.0).view(1, 1, 2, 5) / 10
    curve = insertion_curve(lambda x: x.sum((1, 2, 3)), factual, counterfactual, steps=5)
    assert torch.allclose(curve, torch.tensor([[0.0, 1.7, 3.0, 3.9, 4.4, 4.5]]))


def _in_a_process(rank, columns, path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    rows = slice(0, 5) if rank == 0 else slice(5, N)
    out = {}
    for spec in SPECS:
        metric = import_target(spec.target)()
        names = list(inspect.signature(metric.update).parameters)
        mine = {n: columns[n][rows] for n in names if n != "reference"}
        if "reference" in names:
            mine["reference"] = columns["reference"][:11] if rank == 0 else columns["reference"][11:]
        metric.update(**mine)
        out[spec.name] = metric.compute()
    if rank == 0:
        torch.save(out, f"{path}.out")
    torch.distributed.destroy_process_group()


def test_two_processes_agree_with_one(columns, tmp_path):
    path = tmp_path / "store"
    torch.multiprocessing.spawn(_in_a_process, args=(columns, str(path)), nprocs=2)
    together = torch.load(f"{path}.out")
    for spec in SPECS:
        alone = feed(import_target(spec.target)(), columns)
        assert torch.allclose(together[spec.name], alone, rtol=1e-5, atol=1e-6), spec.name


def test_a_film_with_two_seeds_has_both_edits_in_one_half():
    features = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    once, twice = SplitFrechetDistance(), SplitFrechetDistance()
    once.update(features, features)
    twice.update(features.repeat(2, 1), features.repeat(2, 1))
    assert float(twice.compute()) == pytest.approx(float(once.compute()), rel=0.05)


@pytest.mark.parametrize("metric", [FrechetDistance(), SplitFrechetDistance(), FlipRate()])
def test_without_a_case_a_metric_is_nan(metric):
    assert metric.compute().isnan()
