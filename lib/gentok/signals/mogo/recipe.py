"""How `gentok train mogo` trains: the motion tokenizer, then the transformer on its codes.

Released settings. Tokenizer: AdamW at 2e-4, betas (0.9, 0.99), 2,000 steps of warm-up, windows of
64 frames, batch 256, 50 epochs. Transformer: AdamW at 3e-5, weight decay 1e-7, no warm-up, a cosine
over 800,000 steps, batch 28, clips of 40 to 199 frames. Two of its schedules are rounded here: the
tokenizer's two drops of the rate by ten become one linear fall at the end, and the cosine ends at
0 and not at 2e-6.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gentok.data import Motion, available, batches, mocap, sample_motions
from gentok.data.folder import find, missing
from gentok.data.motion import PARENTS
from gentok.data.motion_features import (
    feature_scale,
    features_to_positions,
    motion_features,
    resample,
)
from gentok.show.media import save_gif, skeleton_frames
from gentok.signals.mogo import motion_rvq
from gentok.signals.mogo.model import PRESETS, MogoConfig, build
from gentok.signals.mogo.motion_rvq import MotionRVQ, MotionRVQConfig
from gentok.signals.mogo.motion_text import CLIP, ClipText, HashedWords
from gentok.training.loop import fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.stages import stage

FRAMES = 64  # of a training clip of the small preset, and of a tokenizer's window
LONGEST = 210  # frames that clips of HumanML3D are filled up to
FPS = 20
FOLDER = "humanml3d"  # new_joint_vecs/*.npy, texts/*.txt, train.txt
# Parents of HumanML3D's 22 joints (SMPL without hands); the left side comes first.
PARENTS_22 = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
PROMPTS = (
    "a person walks forward quickly with long steps",
    "a person walks slowly and turns to the left",
    "a person stands and waves quickly with the right hand",
    "a person squats slowly",
    "a person jumps on the spot",
)
Batches = Callable[[int], dict[str, Tensor]]


@dataclass
class Clips:
    """Captioned motion: features of each clip (T, F), and (clip, caption) pairs."""

    features: list[Tensor]
    pairs: list[tuple[int, str]]


@dataclass(frozen=True)
class Plan:
    """What decides a training of Mogo.

    Args:
        data: ``"procedural"``, ``"mocap"`` (motion capture under ``GENTOK_DATA``), or
            ``"humanml3d"``.
        clips: how many procedural ones.
        size: of the transformer.
        tokenizer_size: of the motion tokenizer, but for the width of its data.
        tokenizer, generator: how each is trained.
    """

    data: str
    clips: int
    size: MogoConfig
    tokenizer_size: MotionRVQConfig
    tokenizer: Stage
    generator: Stage


# Which width of the tokenizer goes with which codebook is not stated: those of the defaults.
PUBLISHED = {
    "code-a-512": "mogo-512",
    "code-a-1024": "mogo-1024",
    "code-a-8192": "mogo-1024",
    "code-b-1024": "mogo-1024",
}


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    tokenizer_size = replace(
        motion_rvq.PRESETS[PUBLISHED.get(preset, "tiny")],
        codebook_size=size.codebook_size,
        num_levels=size.num_levels,
    )
    tokenizer = Stage(
        steps=profile.pick(smoke=4, cpu=600, gpu=20_000),
        batch_size=profile.pick(smoke=8, cpu=16, gpu=256),
        lr=4e-3,
        betas=(0.9, 0.99),
        warmup=profile.pick(smoke=1, cpu=20),
        schedule="wsd",
    )
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=800, gpu=20_000),
        batch_size=profile.pick(smoke=4, cpu=16, gpu=64),
        lr=1e-3,
        betas=(0.9, 0.99),
        weight_decay=1e-7,
        warmup=profile.pick(smoke=1, cpu=50, gpu=500),
        schedule="cosine",
    )
    if preset in PUBLISHED:
        tokenizer = replace(
            tokenizer,
            steps=profile.pick(smoke=4, cpu=600, gpu=500_000),
            lr=2e-4,
            warmup=profile.pick(smoke=1, cpu=20, gpu=2000),
        )
        generator = replace(
            generator,
            steps=profile.pick(smoke=4, cpu=800, gpu=800_000),
            batch_size=profile.pick(smoke=4, cpu=16, gpu=28),
            lr=3e-5,
            warmup=0,
        )
        return Plan("humanml3d", 0, size, tokenizer_size, tokenizer, generator)
    data = "mocap" if profile.name == "gpu" and available().get("mocap") else "procedural"
    clips = profile.pick(smoke=16, cpu=1024)
    return Plan(data, clips, size, tokenizer_size, tokenizer, generator)


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> nn.Module:
    """Train the tokenizer and then Mogo.

    Returns:
        the transformer, ready to sample.

    Raises:
        FileNotFoundError: if a published preset lacks HumanML3D or CLIP.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    clips = clips_of(task, seed)
    text = sentence_encoder(task.size)
    tokenizer = train_tokenizer(task, clips, profile.device, out, resume, seed)
    draw = code_batches(tokenizer, clips, text, task.generator.batch_size, seed)
    torch.manual_seed(seed)
    return fit(
        build(task.size).to(profile.device),
        draw,
        **task.generator.fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
    ).model


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a GIF of ``n`` moving skeletons, half as long again as the training clips.

    Args:
        checkpoint: Mogo's; the tokenizer's is looked for beside it.
        out: GIF file to write.
        n: number of clips; five prompts in turn.
        seed: of the sampler.

    Raises:
        FileNotFoundError: if one of the two checkpoints is absent.
    """
    model = load_model(checkpoint, MogoConfig, build)
    tokenizer = load_model(stage(checkpoint, "tokenizer"), MotionRVQConfig, motion_rvq.build)
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(n)]
    text = sentence_encoder(model.config).encode(prompts)
    torch.manual_seed(seed)
    with torch.no_grad():
        features = tokenizer.decode(model.sample(n, text, FRAMES * 3 // 2))
    positions = features_to_positions(features)
    parents = PARENTS if positions.shape[2] == len(PARENTS) else PARENTS_22
    words = [prompt.removeprefix("a person ") for prompt in prompts]
    save_gif(skeleton_frames(positions, parents, words), out, FPS)


def sentence_encoder(config: MogoConfig) -> ClipText | HashedWords:
    """CLIP for sentence vectors of 512 channels, hashed words for others."""
    if config.text_dim == 512:
        return ClipText(find("clip-vit-base-patch32") or CLIP)
    return HashedWords(config.text_dim)


def train_tokenizer(
    task: Plan,
    clips: Clips,
    device: str,
    out: str | Path | None,
    resume: bool,
    seed: int,
) -> MotionRVQ:
    """Train the tokenizer that goes with a transformer, on windows of 64 frames."""
    size = replace(task.tokenizer_size, feature_dim=clips.features[0].shape[1])
    torch.manual_seed(seed)
    model = motion_rvq.build(size).normalize_by(*feature_scale(torch.cat(clips.features)))
    return fit(
        model.to(device),
        window_batches(clips.features, task.tokenizer.batch_size, seed),
        **task.tokenizer.fit_arguments(),
        seed=seed,
        out=stage(out, "tokenizer"),
        resume=resume,
    ).model


def window_batches(
    features: Sequence[Tensor], batch_size: int, seed: int, window: int = FRAMES
) -> Batches:
    """Random windows of ``window`` frames, or of the shortest clip if that is shorter.

    Every place of every clip is equally likely.
    """
    window = min(window, min(len(clip) for clip in features))
    rows = torch.cat(list(features))
    lengths = torch.tensor([len(clip) for clip in features])
    ends = lengths.cumsum(0)
    starts = torch.cat(
        [torch.arange(e - n, e - window + 1) for e, n in zip(ends, lengths, strict=True)]
    )
    draw = batches({"start": starts}, batch_size, seed)
    inside = torch.arange(window)
    return lambda step: {"motion": rows[draw(step)["start"][:, None] + inside]}


@torch.no_grad()
def code_batches(
    tokenizer: MotionRVQ,
    clips: Clips,
    text: ClipText | HashedWords,
    batch_size: int,
    seed: int,
) -> Batches:
    """Batches of (codes, sentence vector, length): every clip is encoded once."""
    device, factor = next(tokenizer.parameters()).device, tokenizer.config.factor
    padding, columns = tokenizer.config.codebook_size, []
    for clip in clips.features:
        whole = clip[: len(clip) // factor * factor]
        columns.append(tokenizer.encode(whole[None].to(device))[0].cpu())
    lengths = torch.tensor([len(c) for c in columns])
    table = torch.full((len(columns), int(lengths.max()), columns[0].shape[1]), padding)
    for row, codes in zip(table, columns, strict=True):
        row[: len(codes)] = codes
    captions = sorted({caption for _, caption in clips.pairs})
    sentences = torch.cat(
        [text.encode(captions[i : i + 256]) for i in range(0, len(captions), 256)]
    )
    number = {caption: i for i, caption in enumerate(captions)}
    pairs = torch.tensor([(clip, number[caption]) for clip, caption in clips.pairs])
    draw = batches({"pair": pairs}, batch_size, seed)

    def batch(step: int) -> dict[str, Tensor]:
        clip, sentence = draw(step)["pair"].unbind(1)
        return {"codes": table[clip], "text": sentences[sentence], "length": lengths[clip]}

    return batch


def clips_of(task: Plan, seed: int) -> Clips:
    """What a plan learns from: clips of 64 frames, or HumanML3D's of 40 to 199.

    Raises:
        FileNotFoundError: if they are absent.
    """
    if task.data == "humanml3d":
        return humanml3d()
    if task.data == "mocap":
        return mocap_clips(mocap())
    motion = sample_motions(task.clips, FRAMES + 1, seed)
    return Clips(list(motion_features(motion)), list(enumerate(motion.captions)))


def mocap_clips(motions: dict[str, Motion], stride: int = 8) -> Clips:
    """Windows of 64 frames at 20 a second, each a few frames after the one before.

    Raises:
        ValueError: if no clip is as long as that.
    """
    features, pairs = [], []
    for motion in motions.values():
        rows = motion_features(resample(motion, FPS))
        for start in range(0, len(rows) - FRAMES + 1, stride):
            pairs.append((len(features), motion.captions[0]))
            features.append(rows[start : start + FRAMES])
    if not features:
        raise ValueError(f"no clip of motion capture has {FRAMES} frames at {FPS} a second")
    return Clips(features, pairs)


def humanml3d() -> Clips:
    """HumanML3D's training clips of 40 to 199 frames with all their captions.

    Read from ``GENTOK_DATA/humanml3d`` in the public layout. Its first column is half the yaw
    velocity with the opposite sign; it becomes this book's.

    Raises:
        FileNotFoundError: if it is absent, or holds no clip of such a length.
    """
    listed = find(f"{FOLDER}/train.txt")
    if listed is None:
        raise missing("HumanML3D (features of 263 numbers)", f"{FOLDER}/train.txt")
    clips, folder = Clips([], []), listed.parent
    for name in listed.read_text().split():
        path, words = folder / "new_joint_vecs" / f"{name}.npy", folder / "texts" / f"{name}.txt"
        if not (path.is_file() and words.is_file()):
            continue  # the public list names a few clips that its own files lack
        rows = torch.from_numpy(np.load(path)).float()
        if not 40 <= len(rows) < 200 or not rows.isfinite().all():
            continue
        rows[:, 0] *= -2
        captions = [line.split("#")[0].strip() for line in words.read_text().splitlines()]
        clips.pairs += [(len(clips.features), caption) for caption in captions if caption]
        clips.features.append(rows)
    if not clips.features:
        raise missing("clips of 40 to 199 frames", f"{FOLDER}/new_joint_vecs/*.npy")
    return clips
