"""How MicroDiT is trained, preset by preset: masked, then unmasked; small pictures, then large.

A run at one resolution is one call of `fit`. Its learning rate falls while tokens are dropped, to a
third, and stays there for the unmasked steps; the optimiser's moments go on, as in the public code.
"""

from dataclasses import dataclass, replace

from gentok.diffusion.micro_diffusion.config import MicroDiTConfig
from gentok.diffusion.micro_diffusion.cost import Phase
from gentok.diffusion.micro_diffusion.presets import PRESETS
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.schedules import Schedule

PICTURES = 12_000  # captioned pictures of the world
FLOOR = 1 / 3  # of the learning rate, from the first unmasked step on (published: 2.4e-4 to 8e-5)
# What a preset of large pictures is trained as first.
BEFORE = {"world-64": "world-32", "MicroDiT_XL_2-512": "MicroDiT_XL_2"}


@dataclass(frozen=True)
class Part:
    """A run at one resolution.

    Args:
        name: of its checkpoint, "" for the last part's.
        size: of the model, with the step from which nothing is dropped.
        image_size: pixels of a side.
        training: how it is trained.
    """

    name: str
    size: MicroDiTConfig
    image_size: int
    training: Stage

    def phases(self) -> list[Phase]:
        """The masked and the unmasked steps, for `gentok.diffusion.micro_diffusion.cost`."""
        steps, rows, end = self.training.steps, self.training.batch_size, self.size.unmasked_from
        masked = steps if end is None else min(end, steps)
        both = [
            Phase(self.size, self.size.mask_ratio, masked, rows),
            Phase(self.size, 0.0, steps - masked, rows),
        ]
        return [phase for phase in both if phase.steps]


@dataclass(frozen=True)
class Plan:
    """What decides a training.

    Args:
        data: ``"placed"`` (the world's shapes at named places) or ``"captioned"`` (pairs of files
            under ``GENTOK_DATA/captioned``).
        pictures: how many the world draws.
        parts: one after the other, each from the weights of the one before.
        num_steps, guidance_scale: of the sampler.
    """

    data: str
    pictures: int
    parts: tuple[Part, ...]
    num_steps: int
    guidance_scale: float

    def phases(self) -> list[Phase]:
        """All phases of all parts."""
        return [phase for part in self.parts for phase in part.phases()]


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset.startswith("MicroDiT"):
        return _published(preset, size, profile)
    names = [BEFORE[preset], preset] if preset in BEFORE else [preset]
    parts = [_small(name, profile) for name in names]
    return _in_order("placed", profile.pick(smoke=64, cpu=PICTURES), parts, 18, 2.0)


STEPS = {  # of small presets, and rows of a batch
    "tiny": ({"smoke": 4, "cpu": 300, "gpu": 4000}, 16),
    "study-32": ({"smoke": 4, "cpu": 500, "gpu": 4000}, 16),
    "world-32": ({"smoke": 4, "cpu": 400, "long": 10_000, "gpu": 20_000}, 32),
    "world-32-masked": ({"smoke": 3, "cpu": 320, "long": 8000, "gpu": 16_000}, 32),
    "world-64": ({"smoke": 4, "cpu": 200, "long": 1500, "gpu": 6000}, 16),
}
TUNED = 5  # one step of so many is unmasked; published: one of nine, and of eleven at 512 pixels
MASKED = ("world-32-masked",)  # presets that are not tuned: another preset's masked steps alone


def _small(preset: str, profile: Profile) -> Part:
    """AdamW at a rate that suits small networks; else as published."""
    size, (steps, rows) = PRESETS[preset], STEPS[preset]
    count = profile.pick(**steps)
    masked = count if preset in MASKED else count - max(1, count // TUNED)
    stage = Stage(
        steps=count,
        batch_size=profile.pick(smoke=4, cpu=rows),
        lr=1e-3 if preset in BEFORE else 2e-3,
        betas=(0.9, 0.99),
        weight_decay=0.01,
        warmup=max(1, masked // 16),
        schedule=Schedule("cosine", floor=FLOOR, end=masked),
        clip=1.0,
        ema=0.998,
    )
    size = replace(size, unmasked_from=None if masked == count else masked)
    return Part("", size, 4 * size.input_size, stage)


def _in_order(
    data: str, pictures: int, parts: list[Part], num_steps: int, guidance_scale: float
) -> Plan:
    """A plan of parts, all but the last named by their resolution."""
    named = [replace(part, name=f"r{part.image_size}") for part in parts[:-1]]
    return Plan(data, pictures, (*named, parts[-1]), num_steps, guidance_scale)


# --- published ------------------------------------------------------------------------------------


def _published(preset: str, size: MicroDiTConfig, profile: Profile) -> Plan:
    """280,000 steps at 256 pixels, 30,000 of them unmasked; 55,000 at 512, the last 5,000.

    Batches of 2,048, AdamW that decays all parameters alike. The public configurations name an
    average of the weights at 512 pixels, and its training does not apply it.
    """
    first = PRESETS[BEFORE[preset]] if preset in BEFORE else size
    parts = [_part(first, profile, 280_000, 30_000, 2.4e-4, 2500, 0.25)]
    if preset in BEFORE:
        parts.append(_part(size, profile, 55_000, 5_000, 8e-5, 500, 0.5))
    return _in_order("captioned", 0, parts, 30, 5.0)


def _part(
    size: MicroDiTConfig, profile: Profile, steps: int, tuned: int, lr: float, warmup: int,
    clip: float,
) -> Part:  # fmt: skip
    count = profile.pick(smoke=4, cpu=400, gpu=steps)
    masked = count - max(1, tuned * count // steps)
    falls = Schedule("cosine", floor=FLOOR, end=masked)
    stage = Stage(
        steps=count,
        batch_size=profile.pick(smoke=2, cpu=8, gpu=2048),
        lr=lr,
        weight_decay=0.1,
        warmup=warmup * count // steps,
        schedule=falls if size.position_scale == 1 else "constant",
        clip=clip,
        precision=profile.pick(smoke="no", cpu="no", gpu="bf16"),
    )
    return Part("", replace(size, unmasked_from=masked), 8 * size.input_size, stage)
