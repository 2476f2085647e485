"""How `gentok train mogo` trains: the motion tokenizer, then the transformer on its codes.

Released settings of the published presets. Tokenizer: AdamW at 2e-4, 2,000 steps of warm-up, a
tenth of the rate from step 150,000 and a hundredth from 250,000, windows of 64 frames, batch 256,
50 epochs. Transformer: AdamW at 3e-5, weight decay 1e-7, no warm-up, a cosine down to 2e-6 over
800,000 steps, batch 28, clips of 40 to 199 frames. Neither clips gradients. The tokenizer's betas
are (0.9, 0.99), the transformer's AdamW's usual ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.data import available, batches, mocap
from gentok.data.imageset import generator
from gentok.data.motion import PARENTS
from gentok.nn.latents import encode_all
from gentok.show.media import save_gif, skeleton_frames
from gentok.signals.mogo import motion_rvq
from gentok.signals.mogo.clips import (
    FPS,
    WINDOW,
    Clips,
    humanml3d,
    mocap_clips,
    procedural_clips,
)
from gentok.signals.mogo.judging import measure
from gentok.signals.mogo.model import PRESETS, MogoConfig, build
from gentok.signals.mogo.motion_rvq import MotionRVQ, MotionRVQConfig
from gentok.signals.mogo.motion_text import ClipText, HashedWords
from gentok.signals.mogo.system import TextToMotion, sentence_encoder
from gentok.training.loop import Fit, fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.schedules import Drops, Schedule
from gentok.training.stages import stage
from gentok.training.weights import Learned, Weights

# Parents of HumanML3D's 22 joints (SMPL without hands); the left side comes first.
PARENTS_22 = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
PROMPTS = (
    "a person walks forward quickly with long steps",
    "a person walks slowly and turns to the left",
    "a person stands and waves quickly with the right hand",
    "a person squats slowly",
    "a person jumps on the spot",
)
MARGIN = 16  # columns that the encoder of the book's presets looks ahead
SAMPLES = (".gif",)  # what `sample` writes
Batches = Callable[[int], dict[str, Tensor]]


@dataclass(frozen=True)
class Plan:
    """What decides a training of Mogo.

    Args:
        data: ``"procedural"``, ``"mocap"`` (motion capture under ``GENTOK_DATA``), or
            ``"humanml3d"``.
        clips: how many procedural ones; ``frames``: of each, for the transformer.
        window: frames that the tokenizer learns from at a time.
        size: of the transformer.
        tokenizer_size: of the motion tokenizer, but for the width of its data.
        tokenizer, generator: how each is trained.
    """

    data: str
    clips: int
    frames: int
    window: int
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
        motion_rvq.PRESETS[PUBLISHED.get(preset, preset)],
        codebook_size=size.codebook_size,
        num_levels=size.num_levels,
    )
    if preset in PUBLISHED:
        return _published(size, tokenizer_size, profile)
    return (_world if preset == "world" else _study)(size, tokenizer_size, profile)


def _study(size: MogoConfig, tokenizer_size: MotionRVQConfig, profile: Profile) -> Plan:
    """What the chapter trains live and compares: a minute a network, clips of two seconds."""
    tokenizer = Stage(
        steps=profile.pick(smoke=4, cpu=400, gpu=20_000),
        batch_size=profile.pick(smoke=4, cpu=16, gpu=256),
        lr=4e-3,
        betas=(0.9, 0.99),
        warmup=profile.pick(smoke=1, cpu=20),
        schedule="cosine",
        clip=1.0,
    )
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=400, gpu=20_000),
        batch_size=profile.pick(smoke=4, cpu=16, gpu=64),
        lr=2e-3,
        betas=(0.9, 0.99),
        weight_decay=1e-7,
        warmup=profile.pick(smoke=1, cpu=30, gpu=500),
        schedule="cosine",
        clip=1.0,
    )
    data = "mocap" if profile.name == "gpu" and available().get("mocap") else "procedural"
    clips, frames = profile.pick(smoke=16, cpu=1024), profile.pick(smoke=16, cpu=40)
    window = profile.pick(smoke=16, cpu=32, gpu=WINDOW)
    return Plan(data, clips, frames, window, size, tokenizer_size, tokenizer, generator)


def _world(size: MogoConfig, tokenizer_size: MotionRVQConfig, profile: Profile) -> Plan:
    """The weights that come with the book: clips of 3.2 seconds, ten minutes on one quiet core."""
    tokenizer = Stage(
        steps=profile.pick(smoke=4, cpu=900, long=3000, gpu=20_000),
        batch_size=profile.pick(smoke=4, cpu=24, gpu=256),
        lr=2e-3,
        betas=(0.9, 0.99),
        warmup=profile.pick(smoke=1, cpu=50),
        schedule="cosine",
        clip=1.0,
    )
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=600, long=3000, gpu=20_000),
        batch_size=profile.pick(smoke=4, cpu=16, gpu=64),
        lr=1.5e-3,
        betas=(0.9, 0.99),
        weight_decay=1e-7,
        warmup=profile.pick(smoke=1, cpu=50, gpu=500),
        schedule="cosine",
        clip=1.0,
    )
    clips, frames = profile.pick(smoke=16, cpu=3072), profile.pick(smoke=16, cpu=64)
    window = profile.pick(smoke=16, cpu=WINDOW)
    return Plan("procedural", clips, frames, window, size, tokenizer_size, tokenizer, generator)


def _published(size: MogoConfig, tokenizer_size: MotionRVQConfig, profile: Profile) -> Plan:
    """The released settings, as the file's head has them."""
    tokenizer = Stage(
        # 50 epochs over some 1.8 million windows are about 350,000 steps.
        steps=profile.pick(smoke=4, cpu=600, gpu=350_000),
        batch_size=profile.pick(smoke=8, cpu=16, gpu=256),
        lr=2e-4,
        betas=(0.9, 0.99),
        schedule=Drops(at=(150_000, 250_000), warmup=2000),
        clip=None,
    )
    generator = Stage(
        steps=profile.pick(smoke=4, cpu=800, gpu=800_000),
        batch_size=profile.pick(smoke=4, cpu=16, gpu=28),
        lr=3e-5,
        weight_decay=1e-7,
        schedule=Schedule("cosine", floor=2e-6 / 3e-5),
        clip=None,
    )
    return Plan("humanml3d", 0, 199, WINDOW, size, tokenizer_size, tokenizer, generator)


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
    tokenizer = fit_tokenizer(task, clips, profile.device, out, resume, seed).model
    draw = code_batches(tokenizer, clips, text, task.generator.batch_size, seed)
    torch.manual_seed(seed)
    return fit(
        build(task.size).to(profile.device),
        draw,
        **task.generator.fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
        after=stage(out, "tokenizer"),
    ).model


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a GIF of ``n`` moving skeletons, half as long again as a tokenizer's window.

    Args:
        checkpoint: Mogo's; the tokenizer's is looked for beside it.
        out: GIF file to write.
        n: number of clips; five prompts in turn.
        seed: of the sampler.

    Raises:
        FileNotFoundError: if one of the two checkpoints is absent.
    """
    system = TextToMotion(**_collect(checkpoint))
    torch.manual_seed(seed)
    positions = system.sample(n, PROMPTS, WINDOW * 3 // 2)
    parents = PARENTS if positions.shape[2] == len(PARENTS) else PARENTS_22
    words = [PROMPTS[i % len(PROMPTS)].removeprefix("a person ") for i in range(n)]
    save_gif(skeleton_frames(positions, parents, words), out, FPS)


def _collect(checkpoint: str | Path) -> dict[str, nn.Module]:
    """The two networks, from Mogo's checkpoint and the tokenizer's beside it."""
    beside = stage(checkpoint, "tokenizer")
    return {
        "tokenizer": load_model(beside, MotionRVQConfig, motion_rvq.build),
        "generator": load_model(checkpoint, MogoConfig, build, after=beside),
    }


def fit_tokenizer(
    task: Plan,
    clips: Clips,
    device: str,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Fit:
    """Train the tokenizer that goes with a transformer."""
    motions = clips.features if clips.motions is None else clips.motions
    size = replace(task.tokenizer_size, feature_dim=motions[0].shape[1])
    torch.manual_seed(seed)
    model = motion_rvq.build(size)
    model.set_statistics(torch.cat(motions))
    return fit(
        model.to(device),
        window_batches(motions, task.tokenizer.batch_size, seed, task.window),
        **task.tokenizer.fit_arguments(),
        seed=seed,
        out=stage(out, "tokenizer"),
        resume=resume,
        progress=progress,
    )


def window_batches(
    features: Sequence[Tensor], batch_size: int, seed: int, window: int = WINDOW
) -> Batches:
    """Random windows; every place of every clip is equally likely, shorter clips are left out.

    Raises:
        ValueError: if all clips are shorter than ``window``.
    """
    long_enough = [clip for clip in features if len(clip) >= window]
    if not long_enough:
        raise ValueError(f"features: no clip has the {window} frames of a window")
    rows = torch.cat(long_enough)
    lengths = torch.tensor([len(clip) for clip in long_enough])
    ends = lengths.cumsum(0)
    starts = torch.cat(
        [torch.arange(e - n, e - window + 1) for e, n in zip(ends, lengths, strict=True)]
    )
    draw = batches({"start": starts}, batch_size, seed)
    inside = torch.arange(window)
    return lambda step: {"motion": rows[draw(step)["start"][:, None] + inside]}


def clip_codes(tokenizer: MotionRVQ, clips: Clips) -> list[Tensor]:
    """The codes of each clip, (N, Q), less those of its margin: every clip is encoded once.

    Raises:
        ValueError: if a clip is too short for a single code.
    """
    factor, codes = tokenizer.config.factor, {}
    lengths = [len(clip) for clip in clips.features]
    least = clips.margin + factor
    if short := [i for i, length in enumerate(lengths) if length < least]:
        raise ValueError(
            f"clips: clip {short[0]} has {lengths[short[0]]} frames, one code needs {least}"
        )
    for length in sorted(set(lengths)):
        same = [i for i, other in enumerate(lengths) if other == length]
        whole = torch.stack([clips.features[i][: length // factor * factor] for i in same])
        columns = (length - clips.margin) // factor
        codes |= dict(zip(same, encode_all(tokenizer, whole)[:, :columns], strict=True))
    return [codes[i] for i in range(len(lengths))]


def code_batches(
    tokenizer: MotionRVQ, clips: Clips, text: ClipText | HashedWords, batch_size: int, seed: int
) -> Batches:
    """Batches of (codes, sentence vector, length): clips are drawn, then one caption of each.

    So it is in the released code: a clip with many captions comes no more often than others.
    """
    columns = clip_codes(tokenizer, clips)
    lengths = torch.tensor([len(c) for c in columns])
    padding = tokenizer.config.codebook_size
    table = nn.utils.rnn.pad_sequence(columns, batch_first=True, padding_value=padding)
    captions = sorted({caption for _, caption in clips.pairs})
    sentences = torch.cat(
        [text.encode(captions[i : i + 256]) for i in range(0, len(captions), 256)]
    )
    number = {caption: i for i, caption in enumerate(captions)}
    told: dict[int, list[int]] = {}  # numbers of a clip's captions
    for clip, caption in clips.pairs:
        told.setdefault(clip, []).append(number[caption])
    draw = batches({"clip": torch.tensor(list(told))}, batch_size, seed)

    def batch(step: int) -> dict[str, Tensor]:
        clip = draw(step)["clip"]
        share = torch.rand(len(clip), generator=generator(seed, step, 1)).tolist()
        chosen = zip(clip.tolist(), share, strict=True)
        sentence = [told[c][int(part * len(told[c]))] for c, part in chosen]
        return {"codes": table[clip], "text": sentences[sentence], "length": lengths[clip]}

    return batch


def clips_of(task: Plan, seed: int) -> Clips:
    """What a plan learns from.

    Raises:
        FileNotFoundError: if it is absent.
    """
    if task.data == "humanml3d":
        return humanml3d()
    if task.data == "mocap":
        return mocap_clips(mocap())
    return procedural_clips(task.clips, task.frames, MARGIN, seed)


def _data(profile: Profile, seed: int) -> dict[str, Learned]:
    task = plan("world", profile)
    clips = clips_of(task, seed)
    source = f"procedural motions of gentok.data, {task.frames + MARGIN} frames at {FPS} a second"
    return {"training": Learned(source, (torch.stack(clips.features),))}


WEIGHTS = Weights(
    preset="world",
    parts={"tokenizer": (MotionRVQConfig, motion_rvq.build), "generator": (MogoConfig, build)},
    train=train,
    collect=_collect,
    assemble=TextToMotion,
    measure=measure,
    data=_data,
)
