"""How `gentok train axial_video` trains: as pictures are, one random plane a clip.

The paper's video run is not described; BAIR's clips take what the released code states for pictures
of 64 pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gentok.data.clips import moving_clips
from gentok.data.folder import find, missing
from gentok.data.frame_folder import first_frames, frame_batches
from gentok.data.imageset import batches
from gentok.data.read_ahead import Mapped
from gentok.show.media import PICTURES, save_grid
from gentok.tokens.axial.model import to_images, to_values
from gentok.tokens.axial.video import PRESETS, AxialVideoConfig, AxialVideoTransformer, build
from gentok.training.loop import fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile

FOLDER, HELD_OUT_FOLDER = "bair", "bair_test"  # of GENTOK_DATA, a folder of frames a clip
SAMPLES = PICTURES  # what `sample` writes
HELD_OUT = 99_991  # the seed of clips that are measured
ROWS = 16  # clips measured at a time


@dataclass(frozen=True)
class Plan:
    """What decides a training.

    Args:
        data: ``"moving"`` (a shape of the world that slides) or ``"folder"``.
        clips: how many, if moving.
        size: of the model; ``model``: how it is trained.
    """

    data: str
    clips: int
    size: AxialVideoConfig
    model: Stage


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset == "tiny":
        model = Stage(
            steps=profile.pick(smoke=4, cpu=1500, gpu=20_000),
            batch_size=profile.pick(smoke=4, cpu=16, gpu=64),
            lr=3e-3,
            warmup=profile.pick(smoke=1, cpu=100),
            schedule="cosine",
            clip=1.0,
            ema=0.99,
        )
        return Plan("moving", profile.pick(smoke=32, cpu=4096), size, model)
    model = Stage(
        steps=profile.pick(smoke=2, cpu=1500, gpu=1_000_000),
        batch_size=profile.pick(smoke=2, cpu=16, gpu=64),
        lr=2e-4,
        warmup=profile.pick(smoke=1, cpu=100, gpu=5000),
        clip=1.0,
        ema=0.99995,
    )
    return Plan("folder", 0, size, model)


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> AxialVideoTransformer:
    """Train the model.

    Returns:
        the model with averaged weights, ready to sample.

    Raises:
        FileNotFoundError: if the plan's clips are absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    draw = pixels(task, seed)
    torch.manual_seed(seed)
    return fit(
        build(task.size).to(profile.device),
        draw,
        **task.model.fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
    ).ema


def pixels(task: Plan, seed: int) -> Callable[[int], dict[str, Tensor]]:
    """Batches that a plan learns from: ``{"pixels": (B, T, C, H, W) int64 in [0, K)}`` by step.

    Raises:
        FileNotFoundError: if the plan's clips are absent.
    """
    size, rows = task.size, task.model.batch_size
    if task.data == "moving":
        return batches({"pixels": _moving(size, task.clips, seed)}, rows, seed)
    draw = frame_batches(_folder(FOLDER, size), size.image_size, size.frames, rows, seed)
    return Mapped(draw, lambda batch, *_: {"pixels": _values(batch["video"], size)})


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture: a clip a row, the first frames of held-out clips and what was drawn on.

    Args:
        checkpoint: of `train`.
        out: image file to write (the name's ending says the format).
        n: number of clips, at most.
        seed: of the sampler.

    Raises:
        FileNotFoundError: if the held-out clips of a large size are absent.
    """
    network = load_model(checkpoint, AxialVideoConfig, build)
    config = network.config
    given = held_out(config, n)[:, : config.given_frames]
    torch.manual_seed(seed)
    video = to_images(network.sample(len(given), given=given), config.num_values)
    zoom = max(1, 64 // config.image_size)
    frames = video.flatten(0, 1).repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    save_grid(frames, out, columns=config.frames)


@torch.no_grad()
def evaluate(checkpoint: str | Path, *, n: int, data: str | Path | None = None) -> dict[str, float]:
    """The paper's number: exact bits per dimension of the frames that are not told.

    Args:
        checkpoint: of `train`; its averaged weights are used.
        n: how many clips, at most.
        data: a folder of folders of frames; None takes held-out clips as `sample` does.

    Returns:
        ``bits_per_dim``, and ``bits_frame_1``, ... for each frame.

    Raises:
        FileNotFoundError: if there are no such clips.
    """
    network = load_model(checkpoint, AxialVideoConfig, build)
    clips = held_out(network.config, n, data)
    bits = torch.cat([network.bits(part) for part in clips.split(ROWS)]).mean((0, 2, 3, 4))
    first = network.config.given_frames
    each = {f"bits_frame_{first + i}": float(value) for i, value in enumerate(bits)}
    return {"bits_per_dim": float(bits.mean()), **each}


def held_out(config: AxialVideoConfig, n: int, data: str | Path | None = None) -> Tensor:
    """Up to n clips that no training draws, (n, T, C, H, W) int64 in [0, K).

    Raises:
        FileNotFoundError: if they are absent.
    """
    if data is None and config == PRESETS["tiny"]:
        return _moving(config, n, HELD_OUT)
    folder = Path(data) if data is not None else _folder(HELD_OUT_FOLDER, config)
    return _values(first_frames(folder, config.image_size, config.frames, n), config)


def _moving(config: AxialVideoConfig, n: int, seed: int) -> Tensor:
    clips = moving_clips(n, seed, config.image_size, config.frames, speed="quickly", floor="dark")
    return _values(clips.video, config)


def _values(video: Tensor, config: AxialVideoConfig) -> Tensor:
    return to_values(video, config.num_values)[:, :, : config.channels]


def _folder(name: str, config: AxialVideoConfig) -> Path:
    folder = find(name)
    if folder is None:
        size = config.image_size
        raise missing(f"clips of {size} x {size} pixels", f"{name}/<clip>/*.png")
    return folder
