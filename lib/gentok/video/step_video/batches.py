"""From clips and captions to the batches that a text-to-video model learns from.

Shapes: n clips, B batch, T frames, t latent frames.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gentok.data.imageset import batches, generator, to_float
from gentok.video.step_video.text_encoders import Text
from gentok.video.step_video.vae import VideoVAE

Batches = Callable[[int], dict[str, Tensor]]


def video_batches(video: Tensor, batch_size: int, seed: int = 0, pictures: int = 0) -> Batches:
    """Shuffled batches for a tokenizer: ``{"video": (B, T, 3, H, W) in [-1, 1]}``.

    Args:
        video: (n, T, 3, H, W), uint8.
        batch_size: clips of a batch.
        pictures: if above 0, every other batch, from the first, holds this many single frames
            instead. A causal tokenizer takes them as they are; a batch of them shows more scenes
            for the same work than one of clips.
    """
    clips = batches({"video": video}, batch_size, seed)
    singles = batches({"video": video}, pictures, seed + 1) if pictures else None

    def batch(step: int) -> dict[str, Tensor]:
        if singles is None or step % 2:
            return {"video": to_float(clips(step // 2 if singles else step)["video"])}
        chosen = singles(step // 2)["video"]
        frame = torch.randint(chosen.shape[1], (len(chosen),), generator=generator(seed, step, 4))
        return {"video": to_float(chosen[torch.arange(len(chosen)), frame][:, None])}

    return batch


@torch.no_grad()
def encode_clips(tokenizer: VideoVAE, video: Tensor, batch_size: int = 32) -> Tensor:
    """Latent means of clips (n, T, 3, H, W), uint8 -> (n, t, z, h, w) on the CPU."""
    device = next(tokenizer.parameters()).device
    parts = video.split(batch_size)
    return torch.cat([tokenizer.encode(to_float(part).to(device)).cpu() for part in parts])


def drop_prompts(
    batch: dict[str, Tensor],
    empty: Text,
    step: int,
    seed: int = 0,
    share: float = 0.1,
    part: tuple[int, int] = (0, 1),
) -> dict[str, Tensor]:
    """Replace some prompts of a batch by the empty one, so that guidance has a branch without.

    Args:
        batch: with keys ``clip``, ``llm``, ``mask``, (B, ...).
        empty: the encoded ``""``, one row, padded to the batch's length.
        step, seed: decide which; ``share`` of the prompts on average (not stated; ours).
        part: (i, n) if the rows are the i-th of n equal parts of a step's batch.
    """
    n, (index, count) = len(batch["clip"]), part
    dropped = torch.rand(n * count, generator=generator(seed, step, 3))[index * n :][:n] < share
    dropped = dropped.to(batch["clip"].device)
    out = dict(batch)
    for name, blank in empty.batch().items():
        where = dropped.view(-1, *[1] * (blank.ndim - 1))
        out[name] = torch.where(where, blank.to(batch[name].device), batch[name])
    return out


def latent_batches(
    latents: Tensor,
    text: Text,
    empty: Text,
    batch_size: int,
    seed: int = 0,
    buckets: Sequence[int] = (),
) -> Batches:
    """Batches of latents with prompts.

    Args:
        latents: (n, t, z, h, w); ``text``: their n prompts; ``empty``: see :func:`drop_prompts`.
        buckets: numbers of latent frames that the steps take in turn; all of them if empty. The
            tokenizer is causal, so the first latents of a clip are those of a shorter one, and
            the first alone is that of a picture.
    """
    order = batches({"latent": latents, **text.batch()}, batch_size, seed)

    def batch(step: int) -> dict[str, Tensor]:
        out = drop_prompts(order(step), empty, step, seed)
        if buckets:
            out["latent"] = out["latent"][:, : buckets[step % len(buckets)]]
        return out

    return batch
