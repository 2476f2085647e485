"""How `gentok train mert` trains: the acoustic teacher if it is ours, then the student.

What belongs to a preset (data, steps, learning rates) stands in `gentok.signals.mert.plans`.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.data import batches, generator
from gentok.data.folder import find, missing
from gentok.data.midi import read_midi, render_notes
from gentok.data.real_sound import decode_wav
from gentok.show.media import DRAWINGS
from gentok.signals.mert import codec, spectral_codec
from gentok.signals.mert.codec import CodecConfig, EnCodecTeacher
from gentok.signals.mert.guesses import sample
from gentok.signals.mert.judging import QUESTIONS, Exam, spectral_errors, untrained
from gentok.signals.mert.kmeans_teacher import KMeansTeacher
from gentok.signals.mert.model import MERT, MERTConfig, build
from gentok.signals.mert.plans import Plan, codec_stage, plan
from gentok.signals.mert.spectral_codec import SpectralCodec, SpectralCodecConfig
from gentok.signals.mert.system import Listener
from gentok.signals.mert.tunes import compose, tunes
from gentok.training.loop import Fit, fit, load_model
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.training.weights import Learned, Weights

__all__ = [
    "WEIGHTS",
    "Plan",
    "codes_of",
    "compose",
    "measure",
    "plan",
    "sample",
    "targets_of",
    "train",
    "train_codec",
    "train_spectral",
]
Batches = Callable[[int], dict[str, Tensor]]
MUSIC = "music"  # of GENTOK_DATA: 24 kHz mono WAV files or MIDI files for the published presets
ENDINGS = (".wav", ".mid", ".midi")
ENCODEC = "encodec_24khz"  # of GENTOK_DATA, in the hub's format
ENCODEC_HUB = "facebook/encodec_24khz"
SAMPLES = DRAWINGS  # what `sample` writes
HELD_OUT = 1_000  # seed of clips that no preset learns from
PROBED = 600  # clips that train the probes of the record, and choose the layer
HEARD = 64  # clips of the test that are decoded: finding phases takes its time


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


def train_spectral(
    task: Plan,
    waves: Tensor,
    *,
    seed: int = 0,
    device: str = "cpu",
    out: Path | None = None,
    resume: bool = False,
    progress: bool = True,
    on_step: Callable[[int, nn.Module], None] | None = None,
) -> Fit:
    """Train the spectral codec of a plan on its clips (N, L)."""
    torch.manual_seed(seed)
    return fit(
        spectral_codec.build(task.codec_size).to(device),
        batches({"wave": waves}, task.codec.batch_size, seed=seed),
        **task.codec.fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
        progress=progress,
        on_step=on_step,
    )


def targets_of(
    teacher: SpectralCodec | KMeansTeacher, student: MERT, waves: Tensor
) -> dict[str, Tensor]:
    """Clips (N, L) and what both teachers say of them: a table for `gentok.data.batches`.

    Targets are those of the clean sound, so they can be computed before the training.
    """
    parts = waves.split(64)
    codes = torch.cat([teacher.encode(part) for part in parts])
    return {"wave": waves, "codes": codes, "cqt": torch.cat([student.musical(p) for p in parts])}


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
        after=None if task.data == "folder" else stage(out, "codec"),
    ).model


def _procedural(
    task: Plan, profile: Profile, out: str | Path | None, resume: bool, seed: int
) -> Batches:
    """Music of the book's world with the codes of a codec that is trained on it first."""
    if task.data == "tunes":
        waves = tunes(task.clips, seed, task.size.clip, task.size.rate)[1]
        where = {"device": profile.device, "out": stage(out, "codec"), "resume": resume}
        fitted = train_spectral(task, waves, seed=seed, **where)
        table = targets_of(fitted.model.cpu(), untrained(task.size), waves)
        return batches(table, task.student.batch_size, seed=seed)
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
    found = sorted(folder.glob("**/*")) if folder else []
    paths = [path for path in found if path.suffix.lower() in ENDINGS]
    if not paths:
        raise missing("recordings of music at 24 kHz", f"{MUSIC}/*.wav (or .mid)")
    read = lru_cache(maxsize=256)(lambda path: _recording(path, config))
    teacher = EnCodecTeacher(find(ENCODEC) or ENCODEC_HUB).to(profile.device)
    size = task.student.batch_size

    def draw(step: int) -> dict[str, Tensor]:
        rng = generator(seed, step)
        crops = []
        for pick in torch.randint(len(paths), (size,), generator=rng).tolist():
            length, crop = read(paths[pick])
            crops.append(crop(int(torch.randint(length - config.clip + 1, (), generator=rng))))
        waves = torch.stack(crops)
        return {"wave": waves, "codes": codes_of(teacher, waves)}

    return draw


def _recording(path: Path, config: MERTConfig) -> tuple[int, Callable[[int], Tensor]]:
    """How many samples a file has, and the clip that begins at one; of MIDI, played as it is cut.

    Raises:
        ValueError: if the file is damaged, of another rate, or shorter than a clip.
    """
    if path.suffix.lower() == ".wav":
        wave, rate = decode_wav(path.read_bytes(), str(path))
        length, crop = len(wave), lambda start: wave[start : start + config.clip]
    else:
        notes, rate = read_midi(path), config.rate
        length = round(notes.seconds * rate)
        clip = config.clip / rate
        crop = lambda start: render_notes(notes, rate, start / rate, clip)  # noqa: E731
    if rate != config.rate or length < config.clip:
        raise ValueError(
            f"{path} must hold at least {config.clip} samples at {config.rate} Hz, "
            f"got {length} at {rate} Hz"
        )
    return length, crop


def _collect(checkpoint: str | Path) -> dict[str, nn.Module]:
    """The two networks, from the student's checkpoint and the codec's beside it."""
    beside = stage(checkpoint, "codec")
    return {
        "codec": load_model(beside, SpectralCodecConfig, spectral_codec.build),
        "student": load_model(checkpoint, MERTConfig, build, after=beside),
    }


def measure(system: Listener, n: int) -> dict[str, float]:
    """What the weights are worth, on clips that nothing was trained on.

    Returns:
        ``error_<q>``: what the sound of the first q codes lacks, as a share of the energy;
        ``<question>_accuracy`` of the probes on n test clips, and ``untrained_<question>_accuracy``
        of the same network before training.
    """
    config = system.student.config
    music, waves = tunes(PROBED + n, HELD_OUT, config.clip, config.rate)
    errors = spectral_errors(system.codec, waves[-n:][:HEARD], system.student.constant_q).sum(1)
    found = {f"error_{q}": float(error) for q, error in enumerate(errors, 1)}
    exam = Exam(music, waves, config, test=n)
    for prefix, student in (("", system.student), ("untrained_", untrained(config))):
        answers = exam.ask(student)
        found |= {f"{prefix}{name}_accuracy": answers[name] for name in QUESTIONS}
    return found


def _data(profile: Profile, seed: int) -> dict[str, Learned]:
    task = plan("world", profile)
    waves = tunes(task.clips, seed, task.size.clip, task.size.rate)[1]
    source = f"procedural tunes of gentok.data, {task.size.clip} samples at {task.size.rate} Hz"
    return {"training": Learned(source, (waves,))}


WEIGHTS = Weights(
    preset="world",
    parts={
        "codec": (SpectralCodecConfig, spectral_codec.build),
        "student": (MERTConfig, build),
    },
    train=train,
    collect=_collect,
    assemble=Listener,
    measure=measure,
    data=_data,
)
