"""How well small Step-Videos do: what comes back of a clip, and what samples show of a prompt.

Shape, colour and direction are read off by drawing (`gentok.measure.detect`); no network is asked.

Shapes: n clips, T frames.
"""

import torch
from torch import Tensor, nn

from gentok.data.clips import DIRECTIONS, caption
from gentok.data.imageset import generator, to_float
from gentok.data.plain_shapes import EASIEST
from gentok.data.world import COLOURS, SHAPES
from gentok.measure.detect import detect, detect_motion
from gentok.measure.images import psnr
from gentok.video.step_video.clips import moving_shapes
from gentok.video.step_video.vae import VideoVAE

HELD_OUT = 99_991  # the seed of clips that no training draws
WORDS = ("shape", "colour", "direction")
ROWS = 50  # clips at a time


def asked(n: int) -> tuple[list[str], Tensor]:
    """n prompts that go through all shapes, colours and directions.

    Returns:
        the sentences; indices into SHAPES, COLOURS and DIRECTIONS, (n, 3).
    """
    sizes, rows, i = (len(EASIEST), len(COLOURS), len(DIRECTIONS)), [], torch.arange(n)
    for size in sizes:
        rows.append(i % size)
        i = i // size
    shape, colour, direction = rows
    shape = torch.tensor([SHAPES.index(name) for name in EASIEST])[shape]
    looks = torch.stack([shape, colour, direction], 1)
    return [caption(c, s, d) for s, c, d in looks.tolist()], looks


def read_clips(video: Tensor) -> Tensor:
    """What clips (n, T, 3, H, W) in [-1, 1] show: shape, colour, direction, (n, 3); -1 unseen.

    Shape and colour are those of the middle frame.
    """
    still, motion = detect(video[:, video.shape[1] // 2]), detect_motion(video)
    return torch.stack([still.shape[:, 0], still.colour[:, 0], motion.direction], 1)


def accuracies(video: Tensor, looks: Tensor) -> dict[str, float]:
    """Share of clips in which each word is read right, as ``<word>_accuracy``, and all of them."""
    right = read_clips(video) == looks
    shares = {f"{w}_accuracy": float(right[:, i].float().mean()) for i, w in enumerate(WORDS)}
    return shares | {"all_accuracy": float(right.all(1).float().mean())}


@torch.no_grad()
def reconstructions(tokenizer: VideoVAE, n: int) -> dict[str, float]:
    """Encode and decode n held-out clips.

    Returns:
        ``psnr`` (dB, mean over frames); ``mse`` of values in [-1, 1] and ``mean_clip_mse``, that of
        the mean of the clips: a smudge does no better.
    """
    x = to_float(moving_shapes(n, HELD_OUT, shapes=EASIEST).video)
    parts = [tokenizer.decode(tokenizer.encode(part)) for part in x.split(ROWS)]
    y = torch.cat(parts).clamp(-1, 1)
    return {
        "psnr": float(psnr(x.flatten(0, 1), y.flatten(0, 1)).mean()),
        "mse": float((x - y).square().mean()),
        "mean_clip_mse": float((x - x.mean(0)).square().mean()),
    }


def samples(system: nn.Module, n: int, **options) -> dict[str, float]:
    """Draw n clips for :func:`asked` from fixed noise and read them.

    Args:
        system: has ``sample(n, prompts, noise=..., **options)`` and ``generator``.
    """
    prompts, looks = asked(n)
    shape = (n, *system.generator.config.latent_shape)
    noise = torch.randn(shape, generator=generator(HELD_OUT))
    parts = []
    for i in range(0, n, ROWS):
        part = prompts[i : i + ROWS]
        parts.append(system.sample(len(part), part, noise=noise[i : i + ROWS], **options))
    return accuracies(torch.cat(parts).clamp(-1, 1), looks)
