"""Training: one loop for every system, its checkpoints, its stages, and how much a profile does."""

from gentok.training.checkpoint import load_checkpoint, load_model, save
from gentok.training.loop import Fit, fit
from gentok.training.shared import share_weights
from gentok.training.stages import stage

__all__ = ["Fit", "fit", "load_checkpoint", "load_model", "save", "share_weights", "stage"]
