"""Data sets and streams: real where a reader has them, embedded or drawn everywhere.

Images are float32 in [-1, 1], (B, 3, H, W), in batches and as bytes in an :class:`ImageSet`.
"""

from gentok.data.cameras import Cameras, look_at, orbit
from gentok.data.clips import Clips, moving_clips, render_clips
from gentok.data.embedded import digits, text
from gentok.data.folder import available, data_folder
from gentok.data.image_folder import folder_batches
from gentok.data.imageset import ImageSet, batches, generator, to_float, to_uint8
from gentok.data.mesh_files import Mesh, meshes
from gentok.data.midi import Notes, read_midi, render_notes
from gentok.data.motion import Motion, forward_kinematics, sample_motions
from gentok.data.music import Music, render_music, sample_music
from gentok.data.photos import PHOTOGRAPHS, photographs
from gentok.data.plain_shapes import (
    centred_shapes,
    plain_scenes,
    plain_shapes,
    scattered_shapes,
)
from gentok.data.real_images import cifar10, mnist
from gentok.data.real_shapes import mocap
from gentok.data.real_sound import Sounds, chorales, spoken_digits
from gentok.data.words import Words, word_mask
from gentok.data.world import COLOURS, SHAPES, Scenes, captions, sample_scenes, scene_graphs
from gentok.data.world_images import (
    class_images,
    class_maps,
    render_images,
    render_masks,
    world_batches,
)
from gentok.data.world_solids import (
    SOLID_NAMES,
    point_cloud,
    sample_mesh,
    signed_distance,
    solid_mesh,
)
from gentok.data.world_video import Video, render_video, warp
from gentok.data.world_views import Views, render_views

__all__ = [
    "COLOURS",
    "PHOTOGRAPHS",
    "SHAPES",
    "SOLID_NAMES",
    "Cameras",
    "Clips",
    "ImageSet",
    "Mesh",
    "Motion",
    "Music",
    "Notes",
    "Scenes",
    "Sounds",
    "Video",
    "Views",
    "Words",
    "available",
    "batches",
    "captions",
    "centred_shapes",
    "chorales",
    "cifar10",
    "class_images",
    "class_maps",
    "data_folder",
    "digits",
    "folder_batches",
    "forward_kinematics",
    "generator",
    "look_at",
    "meshes",
    "mnist",
    "mocap",
    "moving_clips",
    "orbit",
    "photographs",
    "plain_scenes",
    "plain_shapes",
    "point_cloud",
    "read_midi",
    "render_clips",
    "render_images",
    "render_masks",
    "render_music",
    "render_notes",
    "render_video",
    "render_views",
    "sample_mesh",
    "sample_motions",
    "sample_music",
    "sample_scenes",
    "scattered_shapes",
    "scene_graphs",
    "signed_distance",
    "solid_mesh",
    "spoken_digits",
    "text",
    "to_float",
    "to_uint8",
    "warp",
    "word_mask",
    "world_batches",
]
