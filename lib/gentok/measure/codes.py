"""How a codebook is used."""

import torch
from torch import Tensor


def code_usage(codes: Tensor, codebook_size: int) -> dict[str, float]:
    """How many codes are in use, and how evenly.

    Args:
        codes: indices in [0, K), int64, any shape.
        codebook_size: K.

    Returns:
        ``perplexity``: exp of the entropy of the code frequencies, 1 to K: the number of equally
        frequent codes that would carry as much. ``entropy_bits``: that entropy, bits a token.
        ``used``: codes that occur. ``used_fraction``: used / K.

    Raises:
        ValueError: if there are no codes, or one lies outside [0, K).
    """
    codes = codes.flatten()
    if codes.numel() == 0 or codes.is_floating_point():
        raise ValueError(f"codes must be integers, at least one, got {codes.numel()} {codes.dtype}")
    if codes.min() < 0 or codes.max() >= codebook_size:
        raise ValueError(
            f"codes must lie in [0, {codebook_size}), got {int(codes.min())} to {int(codes.max())}"
        )
    counts = torch.bincount(codes, minlength=codebook_size).double()  # (K,)
    entropy = torch.special.entr(counts / counts.sum()).sum()  # nats
    used = int((counts > 0).sum())
    return {
        "perplexity": float(entropy.exp()),
        "entropy_bits": float(entropy / torch.log(torch.tensor(2.0, dtype=torch.float64))),
        "used": used,
        "used_fraction": used / codebook_size,
    }
