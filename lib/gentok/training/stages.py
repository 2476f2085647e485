"""Stages: where a recipe that trains several networks keeps each.

``<part>/<slug>/recipe.py`` defines

- ``train(config, profile, *, out, resume, seed) -> nn.Module``: trains the system and returns it.
  ``out`` is the system's checkpoint file, or None. A recipe of several stages keeps the earlier
  ones beside it, at ``stage(out, "<name>")``;
- ``sample(checkpoint_path, out, *, n, seed)``: writes ``n`` samples to the file ``out``.

Hyperparameters live there and not in the models, because the paper states them per experiment.
"""

from pathlib import Path


def stage(out: Path | str | None, name: str) -> Path | None:
    """The checkpoint of an earlier stage: ``runs/a.safetensors`` -> ``runs/a.<name>.safetensors``.

    Returns:
        None if the run keeps no checkpoint.
    """
    return None if out is None else Path(out).with_suffix(f".{name}.safetensors")
