"""How FA-VAE, its rivals and the generator on its latents are trained, preset by preset."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from gentok.base import lightning_dit
from gentok.base.kl_vae import KLVAE, KLVAEConfig
from gentok.base.lightning_dit import LightningDiTConfig
from gentok.latents.fa_vae.model import (
    PRESETS,
    CoupledWaveletVAE,
    FAVAEConfig,
    baselines,
    build,
)
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile

PATCHES = 8192  # photographs' patches that a small preset trains on
Size = TypeVar("Size", FAVAEConfig, KLVAEConfig)
OURS = "decoupled"  # FA-VAE's name among its rivals
LATE = 0.8  # share of a small preset's steps after which the adversary enters
# Configuration class and ``build(config)`` of the tokenizers that are held against each other.
KINDS: dict[str, tuple[type, Callable]] = {
    "pixel": (KLVAEConfig, KLVAE),
    "coupled": (KLVAEConfig, CoupledWaveletVAE),
    OURS: (FAVAEConfig, build),
}


@dataclass(frozen=True)
class Plan:
    """What decides a training of FA-VAE and of the generator on its latents.

    Args:
        data: ``"photographs"`` (patches of the embedded ones), ``"plain"`` (the world's shapes on
            plain floors), or ``"folder"``: ImageNet's layout under ``GENTOK_DATA/images/<class>/``.
        pictures: how many photographs' patches or shapes.
        size: of the tokenizer; ``generator_size``: of the LightningDiT, but for what the tokenizer
            and the data decide (channels, grid, classes).
        tokenizer, generator: how each is trained; no generator if None.
        rivals: baselines of `KINDS` that the tokenizer's stage trains, too.
    """

    data: str
    pictures: int
    size: FAVAEConfig
    generator_size: LightningDiTConfig | None
    tokenizer: Stage
    generator: Stage | None
    rivals: dict[str, KLVAEConfig]

    def sizes(self) -> dict[str, FAVAEConfig | KLVAEConfig]:
        """Rivals and FA-VAE by the names of `KINDS`."""
        return {**self.rivals, OURS: self.size}

    def longer(self, factor: float) -> "Plan":
        """The same over ``factor`` times as many steps of the tokenizers, adversary at the end."""
        steps = round(factor * self.tokenizer.steps)
        return replace(
            self,
            size=_adversary_at(self.size, LATE, steps),
            tokenizer=replace(self.tokenizer, steps=steps),
            rivals={name: _adversary_at(rival, LATE, steps) for name, rival in self.rivals.items()},
        )


PUBLISHED = ("f16d32-a", "f16d32-b")  # sizes that follow VA-VAE's plan
SAMPLER = {"num_steps": 50, "guidance_scale": 2.0}  # of small generators, on all channels
# LightningDiT's after 64 epochs: 250 points of time, and guidance on three channels alone.
PUBLISHED_SAMPLER = {"num_steps": 249, "guidance_scale": 10.0, "guidance_start": 0.1}


def sampler_of(size: FAVAEConfig) -> dict[str, float]:
    """Options of `LightningDiT.sample` that go with a tokenizer's configuration."""
    return PUBLISHED_SAMPLER if size in [PRESETS[name] for name in PUBLISHED] else SAMPLER


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset in PUBLISHED:
        return _published(size, profile)
    if preset == "world-32":
        return _world(size, profile)
    if preset == "photographs-64":
        return _photographs(size, profile, preset, 8, 2e-3, cpu=300, long=2500)
    if preset == "study-32":
        return _photographs(size, profile, preset, 16, 3e-3, cpu=450, long=450)
    return _tiny(size, profile)


def _photographs(
    size: FAVAEConfig,
    profile: Profile,
    preset: str,
    batch_size: int,
    lr: float,
    cpu: int,
    long: int,
) -> Plan:
    """FA-VAE and its two rivals: half an hour on one core for patches of 64 pixels."""
    steps = profile.pick(smoke=4, cpu=cpu, long=long, gpu=20_000)
    rivals = baselines(preset)
    return Plan(
        "photographs",
        PATCHES,
        _adversary_at(size, LATE, steps),
        None,
        _of_photographs(steps, profile, batch_size, lr),
        None,
        {name: _adversary_at(rival, LATE, steps) for name, rival in rivals.items()},
    )


def _tiny(size: FAVAEConfig, profile: Profile) -> Plan:
    """FA-VAE and a generator on patches of 32 pixels."""
    steps = profile.pick(smoke=4, cpu=600, gpu=20_000)
    tokenizer = _of_photographs(steps, profile, 16, 3e-3)
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=20_000),
        batch_size=tokenizer.batch_size,
        lr=1e-3,
        betas=(0.9, 0.95),
        clip=1.0,
        ema=0.995,
    )
    dit = replace(lightning_dit.PRESETS["tiny"], patch_size=2)
    size = _adversary_at(size, LATE, steps)
    return Plan("photographs", PATCHES, size, dit, tokenizer, generator, {})


def _of_photographs(steps: int, profile: Profile, batch_size: int, lr: float) -> Stage:
    """How all tokenizers of photographs are trained.

    A high branch with L1 starts on a plateau, since the best constant answer is 0. With the
    published betas, (0.5, 0.9), it leaves it in some hundred steps; with (0.9, 0.99) it may not.
    """
    return Stage(
        steps=steps,
        batch_size=profile.pick(smoke=4, cpu=batch_size, gpu=64),
        lr=lr,
        betas=(0.5, 0.9),
        warmup=profile.pick(smoke=1, cpu=20),
        schedule="cosine",
        clip=1.0,
        ema=profile.pick(smoke=0.5, cpu=0.98, long=0.995),
    )


def _world(size: FAVAEConfig, profile: Profile) -> Plan:
    """Shapes on plain floors: an hour on one core."""
    steps = profile.pick(smoke=4, cpu=600, long=3500, gpu=20_000)
    tokenizer = Stage(
        steps=steps,
        batch_size=profile.pick(smoke=4, cpu=16, gpu=64),
        lr=2e-3,
        betas=(0.9, 0.99),
        warmup=profile.pick(smoke=1, cpu=50),
        schedule="cosine",
        clip=1.0,
        ema=0.995,
    )
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, long=6000, gpu=40_000),
        batch_size=profile.pick(smoke=4, cpu=32, gpu=256),
        lr=1.5e-3,
        betas=(0.9, 0.95),
        warmup=profile.pick(smoke=1, cpu=100),
        schedule="cosine",
        clip=1.0,
        ema=0.999,
    )
    dit = replace(lightning_dit.PRESETS["tiny"], dim=160, depth=6, num_heads=4, patch_size=2)
    pictures = profile.pick(smoke=32, cpu=16_384)
    size = _adversary_at(size, LATE, steps)
    return Plan("plain", pictures, size, dit, tokenizer, generator, {})


def _published(size: FAVAEConfig, profile: Profile) -> Plan:
    """VA-VAE's: 250,000 steps of the tokenizer, 64 epochs of the generator."""
    tokenizer = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=250_000),
        batch_size=profile.pick(smoke=4, cpu=16, gpu=256),
        lr=1e-4,
        betas=(0.5, 0.9),
        clip=None,  # the public codes of LDM, VA-VAE and LightningDiT clip no gradient
    )
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=80_000),
        batch_size=profile.pick(smoke=4, cpu=16, gpu=1024),
        lr=2e-4,
        betas=(0.9, 0.95),
        clip=None,
        ema=0.9999,
    )
    return Plan("folder", 0, size, lightning_dit.PRESETS["xl/1"], tokenizer, generator, {})


def _adversary_at(size: Size, share: float, steps: int) -> Size:
    """The published start of the adversary is far beyond the end of a short run."""
    start = int(share * steps)
    if isinstance(size, KLVAEConfig):
        return replace(size, gan_start=start)
    return replace(
        size, low=replace(size.low, gan_start=start), high=replace(size.high, gan_start=start)
    )
