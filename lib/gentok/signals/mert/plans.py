"""How MERT is trained, by preset: what decides a training, and nothing that does it.

Published plan (released configurations): Adam with betas (0.9, 0.98), epsilon 1e-6 and weight decay
0.01, 400,000 updates, warm-up over 32,000, then linearly down. 95M: learning rate 5e-4, clipping at
10, about 1.5 hours of audio an update. 330M: 1.5e-3, clipping at 1, about 5.3 hours. They trained
in float16; here it is bfloat16.
"""

from dataclasses import dataclass, replace

from gentok.signals.mert.codec import CodecConfig
from gentok.signals.mert.model import PRESETS, MERTConfig
from gentok.signals.mert.spectral_codec import SpectralCodecConfig
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile


@dataclass(frozen=True)
class Plan:
    """What decides a training of MERT.

    Args:
        data: ``"tunes"`` (melody and bass of the book's world, with the codes of a spectral codec
            that is trained on them first), ``"procedural"`` (all four voices, with a codec of the
            waveform), or ``"folder"``: WAV files of ``GENTOK_DATA/music`` at 24 kHz, with EnCodec
            from ``GENTOK_DATA/encodec_24khz`` or, if that is absent, from the hub.
        clips: how many procedural ones; ``probed``: further ones, to examine students with.
        size: of the student; ``codec_size``: of a codec of our own.
        student, codec: how each is trained.
    """

    data: str
    clips: int
    probed: int
    size: MERTConfig
    codec_size: CodecConfig | SpectralCodecConfig | None
    student: Stage
    codec: Stage | None


# What differs between the published sizes: the rate, and how a batch of 1.5 or 5.3 hours is cut.
PUBLISHED = {
    "mert-95m": {"lr": 5e-4, "clip": 10.0, "batch_size": 1024, "accumulate": 16},
    "mert-330m": {"lr": 1.5e-3, "clip": 1.0, "batch_size": 3584, "accumulate": 64},
}


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset in PUBLISHED:
        return Plan("folder", 0, 0, size, None, _published(profile, **PUBLISHED[preset]), None)
    if preset != "tiny":
        return {"study": _study, "deep": _deep, "world": _world}[preset](size, profile)
    steps = profile.pick(smoke=4, cpu=1000, gpu=20_000)
    student = Stage(
        steps=steps,
        batch_size=8,
        lr=1e-3,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        warmup=round(0.08 * steps),
        schedule="linear",
        clip=10.0,
    )
    codec_size = CodecConfig(
        rate=size.rate,
        strides=size.conv_strides,
        num_codebooks=size.num_codebooks,
        codebook_size=size.codebook_size,
    )
    how = codec_stage(profile.pick(smoke=4, cpu=600, gpu=10_000))
    return Plan("procedural", profile.pick(smoke=32, cpu=2048), 0, size, codec_size, student, how)


def _study(size: MERTConfig, profile: Profile) -> Plan:
    """What the chapter trains live and compares: less than a minute a student."""
    steps = profile.pick(smoke=4, cpu=750, gpu=20_000)
    student = Stage(
        steps=steps,
        batch_size=profile.pick(smoke=4, cpu=16),
        lr=2e-3,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        warmup=round(0.08 * steps),
        schedule="linear",
        clip=10.0,
    )
    teacher = spectral_stage(profile.pick(smoke=4, cpu=1000))
    clips, probed = profile.pick(smoke=32, cpu=1536), profile.pick(smoke=60, cpu=2700)
    return Plan("tunes", clips, probed, size, SpectralCodecConfig(), student, teacher)


def _deep(size: MERTConfig, profile: Profile) -> Plan:
    """The study's rate for a deeper student, in smaller batches: which layout learns at all?"""
    task = _study(size, profile)
    steps, rows = profile.pick(smoke=4, cpu=600), profile.pick(smoke=4, cpu=8)
    stage = replace(task.student, steps=steps, batch_size=rows, warmup=round(0.08 * steps))
    return replace(task, student=stage)


def _world(size: MERTConfig, profile: Profile) -> Plan:
    """The weights that come with the book: half an hour on one core."""
    task = _study(size, profile)
    steps = profile.pick(smoke=4, cpu=600, long=6000, gpu=40_000)
    student = replace(task.student, steps=steps, warmup=round(0.08 * steps), lr=1e-3)
    teacher = spectral_stage(profile.pick(smoke=4, cpu=1000, long=5000))
    clips = profile.pick(smoke=32, cpu=1536, long=4096)
    return replace(task, clips=clips, student=student, codec=teacher)


def spectral_stage(steps: int) -> Stage:
    """How the spectral codec is trained."""
    return replace(codec_stage(steps), batch_size=16)


def _published(profile: Profile, lr: float, clip: float, batch_size: int, accumulate: int) -> Stage:
    steps = profile.pick(smoke=4, cpu=1000, gpu=400_000)
    return Stage(
        steps=steps,
        batch_size=profile.pick(smoke=2, cpu=2, gpu=batch_size),
        lr=lr,
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=0.01,
        warmup=round(0.08 * steps),
        schedule="linear",
        clip=clip,
        accumulate=profile.pick(smoke=1, cpu=1, gpu=accumulate),
        precision="bf16" if profile.device != "cpu" else "no",
    )


def codec_stage(steps: int) -> Stage:
    """How the small codec is trained."""
    return Stage(
        steps=steps,
        batch_size=8,
        lr=2e-3,
        betas=(0.9, 0.99),
        warmup=min(20, steps - 1),
        schedule="cosine",
        clip=1.0,
    )
