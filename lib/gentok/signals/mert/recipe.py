"""How `gentok train mert` trains: the acoustic teacher if it is ours, then the student.

Published plan (released configurations): Adam with betas (0.9, 0.98) and weight decay 0.01, 400,000
updates, warm-up over 32,000, then linearly down. 95M: learning rate 5e-4, clipping at 10, about
1.5 hours of audio an update. 330M: 1.5e-3, clipping at 1, about 5.3 hours. They trained in float16
with epsilon 1e-6; here it is bfloat16 and Adam's usual epsilon.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from gentok.data import Music, batches, generator, render_music, sample_music
from gentok.data.folder import find, missing
from gentok.data.real_sound import decode_wav
from gentok.show import plot
from gentok.show.media import save_wav
from gentok.signals.mert import codec
from gentok.signals.mert.codec import CodecConfig, EnCodecTeacher
from gentok.signals.mert.model import PRESETS, MERTConfig, build
from gentok.training.loop import Fit, fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.stages import stage

Batches = Callable[[int], dict[str, Tensor]]
MUSIC = "music"  # of GENTOK_DATA: 24 kHz mono WAV files for the published presets
ENCODEC = "encodec_24khz"  # of GENTOK_DATA, in the hub's format
ENCODEC_HUB = "facebook/encodec_24khz"


@dataclass(frozen=True)
class Plan:
    """What decides a training of MERT.

    Args:
        data: ``"procedural"`` (music of the book's world, with the codes of a codec that is trained
            on it first) or ``"folder"``: WAV files of ``GENTOK_DATA/music`` at 24 kHz, with EnCodec
            from ``GENTOK_DATA/encodec_24khz`` or, if that is absent, from the hub.
        clips: how many procedural ones.
        size: of the student; ``codec_size``: of a codec of our own.
        student, codec: how each is trained.
    """

    data: str
    clips: int
    size: MERTConfig
    codec_size: CodecConfig | None
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
        return Plan("folder", 0, size, None, _published(profile, **PUBLISHED[preset]), None)
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
    return Plan("procedural", profile.pick(smoke=32, cpu=2048), size, codec_size, student, how)


def _published(profile: Profile, lr: float, clip: float, batch_size: int, accumulate: int) -> Stage:
    steps = profile.pick(smoke=4, cpu=1000, gpu=400_000)
    return Stage(
        steps=steps,
        batch_size=profile.pick(smoke=2, cpu=2, gpu=batch_size),
        lr=lr,
        betas=(0.9, 0.98),
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
    )


def compose(n: int, seed: int, length: int, rate: int) -> tuple[Music, Tensor]:
    """``n`` clips of procedural music and their sound, (n, ``length``) at ``rate`` Hertz."""
    music = sample_music(n, steps=16, seed=seed)
    parts = []
    for first in range(0, n, 32):  # more at once would not fit the processor's cache
        rows = {f.name: getattr(music, f.name)[first : first + 32] for f in fields(music)}
        parts.append(render_music(Music(**rows), length / rate, rate))
    return music, torch.cat(parts)


def train_codec(
    config: CodecConfig,
    waves: Tensor,
    *,
    steps: int,
    seed: int = 0,
    device: str = "cpu",
    out: Path | None = None,
    resume: bool = False,
    on_step: Callable[[int, nn.Module], None] | None = None,
) -> Fit:
    """Train the small codec on clips (N, L), from which it sees the first second."""
    torch.manual_seed(seed)
    model = codec.build(config).to(device)
    how = codec_stage(steps)
    source = batches({"wave": waves[:, : config.rate]}, how.batch_size, seed=seed)
    return fit(
        model,
        source,
        **how.fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
        on_step=on_step,
    )


@torch.no_grad()
def codes_of(teacher: nn.Module, waves: Tensor) -> Tensor:
    """Codes (N, T, Q) of clips (N, L), on the CPU."""
    device = next(teacher.parameters()).device
    return torch.cat([teacher.encode(part.to(device)).cpu() for part in waves.split(64)])


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> nn.Module:
    """Train MERT, and before it a codec of our own, kept at ``<name>.codec.safetensors``.

    Raises:
        FileNotFoundError: if a published preset lacks its recordings or its teacher.
        ValueError: if there is no such preset, or a recording is damaged or of another rate.
    """
    task = plan(preset, profile)
    if task.data == "folder":
        source = _recordings(task, profile, seed)
    else:
        source = _procedural(task, profile, out, resume, seed)
    torch.manual_seed(seed)
    return fit(
        build(task.size).to(profile.device),
        source,
        **task.student.fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
    ).model


def _procedural(
    task: Plan, profile: Profile, out: str | Path | None, resume: bool, seed: int
) -> Batches:
    """Music of the book's world with the codes of a codec that is trained on it first."""
    waves = compose(task.clips, seed, task.size.clip, task.size.rate)[1]
    teacher = train_codec(
        task.codec_size,
        waves,
        steps=task.codec.steps,
        seed=seed,
        device=profile.device,
        out=stage(out, "codec"),
        resume=resume,
    ).model
    table = {"wave": waves, "codes": codes_of(teacher, waves)}
    return batches(table, task.student.batch_size, seed=seed)


def _recordings(task: Plan, profile: Profile, seed: int) -> Batches:
    """Random crops of the recordings in GENTOK_DATA, with EnCodec's codes."""
    config = task.size
    folder = find(MUSIC)
    paths = sorted(folder.glob("**/*.wav")) if folder else []
    if not paths:
        raise missing("recordings of music at 24 kHz", f"{MUSIC}/*.wav")

    @lru_cache(maxsize=256)
    def read(path: Path) -> Tensor:
        wave, rate = decode_wav(path.read_bytes(), str(path))
        if rate != config.rate or len(wave) < config.clip:
            raise ValueError(
                f"{path} must hold at least {config.clip} samples at {config.rate} Hz, "
                f"got {len(wave)} at {rate} Hz"
            )
        return wave

    teacher = EnCodecTeacher(find(ENCODEC) or ENCODEC_HUB).to(profile.device)
    size = task.student.batch_size

    def draw(step: int) -> dict[str, Tensor]:
        rng = generator(seed, step)
        crops = []
        for pick in torch.randint(len(paths), (size,), generator=rng).tolist():
            wave = read(paths[pick])
            start = int(torch.randint(len(wave) - config.clip + 1, (), generator=rng))
            crops.append(wave[start : start + config.clip])
        waves = torch.stack(crops)
        return {"wave": waves, "codes": codes_of(teacher, waves)}

    return draw


@torch.no_grad()
def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Show what the student expects where it hears nothing.

    For ``n`` clips the middle third of the frames is hidden. The picture has a row a clip: the
    constant-Q transform of the clean sound, and the student's guess in its place. Where the small
    codec lies beside the checkpoint, the guessed codes are decoded too: ``<name>.wav`` holds each
    clip and then the clip with its hidden third filled in.

    Args:
        checkpoint: as :func:`train` wrote it.
        out: image file to write (the name's ending says the format).

    Raises:
        FileNotFoundError: if the checkpoint is absent.
    """
    model = load_model(checkpoint, MERTConfig, build).eval()
    config = model.config
    waves = compose(n, seed, config.clip, config.rate)[1]
    frames = config.num_frames(config.clip)
    mask = torch.zeros(n, frames, dtype=torch.bool)
    mask[:, frames // 3 : 2 * frames // 3] = True
    hidden = model.encoder.contextualise(model.encoder.convolve(waves), mask)[-1]
    clean = model.constant_q(waves)[..., :frames]
    guess = torch.where(mask[:, None], model.cqt_head(hidden).mT, clean)
    _draw(clean, guess, frames / (config.rate / config.stride), Path(out))
    beside = stage(checkpoint, "codec")
    if beside.is_file():
        teacher = load_model(beside, CodecConfig, codec.build).eval()
        codes = teacher.encode(waves)
        logits = model.code_head(hidden)[..., config.special_symbols :]
        filled = codes.clone()
        filled[:, :frames][mask] = logits.argmax(-1)[mask]
        pairs = torch.stack([teacher.decode(codes), teacher.decode(filled)], 1)
        save_wav(Path(out).with_suffix(".wav"), pairs.flatten(), config.rate)


def _draw(clean: Tensor, guess: Tensor, seconds: float, out: Path) -> None:
    plot.use_style()
    figure, axes = plt.subplots(len(clean), 2, figsize=(8, 1.6 * len(clean)), squeeze=False)
    for line, pictures in zip(axes, zip(clean, guess, strict=True), strict=True):
        for ax, picture in zip(line, pictures, strict=True):
            ax.imshow(picture, origin="lower", aspect="auto", extent=(0, seconds, 0, len(picture)))
            ax.set(xlabel="time (s)", ylabel="bin")
            ax.grid(False)
    axes[0, 0].set_title("clean sound")
    axes[0, 1].set_title("middle third guessed")
    figure.savefig(out)
    plt.close(figure)
