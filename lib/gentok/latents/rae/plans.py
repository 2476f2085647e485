"""What decides a training of RAE, of the generators on its latents, and of what it is held against.

Shapes: C channels of a token, g g grid of tokens.
"""

from dataclasses import dataclass, replace

import torch

from gentok.base import kl_vae
from gentok.base.kl_vae import KLVAEConfig
from gentok.latents.rae import dit as rae_dit
from gentok.latents.rae.dit import RAEDiT, RAEDiTConfig
from gentok.latents.rae.model import PRESETS, RAEConfig
from gentok.measure.cost import count_flops
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.schedules import Schedule

PATCHES = 8192  # photographs' patches that a small preset trains on
EPOCH = 1_281_167  # ImageNet's training images; the paper counts its lengths in epochs


@dataclass(frozen=True)
class Plan:
    """What decides a training of RAE and of the generators on its latents.

    Args:
        data: ``"photographs"`` (patches of the embedded ones), ``"plain"`` (the world's shapes on
            plain floors), ``"centred"`` (five of them, of one size, in the middle), or
            ``"folder"``: ImageNet's layout under ``GENTOK_DATA/images/<class>/``.
        pictures: how many patches of photographs, or shapes.
        size: of the tokenizer.
        generator_size, guide_size: of DiT^DH and of the weaker one that guides it, but for what
            the tokenizer and the data decide (channels, grid, classes).
        encoder: how the small MAE is trained; None reads a published encoder.
        decoder, generator, guide: how each is trained.
        observed: batches that the latents' statistics are taken from.
        drawn: what decoder and generators learn to paint and draw, as ``data``; the same if None.
    """

    data: str
    pictures: int
    size: RAEConfig
    generator_size: RAEDiTConfig
    guide_size: RAEDiTConfig
    encoder: Stage | None
    decoder: Stage
    generator: Stage
    guide: Stage
    observed: int
    drawn: str | None = None


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset == "world-32":
        return _world(size, profile)
    if preset == "study-32":
        return _study(size, profile)
    if preset != "tiny":
        return _published(size, profile)
    rows = profile.pick(smoke=4, cpu=16, gpu=64)
    encoder = Stage(
        steps=profile.pick(smoke=4, cpu=400, gpu=20_000),
        batch_size=rows,
        lr=2e-3,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        warmup=profile.pick(smoke=1, cpu=40),
        schedule="cosine",
    )
    steps = profile.pick(smoke=4, cpu=400, gpu=20_000)
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=20_000),
        batch_size=rows,
        lr=2e-3,
        betas=(0.9, 0.95),
        schedule="linear",
        ema=0.995,
    )
    tiny = rae_dit.PRESETS["tiny"]
    return Plan(
        data="photographs",
        pictures=PATCHES,
        # The published start of the adversary lies beyond the end of a short run.
        size=replace(size, discriminator_start=steps // 2, gan_start=int(0.7 * steps)),
        generator_size=tiny,
        guide_size=replace(tiny, backbone=replace(tiny.backbone, dim=32, depth=2)),
        encoder=encoder,
        decoder=_decoder(steps, rows, lr=2e-3),
        generator=generator,
        guide=replace(generator, steps=max(1, generator.steps // 8)),
        observed=profile.pick(smoke=2, cpu=50),
    )


def _world(size: RAEConfig, profile: Profile) -> Plan:
    """Shapes on plain floors: less than an hour on one core."""
    encoder = Stage(
        steps=profile.pick(smoke=4, cpu=400, long=5000, gpu=20_000),
        batch_size=profile.pick(smoke=4, cpu=32, gpu=128),
        lr=1.5e-3,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        warmup=profile.pick(smoke=1, cpu=40, long=250),
        schedule="cosine",
    )
    steps = profile.pick(smoke=4, cpu=400, long=4000, gpu=20_000)
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, long=5000, gpu=40_000),
        batch_size=profile.pick(smoke=4, cpu=32, gpu=256),
        lr=1.5e-3,
        betas=(0.9, 0.95),
        warmup=profile.pick(smoke=1, cpu=100),
        schedule="cosine",
        ema=0.999,
    )
    network = rae_dit.PRESETS["world-32"]
    return Plan(
        data="plain",
        pictures=profile.pick(smoke=32, cpu=16_384),
        size=replace(size, discriminator_start=int(0.6 * steps), gan_start=int(0.7 * steps)),
        generator_size=network,
        guide_size=replace(network, backbone=replace(network.backbone, dim=64, depth=2)),
        encoder=encoder,
        decoder=_decoder(steps, profile.pick(smoke=4, cpu=16, gpu=64), lr=1.5e-3),
        generator=generator,
        guide=replace(generator, steps=max(1, generator.steps // 10), warmup=0),
        observed=profile.pick(smoke=2, cpu=50),
    )


def _study(size: RAEConfig, profile: Profile) -> Plan:
    """What the chapter trains live and compares, in minutes.

    The encoder sees all shapes anywhere, decoder and generators five of them in the middle.
    """
    encoder = Stage(
        steps=profile.pick(smoke=4, cpu=1500, gpu=20_000),
        batch_size=profile.pick(smoke=4, cpu=32, gpu=128),
        lr=1.5e-3,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        warmup=profile.pick(smoke=1, cpu=75),
        schedule="cosine",
    )
    decoder = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=20_000),
        batch_size=profile.pick(smoke=4, cpu=16, gpu=64),
        lr=3e-3,
        betas=(0.9, 0.95),
        warmup=profile.pick(smoke=1, cpu=40),
        schedule="cosine",
        ema=0.99,
    )
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=1500, gpu=20_000),
        batch_size=profile.pick(smoke=4, cpu=16, gpu=128),
        lr=3e-3,
        betas=(0.9, 0.95),
        warmup=profile.pick(smoke=1, cpu=40),
        schedule="cosine",
        ema=0.99,
    )
    network = rae_dit.PRESETS["study-32"]
    return Plan(
        data="plain",
        pictures=profile.pick(smoke=32, cpu=8192),
        size=size,
        generator_size=network,
        guide_size=replace(network, backbone=replace(network.backbone, dim=16, depth=1)),
        encoder=encoder,
        decoder=decoder,
        generator=generator,
        guide=replace(generator, steps=max(2, generator.steps // 8)),
        observed=profile.pick(smoke=2, cpu=50),
        drawn="centred",
    )


def _published(size: RAEConfig, profile: Profile) -> Plan:
    """16 epochs of the decoder, 800 of DiT^DH-XL, 14 of its guide."""
    steps = profile.pick(smoke=4, cpu=400, gpu=16 * EPOCH // 512)
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=800 * EPOCH // 1024),
        batch_size=profile.pick(smoke=4, cpu=16, gpu=1024),
        lr=2e-4,
        betas=(0.9, 0.95),
        # From 2e-4 to 2e-5 between epochs 40 and 800; the guide ends long before it would fall.
        schedule=Schedule("linear", 0.1, start=40 * EPOCH // 1024, end=800 * EPOCH // 1024),
        ema=0.9995,
    )
    guide = replace(generator, steps=profile.pick(smoke=4, cpu=600, gpu=14 * EPOCH // 1024))
    return Plan(
        data="folder",
        pictures=0,
        size=size,
        generator_size=rae_dit.PRESETS["dit-dh-xl"],
        guide_size=rae_dit.PRESETS["dit-dh-s"],
        encoder=None,
        # The public code falls from 2e-4 to 2e-5, for both players, and does not clip.
        decoder=replace(
            _decoder(steps, profile.pick(smoke=4, cpu=16, gpu=512), lr=2e-4),
            schedule=Schedule("cosine", floor=0.1),
            clip=None,
        ),
        generator=generator,
        guide=guide,
        observed=profile.pick(smoke=2, cpu=50),
    )


def _decoder(steps: int, batch_size: int, lr: float) -> Stage:
    return Stage(
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        betas=(0.9, 0.95),
        warmup=steps // 16,  # one epoch of 16
        schedule="cosine",
        ema=0.9978,
    )


# --- what RAE is held against ---------------------------------------------------------------------


@dataclass(frozen=True)
class Rivals:
    """The other arms of the study, each different from RAE in what its name says.

    Args:
        unshifted: DiT^DH whose times are not shifted, in training and in sampling.
        plain: a LightningDiT without a head, as wide as a token and of equal cost.
        vae: a convolutional KL-VAE on the same grid, of 8 channels, trained as the decoder is;
            ``vae_stage`` says how.
        vae_head, vae_plain: the two generators on its latents, whose size is the shift's base.
        one_image: how a network is fitted to the tokens of a single image.
    """

    unshifted: RAEDiTConfig
    plain: RAEDiTConfig
    vae: KLVAEConfig
    vae_stage: Stage
    vae_head: RAEDiTConfig
    vae_plain: RAEDiTConfig
    one_image: Stage


def rivals(task: Plan, profile: Profile) -> Rivals:
    """What the plan of ``"study-32"`` is compared with."""
    network = task.generator_size
    vae = replace(
        kl_vae.PRESETS["tiny"],
        gan_weight=task.size.gan_weight,
        perceptual_weight=task.size.perceptual_weight,
    )
    plain = plain_rival(network)

    def on_vae(size: RAEDiTConfig) -> RAEDiTConfig:
        backbone = replace(size.backbone, in_channels=vae.latent_channels)
        return replace(size, backbone=backbone, shift_base=vae.latent_channels * backbone.grid**2)

    one_image = Stage(
        steps=profile.pick(smoke=4, cpu=1200),
        batch_size=profile.pick(smoke=4, cpu=32),
        lr=3e-3,
        betas=(0.9, 0.95),
        warmup=profile.pick(smoke=1, cpu=20),
        schedule="cosine",
    )
    return Rivals(
        unshifted=replace(network, shift_base=network.latent_size),
        plain=plain,
        vae=vae,
        vae_stage=task.decoder,
        vae_head=on_vae(network),
        vae_plain=on_vae(plain),
        one_image=one_image,
    )


def plain_rival(size: RAEDiTConfig) -> RAEDiTConfig:
    """The plain LightningDiT as wide as a token, of the depth that costs most nearly the same."""
    width, goal = size.backbone.in_channels, velocity_macs(size)
    deep = [
        replace(size, backbone=replace(size.backbone, dim=width, depth=depth), head_depth=0)
        for depth in range(1, 33)
    ]
    return min(deep, key=lambda other: abs(velocity_macs(other) - goal))


def velocity_macs(size: RAEDiTConfig) -> int:
    """Multiply-adds of one velocity of one image."""
    with torch.device("meta"):
        network = RAEDiT(size).eval()
        latent = torch.zeros(1, *size.latent_shape)
        label = torch.zeros(1, dtype=torch.int64)
        return count_flops(network, latent, torch.zeros(1), label) // 2
