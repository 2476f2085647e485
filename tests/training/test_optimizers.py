"""SGD beside AdamW: a loop written by hand, resumed runs, damaged memories."""

import pytest
import torch
from torch import nn

from gentok.training.checkpoint import load_checkpoint, save
from gentok.training.loop import ParameterGroup, fit
from gentok.training.optimizers import is_possible

SGD = {"momentum": 0.9, "lr": 0.05, "weight_decay": 0.01, "progress": False}


class Line(nn.Module):
    """A linear map, told its targets."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2)

    def loss(self, batch, step=0):
        return (self.net(batch["x"]) - batch["y"]).square().mean(), {}


def batches(step):
    draw = torch.Generator().manual_seed(step)
    x = torch.randn(8, 3, generator=draw)
    return {"x": x, "y": x[:, :2] - x[:, 1:]}


def start():
    torch.manual_seed(0)
    return Line()


def test_equals_a_loop_written_by_hand():
    """v <- m v + (g + d w), w <- w - r v, with the decay d and the rate r of each group."""
    fitted = fit(
        start(),
        batches,
        steps=7,
        groups=[ParameterGroup({"net.bias"}, weight_decay=0.0, rate=0.5)],
        **SGD,
    ).model
    model, sums = start(), [0.0, 0.0]
    for step in range(7):
        loss = model.loss(batches(step))[0]
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for k, (weight, gradient) in enumerate(zip(model.parameters(), gradients, strict=True)):
                decay, rate = ((0.01, 0.05), (0.0, 0.025))[k]
                sums[k] = 0.9 * sums[k] + gradient + decay * weight
                weight -= rate * sums[k]
    for ours, by_hand in zip(fitted.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, by_hand)


def test_a_resumed_run_is_the_same_run(tmp_path):
    out = tmp_path / "run.safetensors"
    whole = fit(start(), batches, steps=9, **SGD).model
    fit(start(), batches, steps=4, out=out, **SGD)
    again = fit(start(), batches, steps=9, out=out, resume=True, **SGD).model
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    assert load_checkpoint(out)[1]["settings"]["momentum"] == 0.9


@pytest.mark.parametrize("momentum", [None, 0.8])
def test_another_optimiser_does_not_go_on(tmp_path, momentum):
    out = tmp_path / "run.safetensors"
    fit(start(), batches, steps=4, out=out, **SGD)
    with pytest.raises(ValueError, match=f"momentum was 0.9, now it is {momentum}"):
        fit(start(), batches, steps=9, out=out, resume=True, **{**SGD, "momentum": momentum})


@pytest.mark.parametrize("wrong", [torch.full((2, 3), torch.nan), torch.zeros(3, 3)])
def test_a_damaged_memory_is_refused(tmp_path, wrong):
    out = tmp_path / "run.safetensors"
    fit(start(), batches, steps=4, out=out, **SGD)
    tensors, meta = load_checkpoint(out)
    save(out, {**tensors, "optimizer.net.weight.momentum_buffer": wrong}, meta)
    with pytest.raises(ValueError, match=r"run\.safetensors is damaged: .* memory of net\.weight"):
        fit(start(), batches, steps=9, out=out, resume=True, **SGD)


def test_possible_memories():
    weight = nn.Parameter(torch.zeros(2))
    of_adamw = {"step": torch.tensor(3.0), "exp_avg": -torch.ones(2), "exp_avg_sq": torch.ones(2)}
    assert is_possible(of_adamw, weight, done=3)
    assert not is_possible(of_adamw, weight, done=2)
    assert not is_possible(of_adamw | {"exp_avg_sq": -torch.ones(2)}, weight, done=3)
    assert is_possible({"momentum_buffer": -torch.ones(2)}, weight, done=1)


@pytest.mark.parametrize("momentum", [0.0, 1.0, -0.1])
def test_momentum_out_of_range(momentum):
    with pytest.raises(ValueError, match="momentum must lie between 0 and 1, or be None"):
        fit(start(), batches, steps=1, momentum=momentum)
