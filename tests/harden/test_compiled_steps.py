"""Training steps under torch.compile and under gradient checkpointing: the losses of plain ones.

The graph is traced as `fit` has it traced; the eager backend needs no C++ compiler and rounds as
ever, so that losses must be equal.
"""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from gentok.interpret.vsae import model as vsae
from gentok.nn.gather import whole_step
from gentok.signals.mogo import motion_rvq

pytestmark = pytest.mark.harden

STEPS = 3


def motion(config, step: int) -> dict:
    rng = torch.Generator().manual_seed(step)
    return {"motion": torch.randn(4, 16, config.feature_dim, generator=rng)}


def activations(config, step: int) -> dict:
    return {"x": torch.randn(32, config.dim, generator=torch.Generator().manual_seed(step))}


SYSTEMS = {
    "motion_rvq": (motion_rvq, lambda: replace(motion_rvq.PRESETS["tiny"], feature_dim=35), motion),
    "vsae": (vsae, lambda: vsae.PRESETS["tiny"], activations),
}


def trained(name: str, how: str) -> tuple[list[float], dict]:
    module, size, batch = SYSTEMS[name]
    torch.manual_seed(0)
    config = size()
    model = module.build(config).train()
    step_of = model.loss
    if how == "compiled":
        torch._dynamo.reset()
        step_of = torch.compile(model.loss, backend="eager")
    if how == "checkpointed":
        step_of = partial(checkpoint, model.loss, use_reentrant=False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for step in range(STEPS):
        torch.manual_seed(step)
        with whole_step():
            loss, _ = step_of(batch(config, step), step)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses, copy.deepcopy(model.state_dict())


@pytest.mark.parametrize("how", ["compiled", "checkpointed"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_step_is_the_same_step(name, how):
    losses, state = trained(name, "")
    again, same = trained(name, how)
    assert again == pytest.approx(losses, rel=1e-5)
    for key, value in state.items():
        torch.testing.assert_close(same[key], value, rtol=1e-4, atol=1e-5, msg=key)
