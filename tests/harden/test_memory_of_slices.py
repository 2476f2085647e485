"""What a save in slices takes of each process, measured: the more processes, the less each."""

import sys
from pathlib import Path

import pytest
from torch import nn
from toy_machines import OUT, together

from gentok.training import machines, shard, slices

pytestmark = [
    pytest.mark.harden,
    pytest.mark.skipif(sys.platform != "linux", reason="peaks are read as Linux tells them"),
]
BLOCKS, WIDTH = 8, 2048  # 134 MB of weights
STATUS = Path("/proc/self/status")


def memory(kind: str) -> int:
    """``VmRSS``, what a process holds, or ``VmHWM``, the most it held; bytes."""
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) * 1024


def save(rank, folder):
    """Cut a network and save the slices; prints by how much a process grew meanwhile."""
    machines.join(on_cpu=True)
    model = nn.Module()
    model.blocks = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(BLOCKS))
    shard.shard(model)
    weights = dict(model.named_parameters())
    slices.write(Path(folder) / OUT, dict(list(weights.items())[:1]), 0)  # imports what it needs
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = memory("VmRSS")
    slices.write(Path(folder) / OUT, weights, 1)
    print("grew", memory("VmHWM") - before)


def test_the_more_processes_the_less_memory_each(tmp_path):
    most = {}
    for count in (2, 4, 8):
        places = [tmp_path / f"{count}-{rank}" for rank in range(count)]
        shared = tmp_path / f"shared-{count}"
        for folder in (shared, *places):
            folder.mkdir()
        codes, logs = together(places, save, str(shared))
        assert codes == [0] * count, logs
        most[count] = max(int(log.split("grew ")[1].split()[0]) for log in logs)
    slice_of_two = BLOCKS * WIDTH**2 * 4 // 2
    assert most[2] > slice_of_two / 2, "what is measured is the slices"
    assert most[4] < 0.7 * most[2] and most[8] < 0.7 * most[4], most
    print(most)
