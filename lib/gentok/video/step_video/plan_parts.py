"""The parts of a Step-Video training plan: what each stage is told.

`gentok.video.step_video.plans` fills them in, preset by preset.
"""

from dataclasses import dataclass

from gentok.training.plan import Stage
from gentok.video.step_video.model import StepVideoConfig
from gentok.video.step_video.vae import VideoVAEConfig

STAGES = ("tokenizer", "generator", "sft", "dpo", "pairs", "turbo")


@dataclass(frozen=True)
class Tokenizing:
    """One stage of the Video-VAE's training.

    Args:
        name: of its checkpoint; each but the first starts from the weights of the one before.
        size: of the Video-VAE.
        model: how it is trained; its ``batch_size`` counts clips.
        frames: lengths of clips of a folder, which batches take in turn; 1 is a picture.
        pictures: rows of a batch of pictures; 0 for none (the world) or as many as clips.
    """

    name: str
    size: VideoVAEConfig
    model: Stage
    frames: tuple[int, ...] = (17,)
    pictures: int = 0


@dataclass(frozen=True)
class Pretraining:
    """One stage of the transformer on data: of pre-training, or fine-tuning.

    Args:
        name: the checkpoint of the last one of pre-training is the run's own, the others stand
            beside it.
        buckets: frames of a clip (of files) or of a latent (of the world) that batches draw from.
        height, width: pixels of the clips that are read.
        model: how the transformer is trained; its ``batch_size`` counts clips.
        pictures: rows of a batch of pictures of files; 0 for as many as clips.
        folder: of ``GENTOK_DATA``, where files are read.
    """

    name: str
    buckets: tuple[int, ...]
    height: int
    width: int
    model: Stage
    pictures: int = 0
    folder: str = "videos"


@dataclass(frozen=True)
class Preference:
    """Video-DPO.

    Args:
        model: how it trains; ``beta``: of the loss.
        pairs: of the model's own clips that a procedural judge ranks, sampled in ``num_steps``
            steps; 0 where people have ranked pairs of files.
        frames, height, width: of the files that are read.
    """

    model: Stage
    beta: float
    pairs: int = 0
    num_steps: int = 0
    frames: tuple[int, ...] = ()
    height: int = 0
    width: int = 0


@dataclass(frozen=True)
class Distillation:
    """Turbo.

    Args:
        model: how it trains.
        size: the transformer's, with the sampler of few steps.
        pairs: of noise and sample that it learns from; the pre-trained sampler draws them.
        num_steps: of that sampler; the configuration's if None.
    """

    model: Stage
    size: StepVideoConfig
    pairs: int
    num_steps: int | None = None


@dataclass(frozen=True)
class Plan:
    """What decides a training.

    Args:
        data: ``"world"`` (its moving shapes); ``"blobs"`` or ``"blocks"``, clips that are latents
            as they are; ``"folder"``: clips under ``GENTOK_DATA``.
        clips: how many the world draws, of which ``shapes``.
        size: of the transformer.
        tokenizers, pretraining: the stages of each, in order; no tokenizers for latents.
        sft, preference, turbo: what follows; None for none.
    """

    data: str
    clips: int
    shapes: tuple[str, ...]
    size: StepVideoConfig
    tokenizers: tuple[Tokenizing, ...]
    pretraining: tuple[Pretraining, ...]
    sft: Pretraining | None
    preference: Preference | None
    turbo: Distillation | None

    @property
    def tokenizer(self) -> Stage:
        """How the Video-VAE is trained in its last stage."""
        return self.tokenizers[-1].model

    @property
    def stages(self) -> tuple[str, ...]:
        """Those of `STAGES` that this plan has, in order."""
        files = self.data == "folder"
        has = {
            "tokenizer": bool(self.tokenizers),
            "sft": self.sft is not None,
            "dpo": self.preference is not None,
            "pairs": self.turbo is not None and files,  # the world's Turbo draws its own
            "turbo": self.turbo is not None,
        }
        return tuple(name for name in STAGES if has.get(name, True))
