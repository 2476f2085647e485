"""Where the stages of a Step-Video training get their batches: the world, or files.

Small presets learn from moving shapes of the procedural world. The published size reads

- clips as folders of frames, ``GENTOK_DATA/videos/<clip>/*.jpg`` with a ``caption.txt`` in each;
  those that fine-tuning selects stand alike in ``GENTOK_DATA/videos_selected``;
- ranked pairs for Video-DPO, ``GENTOK_DATA/preferences/<pair>/{winner,loser}/*.jpg``;
- its text encoders from ``GENTOK_DATA/text_encoders/{clip,llm}``, by `transformers`.

Shapes: B batch, T frames, t latent frames.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gentok.data import batches, to_float
from gentok.data.folder import find, missing
from gentok.data.read_ahead import Mapped
from gentok.video.step_video.batches import (
    Batches,
    drop_prompts,
    encode_clips,
    latent_batches,
    video_batches,
)
from gentok.video.step_video.blobs import blob_paths, shakiness
from gentok.video.step_video.clips import moving_shapes
from gentok.video.step_video.dpo import rank_pairs, reflow_pairs
from gentok.video.step_video.folder_clips import PAIR, ClipFolder, clip_batches
from gentok.video.step_video.model import StepVideo, StepVideoConfig, dress
from gentok.video.step_video.patch_latents import PatchComponents
from gentok.video.step_video.plan_parts import Plan, Pretraining, Tokenizing
from gentok.video.step_video.reflow import draw_pairs, pair_batches
from gentok.video.step_video.text_encoders import PretrainedText, WordTables
from gentok.video.step_video.vae import VideoVAE

VIDEOS, PREFERENCES, ENCODERS = "videos", "preferences", "text_encoders"
ROWS = 32  # prompts sampled at a time


class World:
    """Moving shapes with captions, all in memory, and a procedural judge.

    Args:
        plan: of the training; ``device``: where it runs; ``seed``: of the clips and all draws.
    """

    def __init__(self, plan: Plan, device: str, seed: int):
        self.plan, self.seed = plan, seed
        self.clips = moving_shapes(plan.clips, seed, shapes=plan.shapes)
        self.captions = self.clips.captions
        self.encoder = text_encoder(plan.size).to(device)

    def videos(self, part: Tokenizing) -> Batches:
        """Batches of pixels for the Video-VAE."""
        rows = part.model.batch_size
        return video_batches(self.clips.video, rows, self.seed, pictures=part.pictures)

    def latents(self, part: Pretraining, tokenizer: VideoVAE) -> Batches:
        """Batches of latents with prompts; all clips are encoded once."""
        text, empty = self.encoder(self.captions), self.encoder([""])
        rows = part.model.batch_size
        return latent_batches(self._encoded(tokenizer), text, empty, rows, self.seed, part.buckets)

    def statistics(self, tokenizer: VideoVAE) -> Tensor:
        """Latents to normalise by: small tokenizers do not keep to unit variance."""
        return self._encoded(tokenizer)

    @torch.no_grad()
    def preferences(self, model: StepVideo, tokenizer: VideoVAE | None) -> Batches:
        """Two samples a prompt, the smoother one wins; keys as `VideoDPO` takes them."""
        task = self.plan.preference
        torch.manual_seed(self.seed)
        drawn: list[dict[str, Tensor]] = []
        for prompts in _split(self._prompts(task.pairs)):
            text, empty = (self.encoder(words) for words in dress(model.config, prompts))
            pair = [
                model.sample(len(text), text, empty, num_steps=task.num_steps) for _ in range(2)
            ]
            first, second = (self._score(tokenizer, z) for z in pair)
            winner, loser = rank_pairs(*pair, first - second)
            drawn.append({"winner": winner, "loser": loser, **text.batch()})
        pairs = {name: torch.cat([part[name] for part in drawn]).cpu() for name in drawn[0]}
        return batches(pairs, task.model.batch_size, self.seed)

    def reflow(self, model: Callable[[], StepVideo], folder: Path | None) -> Batches:
        """Noise and the samples that ``model()`` makes of it; keys as `Turbo` takes them."""
        task, teacher = self.plan.turbo, model()
        torch.manual_seed(self.seed)
        text, empty = (
            self.encoder(words) for words in dress(teacher.config, self._prompts(task.pairs))
        )
        pairs = reflow_pairs(teacher, text, empty, num_steps=task.num_steps)
        pairs = {name: value.cpu() for name, value in pairs.items()}
        return batches(pairs, task.model.batch_size, self.seed)

    def _prompts(self, n: int) -> list[str]:
        return [self.captions[i % len(self.captions)] for i in range(n)]

    def _encoded(self, tokenizer: VideoVAE | None) -> Tensor:
        return encode_clips(tokenizer, self.clips.video)

    def _score(self, tokenizer: VideoVAE | None, z: Tensor) -> Tensor:
        """How good samples are, (B, t, z, h, w) -> (B,)."""
        return smoothness(tokenizer.decode(z))


class Untokenized(World):
    """Clips of the world that are latents as they are, for studies: no tokenizer is trained.

    Args:
        plan: its ``data`` says which, `blobs` or `patch_latents`; ``device``, ``seed``: as `World`.
    """

    def __init__(self, plan: Plan, device: str, seed: int):
        self.plan, self.seed = plan, seed
        self.encoder = text_encoder(plan.size).to(device)
        if plan.data == "blobs":
            self.latent, self.captions, _ = blob_paths(plan.clips, seed)
        else:
            side = plan.pretraining[0].height
            clips = moving_shapes(plan.clips, seed, size=side, shapes=plan.shapes)
            video = to_float(clips.video)
            self.blocks = PatchComponents(video, plan.size.in_channels)
            self.latent, self.captions = self.blocks.encode(video), clips.captions

    def _encoded(self, tokenizer: None) -> Tensor:
        return self.latent

    def _score(self, tokenizer: None, z: Tensor) -> Tensor:
        return -shakiness(z)


class Folder:
    """Clips and pairs from files, encoded as they are needed, each process its own rows.

    Args:
        plan: of the training; ``device``: where it runs; ``seed``: of all draws.

    Raises:
        FileNotFoundError: if there are no clips.
    """

    def __init__(self, plan: Plan, device: str, seed: int):
        self.plan, self.device, self.seed = plan, device, seed
        self.folder = _needed(VIDEOS, "clips for Step-Video", "<clip>/*.jpg and caption.txt")
        self._encoder: PretrainedText | None = None

    @property
    def encoder(self) -> PretrainedText:
        """The text encoders, read when a stage first needs them; the Video-VAE does not."""
        if self._encoder is None:
            self._encoder = text_encoder(self.plan.size).to(self.device)
        return self._encoder

    def videos(self, part: Tokenizing) -> Batches:
        """Batches of pixels for the Video-VAE, at half the height and width."""
        size = part.size.height // 2 // 16 * 16, part.size.width // 2 // 16 * 16
        rows = part.model.batch_size
        clips = clip_batches(self.folder, rows, part.frames, *size, self.seed, part.pictures)
        return Mapped(clips, lambda batch, *_: {"video": batch[0]})

    def latents(self, part: Pretraining, tokenizer: VideoVAE) -> Batches:
        """Batches of latents with prompts."""
        folder = _needed(part.folder, f"clips for {part.name}", "<clip>/*.jpg and caption.txt")
        size, rows = (part.height, part.width), part.model.batch_size
        # Buckets of the paper: landscape, portrait and square, at about as many pixels.
        clips = clip_batches(
            folder, rows, part.buckets, *size, self.seed, part.pictures, turned=True
        )

        @torch.no_grad()
        def encode(batch: tuple, step: int, index: int, count: int) -> dict[str, Tensor]:
            video, captions = batch
            text = self.encoder([*captions, ""])  # all padded to one length
            latent = tokenizer.encode(video.to(self.device), sample=True)
            named = {"latent": latent, **text[: len(captions)].batch()}
            empty = text[len(captions) :]
            return drop_prompts(named, empty, step, self.seed, part=(index, count))

        return Mapped(clips, encode)

    def statistics(self, tokenizer: VideoVAE) -> None:
        """None: the released model takes its latents as they are."""

    def preferences(self, model: StepVideo, tokenizer: VideoVAE | None) -> Batches:
        """Pairs that people have ranked; keys as `VideoDPO` takes them."""
        task, layout = self.plan.preference, "<pair>/{winner,loser}/*.jpg and caption.txt"
        folder = _needed(PREFERENCES, "ranked pairs", layout)
        size, rows = (task.height, task.width), task.model.batch_size
        pairs = clip_batches(folder, rows, task.frames, *size, self.seed, takes=PAIR)

        @torch.no_grad()
        def encode(batch: tuple, *_) -> dict[str, Tensor]:
            *videos, captions = batch
            winner, loser = (tokenizer.encode(video.to(self.device)) for video in videos)
            return {"winner": winner, "loser": loser, **self.encoder(captions).batch()}

        return Mapped(pairs, encode)

    def draw_pairs(self, model: StepVideo, folder: Path) -> None:
        """Draw what :meth:`reflow` reads, for the captions of the clips."""
        task, clips = self.plan.turbo, ClipFolder(self.folder, 1, 1)
        captions = [clips.caption(i % len(clips)) for i in range(task.pairs)]
        draw_pairs(model, self.encoder, captions, folder, self.seed, task.num_steps)

    def reflow(self, model: Callable[[], StepVideo], folder: Path | None) -> Batches:
        """The pairs that stand in a folder; keys as `Turbo` takes them."""
        if folder is None:
            raise ValueError("out: Turbo reads its pairs beside the checkpoint; name one")
        pairs = pair_batches(folder, self.plan.turbo.model.batch_size, self.seed)

        def encode(batch: tuple, *_) -> dict[str, Tensor]:
            noise, sample, prompts = batch
            return {"noise": noise, "sample": sample, **self.encoder(prompts).batch()}

        return Mapped(pairs, encode)


def source(plan: Plan, device: str, seed: int) -> World | Folder:
    """What a plan learns from.

    Raises:
        FileNotFoundError: if it needs clips and there are none.
    """
    kinds = {"folder": Folder, "world": World, "blobs": Untokenized, "blocks": Untokenized}
    return kinds[plan.data](plan, device, seed)


def text_encoder(config: StepVideoConfig) -> WordTables | PretrainedText:
    """Word tables for small presets, pretrained encoders for the published size.

    Raises:
        FileNotFoundError: if those are needed and absent.
    """
    lengths = config.clip_length, config.llm_length
    if config.llm_dim < 1024:
        return WordTables(config.clip_dim, config.llm_dim, *lengths)
    folder = _needed(ENCODERS, "text encoders", "clip and llm (transformers folders)")
    return PretrainedText(str(folder / "clip"), str(folder / "llm"), *lengths)


def smoothness(video: Tensor) -> Tensor:
    """A procedural judge: minus the mean absolute change of change, (B, T, 3, H, W) -> (B,)."""
    return -video.diff(n=2, dim=1).abs().flatten(1).mean(1)


def _needed(name: str, what: str, layout: str) -> Path:
    folder = find(name)
    if folder is None:
        raise missing(what, f"{name}/{layout}")
    return folder


def _split(prompts: list[str]) -> list[list[str]]:
    return [prompts[i : i + ROWS] for i in range(0, len(prompts), ROWS)]
