"""How well a tokenizer or a generator of plain shapes does, as a fixed judge sees it.

The judge is the classifier of the world's shapes that comes with the library; it was trained on
harder pictures (textured floors, turned shapes) and knows nothing of the models that it judges.
"""

import torch
from torch import Tensor, nn

from gentok.data import plain_shapes
from gentok.measure import load_classifier, psnr

HELD_OUT = 99_991  # the seed of pictures that no training draws
ROWS = 100  # judged at a time


def reconstructions(tokenizer: nn.Module, n: int) -> dict[str, float]:
    """Encode and decode ``n`` held-out pictures.

    Returns:
        ``psnr`` (dB, mean over pictures), ``judge_accuracy`` on the reconstructions and
        ``judge_accuracy_on_data`` on the pictures themselves, both in [0, 1].
    """
    held_out = plain_shapes(n, seed=HELD_OUT)
    x, device = held_out.floats(), next(tokenizer.parameters()).device
    with torch.no_grad():
        parts = [tokenizer.decode(tokenizer.encode(part.to(device))) for part in x.split(ROWS)]
    y = torch.cat(parts).cpu().clamp(-1, 1)
    return {
        "psnr": float(psnr(x, y).mean()),
        "judge_accuracy": named(y, held_out.labels),
        "judge_accuracy_on_data": named(x, held_out.labels),
    }


def samples(system: nn.Module, n: int) -> dict[str, float]:
    """Draw ``n`` pictures, classes in turn, from a fixed seed.

    Args:
        system: has ``sample(n, label)``.

    Returns:
        ``judge_accuracy``: the share of pictures in which the judge sees the class asked for.
    """
    device = next(system.parameters()).device
    labels = torch.arange(n) % 10
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(HELD_OUT)
        drawn = [system.sample(len(part), part.to(device)).cpu() for part in labels.split(ROWS)]
    return {"judge_accuracy": named(torch.cat(drawn).clamp(-1, 1), labels)}


@torch.no_grad()
def named(images: Tensor, labels: Tensor) -> float:
    """Share of images (n, 3, H, W), in [-1, 1], that the judge calls by their labels (n,)."""
    judge = load_classifier("world")
    guesses = torch.cat([judge(part).argmax(1) for part in images.split(ROWS)])
    return float((guesses == labels).float().mean())
