"""Training: one loop for every system, its checkpoints, its stages, and how much a profile does."""

from gentok.training.checkpoint import load_checkpoint, save
from gentok.training.loading import load_model
from gentok.training.loop import Fit, fit
from gentok.training.parameter_groups import ParameterGroup, decay_groups
from gentok.training.plan import Stage, preset_of
from gentok.training.schedules import Schedule
from gentok.training.shared import share_weights
from gentok.training.stages import stage

__all__ = [
    "Fit",
    "ParameterGroup",
    "Schedule",
    "Stage",
    "decay_groups",
    "fit",
    "load_checkpoint",
    "load_model",
    "preset_of",
    "save",
    "share_weights",
    "stage",
]
