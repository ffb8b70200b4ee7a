"""The installed plugins, and the stubs beside them."""

import importlib.metadata

import pytest

import cfkit.plugins
from tests.bench.stubs import POINT


@pytest.fixture(scope="module")
def module_stubs():
    installed = list(importlib.metadata.entry_points(group="cfkit"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cfkit.plugins, "entry_points", lambda group: [*installed, POINT])
        yield


@pytest.fixture(autouse=True)
def stubs(module_stubs):
    """For every test."""
