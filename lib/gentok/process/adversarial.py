"""Adversarial training of autoencoders (Esser et al. 2021, VQGAN, 3.1).

Hinge losses for the two players, and the weight that balances them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """1/2 [max(0, 1 - D(x)) + max(0, 1 + D(x_hat))], averaged over patch logits; scalar."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_hinge(fake: Tensor) -> Tensor:
    """-D(x_hat), averaged over patch logits; scalar."""
    return -fake.mean()


def adaptive_weight(
    reconstruction: Tensor, adversarial: Tensor, last_weight: Tensor, epsilon: float = 1e-4
) -> Tensor:
    """|grad L_rec| / (|grad L_adv| + eps) at the decoder's last weight, in [0, 1e4], detached.

    It keeps the adversarial gradient as large as the reconstruction's, however far D has come.
    """
    (rec,) = torch.autograd.grad(reconstruction, last_weight, retain_graph=True)
    (adv,) = torch.autograd.grad(adversarial, last_weight, retain_graph=True)
    return (rec.norm() / (adv.norm() + epsilon)).clamp(0, 1e4).detach()


def gradient_ratio(
    reconstruction: Tensor, other: Tensor, weight: Tensor, largest: float, epsilon: float = 1e-4
) -> Tensor:
    """|grad L_rec| / (|grad L_other| + eps) at a weight, in [0, largest], detached.

    As `adaptive_weight`, for losses in any unit. A published cap belongs to losses that are summed
    over the C H W values of an image; for means over them it is the published cap / (C H W).

    Args:
        reconstruction, other: losses, scalar; ``weight``: the parameter that both reach.
        largest: the cap.
        epsilon: keeps the ratio finite.
    """
    (rec,) = torch.autograd.grad(reconstruction, weight, retain_graph=True)
    (own,) = torch.autograd.grad(other, weight, retain_graph=True)
    return (rec.norm() / (own.norm() + epsilon)).clamp(0, largest).detach()
