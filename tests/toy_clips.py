"""Clips of a few pixels in folders, and Step-Video's published plan cut down to them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from gentok.training.plan import Stage
from gentok.training.profiles import Profile
from gentok.video.step_video import vae as video_vae
from gentok.video.step_video.folder_clips import PAIR
from gentok.video.step_video.model import PRESETS
from gentok.video.step_video.plan_parts import Plan
from gentok.video.step_video.plans import plan, turbo_size

SMOKE = Profile("smoke", (0,), "cpu")
SMALL = replace(PRESETS["tiny"], depth=1, num_heads=2, head_dim=8, num_steps=2)


def draw_clip(place: Path, frames: int, size=(40, 20), words="a red star moving left") -> None:
    """A clip whose frames get redder and whose columns get greener from left to right."""
    place.mkdir(parents=True)
    for i in range(frames):
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[..., 0] = 10 * i
        pixels[..., 1] = np.linspace(0, 255, size[0])
        Image.fromarray(pixels).save(place / f"{i:03}.png")
    if words:
        (place / "caption.txt").write_text(words + "\n")


def draw_files(data: Path) -> None:
    """What the published plan reads from ``GENTOK_DATA``: clips, selected ones, a ranked pair."""
    for i, frames in enumerate((17, 17, 20, 3)):
        draw_clip(data / "videos" / str(i), frames)
    draw_clip(data / "videos_selected" / "0", 17, words="a blue disc moving up")
    for kind in PAIR:
        draw_clip(data / "preferences" / "0" / kind, 17, words="")
    (data / "preferences" / "0" / "caption.txt").write_text("a red star moving left")


def file_plan(later: float) -> Plan:
    """The published plan with small networks; ``later`` is the rate of all but pre-training."""
    whole, tiny = plan("step-video-t2v", SMOKE), video_vae.PRESETS["tiny"]
    size = replace(SMALL, prompt_suffix=" on a floor", negative_prompt="a video")
    sizes = (replace(tiny, patchify=False, latent_channels=8), tiny)
    small = {"height": 32, "width": 32}
    return replace(
        whole,
        size=size,
        tokenizers=tuple(
            replace(part, size=own, model=_at(part.model, later), pictures=4)
            for part, own in zip(whole.tokenizers, sizes, strict=True)
        ),
        pretraining=tuple(
            replace(p, **small, buckets=b, model=_at(p.model, 1e-3), pictures=4)
            for p, b in zip(whole.pretraining, ((1,), (1, 17), (17, 1)), strict=True)
        ),
        sft=replace(
            whole.sft, **small, buckets=(17, 1), model=_at(whole.sft.model, later), pictures=0
        ),
        preference=replace(
            whole.preference, **small, frames=(17,), model=_at(whole.preference.model, later)
        ),
        turbo=replace(
            whole.turbo,
            size=turbo_size(size),
            pairs=3,
            num_steps=2,
            model=_at(whole.turbo.model, later),
        ),
    )


def _at(how: Stage, lr: float) -> Stage:
    return replace(how, lr=lr, batch_size=2)
