"""What a profile is: how much a notebook or a training run does, decided in one place.

| name    | for                                              | seeds  | device                |
|---------|--------------------------------------------------|--------|-----------------------|
| `smoke` | tests: every cell runs, the numbers mean nothing | 0, 1   | cpu                   |
| `probe` | replays: does a change leave every number alone? | 0, 1   | cpu                   |
| `cpu`   | readers: one seed trained live in minutes        | 0      | cpu                   |
| `study` | the record of claims: all arms over all seeds    | 0 to 5 | cpu                   |
| `long`  | weights to keep: at most 90 minutes on one core  | 0      | cuda or mps, else cpu |
| `gpu`   | the paper's setting as near as the data allow    | 0      | cuda or mps, else cpu |

A probe is as small as a smoke run, but where an experiment says so (``probe=``) it lasts for two
epochs, past the warm-up and the step at which an adversary starts.

The environment variable ``GENTOK_PROFILE`` wins over what a notebook or a command asks for, so
that one test command runs every notebook in the smoke profile.
"""

import os
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")

SEEDS: dict[str, tuple[int, ...]] = {
    "smoke": (0, 1),
    "probe": (0, 1),
    "cpu": (0,),
    "study": (0, 1, 2, 3, 4, 5),
    "long": (0,),
    "gpu": (0,),
}
_ABSENT = object()  # tells "not given" from a value of None


@dataclass(frozen=True)
class Profile:
    """One of the profiles.

    Args:
        name: a key of `SEEDS`.
        seeds: the seeds that an experiment of this profile runs over.
        device: the torch device string that live runs of this profile use.
    """

    name: str
    seeds: tuple[int, ...]
    device: str

    def pick(
        self,
        *,
        smoke: T = _ABSENT,
        probe: T = _ABSENT,
        cpu: T = _ABSENT,
        study: T = _ABSENT,
        long: T = _ABSENT,
        gpu: T = _ABSENT,
    ) -> T:
        """Return the value meant for this profile: ``steps = profile.pick(smoke=2, cpu=300)``.

        Study, long and gpu take the value of cpu, and probe that of smoke, where they are given
        none of their own.

        Raises:
            ValueError: if neither the profile's own value nor that fallback was given.
        """
        given = {
            "smoke": smoke,
            "probe": probe,
            "cpu": cpu,
            "study": study,
            "long": long,
            "gpu": gpu,
        }
        value = given[self.name]
        if value is _ABSENT:
            fallback = {"probe": smoke, "study": cpu, "long": cpu, "gpu": cpu}
            value = fallback.get(self.name, _ABSENT)
        if value is _ABSENT:
            raise ValueError(f"pick() was given no value for the profile {self.name!r}")
        return value


def accelerator_device() -> str:
    """Name the fastest device at hand: ``"cuda"``, ``"mps"`` or ``"cpu"``.

    A process that ``accelerate launch`` started gets a GPU of its own, such as ``"cuda:1"``.
    """
    if torch.cuda.is_available():
        rank = os.environ.get("LOCAL_RANK")
        return "cuda" if rank is None else f"cuda:{rank}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def profile(name: str | None = None) -> Profile:
    """Return the profile in force: ``GENTOK_PROFILE`` if set, else ``name``, else ``"cpu"``.

    Raises:
        ValueError: if the name is not one of the profiles; the message says where it came
            from and lists what is accepted.
    """
    chosen = os.environ.get("GENTOK_PROFILE") or name or "cpu"
    if chosen not in SEEDS:
        origin = "GENTOK_PROFILE" if os.environ.get("GENTOK_PROFILE") else "profile"
        raise ValueError(f"{origin}: unknown profile {chosen!r}; accepted: {', '.join(SEEDS)}")
    device = accelerator_device() if chosen in ("long", "gpu") else "cpu"
    return Profile(chosen, SEEDS[chosen], device)
