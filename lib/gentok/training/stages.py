"""Where a recipe that trains several networks keeps each; `gentok.training.plan` says the rest."""

from pathlib import Path


def stage(out: Path | str | None, name: str) -> Path | None:
    """The checkpoint of an earlier stage: ``runs/a.safetensors`` -> ``runs/a.<name>.safetensors``.

    Returns:
        None if the run keeps no checkpoint.
    """
    return None if out is None else Path(out).with_suffix(f".{name}.safetensors")
