"""Methods that take no time, each with a habit; as a plugin, so that they come in as a stranger's do."""

import os
import signal
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import torch

from cfkit import Edit, EditorSpec, hookimpl, option
from cfkit.metrics.case_mean import CaseMean

POINT = EntryPoint("stubs", "tests.bench.stubs", "cfkit")


@dataclass(frozen=True)
class Options:
    strength: float = option(0.5, "How much.")


class Towards:
    """Darkens or brightens, and adds noise from each film's own generator."""

    def __init__(self, bundle, options):
        self.options = options

    def edit(self, images, interventions, *, masks=None, generators=None, progress=None):
        noise = torch.stack([torch.rand(images.shape[1:], generator=g) for g in generators])
        end = torch.tensor([float(i.present) for i in interventions]).view(-1, 1, 1, 1)
        return Edit(torch.lerp(images, (end + noise) / 2, self.options.strength * 0.2), record={"habit": "noise"})


class Fails(Towards):
    """Cannot edit films whose first row is brighter than most."""

    def edit(self, images, interventions, **rest):
        if (images[:, 0, :8].mean(dim=(1, 2)) > 0.45).any():
            raise ValueError("too bright\nfor me")
        return super().edit(images, interventions, **rest)


class Hungry(Towards):
    """Has memory for two films."""

    def edit(self, images, interventions, **rest):
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().edit(images, interventions, **rest)


class Dies(Towards):
    """Is killed after as many batches as the environment says."""

    left = int(os.environ.get("STUB_BATCHES", "1000"))

    def edit(self, images, interventions, **rest):
        if Dies.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Dies.left -= 1
        return super().edit(images, interventions, **rest)


class Absent:
    """Cannot even be built."""

    def __init__(self, bundle, options):
        raise RuntimeError("no weights")


class WantsWhatIsNot(CaseMean):
    """A metric of a column that no case has."""

    def update(self, factuals):
        self.add(factuals)


@hookimpl
def register_editors():
    return [
        EditorSpec(cls.__name__.lower(), Options, f"tests.bench.stubs:{cls.__name__}", cls.__doc__)
        for cls in (Towards, Fails, Hungry, Dies, Absent)
    ]
