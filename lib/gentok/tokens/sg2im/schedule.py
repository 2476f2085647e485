"""The learning rate of one cycle: up for a third of the steps, then down to almost nothing.

Smith and Topin 2018 (arXiv:1708.07120), in PyTorch's form with its defaults.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class OneCycle:
    """A function of the step, for `gentok.training.fit`: the rate over its peak.

    PyTorch's also lowers and raises Adam's beta1 (.95, .85, .95) unless told not to; here beta1
    stays.

    Args:
        steps: of the run.
        rise: share of the steps in which the rate rises.
        start: peak over first rate; ``end``: first over last rate.
    """

    steps: int
    rise: float = 0.3
    start: float = 25.0
    end: float = 1e4

    def __call__(self, step: int) -> float:
        """The rate of a step (from 0) over its peak."""
        low, top = 1 / self.start, self.rise * self.steps - 1
        if step <= top:
            return _between(low, 1.0, step / max(top, 1))
        return _between(1.0, low / self.end, (step - top) / max(self.steps - 1 - top, 1))


def _between(first: float, last: float, part: float) -> float:
    """Half a cosine from one to the other."""
    return last + (first - last) / 2 * (1 + math.cos(math.pi * part))
