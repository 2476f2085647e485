"""How ViTok and the generator on its codes are trained, preset by preset."""

import math
from dataclasses import dataclass, replace

from gentok.latents.vitok.dit import DITS, ViTokDiTConfig
from gentok.latents.vitok.model import PRESETS, ViTokConfig, cell
from gentok.latents.vitok.tuning import TuningConfig
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile

PATCHES = 8192  # photographs' crops that a small preset trains on
# Weight of the adversary of small presets: their squared error is a hundredth, and no perceptual
# term stands beside it.
LAMBDA = 0.02
SHAPES = 16_384  # pictures of the world that a generator learns
# Patch and channels of the cells that the chapter compares: E = 1024 c / p^2, three values of it in
# two shapes.
CELLS = ((16, 4), (8, 2), (16, 8), (8, 4), (8, 8), (4, 2), (8, 16), (4, 4))


@dataclass(frozen=True)
class Rise:
    """Linear warm-up from a first rate, then half a cosine down to a last one (public code).

    Args:
        steps: of the run; ``warmup``: of the rise.
        first, last: rates over the peak.
    """

    steps: int
    warmup: int
    first: float
    last: float

    def __call__(self, step: int) -> float:
        """The rate of a step, from 0, over its peak."""
        if step < self.warmup:
            return self.first + (1 - self.first) * step / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.last + (1 - self.last) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Second:
    """Stage 2: the game, how the decoder is trained, and the discriminator's rate over its own."""

    game: TuningConfig
    stage: Stage
    rate: float


@dataclass(frozen=True)
class Plan:
    """What decides a training.

    Args:
        data: ``"photographs"`` (crops of the embedded ones), ``"plain"`` (the world's shapes on
            plain floors), ``"centred"`` (five of them, see `drawing`), ``"clips"`` (one of them in
            motion), or files under ``GENTOK_DATA``: ``"images"`` (``images/<class>/*.jpg``) or
            ``"videos"`` (frames in ``videos_by_class/<class>/<clip>/*.jpg``).
        pictures: how many, where they are no files.
        size: of the tokenizer; ``first``: how its first stage is trained.
        second: of its decoder, or None.
        generator_size, generator: of the diffusion transformer, or None.
        beside: further tokenizers that the first stage trains alike, by name.
    """

    data: str
    pictures: int
    size: ViTokConfig
    first: Stage
    second: Second | None = None
    generator_size: ViTokDiTConfig | None = None
    generator: Stage | None = None
    beside: dict[str, ViTokConfig] | None = None


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset == "study-32":
        return _photographs(size, profile)
    if preset == "world-32":
        return _world(size, profile)
    if preset == "tiny":
        return _tiny(size, profile)
    if preset == "tiny-video":
        pictures = profile.pick(smoke=8, cpu=512)
        return Plan("clips", pictures, size, _small(profile, 8, smoke=2, cpu=400))
    return _published(size, profile, preset)


def name_of(patch_size: int, latent_channels: int) -> str:
    """A cell's name: ``p4c8``."""
    return f"p{patch_size}c{latent_channels}"


def _small(profile: Profile, batch_size: int, **steps: int) -> Stage:
    """How all small tokenizers are trained; gradients are clipped, which the public code means to.

    Args:
        profile: the profile; ``batch_size``: rows, in a smoke run four.
        steps: for each profile, as `Profile.pick` takes them.
    """
    count = profile.pick(**steps)
    return Stage(
        steps=count,
        batch_size=profile.pick(smoke=4, cpu=batch_size),
        lr=5e-3,
        betas=(0.9, 0.95),
        weight_decay=1e-4,
        warmup=max(1, count // 20),
        schedule="cosine",
        clip=1.0,
    )


def _photographs(size: ViTokConfig, profile: Profile) -> Plan:
    """The chapter's: squared error on crops. The book's weights hold every cell."""
    first = _small(profile, 16, smoke=4, cpu=800, long=1000)
    beside = family() if profile.name in ("smoke", "probe", "long") else {}
    beside.pop(name_of(size.patch_size, size.latent_channels), None)
    pictures = profile.pick(smoke=64, cpu=PATCHES)
    return Plan("photographs", pictures, size, first, second(size, profile), beside=beside)


def family() -> dict[str, ViTokConfig]:
    """The cells that the book keeps weights of."""
    return {name_of(*shape): cell(*shape) for shape in CELLS}


def shorter(stage: Stage) -> Stage:
    """Five eighths of a stage's steps, for experiments that need fewer."""
    count = max(1, 5 * stage.steps // 8)
    return replace(stage, steps=count, warmup=max(1, count // 20))


def second(size: ViTokConfig, profile: Profile, gan_weight: float = LAMBDA) -> Second:
    """Stage 2 of small presets; without an adversary if ``gan_weight`` is 0."""
    stage = replace(_small(profile, 16, smoke=4, cpu=300), lr=1e-3)
    start, ramp = stage.steps // 10, stage.steps // 5
    return Second(TuningConfig(size, gan_weight, start, ramp, largest=32), stage, rate=1.0)


def _tiny(size: ViTokConfig, profile: Profile) -> Plan:
    """All three stages in a minute or two: the losses begin to fall, the pictures stay blurred."""
    generator = _generator(profile, smoke=4, cpu=600, gpu=20_000)
    first = _small(profile, 16, smoke=4, cpu=500, gpu=20_000)
    pictures = profile.pick(smoke=64, cpu=PATCHES)
    game = second(size, profile)
    return Plan("photographs", pictures, size, first, game, DITS["tiny"], generator, {})


def _world(size: ViTokConfig, profile: Profile) -> Plan:
    """Shapes on plain floors, and a generator of them."""
    first = _small(profile, 16, smoke=4, cpu=600, long=3000, gpu=20_000)
    generator = _generator(profile, smoke=4, cpu=600, long=3500, gpu=40_000)
    pictures = profile.pick(smoke=32, cpu=SHAPES)
    return Plan("plain", pictures, size, first, None, DITS["world-32"], generator, {})


def _generator(profile: Profile, **steps: int) -> Stage:
    count = profile.pick(**steps)
    return Stage(
        steps=count,
        batch_size=profile.pick(smoke=4, cpu=32),
        lr=2e-3,
        betas=(0.9, 0.95),
        weight_decay=1e-4,
        warmup=max(1, count // 10),
        schedule="cosine",
        clip=1.0,
        ema=0.998,
    )


def drawing(latent_channels: int, profile: Profile) -> Plan:
    """A tokenizer of some width, and a generator of its codes: which width is drawn best?

    Five shapes in the middle of grey floors: little to learn, so that a small generator draws
    them soon. The pictures come from `centred_shapes`, not from `recipe.source`.
    """
    first = _small(profile, 16, smoke=4, cpu=800)
    generator = _generator(profile, smoke=4, cpu=1400)
    pictures = profile.pick(smoke=32, cpu=4096)
    size = cell(8, latent_channels)
    return Plan("centred", pictures, size, first, None, DITS["tiny"], generator, {})


# --- published ------------------------------------------------------------------------------------


def _published(size: ViTokConfig, profile: Profile, preset: str) -> Plan:
    """100,000 steps of each stage of the tokenizer, then the generator; nothing is clipped."""
    video = size.frames > 1
    batch = profile.pick(smoke=2, cpu=8, gpu=256 if video else 1024)
    first = _stage(profile, batch, 100_000, (3e-4 if video else 1e-4), 1e-5, 0.03)
    start, ramp, rate = (2500, 25_000, 1e-5) if video else (5000, 50_000, 2e-5 * batch / 256)
    game = TuningConfig(size, 1.0, start * 256 // batch, ramp * 256 // batch)
    tuned = Second(game, replace(first, ema=0.9999), rate / first.lr)
    steps, dit = 500_000, DITS["l"]
    if preset in ("s-b-1x16", "s-b-1x16-512", "s-b-4x8", "s-b-8x8", "s-b-4x16"):
        steps, dit = 4_000_000, DITS["xl"]
    dit = replace(dit, latent_shape=size.latent_shape, published_params=None)
    generator = _stage(profile, profile.pick(smoke=2, cpu=8, gpu=1024), steps, 1e-4, 3e-5, 0.1)
    data = "videos" if video else "images"
    return Plan(data, 0, size, first, tuned, dit, replace(generator, ema=0.999), {})


def _stage(
    profile: Profile, batch: int, steps: int, rate: float, low: float, warmup: float
) -> Stage:
    """AdamW at a rate that grows with the batch; a rise from ``low``, and a cosine back to it."""
    count, lr = profile.pick(smoke=4, cpu=600, gpu=steps), rate * batch / 256
    least = min(low / lr, 1.0)  # a small batch's peak may lie below
    return Stage(
        steps=count,
        batch_size=batch,
        lr=lr,
        betas=(0.9, 0.95),
        weight_decay=1e-4,
        schedule=Rise(count, round(warmup * count), least, least),
        clip=None,
        precision=profile.pick(smoke="no", cpu="no", gpu="bf16"),
    )
