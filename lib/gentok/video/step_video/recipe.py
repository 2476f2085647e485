"""How `gentok train step_video` trains: Video-VAE, then the transformer in stages, then Video-DPO.

The checkpoint that `train` is told to write holds the pre-trained transformer. Beside it stand the
tokenizer (``<name>.tokenizer.safetensors``), the earlier stage of pictures (``<name>.t2i...``), and
the transformer after preference training (``<name>.dpo...``). Each stage resumes by itself.

Small presets learn from moving shapes of the procedural world. The published size reads clips as
folders of frames, ``GENTOK_DATA/videos/<clip>/*.jpg`` with a ``caption.txt`` in each, and its two
text encoders from ``GENTOK_DATA/text_encoders/{clip,llm}``, by `transformers`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.data import batches
from gentok.data.folder import find, missing
from gentok.measure import load_classifier
from gentok.show.media import save_gif, video_frames
from gentok.training.loop import fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.video.step_video import vae as video_vae
from gentok.video.step_video.batches import (
    Batches,
    drop_prompts,
    encode_clips,
    latent_batches,
    video_batches,
)
from gentok.video.step_video.clips import Clips, moving_shapes
from gentok.video.step_video.dpo import VideoDPO, rank_pairs
from gentok.video.step_video.folder_clips import clip_batches
from gentok.video.step_video.model import PRESETS, StepVideo, StepVideoConfig, build
from gentok.video.step_video.text_encoders import PretrainedText, WordTables
from gentok.video.step_video.vae import VideoVAE, VideoVAEConfig
from gentok.video.step_video.vae_game import VideoVAEGame

FOLDER, ENCODERS = "videos", "text_encoders"
BETA = 50.0  # of Video-DPO; the published value is not stated
TEST_PROMPTS = (
    "a red star moving left",
    "a blue disc moving up",
    "a yellow cross moving right",
    "a white ring moving down",
    "a green square moving left",
    "a purple heart moving up",
    "an orange triangle moving right",
    "a cyan bar moving down",
)


@dataclass(frozen=True)
class Pretraining:
    """One stage of the transformer's pretraining.

    Args:
        name: the last one's checkpoint is the run's own, the others stand beside it.
        buckets: frames of a clip (of files) or of a latent (of the world) that batches draw from.
        height, width: pixels of the clips that are read.
        model: how the transformer is trained.
    """

    name: str
    buckets: tuple[int, ...]
    height: int
    width: int
    model: Stage


@dataclass(frozen=True)
class Plan:
    """What decides a training: Video-VAE, transformer in stages, Video-DPO.

    Args:
        data: ``"world"`` (its moving shapes) or ``"folder"``: ``GENTOK_DATA/videos/<clip>/``.
        clips: how many the world draws; ``pictures``: single frames beside a batch of its clips.
        size: of the transformer; ``tokenizer_size``: of the Video-VAE.
        tokenizer: how the Video-VAE is trained.
        pretraining: the transformer's stages, in order.
        preference: how Video-DPO trains; None for none.
        pairs: of the model's own clips that it ranks, sampled in ``pair_steps`` steps.
    """

    data: str
    clips: int
    pictures: int
    size: StepVideoConfig
    tokenizer_size: VideoVAEConfig
    tokenizer: Stage
    pretraining: tuple[Pretraining, ...]
    preference: Stage | None
    pairs: int
    pair_steps: int


# Published stages: pictures, then low and high resolution with buckets of 1 to 204 frames; learning
# rate and steps. The learning rate of the last is not stated.
CASCADE = (
    ("t2i", (1,), 256, 256, 1e-4, 253_000),
    ("t2vi-192", (1, 68, 136, 204), 192, 320, 6e-5, 430_000),
    ("t2vi-544", (1, 68, 136, 204), 544, 992, 6e-5, 46_000),
)


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset != "tiny":
        return _published(size, profile)
    steps = profile.pick(smoke=3, cpu=400, gpu=5000)
    tokenizer = Stage(
        steps=steps,
        batch_size=profile.pick(smoke=2, cpu=2, gpu=16),
        lr=3e-3,
        betas=(0.9, 0.99),
        warmup=min(10, steps - 1),
        schedule="cosine",
    )
    # The published start of the adversary is beyond the end of a short run.
    tokenizer_size = replace(video_vae.PRESETS["tiny"], gan_start=int(0.7 * steps))
    height, width = tokenizer_size.height, tokenizer_size.width
    pictures = _pretraining(profile.pick(smoke=2, cpu=100, gpu=2000), profile)
    videos = _pretraining(profile.pick(smoke=2, cpu=900, gpu=20_000), profile)
    videos = replace(videos, schedule="cosine", ema=0.99)
    preference = Stage(
        steps=profile.pick(smoke=2, cpu=60, gpu=1000),
        batch_size=profile.pick(smoke=4, cpu=16),
        lr=2e-4,  # a tenth of pretraining's
        betas=(0.9, 0.95),
    )
    return Plan(
        data="world",
        clips=profile.pick(smoke=32, cpu=1024),
        pictures=profile.pick(smoke=2, cpu=12, gpu=96),
        size=size,
        tokenizer_size=tokenizer_size,
        tokenizer=tokenizer,
        pretraining=(
            Pretraining("t2i", (1,), height, width, pictures),
            Pretraining("t2vi", (3, 3, 3, 1), height, width, videos),
        ),
        preference=preference,
        pairs=profile.pick(smoke=4, cpu=128, gpu=4096),
        pair_steps=profile.pick(smoke=2, cpu=10, gpu=30),
    )


def _pretraining(steps: int, profile: Profile) -> Stage:
    return Stage(
        steps=steps,
        batch_size=profile.pick(smoke=4, cpu=32),
        lr=2e-3,
        betas=(0.9, 0.95),
        warmup=min(20, steps - 1),
    )


def _published(size: StepVideoConfig, profile: Profile) -> Plan:
    steps = profile.pick(smoke=3, cpu=400, gpu=500_000)
    precision = "bf16" if profile.device.startswith("cuda") else "no"
    tokenizer = Stage(
        steps=steps, batch_size=1, lr=1e-4, betas=(0.9, 0.99), warmup=min(10, steps - 1)
    )
    pretraining = []
    for name, frames, height, width, lr, published in CASCADE:
        model = Stage(
            steps=profile.pick(smoke=2, cpu=2, gpu=published),
            batch_size=8,
            lr=lr,
            betas=(0.9, 0.95),
            precision=precision,
        )
        pretraining.append(Pretraining(name, frames, height, width, model))
    return Plan(
        data="folder",
        clips=0,
        pictures=0,
        size=size,
        tokenizer_size=video_vae.PRESETS["video-vae-v2"],
        tokenizer=tokenizer,
        pretraining=tuple(pretraining),
        preference=None,
        pairs=0,
        pair_steps=0,
    )


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> nn.Module:
    """Train all stages.

    Returns:
        the transformer after the last one.

    Raises:
        FileNotFoundError: if the preset needs real clips or text encoders and they are absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    if task.data == "folder":
        return _train_large(task, profile, out, resume, seed)
    clips = moving_shapes(task.clips, seed)
    draw = video_batches(clips.video, task.tokenizer.batch_size, seed, pictures=task.pictures)
    tokenizer = _train_tokenizer(task, profile, draw, out, resume, seed)
    size = task.size
    encoder = WordTables(size.clip_dim, size.llm_dim, size.clip_length, size.llm_length)
    latents, text = encode_clips(tokenizer, clips.video), encoder(clips.captions)
    torch.manual_seed(seed)
    model = build(size)
    model.set_statistics(latents)
    model.to(profile.device)
    for part in task.pretraining:
        rows = part.model.batch_size
        fit(
            model,
            latent_batches(latents, text, encoder([""]), rows, seed, part.buckets),
            **part.model.fit_arguments(),
            seed=seed,
            out=_place(task, part, out),
            resume=resume,
        )
    return _prefer(task, model, tokenizer, encoder, clips, profile, out, resume, seed)


def _place(task: Plan, part: Pretraining, out: str | Path | None) -> Path | str | None:
    """The last stage of pretraining is the run's own checkpoint."""
    return out if part is task.pretraining[-1] else stage(out, part.name)


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write ``n`` clips for test prompts as a GIF.

    Args:
        checkpoint: the transformer's; tokenizer and preference stage are looked for beside it.
        out: a ``.gif`` file to write.
        n: number of clips.
        seed: of the noise.

    Raises:
        FileNotFoundError: if the transformer's or the tokenizer's checkpoint is absent.
    """
    tokenizer = load_model(stage(checkpoint, "tokenizer"), VideoVAEConfig, _game).tokenizer
    preferred = stage(checkpoint, "dpo")
    if preferred.is_file():
        model = load_model(preferred, StepVideoConfig, _dpo).policy
    else:
        model = load_model(checkpoint, StepVideoConfig, build)
    encoder = _encoder(model.config)
    prompts = [TEST_PROMPTS[i % len(TEST_PROMPTS)] for i in range(n)]
    torch.manual_seed(seed)
    with torch.no_grad():
        video = tokenizer.decode(model.sample(n, encoder(prompts), encoder([""] * n)))
    save_gif(video_frames(video), out, fps=8)


def smoothness(video: Tensor) -> Tensor:
    """A procedural judge: minus the mean absolute change of change, (B, T, 3, H, W) -> (B,)."""
    return -video.diff(n=2, dim=1).abs().flatten(1).mean(1)


def _train_tokenizer(
    task: Plan,
    profile: Profile,
    draw: Batches,
    out: str | Path | None,
    resume: bool,
    seed: int,
) -> VideoVAE:
    torch.manual_seed(seed)
    tokenizer = video_vae.build(task.tokenizer_size)
    game = VideoVAEGame(tokenizer, load_classifier("world")).to(profile.device)
    fit(
        game,
        draw,
        **task.tokenizer.fit_arguments(),
        seed=seed,
        out=stage(out, "tokenizer"),
        resume=resume,
    )
    return game.tokenizer.eval()


@torch.no_grad()
def _pairs(
    model: StepVideo,
    tokenizer: VideoVAE,
    encoder: Callable,
    prompts: list[str],
    num_steps: int,
    seed: int,
) -> dict[str, Tensor]:
    """Two samples a prompt from two seeds, ranked by the judge; keys as `VideoDPO` takes them."""
    torch.manual_seed(seed)
    drawn: list[list[Tensor]] = [[], []]
    texts = []
    for i in range(0, len(prompts), 32):
        text = encoder(prompts[i : i + 32])
        empty = encoder([""] * len(text))
        texts.append(text.batch())
        for rows in drawn:
            rows.append(model.sample(len(text), text, empty, num_steps=num_steps))
    first, second = (torch.cat(rows) for rows in drawn)
    score = torch.cat(
        [
            smoothness(tokenizer.decode(a)) - smoothness(tokenizer.decode(b))
            for a, b in zip(first.split(32), second.split(32), strict=True)
        ]
    )
    winner, loser = rank_pairs(first, second, score)
    text = {name: torch.cat([part[name] for part in texts]) for name in texts[0]}
    return {"winner": winner.cpu(), "loser": loser.cpu(), **{k: v.cpu() for k, v in text.items()}}


def _prefer(
    task: Plan,
    model: StepVideo,
    tokenizer: VideoVAE,
    encoder: WordTables,
    clips: Clips,
    profile: Profile,
    out: str | Path | None,
    resume: bool,
    seed: int,
) -> StepVideo:
    """The last stage: preferences between the model's own clips."""
    encoder = encoder.to(profile.device)
    prompts = [clips.captions[i % len(clips)] for i in range(task.pairs)]
    pairs = _pairs(model, tokenizer, encoder, prompts, task.pair_steps, seed)
    dpo = VideoDPO(model, BETA).to(profile.device)
    fit(
        dpo,
        batches(pairs, task.preference.batch_size, seed),
        **task.preference.fit_arguments(),
        seed=seed,
        out=stage(out, "dpo"),
        resume=resume,
    )
    return dpo.policy.eval()


# --- the published size ---------------------------------------------------------------------------


def _train_large(
    task: Plan, profile: Profile, out: str | Path | None, resume: bool, seed: int
) -> StepVideo:
    folder = find(FOLDER)
    if folder is None:
        raise missing("clips for Step-Video", f"{FOLDER}/<clip>/*.jpg and caption.txt")
    encoder = _encoder(task.size).to(profile.device)
    size, rows = task.tokenizer_size, task.tokenizer.batch_size
    draw = clip_batches(folder, rows, (17,), size.height // 2, size.width // 2, seed)
    short = lambda step: {"video": draw(step)[0]}  # noqa: E731
    tokenizer = _train_tokenizer(task, profile, short, out, resume, seed)
    torch.manual_seed(seed)
    model = build(task.size).to(profile.device)
    for part in task.pretraining:
        rows = part.model.batch_size
        clips = clip_batches(folder, rows, part.buckets, part.height, part.width, seed)

        @torch.no_grad()
        def latents(step: int, clips=clips) -> dict[str, Tensor]:
            video, captions = clips(step)
            text = encoder([*captions, ""])  # all padded to one length
            latent = tokenizer.encode(video.to(profile.device), sample=True)
            batch = {"latent": latent, **text[: len(captions)].batch()}
            return drop_prompts(batch, text[len(captions) :], step, seed)

        fit(
            model,
            latents,
            **part.model.fit_arguments(),
            seed=seed,
            out=_place(task, part, out),
            resume=resume,
        )
    return model


def _encoder(config: StepVideoConfig) -> WordTables | PretrainedText:
    """Word tables for small presets, pretrained encoders for the published size."""
    if config.llm_dim < 1024:
        return WordTables(config.clip_dim, config.llm_dim, config.clip_length, config.llm_length)
    folder = find(ENCODERS)
    if folder is None:
        raise missing("text encoders", f"{ENCODERS}/clip and {ENCODERS}/llm (transformers folders)")
    lengths = config.clip_length, config.llm_length
    return PretrainedText(str(folder / "clip"), str(folder / "llm"), *lengths)


def _game(config: VideoVAEConfig) -> VideoVAEGame:
    return VideoVAEGame(video_vae.build(config), load_classifier("world"))


def _dpo(config: StepVideoConfig) -> VideoDPO:
    return VideoDPO(build(config), BETA)
