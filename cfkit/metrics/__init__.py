"""The metrics, registered as a stranger's are.

A metric is a `torchmetrics.Metric` built without arguments. The names of its `update`'s parameters say
what it is given: the columns of `cfkit.bench.columns.COLUMNS`.
"""

from __future__ import annotations

from .. import MetricSpec, hookimpl

SPECS = [
    MetricSpec(name, f"cfkit.metrics.{target}", higher, summary)
    for name, target, higher, summary in (
        ("clip_accuracy", "clip_accuracy:ClipAccuracy", True, "CLIP model sees what was wanted"),
        ("esas", "esas:EmbeddingShiftAlignment", False, "embedding shift alignment score (eq. 16-18)"),
        ("fid", "frechet:FrechetDistance", False, "Fréchet distance to films as wanted"),
        ("sfid", "split_frechet:SplitFrechetDistance", False, "Fréchet distance to other films' factuals"),
        ("flip_rate", "validity:FlipRate", True, "judge moves to the wanted side of 0.5"),
        ("margin", "validity:JudgeMargin", True, "judge's probability moves as wanted"),
        ("collateral", "validity:CollateralChange", False, "judge's other findings change"),
        ("l1", "identity:MeanAbsoluteChange", False, "mean absolute change"),
        ("psnr", "identity:PeakSignalToNoise", True, "PSNR to the factual, dB"),
        ("ssim", "identity:StructuralSimilarity", True, "SSIM to the factual"),
        ("perceptual", "identity:PerceptualChange", False, "distance in the judge's feature maps"),
        ("bone_change", "identity:BoneChange", False, "mean absolute change within bones"),
        ("structure_change", "identity:StructureChange", False, "mean absolute change by structure"),
        ("truth_error", "ground_truth:TruthError", False, "L1 to the true counterfactual"),
        ("truth_nearer", "ground_truth:NearerToTruth", True, "nearer to the truth than the factual"),
        ("change_inside", "ground_truth:ChangeInside", True, "mean absolute change where truth differs"),
        ("change_outside", "ground_truth:ChangeOutside", False, "mean absolute change where truth does not"),
        ("change_dice", "ground_truth:ChangeDice", True, "Dice of change and true change"),
        ("composition", "axioms:Composition", False, "change by an edit that asks for nothing"),
        ("reversibility", "axioms:Reversibility", False, "change after an edit and its reverse"),
        ("audit_flip_rate", "audit:AuditFlipRate", True, "audited classifier moves to the wanted side of 0.5"),
        ("audit_margin", "audit:AuditMargin", True, "audited classifier's probability moves as wanted"),
        ("audit_collateral", "audit:AuditCollateral", False, "audited classifier's other findings change"),
        ("audit_missed", "audit:AuditMissed", False, "flips that the judge sees and the audited classifier does not"),
        ("cout", "transition:CounterfactualTransition", True, "counterfactual transition"),
    )
]


@hookimpl
def register_metrics() -> list[MetricSpec]:
    """Returns the metrics of cfkit itself."""
    return SPECS
