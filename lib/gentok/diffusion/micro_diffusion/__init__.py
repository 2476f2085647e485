"""MicroDiT: a text-to-image diffusion transformer trained cheaply by deferred masking."""

from gentok.diffusion.micro_diffusion.config import MicroDiTConfig
from gentok.diffusion.micro_diffusion.cost import (
    PUBLISHED,
    Bill,
    Phase,
    active_parameters,
    bill_of,
    forward_flops,
    saving,
    total_flops,
    training_flops,
)
from gentok.diffusion.micro_diffusion.model import MicroDiT, build, continued, example
from gentok.diffusion.micro_diffusion.pipeline import TextToImage
from gentok.diffusion.micro_diffusion.presets import PRESETS
from gentok.diffusion.micro_diffusion.readout import (
    asked,
    draw,
    errors_at,
    expert_loads,
    fixed_sigmas,
    influence,
    obeyed,
    samples,
    unevenness,
)
from gentok.diffusion.micro_diffusion.rivals import arms, equal_steps, token_choice

__all__ = [
    "PRESETS",
    "PUBLISHED",
    "Bill",
    "MicroDiT",
    "MicroDiTConfig",
    "Phase",
    "TextToImage",
    "active_parameters",
    "arms",
    "asked",
    "bill_of",
    "build",
    "continued",
    "draw",
    "equal_steps",
    "errors_at",
    "example",
    "expert_loads",
    "fixed_sigmas",
    "forward_flops",
    "influence",
    "obeyed",
    "samples",
    "saving",
    "token_choice",
    "total_flops",
    "training_flops",
    "unevenness",
]
