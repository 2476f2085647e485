"""State that moves once a step: a batch in parts against the whole batch, layer by layer."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from gentok.nn.gather import moves_once, once_a_step, waiting, whole_step
from gentok.nn.ghost_norm import GhostBatchNorm2d
from gentok.nn.quantize import ResidualVQ, VectorQuantizer
from gentok.nn.sae import TopKSAE
from gentok.signals.mogo.sampled_rvq import SampledQuantizer, SampledResidualVQ

ROWS, PARTS, DIM, SIZE = 32, 4, 3, 6


class Counter:
    """Writes down what its marked methods were given."""

    def __init__(self):
        self.seen = []

    @once_a_step
    def move(self, rows, more):
        """Note the rows."""
        self.seen.append((rows.tolist(), more.tolist()))


def test_calls_wait_and_run_once_on_all_rows():
    first, second = Counter(), Counter()
    x = torch.arange(4)
    first.move(x, -x)
    assert first.seen == [([0, 1, 2, 3], [0, -1, -2, -3])] and not waiting()
    with whole_step():
        for part in x.split(2):
            second.move(part, part + 1)
            first.move(part, -part)
        assert waiting() and second.seen == [] and len(first.seen) == 1
    assert first.seen[1] == first.seen[0] and second.seen == [([0, 1, 2, 3], [1, 2, 3, 4])]
    assert not waiting() and moves_once(first) and not moves_once(nn.Linear(1, 1))
    assert moves_once(SampledQuantizer(4, 2, 0.9, 0.0)), "an overridden method counts"


def test_an_exception_moves_nothing_and_blocks_do_not_nest():
    counter = Counter()
    with pytest.raises(KeyError), whole_step():
        counter.move(torch.ones(1), torch.ones(1))
        raise KeyError
    assert counter.seen == [] and not waiting()
    with pytest.raises(RuntimeError, match="already open"), whole_step(), whole_step():
        pass
    assert not waiting()


def test_rows_keep_no_gradient():
    class Keeps(Counter):
        @once_a_step
        def move(self, rows):
            self.seen.append(rows)

    keeps, x = Keeps(), torch.ones(2, requires_grad=True)
    with whole_step():
        keeps.move(2 * x)
    assert not keeps.seen[0].requires_grad


def moved(layer, steps, parts):
    """A copy of a layer after some steps on the same rows, whole or in parts."""
    layer = copy.deepcopy(layer).train()
    torch.manual_seed(5)
    for step in range(steps):
        rows = torch.randn(ROWS, 4, DIM, generator=torch.Generator().manual_seed(step))
        if parts == 1:
            layer(rows)
            continue
        with whole_step():
            for part in rows.chunk(parts):
                layer(part)
    return layer.state_dict()


LAYERS = {
    # With few rows a code, codes die and are revived from random latents of the whole batch.
    "codebook": lambda: VectorQuantizer(SIZE, DIM, decay=0.5, dead_threshold=12.0),
    "plain codebook": lambda: VectorQuantizer(SIZE, DIM, decay=0.9, dead_threshold=0.0),
    "residual": lambda: ResidualVQ(3, SIZE, DIM, decay=0.5, dead_threshold=12.0),
    "nearest of Mogo": lambda: SampledQuantizer(SIZE, DIM, decay=0.5, temperature=0.0),
    "residual of Mogo": lambda: SampledResidualVQ(
        2, 0.0, codebook_size=SIZE, dim=DIM, decay=0.5, temperature=0.0
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_same_codebook_whole_or_in_parts(name):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    whole, parts = moved(layer, 4, 1), moved(layer, 4, PARTS)
    moved_at_all = [k for k, v in layer.state_dict().items() if not torch.equal(v, whole[k])]
    assert any("codebook" in key for key in moved_at_all)
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_without_gathering_the_codebook_would_be_another():
    torch.manual_seed(0)
    layer = VectorQuantizer(SIZE, DIM, decay=0.5, dead_threshold=0.0)
    wrong = copy.deepcopy(layer).train()
    for step in range(4):
        rows = torch.randn(ROWS, 4, DIM, generator=torch.Generator().manual_seed(step))
        for part in rows.chunk(PARTS):
            wrong(part)
    assert (wrong.codebook - moved(layer, 4, 1)["codebook"]).abs().max() > 0.05


def test_mogos_codes_cannot_start_from_a_part_that_is_too_small():
    layer = SampledQuantizer(9, DIM, decay=0.5, temperature=0.0).train()
    with pytest.raises(ValueError, match="a part of 8 latents cannot start 9 codes"), whole_step():
        layer.quantize(torch.randn(8, DIM))
    layer.quantize(torch.randn(8, DIM))  # whole, fewer latents are repeated
    with whole_step():
        layer.quantize(torch.randn(8, DIM))


def test_a_sparse_autoencoder_counts_and_follows_as_for_the_whole_batch():
    torch.manual_seed(0)
    sae = TopKSAE(DIM, 12, k=2, aux_weight=0.0)
    whole, parts = (copy.deepcopy(sae).train() for _ in range(2))
    for step in range(5):
        x = torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(step))
        x[:, 0] += 2  # so that some features stay silent
        whole.loss({"x": x})
        with whole_step():
            for part in x.chunk(PARTS):
                parts.loss({"x": part})
    assert torch.equal(whole.idle, parts.idle) and int(whole.idle.max()) == 5 * ROWS
    torch.testing.assert_close(parts.threshold, whole.threshold, rtol=1e-5, atol=0)
    assert whole.threshold > 0


def test_ghost_norm_is_batch_norm_and_remembers_the_whole_batch():
    torch.manual_seed(0)
    plain, ghost = nn.BatchNorm2d(3), GhostBatchNorm2d(3)
    state = {k: torch.rand(3) + 0.5 for k in ("weight", "bias", "running_mean", "running_var")}
    for norm in (plain, ghost):
        norm.load_state_dict(state | {"num_batches_tracked": torch.tensor(4)})
    x = torch.randn(8, 3, 5, 4) * torch.tensor([1.0, 3.0, 0.1])[:, None, None] + 2
    assert torch.equal(ghost(x), plain(x))
    for key, value in plain.state_dict().items():
        assert torch.equal(ghost.state_dict()[key], value)

    plain(y := 3 * x - 1)
    with whole_step():
        outputs = [ghost(part) for part in y.chunk(4)]
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(ghost.state_dict()[key], value, rtol=1e-5, atol=1e-6, msg=key)
    for part, out in zip(y.chunk(4), outputs, strict=True):  # each part by its own statistics
        alone = nn.functional.batch_norm(part, None, None, ghost.weight, ghost.bias, training=True)
        torch.testing.assert_close(out, alone)
    ghost.eval(), plain.eval()
    with whole_step():
        torch.testing.assert_close(ghost(x), plain(x))


STATEFUL = {
    "vector": lambda: VectorQuantizer(SIZE, DIM, decay=0.5),
    "residual": lambda: ResidualVQ(3, SIZE, DIM, quantize_dropout=True, decay=0.5),
    "sampled": lambda: SampledQuantizer(SIZE, DIM, decay=0.5, temperature=0.5),
    "sparse": lambda: TopKSAE(DIM, 9, 2, dead_after=40),
}


def three_steps(layer, checkpointed: bool) -> tuple[list[float], dict]:
    first = nn.Linear(DIM, DIM)
    first.load_state_dict({"weight": torch.eye(DIM), "bias": torch.zeros(DIM)})

    def loss_of(x):
        z = first(x)
        if isinstance(layer, TopKSAE):
            return layer.loss({"x": z})[0]
        z_q, _, commitment = layer(z)
        return z_q.square().mean() + commitment

    losses = []
    for step in range(3):
        torch.manual_seed(step)
        x = torch.randn(ROWS, DIM)
        loss = checkpoint(loss_of, x, use_reentrant=False) if checkpointed else loss_of(x)
        loss.backward()
        with torch.no_grad():
            for parameter in first.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
        losses.append(float(loss.detach()))
    return losses, layer.state_dict()


@pytest.mark.parametrize("name", STATEFUL)
def test_checkpointing_moves_state_once_or_is_refused(name):
    """The layer is computed twice; what it learned from the first time it must not learn again."""
    torch.manual_seed(0)
    layer = STATEFUL[name]()
    if name != "sparse":  # whose gradient needs nothing from behind its counts
        with pytest.raises(RuntimeError, match="has moved its state since gradient checkpointing"):
            three_steps(copy.deepcopy(layer), checkpointed=True)
    results = []
    for checkpointed in (False, True):
        mine = copy.deepcopy(layer)
        losses = []
        for _ in range(2):
            with whole_step():
                losses += three_steps(mine, checkpointed)[0]
        results.append((losses, mine.state_dict()))
    (plain, state), (again, moved) = results
    assert plain == again
    assert all(torch.equal(state[key], moved[key]) for key in state)
