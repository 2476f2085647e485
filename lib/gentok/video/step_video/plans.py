"""How Step-Video's networks are trained, stage by stage and preset by preset.

Ma et al. 2025 (arXiv:2502.10248) train in this order: a Video-VAE at 4 x 8 x 8, the deep one at
8 x 16 x 16 from its weights; the transformer on pictures, on clips of low and of high resolution;
fine-tuning on selected clips; Video-DPO; and Turbo, for few steps. What the report leaves open is
marked as this book's.
"""

from dataclasses import replace

from gentok.data.plain_shapes import EASIEST
from gentok.data.world import SHAPES
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.video.step_video import vae as video_vae
from gentok.video.step_video.model import PRESETS, StepVideoConfig
from gentok.video.step_video.plan_parts import (
    STAGES,
    Distillation,
    Plan,
    Preference,
    Pretraining,
    Tokenizing,
)
from gentok.video.step_video.vae import VideoVAEConfig

__all__ = ["STAGES", "first_stage", "plan", "turbo_size"]

TURBO = {"num_steps": 15, "guidance_scale": 5.0, "shift": 17.0}  # README; 10 to 15 steps


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset == "tiny":
        return _tiny(size, profile)
    if preset == "world-32":
        return _world(size, profile)
    if preset == "study-blobs":
        return _blobs(size, profile)
    if preset == "study-blocks":
        return _blocks(size, profile)
    return _published(size, profile)


def first_stage(size: VideoVAEConfig, latent_channels: int) -> VideoVAEConfig:
    """The 4 x 8 x 8 Video-VAE that a deep one starts from: the same without its narrowest step."""
    return replace(size, patchify=False, latent_channels=latent_channels, published_params=None)


def turbo_size(size: StepVideoConfig, **sampler: float) -> StepVideoConfig:
    """The transformer with the sampler of Turbo, as published unless told otherwise."""
    return replace(size, **(TURBO | sampler))


# --- small presets --------------------------------------------------------------------------------


def _tiny(size: StepVideoConfig, profile: Profile) -> Plan:
    """All parts in a few minutes: the losses begin to fall, the pictures stay blurred."""
    steps = profile.pick(smoke=3, cpu=400, gpu=5000)
    tokenizer = Stage(
        steps=steps,
        batch_size=profile.pick(smoke=2, cpu=2, gpu=16),
        lr=3e-3,
        betas=(0.9, 0.99),
        warmup=min(10, steps - 1),
        schedule="cosine",
    )
    # The published start of the adversary is beyond the end of a short run.
    small = replace(video_vae.PRESETS["tiny"], gan_start=int(0.7 * steps))
    pictures = profile.pick(smoke=2, cpu=12, gpu=96)
    preference = Stage(
        steps=profile.pick(smoke=2, cpu=60, gpu=1000),
        batch_size=profile.pick(smoke=4, cpu=16),
        lr=2e-4,  # a tenth of pretraining's
        betas=(0.9, 0.95),
    )
    return Plan(
        data="world",
        clips=profile.pick(smoke=32, cpu=1024),
        shapes=SHAPES,
        size=size,
        tokenizers=(Tokenizing("tokenizer", small, tokenizer, pictures=pictures),),
        pretraining=_cascade(
            small,
            _pretraining(profile.pick(smoke=2, cpu=100, gpu=2000), profile),
            _pretraining(profile.pick(smoke=2, cpu=900, gpu=20_000), profile),
        ),
        sft=None,
        preference=Preference(
            preference,
            beta=50.0,  # the published value is not stated
            pairs=profile.pick(smoke=4, cpu=128, gpu=4096),
            num_steps=profile.pick(smoke=2, cpu=10, gpu=30),
        ),
        turbo=None,
    )


def _world(size: StepVideoConfig, profile: Profile) -> Plan:
    """Five shapes that can be told apart, long enough to tell them: an hour on one core."""
    deep = video_vae.PRESETS["world-32"]
    teacher = profile.pick(smoke=2, cpu=20)
    return Plan(
        data="world",
        clips=profile.pick(smoke=32, cpu=1024, study=256, long=4096, gpu=16_384),
        shapes=EASIEST,
        size=size,
        tokenizers=(
            _tokenizing(
                "tokenizer_4x8x8",
                first_stage(deep, 8),
                profile.pick(smoke=3, cpu=100, long=1500, gpu=10_000),
                profile,
            ),
            _tokenizing(
                "tokenizer", deep, profile.pick(smoke=3, cpu=200, long=8000, gpu=20_000), profile
            ),
        ),
        pretraining=_cascade(
            deep,
            _pretraining(
                profile.pick(smoke=2, cpu=100, study=10, long=400, gpu=2000), profile, 1e-3
            ),
            _pretraining(
                profile.pick(smoke=2, cpu=300, study=10, long=6000, gpu=20_000), profile, 1e-3
            ),
        ),
        sft=None,
        preference=None,
        turbo=Distillation(
            Stage(
                steps=profile.pick(smoke=2, cpu=100, long=1000, gpu=5000),
                batch_size=profile.pick(smoke=4, cpu=64),
                lr=3e-4,
                betas=(0.9, 0.95),
                schedule="cosine",
                ema=profile.pick(smoke=0.5, cpu=0.99),
            ),
            # The pairs have guidance in them, so the student needs none.
            turbo_size(size, num_steps=4, guidance_scale=1.0, shift=1.0),
            pairs=profile.pick(smoke=4, cpu=256, long=2048),
            num_steps=teacher,
        ),
    )


def _tokenizing(name: str, size: VideoVAEConfig, steps: int, profile: Profile) -> Tokenizing:
    """Squared pixel errors and KL; plain shapes have no texture for an adversary to add."""
    model = Stage(
        steps=steps,
        batch_size=profile.pick(smoke=2, cpu=4, gpu=32),
        lr=3e-3,
        betas=(0.9, 0.99),
        warmup=min(20, steps - 1),
        schedule="cosine",
        ema=profile.pick(smoke=0.5, cpu=0.98),
    )
    pictures = profile.pick(smoke=2, cpu=16, gpu=128)
    never = replace(size, gan_start=steps)
    return Tokenizing(name, never, model, pictures=pictures)


def _cascade(size: VideoVAEConfig, pictures: Stage, videos: Stage) -> tuple[Pretraining, ...]:
    """Pictures first, then clips with some pictures among them."""
    videos = replace(videos, schedule="cosine", ema=0.99)
    return (
        Pretraining("t2i", (1,), size.height, size.width, pictures),
        Pretraining("t2vi", (3, 3, 3, 1), size.height, size.width, videos),
    )


def _pretraining(steps: int, profile: Profile, lr: float = 2e-3) -> Stage:
    return Stage(
        steps=steps,
        batch_size=profile.pick(smoke=4, cpu=32),
        lr=lr,
        betas=(0.9, 0.95),
        warmup=min(20, steps - 1),
    )


# --- studies: no tokenizer, a model for every seed ------------------------------------------------


def _blobs(size: StepVideoConfig, profile: Profile) -> Plan:
    """Smooth and shaky blobs, two numbers a frame: preferences in a quarter of a minute."""
    steps = profile.pick(smoke=2, cpu=360)
    model = Stage(
        steps=steps,
        batch_size=profile.pick(smoke=4, cpu=64),
        lr=8e-3,
        betas=(0.9, 0.95),
        warmup=min(20, steps - 1),
        schedule="cosine",
        ema=profile.pick(smoke=0.5, cpu=0.98),
    )
    preference = Stage(
        steps=profile.pick(smoke=2, cpu=100),
        batch_size=profile.pick(smoke=4, cpu=32),
        lr=3e-4,
        betas=(0.9, 0.95),
    )
    return Plan(
        data="blobs",
        clips=profile.pick(smoke=64, cpu=2048),
        shapes=(),
        size=size,
        tokenizers=(),
        pretraining=(Pretraining("t2v", (size.frames,), 1, 1, model),),
        sft=None,
        preference=Preference(
            preference,
            beta=5.0,
            pairs=profile.pick(smoke=8, cpu=384),
            num_steps=profile.pick(smoke=2, cpu=10),
        ),
        turbo=None,
    )


def _blocks(size: StepVideoConfig, profile: Profile) -> Plan:
    """Components of blocks of clips, 3 x 4 x 4 cells: few steps, in two minutes."""
    steps = profile.pick(smoke=2, cpu=800)
    model = Stage(
        steps=steps,
        batch_size=profile.pick(smoke=4, cpu=16),
        lr=2e-3,
        betas=(0.9, 0.95),
        warmup=min(20, steps - 1),
        schedule="cosine",
        ema=profile.pick(smoke=0.5, cpu=0.99),
    )
    return Plan(
        data="blocks",
        clips=profile.pick(smoke=8, cpu=512),
        shapes=EASIEST,
        size=size,
        tokenizers=(),
        pretraining=(Pretraining("t2v", (size.frames,), 32, 32, model),),
        sft=None,
        preference=None,
        turbo=Distillation(
            replace(
                model,
                steps=profile.pick(smoke=2, cpu=400),
                batch_size=profile.pick(smoke=4, cpu=32),
                lr=1e-3,
                warmup=0,
            ),
            turbo_size(size, num_steps=4, guidance_scale=1.0, shift=1.0),
            pairs=profile.pick(smoke=4, cpu=512),
            num_steps=profile.pick(smoke=2, cpu=25),
        ),
    )


# --- the published size ---------------------------------------------------------------------------

LENGTHS = (1, 68, 136, 204)
# Published stages: pictures, then low and high resolution with buckets of 1 to 204 frames. Height,
# width, learning rate, steps, and pictures and clips of a batch. A node took 40 pictures, or 4
# small clips; samples over steps give batches of 15,000, 1,500 and 590, so some 375 nodes. Here it
# is the share of 8 of them. The rate of the last stage is not stated.
CASCADE = (
    ("t2i", (1,), 256, 256, 1e-4, 253_000, 320, 320),
    ("t2vi_192", LENGTHS, 192, 320, 6e-5, 430_000, 320, 32),
    ("t2vi_544", LENGTHS, 544, 992, 6e-5, 46_000, 64, 8),
)


def _published(size: StepVideoConfig, profile: Profile) -> Plan:
    deep = video_vae.PRESETS["video-vae-v2"]
    pretraining = []
    for name, frames, height, width, lr, steps, pictures, clips in CASCADE:
        model = _large(profile, steps, clips, lr)
        pretraining.append(Pretraining(name, frames, height, width, model, pictures))
    last = pretraining[-1]
    # The report states neither steps nor rates of what follows: the numbers are this book's.
    selected = _large(profile, 10_000, 8, 1e-5)
    return Plan(
        data="folder",
        clips=0,
        shapes=(),
        size=size,
        tokenizers=(
            # Version 1 halves time twice, so 1, 5, 9, ... frames come out even; version 2 three
            # times. 16 latent channels: those of version 1.
            _of_pixels("tokenizer_4x8x8", first_stage(deep, 16), (1, 17, 5, 17, 9, 17), profile),
            _of_pixels("tokenizer", deep, (1, 17, 9, 17), profile),
        ),
        pretraining=tuple(pretraining),
        sft=replace(last, name="sft", model=selected, folder="videos_selected"),
        preference=Preference(
            _large(profile, 2_000, 8, 1e-6),
            beta=500.0,
            frames=(204,),
            height=last.height,
            width=last.width,
        ),
        turbo=Distillation(
            _large(profile, 10_000, 8, 1e-5),
            turbo_size(size),
            pairs=profile.pick(smoke=2, cpu=2, gpu=95_000),
        ),
    )


def _large(profile: Profile, steps: int, batch_size: int, lr: float) -> Stage:
    """A stage of the published transformer."""
    return Stage(
        steps=profile.pick(smoke=2, cpu=2, gpu=steps),
        batch_size=batch_size,
        lr=lr,
        betas=(0.9, 0.95),
        precision="bf16" if profile.device.startswith("cuda") else "no",
    )


def _of_pixels(
    name: str, size: VideoVAEConfig, frames: tuple[int, ...], profile: Profile
) -> Tokenizing:
    """A stage of the published Video-VAE: pictures and clips of several lengths."""
    steps = profile.pick(smoke=3, cpu=400, gpu=250_000)
    warmup = min(1000, steps - 1)
    model = Stage(steps=steps, batch_size=8, lr=1e-4, betas=(0.9, 0.99), warmup=warmup)
    return Tokenizing(name, size, model, frames, pictures=64)
