"""Trainings in processes of their own, to be killed.

They come from a server that has imported what they need, so that a kill meets the training and not
the imports.
"""

import os
import sys

import forked
import torch

from gentok import cli

SYSTEMS = {  # of two, two and three stages
    "enat": "gentok.tokens.enat.recipe",
    "mogo": "gentok.signals.mogo.recipe",
    "point_mae": "gentok.shapes.point_mae.recipe",
}


def start(slug, folder):
    """Begin or go on with a training in the smoke profile; its words go to a log beside it."""
    process = forked.context(*SYSTEMS.values()).Process(target=_train, args=(slug, folder))
    process.start()
    return process


def _train(slug, folder):
    torch.set_num_threads(1)
    os.environ.pop("GENTOK_PROFILE", None)
    sys.stdout = sys.stderr = open(folder.parent / "log", "a", buffering=1)  # noqa: SIM115
    words = ["train", slug, "--profile", "smoke", "--resume"]
    code = cli.run([*words, "--out", str(folder / "run.safetensors")])
    sys.stdout.flush()
    os._exit(code)
