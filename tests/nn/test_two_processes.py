"""Layers that move state of their own, on two processes with rows and random numbers of their own.

Both must hold the same state after each step, and it must be that of one process with all rows.
"""

import multiprocessing

import pytest
import torch
import torch.distributed as dist

from gentok.nn.quantize import ResidualVQ, VectorQuantizer
from gentok.nn.sae import TopKSAE
from gentok.signals.mogo.sampled_rvq import SampledQuantizer, SampledResidualVQ

ROWS, STEPS = 24, 6


def rows(step: int) -> torch.Tensor:
    return torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(step)) + 0.1 * step


def run(layer, mine: slice, seed: int) -> tuple[dict, list]:
    """The state after some steps, and what each step gave."""
    torch.manual_seed(seed)
    given = []
    for step in range(STEPS):
        z = rows(step)[mine]
        out = layer.loss({"x": z}) if isinstance(layer, TopKSAE) else layer(z)
        given.append(out[1].tolist() if torch.is_tensor(out[1]) else None)
    return {name: value.tolist() for name, value in layer.state_dict().items()}, given


def _one_of_two(rank, make, store, results):
    torch.set_num_threads(1)  # a forked process may not start the parent's thread pool
    torch.manual_seed(0)
    layer = make()
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    half = ROWS // 2
    results.put((rank, *run(layer, slice(rank * half, (rank + 1) * half), seed=100 + rank)))
    dist.destroy_process_group()


def on_two(make, tmp_path) -> list[tuple[dict, list]]:
    context = multiprocessing.get_context("fork")  # spares the imports; gloo starts afterwards
    results = context.Queue()
    processes = [
        context.Process(target=_one_of_two, args=(rank, make, tmp_path / "store", results))
        for rank in (0, 1)
    ]
    try:
        for process in processes:
            process.start()
        found = sorted(results.get(timeout=300) for _ in processes)
    finally:
        for process in processes:
            process.kill()
    return [(state, given) for _, state, given in found]


def residual() -> ResidualVQ:
    return ResidualVQ(5, 6, 4, quantize_dropout=True)


def sampled() -> SampledQuantizer:
    return SampledQuantizer(6, 4, decay=0.5, temperature=0.5)


def mogo() -> SampledResidualVQ:
    kwargs = {"codebook_size": 6, "dim": 4, "decay": 0.5, "temperature": 0.5}
    return SampledResidualVQ(5, level_dropout=0.7, **kwargs)


@pytest.mark.parametrize("make", [residual, sampled, mogo])
def test_two_processes_hold_one_codebook(make, tmp_path):
    (one, first), (two, second) = on_two(make, tmp_path)
    assert one == two
    if make is not sampled:  # the same levels are left out
        kept = [[[level >= 0 for level in step[0]] for step in given] for given in (first, second)]
        assert kept[0] == kept[1] and len({tuple(step) for step in kept[0]}) > 1


def averages() -> VectorQuantizer:
    return VectorQuantizer(6, 4, decay=0.5, dead_threshold=0)


def sparse() -> TopKSAE:
    return TopKSAE(4, 12, 2, aux_weight=0, dead_after=30)


@pytest.mark.parametrize("make", [averages, sparse])
def test_two_processes_are_one_with_all_rows(make, tmp_path):
    torch.manual_seed(0)
    alone, _ = run(make(), slice(0, ROWS), seed=0)
    for state, _ in on_two(make, tmp_path):
        assert state.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(torch.tensor(state[name]), torch.tensor(value), msg=name)
