"""Processes that stand for machines: each in a folder of its own, started as launchers start them.

They come from a server that has imported torch once, so that starting one takes no seconds.
"""

import hashlib
import os
import socket
import sys
from pathlib import Path

import forked
import torch
from toy_training import train_blocks, train_game

from gentok.training import machines, slices

OUT = Path("run.safetensors")
PATIENCE = 300  # seconds until a process counts as hanging
CONTEXT = forked.context("gentok.training")


def together(folders, work, *arguments):
    """Run ``work(rank, *arguments)`` in each folder at once; returns exit codes and outputs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = (len(folders), port, work, arguments)
    started = [
        CONTEXT.Process(target=_machine, args=(rank, folder, *words))
        for rank, folder in enumerate(folders)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(PATIENCE)
    hanging = [rank for rank, process in enumerate(started) if process.exitcode is None]
    for process in started:
        process.kill()
    assert not hanging, f"processes {hanging} hang"
    return [p.exitcode for p in started], [(f / "log").read_text() for f in folders]


def _machine(rank, folder, count, port, work, arguments):
    """One process as a launcher would start it."""
    os.chdir(folder)
    sys.stdout = sys.stderr = open("log", "w", buffering=1)  # noqa: SIM115
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    code = 0
    try:
        work(rank, *arguments)
    except KeyboardInterrupt:
        code = 130
    except (ValueError, OSError) as error:
        print("error:", error)
        code = 2
    except RuntimeError:
        code = 3
    sys.stdout.flush()
    os._exit(code)


def train(rank, steps, resume=False, victim=None, number=None):
    """Train the toy; at step 5 the victim is sent a signal."""

    def strike(step, model):
        if rank == victim and step == 5:
            os.kill(os.getpid(), number)

    model = train_game(OUT, steps, resume=resume, save_every=3, on_step=strike).model
    values = torch.cat([p.flatten() for p in model.parameters()])
    print("weights", hashlib.sha256(values.detach().numpy().tobytes()).hexdigest())


def look(rank, folder):
    """As a stage that reads files does."""
    machines.join(on_cpu=True)
    machines.check_shared(Path(folder), "this reads files")
    print("went on")


def train_in_slices(rank, folder, steps, resume):
    """As ``accelerate launch --use_fsdp`` would; every checkpoint counts as large."""
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    slices.LARGE = 0
    train_blocks(Path(folder) / OUT, steps, resume=resume)
