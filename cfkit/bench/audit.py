"""How an audited classifier responds to edits, by task and by each finding that it gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from .bootstrap import means_over_patients
from .store import CaseRow, Store


def measure_responses(store: Store, findings: list[str]) -> list[dict[str, Any]]:
    """Mean change of every probability of the audited classifier, with its 95 % interval over patients.

    Args:
        store: Of a run with an audited classifier.
        findings: Names of its outputs.

    Returns:
        One a method, task and finding: "method", "task", "finding", "change", "low", "high", "n", and whether
        the finding is the task's own ("target").
    """
    films = store.films()
    groups: dict[tuple[str, str], list[CaseRow]] = {}
    for row in store.cases([case.key for case in store.plan() if case.kind == "edit"]):
        if not row.error and "audited_after" in row.arrays:
            groups.setdefault((row.method, row.task), []).append(row)
    responses = []
    for (method, task), rows in groups.items():
        changes = np.array([(r.arrays["audited_after"] - films[r.film].arrays["audited"]).numpy() for r in rows])
        found = means_over_patients(changes.astype(np.float64), [films[row.film].patient for row in rows])
        for finding, (change, low, high) in zip(findings, found, strict=True):
            told = {"change": change, "low": low, "high": high}
            responses.append(
                {"method": method, "task": task, "finding": finding, "target": rows[0].finding == finding}
                | {key: round(value, 5) for key, value in told.items()}
                | {"n": len(rows)}
            )
    return responses
