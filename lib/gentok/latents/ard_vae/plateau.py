"""A learning rate that is halved when the validation loss has stopped falling."""

import torch
from torch import nn


class Plateau(nn.Module):
    """The rate of a run over its peak; a schedule for `gentok.training.fit`.

    Keras's ReduceLROnPlateau as the authors' code sets it: no floor, no pause after a drop. What it
    remembers are buffers, so that a resumed run goes on as if it had not been stopped.

    Args:
        factor: of each drop; ``patience``: looks without a gain before one.
        least_gain: how far a loss must fall below the best one to count as a gain.
    """

    def __init__(self, factor: float = 0.5, patience: int = 10, least_gain: float = 1e-4):
        super().__init__()
        self.factor, self.patience, self.least_gain = factor, patience, least_gain
        self.register_buffer("rate", torch.ones(()))
        self.register_buffer("best", torch.full((), torch.finfo(torch.float32).max))
        self.register_buffer("waited", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, loss: torch.Tensor) -> None:
        """Look at one epoch's validation loss, ()."""
        if loss < self.best - self.least_gain:
            self.best.copy_(loss)
            self.waited.zero_()
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.rate *= self.factor
            self.waited.zero_()

    def forward(self, step: int) -> float:
        """The rate of any coming step over its peak."""
        return float(self.rate)
