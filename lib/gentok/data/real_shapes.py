"""Motion capture from the folder GENTOK_DATA: the clips of DeepMimic (Peng et al. 2018).

They move the skeleton of `gentok.data.motion`.
"""

import numpy as np
import torch
from torch import Tensor

from gentok.data import folder
from gentok.data.files import read_archive
from gentok.data.motion import JOINTS, Motion, quaternion

MOCAP = "motion/deepmimic.npz"
WIDTH = 44  # duration 1, root position 3, root quaternion 4, then the joints
SHORTEST, LONGEST = 1e-4, 60.0  # seconds that a frame can last
# In the file's order; 4 numbers are a quaternion, 1 is an angle about z (knees and elbows).
CHANNELS = (
    *(("chest", 4), ("neck", 4)),
    *(("right_hip", 4), ("right_knee", 1), ("right_ankle", 4)),
    *(("right_shoulder", 4), ("right_elbow", 1)),
    *(("left_hip", 4), ("left_knee", 1), ("left_ankle", 4)),
    *(("left_shoulder", 4), ("left_elbow", 1)),
)


def _to_motion(frames: Tensor, name: str) -> Motion:
    """Rows of 44 numbers to a clip; its frame rate is one over the frames' median duration."""
    rotations = torch.zeros(len(frames), len(JOINTS), 4)
    rotations[..., 0] = 1.0
    rotations[:, 0] = frames[:, 4:8]
    at = 8
    for joint, width in CHANNELS:
        value = frames[:, at : at + width]
        rotations[:, JOINTS.index(joint)] = value if width == 4 else quaternion(value[:, 0], "z")
        at += width
    rotations = torch.nn.functional.normalize(rotations, dim=-1)
    words = name.removeprefix("sie_").removeprefix("humanoid3d_").replace("_", " ")
    fps = 1.0 / float(frames[:, 0].median())
    return Motion(frames[:, 1:4].clone(), rotations, fps, (words,))


def mocap() -> dict[str, Motion]:
    """Motion-capture clips by name: walking, running, kicks, flips, spins and others.

    Returns:
        name -> Motion of one clip: root (T, 3) in metres, rotations (T, 18, 4), its own ``fps``,
        and the name in words as its caption.

    Raises:
        FileNotFoundError: if the file is not in the folder; it is not on the hub.
        ValueError: if the file is damaged or holds arrays of another width.
    """
    path = folder.find(MOCAP)
    if path is None:
        raise folder.missing("motion capture (DeepMimic's clips, frames x 44)", MOCAP)
    arrays = read_archive(path)
    return {name: _to_motion(_frames(a, f"{path}: {name}"), name) for name, a in arrays.items()}


def _frames(array: np.ndarray, where: str) -> Tensor:
    """A clip as stored, (T, 44) float32, once it is known to be one."""
    if array.ndim != 2 or array.shape[1] != WIDTH or len(array) < 2:
        raise ValueError(f"{where} must be (frames, {WIDTH}), got {array.shape}")
    if array.dtype.kind not in "fiu" or not float(np.abs(array).max()) <= np.finfo(np.float32).max:
        raise ValueError(f"{where} must hold finite numbers, got {array.dtype}")
    frames = torch.from_numpy(array.astype(np.float32))
    # The last frame may last 0.
    if frames[:, 0].min() < 0 or not SHORTEST <= frames[:, 0].median() <= LONGEST:
        raise ValueError(f"{where} has frames of {frames[:, 0].min():g} seconds")
    return frames
