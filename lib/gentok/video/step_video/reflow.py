"""The pairs that Turbo learns from: noise, and the clip that the model's own sampler made of it.

The report speaks of about 95,000. Drawing one takes as many evaluations of the whole transformer as
the sampler has steps, so at the published size they are drawn once, by as many processes as there
are, and kept as files: the sample in half precision, the prompt, and the seed that makes the noise
again.

Shapes: B pairs; T C h w of latents.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gentok.data.imageset import generator
from gentok.data.read_ahead import ReadAhead
from gentok.training.checkpoint import load_checkpoint, save
from gentok.video.step_video.model import StepVideo, dress


def pair_noise(seed: int, index: int, shape: Sequence[int]) -> Tensor:
    """The noise of a pair, (T, C, h, w)."""
    return torch.randn(*shape, generator=generator(seed, index, 5))


@torch.no_grad()
def draw_pairs(
    model: StepVideo,
    encoder: Callable,
    captions: Sequence[str],
    folder: Path,
    seed: int,
    num_steps: int | None = None,
) -> None:
    """Draw the pairs that are not there yet, each process of several its share.

    Args:
        model: in the state whose samples are to be learned; ``encoder``: of its prompts.
        captions: one a pair; ``folder``: where the files go.
        num_steps: of the sampler; the configuration's if None.
    """
    device, shape = model.latent_mean.device, model.config.latent_shape
    rank, processes = (int(os.environ.get(k, d)) for k, d in (("RANK", 0), ("WORLD_SIZE", 1)))
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(rank, len(captions), processes):
        path = folder / f"{index:06}.safetensors"
        if path.is_file():
            continue
        positive, negative = dress(model.config, [captions[index]])
        noise = pair_noise(seed, index, shape)[None].to(device)
        texts = encoder(positive), encoder(negative)
        sample = model.sample(1, *texts, noise=noise, num_steps=num_steps)[0]
        save(path, {"sample": sample.half()}, {"prompt": positive[0], "seed": seed, "index": index})


class PairFiles(Dataset):
    """The files of :func:`draw_pairs`: noise and sample, (T, C, h, w) each, and the prompt.

    Raises:
        FileNotFoundError: if there are none.
    """

    def __init__(self, folder: Path):
        self.files = sorted(folder.glob("*.safetensors"))
        if not self.files:
            raise FileNotFoundError(f"no pairs in {folder}: the stage `pairs` draws them")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor, str]:
        """The pair at a position."""
        tensors, meta = load_checkpoint(self.files[position])
        if missing := {"prompt", "seed", "index"} - meta.keys() or {"sample"} - tensors.keys():
            raise ValueError(f"{self.files[position]} is no pair: it has no {min(missing)}")
        sample = tensors["sample"].float()
        return pair_noise(meta["seed"], meta["index"], sample.shape), sample, meta["prompt"]


def pair_batches(folder: Path, batch_size: int, seed: int) -> ReadAhead:
    """Batches of the pairs of a folder: noise, sample (B, T, C, h, w) and B prompts."""
    pairs = PairFiles(folder)

    def keys(step: int) -> list[int]:
        drawn = torch.randint(len(pairs), (batch_size,), generator=generator(seed, step))
        return drawn.tolist()

    return ReadAhead(pairs, keys, _together)


def _together(items: list[tuple[Tensor, Tensor, str]]) -> tuple[Tensor, Tensor, list[str]]:
    noise, sample, prompts = zip(*items, strict=True)
    return torch.stack(noise), torch.stack(sample), list(prompts)
