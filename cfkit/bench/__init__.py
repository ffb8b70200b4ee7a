"""The benchmark: plan, run, store, scores, report."""
