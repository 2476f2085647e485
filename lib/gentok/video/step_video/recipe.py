"""How `gentok train step_video` trains: each stage from the checkpoint of the one before it.

The checkpoint that `train` is told to write, ``runs/step.safetensors``, holds the pre-trained
transformer. Beside it stand

| stage | checkpoints | starts from |
|---|---|---|
| ``tokenizer`` | ``step.tokenizer_4x8x8``, then ``step.tokenizer`` | nothing |
| ``generator`` | ``step.t2i``, ``step.t2vi_192``, then ``step`` itself | the tokenizer's latents |
| ``sft`` | ``step.sft`` | the pre-trained transformer |
| ``dpo`` | ``step.dpo`` | the last of these that is there |
| ``pairs`` | the folder ``step.pairs`` | the last of these that is there |
| ``turbo`` | ``step.turbo`` | the last of these that is there, and its pairs |

All stages of a plan run in one call, or each by itself with ``--stage``: the tokenizer plays
against a discriminator and every process holds all of it; the transformer's stages can be sharded.
Each resumes by itself. `gentok.video.step_video.sources` says where the data come from.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from gentok.show.media import save_gif, video_frames
from gentok.training import shard
from gentok.training.checkpoint import load_checkpoint
from gentok.training.loading import load_weights, stored_config
from gentok.training.loop import Fit, fit, load_model
from gentok.training.plan import Stage
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.training.weights import Learned, Weights
from gentok.video.step_video import vae as video_vae
from gentok.video.step_video.batches import Batches
from gentok.video.step_video.clips import moving_shapes
from gentok.video.step_video.dpo import Turbo, VideoDPO
from gentok.video.step_video.judging import reconstructions, samples
from gentok.video.step_video.model import StepVideo, StepVideoConfig, build
from gentok.video.step_video.plan_parts import STAGES, Plan, Pretraining
from gentok.video.step_video.plans import plan
from gentok.video.step_video.sources import source
from gentok.video.step_video.system import TextToVideo
from gentok.video.step_video.vae import VideoVAE, VideoVAEConfig, grow
from gentok.video.step_video.vae_game import game_of

__all__ = ["STAGES", "WEIGHTS", "plan", "sample", "train", "written"]

SAMPLES = (".gif",)  # what `sample` writes
TEST_PROMPTS = (
    "a red star moving left",
    "a blue disc moving up",
    "a yellow cross moving right",
    "a white ring moving down",
    "a green disc moving left",
    "a purple heart moving up",
    "an orange star moving right",
    "a cyan cross moving down",
)


def train(
    preset: str,
    profile: Profile,
    *,
    out: str | Path | None,
    resume: bool,
    seed: int,
    stages: Sequence[str] | None = None,
) -> nn.Module:
    """Train all stages of the preset's plan, or those that are named.

    Returns:
        the network after the last one.

    Raises:
        FileNotFoundError: if the preset needs real clips or text encoders and they are absent, or a
            stage starts from a checkpoint that is not there.
        ValueError: if there is no such preset, or it has no such stage.
    """
    task = plan(preset, profile)
    wanted = _wanted(task, preset, stages)
    training = Training(task, profile, out, resume, seed)
    for name in wanted:
        trained = getattr(training, name)()
    return trained


def written(preset: str, profile: Profile, name: str, out: Path) -> list[Path]:
    """The checkpoints that one stage of a preset writes.

    Raises:
        ValueError: if the preset has no such stage.
    """
    task = plan(preset, profile)
    _wanted(task, preset, [name])
    parts = {
        "tokenizer": [stage(out, part.name) for part in task.tokenizers],
        "generator": [*(stage(out, part.name) for part in task.pretraining[:-1]), out],
        "pairs": [],  # a folder that is only added to
    }
    return parts.get(name, [stage(out, name)])


def _wanted(task: Plan, preset: str, stages: Sequence[str] | None) -> tuple[str, ...]:
    """The stages to run, in the order of the method."""
    stages = task.stages if stages is None else tuple(stages)
    if unknown := [name for name in stages if name not in task.stages]:
        raise ValueError(
            f"stage: {preset} has none called {unknown[0]!r}; accepted: {', '.join(task.stages)}"
        )
    return tuple(name for name in task.stages if name in stages)


class Training:
    """The stages of one run, each a method; what one leaves is what the next begins with.

    Args:
        task: the plan; ``profile``: says the device; ``out``, ``resume``, ``seed``: see `train`.
        progress: show a bar for each stage.

    Attributes:
        done: the networks, by the name of the checkpoint; ``history``: their losses, alike.
    """

    def __init__(
        self,
        task: Plan,
        profile: Profile,
        out: str | Path | None = None,
        resume: bool = False,
        seed: int = 0,
        progress: bool = True,
    ):
        self.task, self.device, self.seed = task, profile.device, seed
        self.progress = progress
        self.out = None if out is None else Path(out)
        self.resume = resume
        self.source = source(task, profile.device, seed)
        self.done: dict[str, nn.Module] = {}
        self.history: dict[str, list[dict]] = {}

    def tokenizer(self) -> VideoVAE:
        """The Video-VAE: at 4 x 8 x 8, then the deep one from its weights."""
        before = None
        for part in self.task.tokenizers:
            torch.manual_seed(self.seed)
            tokenizer = video_vae.build(part.size)
            if before is not None:
                grow(tokenizer, before)
            game = game_of(tokenizer).to(self.device)
            trained = self._fit(part.name, game, self.source.videos(part), part.model)
            before = self.done[part.name] = trained.ema.tokenizer.eval()
        return before

    def generator(self) -> StepVideo:
        """Pre-training: pictures, then clips."""
        tokenizer, before = self._tokenizer(), None
        for part in self.task.pretraining:
            model = self._begun(tokenizer) if before is None else self._transformer((before,))
            before = "" if part is self.task.pretraining[-1] else part.name
            self._transform(before, model, part, tokenizer)
        return self.done[before]

    def sft(self) -> StepVideo:
        """Fine-tuning on selected clips."""
        self._transform("sft", self._transformer(("",)), self.task.sft, self._tokenizer())
        return self.done["sft"]

    def dpo(self) -> StepVideo:
        """Video-DPO from the fine-tuned transformer, or from the pre-trained one."""
        model, task = self._transformer(("sft", "")), self.task.preference
        if not shard.wanted():
            model.to(self.device)  # the world's pairs are its own samples
        draw = self.source.preferences(model, self._tokenizer())
        game = _place(VideoDPO(model, task.beta), self.device)
        self.done["dpo"] = self._fit("dpo", game, draw, task.model).model.policy
        return self.done["dpo"]

    def pairs(self) -> StepVideo:
        """Draw the pairs that Turbo learns from; processes of one machine or several share them."""
        if self.out is None:
            raise ValueError("out: the pairs are kept beside the checkpoint; name one")
        model = self._transformer(("dpo", "sft", "")).to(self.device).eval()
        self.source.draw_pairs(model, self._pairs_folder())
        return model

    def turbo(self) -> StepVideo:
        """Few steps: the transformer learns the straight lines of its own pairs."""
        task, before = self.task.turbo, ("dpo", "sft", "")
        folder = None if self.out is None else self._pairs_folder()
        draw = self.source.reflow(lambda: self._transformer(before).to(self.device).eval(), folder)
        model = self._transformer(before)
        model.config = task.size
        game = _place(Turbo(model), self.device)
        self.done["turbo"] = self._fit("turbo", game, draw, task.model).ema.model
        return self.done["turbo"]

    def _begun(self, tokenizer: VideoVAE | None) -> StepVideo:
        """An untrained transformer for the tokenizer's latents."""
        torch.manual_seed(self.seed)
        model = build(self.task.size)
        latents = self.source.statistics(tokenizer)
        if latents is not None:
            model.set_statistics(latents)
        return model

    def _transform(
        self, name: str, model: StepVideo, part: Pretraining, tokenizer: VideoVAE | None
    ) -> None:
        draw = self.source.latents(part, tokenizer)
        self.done[name] = self._fit(name, _place(model, self.device), draw, part.model).ema

    def _fit(self, name: str, model: nn.Module, draw: Batches, how: Stage) -> Fit:
        out, arguments = self._path(name), how.fit_arguments()
        if shard.wanted() and out is None:
            raise ValueError("out: what was trained in slices is put together in a checkpoint only")
        arguments |= {"seed": self.seed, "out": out, "resume": self.resume}
        tokenizers = [part.name for part in self.task.tokenizers]
        if tokenizers and name not in tokenizers:
            arguments["after"] = self._path(tokenizers[-1])
        fitted = fit(model, draw, **arguments, progress=self.progress)
        self.history[name] = fitted.history
        return fitted

    def _path(self, name: str) -> Path | None:
        return stage(self.out, name) if name else self.out

    def _pairs_folder(self) -> Path:
        return stage(self.out, "pairs").with_suffix("")

    def _tokenizer(self) -> VideoVAE | None:
        """The Video-VAE, frozen: of this run, or as its stage left it; None if there is none."""
        if not self.task.tokenizers:
            return None
        name = self.task.tokenizers[-1].name
        model = self.done[name] if name in self.done else load_tokenizer(self._checkpoint(name))
        return model.to(self.device).eval().requires_grad_(False)

    def _transformer(self, names: tuple[str, ...]) -> StepVideo:
        """A copy of the transformer after the first of these stages that has been run."""
        if not shard.wanted():  # a sharded run holds slices: what was written is whole
            for name in names:
                if name in self.done:
                    model = build(self.done[name].config)
                    model.load_state_dict(self.done[name].state_dict())
                    return model
        there = [name for name in names if (p := self._path(name)) is not None and p.is_file()]
        return load_transformer(self._checkpoint(there[0] if there else names[-1]))

    def _checkpoint(self, name: str) -> Path:
        path = self._path(name)
        if path is None:
            raise ValueError("out: a stage by itself starts from the checkpoint before it; name it")
        return path


def _place(model: nn.Module, device: str) -> nn.Module:
    """Put a transformer where it is trained.

    For sharded training all but its first weight waits in the host's memory: `fit` goes by that
    one, and each block is moved when it is cut, so that no device ever holds the whole.
    """
    if not shard.wanted():
        return model.to(device)
    first = next(model.parameters())
    first.data = first.data.to(device)
    return model


def load_tokenizer(checkpoint: Path) -> VideoVAE:
    """The Video-VAE of a checkpoint of its stage, without its adversary.

    Raises:
        FileNotFoundError, ValueError: as `load_checkpoint`, or if it is another system's.
    """
    tensors, meta = load_checkpoint(checkpoint)
    model = video_vae.build(stored_config(meta, VideoVAEConfig, f"checkpoint {checkpoint}"))
    prefix = "ema." if any(name.startswith("ema.") for name in tensors) else "model."
    load_weights(model, tensors, f"{prefix}tokenizer.", f"checkpoint {checkpoint}")
    return model.eval()


def load_transformer(checkpoint: Path, after: Path | None = None) -> StepVideo:
    """The transformer of a checkpoint of any stage; ``after`` is the tokenizer's.

    Raises:
        FileNotFoundError, ValueError: as `load_model`.
    """
    name = Path(checkpoint).suffixes[-2:-1]
    if name == [".dpo"]:
        return load_model(checkpoint, StepVideoConfig, lambda c: VideoDPO(build(c)), after).policy
    if name == [".turbo"]:
        return load_model(checkpoint, StepVideoConfig, lambda c: Turbo(build(c)), after).model
    return load_model(checkpoint, StepVideoConfig, build, after)


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write ``n`` clips for test prompts as a GIF.

    Args:
        checkpoint: the run's own, for its last stage that is there; the tokenizer stands beside it.
        out: a ``.gif`` file to write.
        n: number of clips.
        seed: of the noise.

    Raises:
        FileNotFoundError: if the transformer's or the tokenizer's checkpoint is absent.
    """
    later = (stage(checkpoint, name) for name in ("turbo", "dpo", "sft"))
    last = next((path for path in later if path.is_file()), Path(checkpoint))
    beside = stage(checkpoint, "tokenizer")
    system = TextToVideo(load_tokenizer(beside), load_transformer(last, after=beside))
    torch.manual_seed(seed)
    video = system.sample(n, [TEST_PROMPTS[i % len(TEST_PROMPTS)] for i in range(n)])
    save_gif(video_frames(video), out, fps=8)


# --- weights --------------------------------------------------------------------------------------


def _collect(checkpoint: Path) -> dict[str, nn.Module]:
    beside = stage(checkpoint, "tokenizer")
    return {
        "tokenizer": load_tokenizer(beside),
        "generator": load_transformer(checkpoint, after=beside),
        "turbo": load_transformer(stage(checkpoint, "turbo"), after=beside),
    }


def _measure(system: TextToVideo, n: int) -> dict[str, float]:
    few = {f"turbo_{name}": value for name, value in samples(system, n, turbo=True).items()}
    return reconstructions(system.tokenizer, n) | samples(system, n) | few


def _data(profile: Profile, seed: int) -> dict[str, Learned]:
    task = plan("world-32", profile)
    clips = moving_shapes(task.clips, seed, shapes=task.shapes)
    words = f"procedural world: {', '.join(task.shapes)} sliding straight over a dark floor"
    return {"training": Learned(words, (clips.video, clips.direction))}


WEIGHTS = Weights(
    preset="world-32",
    parts={
        "tokenizer": (VideoVAEConfig, video_vae.build),
        "generator": (StepVideoConfig, build),
        "turbo": (StepVideoConfig, build),
    },
    train=train,
    collect=_collect,
    assemble=TextToVideo,
    measure=_measure,
    data=_data,
    eight_bits=True,
)
