"""The installed plugins, and the stubs beside them."""

import importlib.metadata

import pytest

import cfkit.plugins
from tests.bench.stubs import POINT


@pytest.fixture(autouse=True)
def stubs(monkeypatch):
    installed = list(importlib.metadata.entry_points(group="cfkit"))
    monkeypatch.setattr(cfkit.plugins, "entry_points", lambda group: [*installed, POINT])
