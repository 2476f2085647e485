"""Things that move or sound, inside the page: videos, skeletons, audio players.

Each `show_...` returns HTML that holds its data, so that it plays in the rendered book and in a
stored notebook without a kernel, a script or a network. Moving pictures are GIFs that can be
paused; a reader whose system asks for less motion sees a strip of frames instead.

Shapes: n clips, T frames, C channels (1 or 3), H W pixels, J joints, L samples.
"""

import base64
import io
import wave as wave_file
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gentok.data import to_uint8
from gentok.data.motion import JOINTS, PARENTS

if TYPE_CHECKING:
    from IPython.display import HTML

PAPER = (251, 250, 246)  # the background of the book's figures
INK = (34, 34, 34)
RIGHT, LEFT, MIDDLE = (1, 115, 178), (222, 143, 5), (90, 90, 90)  # colour-blind-safe
GAP = 6  # pixels between clips
TILE = 112  # pixels, the least height that a clip is shown at
# The pause button is a disclosure, so it works without a script and from the keyboard: closed, the
# moving picture is gone and frames stand still in its place.
MOTION = """<style>
.gentok-motion details[open] ~ .still { display: none; }
@media (prefers-reduced-motion: reduce) {
  .gentok-motion details { display: none; }
  .gentok-motion details[open] ~ .still { display: block; }
}
</style>"""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tiff", ".gif")  # what `save_grid` writes
DRAWINGS = (".png", ".jpg", ".jpeg", ".webp", ".svg", ".pdf")  # what a figure is saved as
LEAST_PAUSE = 20  # milliseconds; browsers show faster GIFs at 100 ms a frame


def save_gif(frames: np.ndarray | Tensor, path: str | Path | io.BytesIO, fps: float) -> None:
    """Write a looping GIF.

    Args:
        frames: (T, H, W, 3) uint8.
        path: file to write, or a buffer.
        fps: frames a second, at most 50.

    Raises:
        ValueError: if ``frames`` has another shape or type, or ``fps`` is out of its range.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames must be (T, H, W, 3) uint8, got {frames.shape} {frames.dtype}")
    if not 0 < fps <= 1000 / LEAST_PAUSE:
        raise ValueError(f"fps must lie in (0, {1000 // LEAST_PAUSE}], got {fps}")
    first, *rest = _one_palette(frames)
    pause = 10 * round(100 / fps)  # a GIF counts in hundredths of a second
    first.save(path, "GIF", save_all=True, append_images=rest, duration=pause, loop=0)


def save_grid(images: Tensor, path: str | Path, columns: int = 8) -> None:
    """Write a contact sheet; the name's ending says the format.

    Args:
        images: (n, C, H, W), floats in [-1, 1] or uint8.
        path: file to write.
        columns: pictures in a row, at the most.
    """
    sheet = _side_by_side(_clips(images[:, None]), min(columns, len(images)), gap=0)
    Image.fromarray(sheet[0]).save(path)


def save_wav(path: str | Path | io.BytesIO, wave: Tensor, rate: int) -> None:
    """Write a mono wave (L,), floats clipped to [-1, 1], as 16-bit WAV of ``rate`` samples/s.

    Raises:
        ValueError: if ``wave`` has more than one axis.
    """
    if wave.ndim != 1:
        raise ValueError(f"wave must be (L,), got {tuple(wave.shape)}")
    samples = (wave.detach().cpu().float().clamp(-1, 1) * 32767).round().to(torch.int16)
    target = path if isinstance(path, io.BytesIO) else str(path)
    with wave_file.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.numpy().astype("<i2").tobytes())


def video_frames(video: Tensor, columns: int | None = None) -> np.ndarray:
    """Lay clips side by side and enlarge small ones.

    Args:
        video: (T, C, H, W) or (n, T, C, H, W), floats in [-1, 1] or uint8.
        columns: clips in a row; all, but at most 6, if None.

    Returns:
        (T, height, width, 3) uint8.

    Raises:
        ValueError: if ``video`` has another shape.
    """
    clips = _clips(video[None] if video.ndim == 4 else video)
    scale = max(1, -(-TILE // clips.shape[2]))
    return _side_by_side(clips.repeat(scale, axis=2).repeat(scale, axis=3), columns)


def show_video(
    video: Tensor, fps: float = 8, title: str = "", alt: str = "", columns: int | None = None
) -> "HTML":
    """Clips that play side by side.

    Args:
        video: (T, C, H, W) or (n, T, C, H, W), floats in [-1, 1] or uint8.
        fps: frames a second.
        title: shown above; ``alt`` is read aloud to those who do not see the picture.
        columns: clips in a row.
    """
    return _moving(video_frames(video, columns), fps, title, alt)


def skeleton_frames(
    positions: Tensor,
    parents: Sequence[int],
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    size: int = 168,
) -> np.ndarray:
    """Draw moving skeletons, seen from the front right and above; the camera follows the root.

    Args:
        positions: (T, J, 3) or (n, T, J, 3), metres, y up; joint 0 is the root.
        parents: parent of each joint, -1 for the root. Of this book's skeleton
            (`gentok.data.motion.PARENTS`) the right side is drawn thicker and in another colour.
        captions: a line above each clip.
        columns: clips in a row; all, but at most 6, if None.
        size: pixels of a clip.

    Returns:
        (T, height, width, 3) uint8.

    Raises:
        ValueError: if shapes do not fit.
    """
    positions = positions[None] if positions.ndim == 3 else positions
    if positions.ndim != 4 or positions.shape[2:] != (len(parents), 3) or 0 in positions.shape:
        raise ValueError(
            f"positions must be ([n,] T, {len(parents)}, 3), got {tuple(positions.shape)}"
        )
    positions = positions.detach().cpu().double()
    captions = captions or [""] * len(positions)
    clips = [
        np.stack([_draw(clip, t, parents, caption, size) for t in range(len(clip))])
        for clip, caption in zip(positions, captions, strict=True)
    ]
    return _side_by_side(np.stack(clips), columns)


def show_skeletons(
    positions: Tensor,
    parents: Sequence[int],
    fps: float = 20,
    title: str = "",
    alt: str = "",
    captions: Sequence[str] | None = None,
    columns: int | None = None,
) -> "HTML":
    """Skeletons that move side by side; arguments as for :func:`skeleton_frames`."""
    frames = skeleton_frames(positions, parents, captions, columns)
    return _moving(frames, fps, title, alt)


def show_audio(waves: Tensor, rate: int, titles: Sequence[str] | str | None = None) -> "HTML":
    """An audio player for each wave.

    Args:
        waves: (L,) or (n, L); louder than 1 is scaled down, one factor for all.
        rate: samples a second.
        titles: a line for each.

    Raises:
        ValueError: if ``waves`` has another shape or there are not as many titles.
    """
    waves = waves[None] if waves.ndim == 1 else waves
    if waves.ndim != 2:
        raise ValueError(f"waves must be (L,) or (n, L), got {tuple(waves.shape)}")
    titles = [titles] if isinstance(titles, str) else titles or [""] * len(waves)
    if len(titles) != len(waves):
        raise ValueError(f"{len(waves)} waves need as many titles, got {len(titles)}")
    waves = waves.detach().cpu().float()
    waves = waves / waves.abs().max().clamp_min(1.0)
    players = []
    for wave, title in zip(waves, titles, strict=True):
        buffer = io.BytesIO()
        save_wav(buffer, wave, rate)
        players.append(
            f'<p style="margin:0.2em 0">{escape(title)}<br><audio controls preload="metadata" '
            f'aria-label="{escape(title or "audio")}" src="{_data("audio/wav", buffer)}">'
            "</audio></p>"
        )
    return _html("\n".join(players))


def _moving(frames: np.ndarray, fps: float, title: str, alt: str) -> "HTML":
    gif, still = io.BytesIO(), io.BytesIO()
    save_gif(frames, gif, fps)
    chosen = np.linspace(0, len(frames) - 1, min(4, len(frames))).round().astype(int)
    _one_palette(np.concatenate(frames[chosen], axis=0)[None])[0].save(still, "PNG", optimize=True)
    caption = f"<figcaption><strong>{escape(title)}</strong></figcaption>" if title else ""
    described = escape(alt or title)
    return _html(
        f'{MOTION}<figure class="gentok-motion" style="margin:0.5em 0">{caption}<details open>'
        f'<summary>Pause or play</summary><img alt="{described}" style="max-width:100%" '
        f'src="{_data("image/gif", gif)}"></details><img class="still" alt="Still frames: '
        f'{described}" style="max-width:100%" src="{_data("image/png", still)}"></figure>'
    )


def _html(text: str) -> "HTML":
    from IPython.display import HTML  # comes with notebooks; files are written without it

    return HTML(text)


def _data(kind: str, buffer: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _one_palette(frames: np.ndarray) -> list[Image.Image]:
    """Frames with 128 colours chosen for all of them: still parts do not flicker."""
    some = frames[:: max(1, len(frames) // 8)]
    palette = Image.fromarray(np.concatenate(some, axis=0)).quantize(128)
    dither = Image.Dither.NONE
    return [Image.fromarray(frame).quantize(palette=palette, dither=dither) for frame in frames]


def _clips(video: Tensor) -> np.ndarray:
    """(n, T, C, H, W), floats in [-1, 1] or uint8 -> (n, T, H, W, 3) uint8."""
    if video.ndim != 5 or video.shape[2] not in (1, 3) or 0 in video.shape:
        raise ValueError(
            f"video must be ([n,] T, 1 or 3, H, W) with no empty axis, got {tuple(video.shape)}"
        )
    video = video.detach().cpu()
    video = video if video.dtype == torch.uint8 else to_uint8(video.float())
    return video.expand(-1, -1, 3, -1, -1).permute(0, 1, 3, 4, 2).numpy()


def _side_by_side(clips: np.ndarray, columns: int | None, gap: int = GAP) -> np.ndarray:
    """(n, T, H, W, 3) -> (T, rows (H + gap) - gap, columns (W + gap) - gap, 3)."""
    count, length, height, width, _ = clips.shape
    columns = min(count, columns or 6)
    rows = -(-count // columns)
    shape = (length, rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    canvas = np.broadcast_to(np.array(PAPER, np.uint8), shape).copy()
    for index, clip in enumerate(clips):
        top, left = (place * (side + gap) for place, side in
                     zip(divmod(index, columns), (height, width), strict=True))  # fmt: skip
        canvas[:, top : top + height, left : left + width] = clip
    return canvas


def _project(points: Tensor, centre: Tensor, size: int) -> Tensor:
    """Metres (..., 3) -> pixels (..., 2): turned by 35 degrees, seen from 15 degrees above."""
    turn, tilt = torch.tensor([35.0, 15.0]).double().deg2rad()
    x, y, z = (points - centre).unbind(-1)
    across = x * turn.cos() - z * turn.sin()
    away = x * turn.sin() + z * turn.cos()
    up = y * tilt.cos() + away * tilt.sin()
    scale = size / 2.5  # pixels a metre
    return torch.stack([size / 2 + scale * across, 0.86 * size - scale * up], dim=-1)


def _draw(clip: Tensor, t: int, parents: Sequence[int], caption: str, size: int) -> np.ndarray:
    """One frame of one clip, (size, size, 3) uint8; drawn twice as large, then reduced."""
    big = 2 * size
    picture = Image.new("RGB", (big, big), PAPER)
    pen = ImageDraw.Draw(picture)
    centre = clip[t, 0] * torch.tensor([1.0, 0.0, 1.0])  # the ground under the root
    _draw_floor(pen, centre, big)
    trail = _project(clip[: t + 1, 0] * torch.tensor([1.0, 0.0, 1.0]), centre, big)
    if t > 0:
        pen.line([tuple(p) for p in trail.tolist()], fill=(150, 150, 150), width=3)
    sides = _sides(parents)
    joints = _project(clip[t], centre, big).tolist()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            right = sides[joint] > 0
            colour = RIGHT if right else LEFT if sides[joint] < 0 else MIDDLE
            ends = [tuple(joints[parent]), tuple(joints[joint])]
            pen.line(ends, fill=colour, width=12 if right else 7)
    if caption:
        pen.text((8, 6), caption, fill=INK, font_size=20)
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))


def _sides(parents: Sequence[int]) -> list[int]:
    """1 for joints on the right of this book's skeleton, -1 on the left, 0 in the middle."""
    if tuple(parents) != PARENTS:
        return [0] * len(parents)
    return [name.startswith("right") - name.startswith("left") for name in JOINTS]


def _draw_floor(pen: ImageDraw.ImageDraw, centre: Tensor, size: int) -> None:
    """A grid of half metres on the ground that stays where it is while the camera moves."""
    reach = 1.5
    base = (centre[[0, 2]] * 2).round() / 2
    for k in torch.arange(-reach, reach + 0.1, 0.5).tolist():
        ends = torch.tensor([[k, -reach], [k, reach], [-reach, k], [reach, k]]).double() + base
        points = torch.stack([ends[:, 0], torch.zeros(4).double(), ends[:, 1]], dim=-1)
        pixels = [tuple(p) for p in _project(points, centre, size).tolist()]
        pen.line(pixels[:2], fill=(225, 222, 210), width=2)
        pen.line(pixels[2:], fill=(225, 222, 210), width=2)
