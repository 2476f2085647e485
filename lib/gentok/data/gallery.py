"""Draw the figures of the book's page on data: ``python -m gentok.data.gallery book/img``."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from gentok.data.cameras import orbit
from gentok.data.embedded import digits
from gentok.data.imageset import to_uint8
from gentok.data.motion import ACTIONS, JOINTS, PARENTS, sample_motions
from gentok.data.music import frequency, render_music, sample_music
from gentok.data.photos import photographs
from gentok.data.world import captions, sample_scenes
from gentok.data.world_images import class_images, class_maps
from gentok.data.world_solids import SOLID_NAMES, point_cloud
from gentok.data.world_video import render_video
from gentok.data.world_views import render_views

SIDES = {"left": "#0173b2", "right": "#de8f05"}  # colour-blind safe


def tiles(images: Tensor, columns: int) -> np.ndarray:
    """Bytes (N, 3, H, W) as one picture (rows * (H + 2), columns * (W + 2), 3) on white."""
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), value=255)
    n, c, h, w = padded.shape
    grid = padded.view(n // columns, columns, c, h, w).permute(0, 3, 1, 4, 2)
    return grid.reshape(n // columns * h, columns * w, c).numpy()


def _show(axis, picture, title: str, **options) -> None:
    axis.imshow(picture, **options)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def images_figure() -> Figure:
    """Photographs, digits and the world's ten classes, side by side."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.0), layout="constrained")
    world = class_images(400, seed=3)
    first = torch.cat([(world.labels == k).nonzero()[:4, 0] for k in range(8)])
    _show(axes[0], tiles(photographs(count=32, seed=4).images, 8), "photographs(): 32 x 32 patches")
    _show(axes[1], tiles(digits().images[:32], 8), "digits(): 8 x 8")
    _show(axes[2], tiles(world.images[first], 8), "class_images(): shapes on textures")
    return figure


def scene_figure(seed: int = 3) -> Figure:
    """One scene in every modality; its caption is the title."""
    scenes = sample_scenes(8, seed, moving_floor=True)[3:4]
    video, size = render_video(scenes, frames=5, size=96), 96
    views = render_views(scenes, size, orbit(1, views=2))
    figure, axes = plt.subplots(2, 4, figsize=(9, 4.8), layout="constrained")
    pictures = to_uint8(video.frames[0]).permute(0, 2, 3, 1).numpy()
    _show(axes[0, 0], pictures[0], "image: the plan")
    _show(axes[0, 1], class_maps(scenes, size)[0].numpy(), "class map", cmap="cividis")
    _show(axes[0, 2], pictures[4], "video: four frames later")
    _show(axes[0, 3], pictures[0], "flow over four frames (arrows)")
    every = slice(6, None, 12)
    x, y = np.meshgrid(np.arange(size)[every], np.arange(size)[every])
    u, v = 4 * video.flow[0, 0, :, every, every].numpy()
    axes[0, 3].quiver(x, y, u, v, angles="xy", scale_units="xy", scale=1, color="white")
    seen = to_uint8(views.images[0]).permute(0, 2, 3, 1).numpy()
    _show(axes[1, 0], seen[0], "view from the front")
    _show(axes[1, 1], seen[1], "view from behind")
    _show(axes[1, 2], views.depth[0, 0].numpy(), "depth (brighter is nearer)", cmap="cividis_r")
    _show(axes[1, 3], views.owner[0, 0].numpy() + 1, "which object a pixel shows", cmap="cividis")
    figure.suptitle(captions(scenes)[0], fontsize=10)
    return figure


def solids_figure() -> Figure:
    """Points on the surface of every solid."""
    options = {"figsize": (9, 3.4), "layout": "constrained", "subplot_kw": {"projection": "3d"}}
    figure, axes = plt.subplots(2, 6, **options)
    for axis, name in zip(axes.flat, SOLID_NAMES, strict=True):
        x, y, z = point_cloud(name, 1200).T
        axis.scatter(x, y, z, c=z, s=1.5, cmap="cividis")
        axis.set(xlim=(-0.8, 0.8), ylim=(-0.8, 0.8), zlim=(-0.8, 0.8), title=name)
        axis.view_init(elev=35, azim=-60)
        axis.set_axis_off()
    return figure


def motion_figure() -> Figure:
    """One clip of each action, every eighth frame beside the one before it."""
    motion = sample_motions(64, frames=64, seed=1)
    positions = motion.positions  # (64, 64, J, 3)
    figure, axes = plt.subplots(len(ACTIONS), 1, figsize=(9, 8), layout="constrained")
    for action, axis in enumerate(axes):
        clip = int((motion.labels == action).nonzero()[0])
        across = 2 if ACTIONS[action] == "wave" else 0  # seen from the front, else from the side
        yaw = 2 * torch.atan2(motion.rotations[clip, 0, 0, 2], motion.rotations[clip, 0, 0, 0])
        x, z = positions[clip][..., 0], positions[clip][..., 2]
        x, z = x - motion.root[clip, :, None, 0], z - motion.root[clip, :, None, 2]
        turned = (yaw.cos() * x - yaw.sin() * z, None, yaw.sin() * x + yaw.cos() * z)[across]
        for place, frame in enumerate(range(0, 64, 5)):
            for joint, parent in enumerate(PARENTS[1:], 1):
                pair = [joint, parent]
                colour = SIDES.get(JOINTS[joint].split("_")[0], "#333333")
                up = positions[clip, frame, pair, 1]
                axis.plot(turned[frame, pair] + place, up, color=colour, linewidth=1.4)
        axis.axhline(0, color="#949494", linewidth=0.8)
        axis.set(title=motion.captions[clip], xticks=[], ylabel="height (m)", aspect="equal")
        axis.title.set_fontsize(9)
    axes[-1].set_xlabel("time: one figure every 0.25 s")
    return figure


def music_figure() -> Figure:
    """Spectrogram of a clip with its notes drawn over it."""
    music = sample_music(1, seed=7)
    wave = render_music(music, seconds=3.0)[0]
    figure, axis = plt.subplots(figsize=(9, 3.4), layout="constrained")
    axis.specgram(wave.numpy(), NFFT=2048, Fs=16000, noverlap=1792, cmap="gray_r", vmin=-120)
    for note in music.notes(0):
        height = float(frequency(torch.tensor(note["pitch"])))
        ends = [note["onset"], note["onset"] + note["duration"]]
        axis.plot(ends, [height, height], color="#d55e00", linewidth=1.6)
    axis.set(title=music.captions[0], xlabel="time (s)", ylabel="frequency (Hz)")
    axis.set(ylim=(0, 1500), xlim=(0, 2.9))
    return figure


FIGURES = {
    "data_images": images_figure,
    "data_scene": scene_figure,
    "data_solids": solids_figure,
    "data_motion": motion_figure,
    "data_music": music_figure,
}


def main(folder: str) -> None:
    """Write all figures as PNG into ``folder``."""
    for name, draw in FIGURES.items():
        figure = draw()
        figure.savefig(Path(folder) / f"{name}.png", dpi=100, facecolor="white")
        plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1])
