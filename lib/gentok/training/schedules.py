"""Learning rates over a run: rise, hold, fall, and the floor they fall to.

Every schedule is a closed form of the step. A resumed run therefore needs no scheduler state, and
the learning rate of any step can be plotted before the first one is made.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

KINDS = ("constant", "cosine", "linear", "wsd")


@dataclass(frozen=True)
class Schedule:
    """What the learning rate does after its warm-up, as a fraction of its peak.

    Args:
        kind: ``"constant"``; down by half a ``"cosine"`` or in a ``"linear"`` way; or ``"wsd"``
            (warm up, stay, decay): constant, then linearly down over the last fifth of the steps.
        floor: what it falls to, a fraction of the peak in [0, 1). A published 2e-4 that falls to
            2e-5 has the floor 0.1.
        start: step at which the fall begins; the end of the warm-up if None (for ``"wsd"`` four
            fifths of the way to ``end``).
        end: first step at the floor; the number of steps of the run if None, so that the last
            step stands just above the floor.

    Raises:
        ValueError: if the kind is unknown, a number is out of range, or ``start`` is not before
            ``end``.
    """

    kind: Literal["constant", "cosine", "linear", "wsd"] = "constant"
    floor: float = 0.0
    start: int | None = None
    end: int | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"unknown schedule {self.kind!r}; accepted: {KINDS}")
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor must lie in [0, 1), a fraction of lr; got {self.floor}")
        if self.kind == "constant" and (self.floor, self.start, self.end) != (0.0, None, None):
            raise ValueError("a constant schedule has no floor, start or end")
        if self.start is not None and self.start < 0:
            raise ValueError(f"start must be at least 0, got {self.start}")
        if self.end is not None and self.end <= (self.start or 0):
            raise ValueError(f"end must lie after start={self.start or 0}, got {self.end}")

    def factor(self, step: int, steps: int, warmup: int = 0) -> float:
        """The learning rate of a step over its peak, in [0, 1].

        Args:
            step: from 0.
            steps: length of the run.
            warmup: steps of the rise from 1 / warmup to 1.
        """
        if step < warmup:
            return (step + 1) / warmup
        return self.floor + (1 - self.floor) * self._fall(step, steps, warmup)

    def knows_length(self) -> bool:
        """Whether the rate of a step depends on how many steps the run has."""
        return self.kind != "constant" and self.end is None

    def _fall(self, step: int, steps: int, warmup: int) -> float:
        """From 1 at the start of the decay to 0 at its end."""
        if self.kind == "constant":
            return 1.0
        if self.kind == "wsd" and self.start is None and self.end is None:
            return min(1.0, 5 * (1 - step / steps))
        end = steps if self.end is None else self.end
        start = self.start
        if start is None:
            start = warmup if self.kind != "wsd" else max(warmup, 4 * end // 5)
        done = min(max((step - start) / max(end - start, 1), 0.0), 1.0)
        if self.kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return 1 - done


@dataclass(frozen=True)
class Drops:
    """A rate that rises and then falls by steps: a function of the step, for `fit`.

    Args:
        at: steps at which it is multiplied by ``by``.
        warmup: steps of the rise from 1 / warmup to 1; give `fit` none of its own.
        by: factor of each drop.
    """

    at: tuple[int, ...]
    warmup: int = 0
    by: float = 0.1

    def __call__(self, step: int) -> float:
        """The rate of a step (from 0) over its peak."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return rise * self.by ** sum(step >= drop for drop in self.at)


# A name, a schedule, or any function of the step that returns the rate over its peak.
AnySchedule = str | Schedule | Callable[[int], float]


def schedule_factor(step: int, steps: int, warmup: int, schedule: AnySchedule) -> float:
    """The learning rate of a step as a fraction of its peak.

    Args:
        step: from 0; ``steps``: of the run; ``warmup``: steps of the linear rise.
        schedule: a kind's name, a `Schedule`, or a function ``step -> factor``. The warm-up comes
            before a schedule by name; a function is taken as it is.

    Raises:
        ValueError: if the name is unknown, or a function returns a negative or infinite factor.
    """
    if isinstance(schedule, str):
        schedule = Schedule(schedule)
    if isinstance(schedule, Schedule):
        return schedule.factor(step, steps, warmup)
    factor = float(schedule(step))
    if not (0 <= factor < math.inf):
        raise ValueError(f"schedule gave the factor {factor} at step {step}; 0 or more is accepted")
    return factor


def knows_length(schedule: AnySchedule) -> bool:
    """Whether the rate of a step depends on how many steps the run has."""
    if isinstance(schedule, str):
        schedule = Schedule(schedule)
    return isinstance(schedule, Schedule) and schedule.knows_length()


def check_schedule(schedule: AnySchedule, steps: int, warmup: int) -> None:
    """Refuse, before a run, what `schedule_factor` could not use during it.

    Raises:
        ValueError: if it is no schedule, an unknown name, a fall that begins within the warm-up or
            after the run, or a function together with a warm-up.
    """
    if isinstance(schedule, str):
        schedule = Schedule(schedule)
    if isinstance(schedule, Schedule):
        if schedule.start is not None and not warmup <= schedule.start:
            raise ValueError(
                f"schedule: the decay starts at step {schedule.start}, in a warm-up of {warmup}"
            )
        if schedule.end is not None and schedule.end <= warmup:
            raise ValueError(
                f"schedule: the decay ends at step {schedule.end}, in a warm-up of {warmup}"
            )
        if schedule.end is None and schedule.start is not None and schedule.start >= steps:
            raise ValueError(
                f"schedule: the decay starts at step {schedule.start}, the run has {steps}"
            )
    elif not callable(schedule):
        raise ValueError(
            f"schedule must be one of {KINDS}, a Schedule or a function of the step, "
            f"got {schedule!r}"
        )
    elif warmup:
        raise ValueError(f"a schedule that is a function has its own warm-up; got warmup={warmup}")


def described(value: object) -> object:
    """A setting as a checkpoint's JSON keeps it: a function becomes its name.

    Two functions of one name cannot be told apart, so resuming trusts the caller there.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__qualname__, **dataclasses.asdict(value)}
    if callable(value):
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"
    return value
