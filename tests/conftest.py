"""What no test may take from, or leave with, the user who runs it."""

import pytest


@pytest.fixture(autouse=True)
def patient_key(monkeypatch):
    """A key of the tests' own."""
    monkeypatch.setenv("CFKIT_PATIENT_KEY", "key")
