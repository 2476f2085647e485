"""Where a recipe that trains several networks keeps each; `gentok.training.plan` says the rest."""

from pathlib import Path

SUFFIX = ".safetensors"


def stage(out: Path | str | None, name: str) -> Path | None:
    """The checkpoint of an earlier stage: ``runs/a.safetensors`` -> ``runs/a.<name>.safetensors``.

    A name with dots and without the ending keeps all of itself: ``lr0.1`` and ``lr0.2`` do not
    share their stages.

    Returns:
        None if the run keeps no checkpoint.
    """
    if out is None:
        return None
    out = Path(out)
    return out.with_name(f"{out.name.removesuffix(SUFFIX)}.{name}{SUFFIX}")


def companion(out: Path | str | None, name: str) -> Path | None:
    """A checkpoint that stands on its own beside another: ``runs/a-<name>.safetensors``.

    Returns:
        None if the run keeps no checkpoint.
    """
    if out is None:
        return None
    out = Path(out)
    return out.with_name(f"{out.name.removesuffix(SUFFIX)}-{name}{SUFFIX}")
