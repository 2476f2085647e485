"""What Mogo learns from: clips of motion features with captions.

Three sources: the procedural motions of `gentok.data`, motion capture, and HumanML3D (Guo et al.
2022) as its authors lay it out.

Shapes: T frames, F features, Q levels.
"""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentok.data import Motion, sample_motions
from gentok.data.files import read_array, read_text
from gentok.data.folder import find, missing
from gentok.data.motion_features import motion_features, resample

FPS = 20
WINDOW = 64  # frames of a tokenizer's window, and of a clip of motion capture
SHORTEST, LONGEST = 40, 200  # frames: HumanML3D's clips are at least and less than this
FOREVER = 1e6  # seconds: no time of a clip
FOLDER = "humanml3d"  # new_joint_vecs/*.npy, texts/*.txt, train.txt


@dataclass
class Clips:
    """Captioned motion.

    Attributes:
        features: of each clip, (T, F).
        pairs: (clip, caption); a clip may have several.
        margin: last frames of every clip that are there to be looked at only: the encoder sees
            ahead, and where nothing comes its codes are unlike all others.
        motions: what a tokenizer learns from, (T, F) each, where that is not ``features``: there a
            captioned span stands beside the clip that it is cut from.
    """

    features: list[Tensor] = field(default_factory=list)
    pairs: list[tuple[int, str]] = field(default_factory=list)
    margin: int = 0
    motions: list[Tensor] | None = None

    def add(self, rows: Tensor, captions: list[str]) -> None:
        """One clip (T, F) and what is said about it; a clip without a caption is left out."""
        if captions:
            self.pairs += [(len(self.features), caption) for caption in captions]
            self.features.append(rows)


def procedural_clips(n: int, frames: int, margin: int, seed: int) -> Clips:
    """People who walk, turn, wave, squat or jump: ``n`` clips of ``frames`` + ``margin`` frames."""
    motion = sample_motions(n, frames + margin + 1, seed)
    return Clips(list(motion_features(motion)), list(enumerate(motion.captions)), margin)


def mocap_clips(motions: dict[str, Motion], stride: int = 8) -> Clips:
    """Windows of 64 frames at 20 a second, each a few frames after the one before.

    Raises:
        ValueError: if no clip is as long as that.
    """
    clips = Clips()
    for motion in motions.values():
        rows = motion_features(resample(motion, FPS))
        for start in range(0, len(rows) - WINDOW + 1, stride):
            clips.add(rows[start : start + WINDOW], [motion.captions[0]])
    if not clips.features:
        raise ValueError(f"no clip of motion capture has {WINDOW} frames at {FPS} a second")
    return clips


def humanml3d() -> Clips:
    """HumanML3D's training clips of 40 to 199 frames with all their captions.

    Read from ``GENTOK_DATA/humanml3d`` in the public layout. A captioned span becomes a clip of its
    own; for a tokenizer every motion counts once, whatever its length and caption. The first column
    is half the yaw velocity with the opposite sign; it becomes this book's. A damaged file is named
    in a warning, and its clip left out.

    Raises:
        FileNotFoundError: if it is absent, or holds no clip of such a length.
        ValueError: if the list is no text of names, or two clips differ in the number of features.
    """
    listed = find(f"{FOLDER}/train.txt")
    if listed is None:
        raise missing("HumanML3D (features of 263 numbers)", f"{FOLDER}/train.txt")
    clips, folder = Clips(motions=[]), listed.parent
    vectors, texts = folder / "new_joint_vecs", folder / "texts"
    if "\0" in (names := read_text(listed)):
        raise ValueError(f"{listed} is no list of names: it holds a null byte")
    for name in names.split():
        path = vectors / f"{name}.npy"
        try:
            array, lines = _features(path), read_text(texts / f"{name}.txt").splitlines()
        except FileNotFoundError:
            continue  # the public list names a few clips that its own files lack
        except ValueError as error:
            warnings.warn(f"{error}; the clip is left out", stacklevel=2)
            continue
        if not np.isfinite(array).all():
            continue  # of the public files a few hold NaN
        array[:, 0] *= -2
        rows = torch.from_numpy(array)
        if clips.motions and rows.shape[1] != clips.motions[0].shape[1]:
            raise ValueError(
                f"{path} holds {rows.shape[1]} features a frame, the clips before it "
                f"{clips.motions[0].shape[1]}"
            )
        clips.motions.append(rows)
        if SHORTEST <= len(rows) < LONGEST:
            _add_captioned(clips, rows, lines)
    if not clips.features:
        raise missing("clips of 40 to 199 frames", f"{FOLDER}/new_joint_vecs/*.npy")
    return clips


def _features(path: Path) -> np.ndarray:
    """Features of a clip as stored, (T, F) float32."""
    array = read_array(path)
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.shape[1]:
        raise ValueError(f"{path} must be numbers (frames, features), got {array.shape}")
    return array.astype(np.float32, copy=False)


def _add_captioned(clips: Clips, rows: Tensor, lines: list[str]) -> None:
    """Add a clip with the captions of all of it, and each captioned span that is long enough."""
    whole = []
    for line in lines:
        caption, start, end = read_caption(line)
        if not caption:
            continue
        if start == end == 0:
            whole.append(caption)
            continue
        span = rows[min(int(start * FPS), len(rows)) : min(int(end * FPS), len(rows))]
        if SHORTEST <= len(span) < LONGEST:
            clips.add(span, [caption])
    clips.add(rows, whole)


def read_caption(line: str) -> tuple[str, float, float]:
    """A line ``caption#tokens#start#end`` -> caption, start and end in seconds.

    0 and 0, or nothing readable, is the whole clip.
    """
    caption, *rest = line.split("#")
    start, end = (_seconds(rest[k]) if len(rest) > k else 0.0 for k in (1, 2))
    return caption.strip(), start, end


def _seconds(word: str) -> float:
    """A number of seconds, 0 or more; 0 for ``nan`` and for what is none."""
    try:
        value = float(word)
    except ValueError:
        return 0.0
    return max(value, 0.0) if abs(value) < FOREVER else 0.0
