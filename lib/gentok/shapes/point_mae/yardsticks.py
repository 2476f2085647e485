"""Numbers that a Point-MAE is held against: fixed masks, the constant patch, what centres leak.

Shapes: N clouds, B batch, P points, G patches, V visible and M masked ones, k points of a patch,
D channels; coordinates (x, y, z). Distances are squared, in the unit of the coordinates.
"""

import torch
from torch import Tensor, nn

from gentok.measure import chamfer_distance
from gentok.nn.points import take_points
from gentok.shapes.point_mae.masking import split

ROWS = 120  # clouds passed at a time


@torch.no_grad()
def masked_chamfer(model: nn.Module, points: Tensor, mask: Tensor) -> Tensor:
    """Chamfer distance of every masked patch, under masks that are given.

    Args:
        model: a `PointMAE`; ``points``: clouds, (N, P, 3).
        mask: (N, G) bool, True where a patch is hidden, equally many in every row.

    Returns:
        (N, M), in the order of the patches.

    Raises:
        ValueError: if the rows of ``mask`` hide unequal numbers of patches.
    """
    found = []
    for clouds, hidden in zip(points.split(ROWS), mask.split(ROWS), strict=True):
        patches = model.encoder.group(clouds)
        places = split(hidden, int(hidden[0].sum()))
        predicted, _ = model.predict(patches, places)  # (B, M, k, 3)
        target = take_points(patches.points.flatten(2), places.masked).view_as(predicted)
        error = chamfer_distance(predicted.flatten(0, 1), target.flatten(0, 1))
        found.append(error.view(len(clouds), -1))
    return torch.cat(found)


def constant_patch(patches: Tensor, steps: int = 300, seed: int = 0) -> Tensor:
    """The one patch (k, 3) with the smallest mean Chamfer distance to all of ``patches``.

    Whoever predicts it everywhere knows nothing of the shape at hand: what a network must beat.

    Args:
        patches: points relative to their centres, (N, k, 3).
        steps: of Adam, each on 256 random patches; ``seed``: of its start and of the choice.
    """
    rng = torch.Generator().manual_seed(seed)
    best = 0.2 * torch.randn(patches.shape[1:], generator=rng)
    best.requires_grad_()
    optimizer = torch.optim.Adam([best], lr=0.02)
    for _ in range(steps):
        chosen = patches[torch.randint(len(patches), (256,), generator=rng)]
        loss = chamfer_distance(best.expand_as(chosen), chosen).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return best.detach()


@torch.no_grad()
def leak(model: nn.Module, points: Tensor, mask: Tensor) -> float:
    """How well the mean of the masked centres can be read off the *visible* tokens, R^2.

    A ridge regression learns on the first half of the clouds, from the mean of the visible tokens
    that leave the encoder, and is scored on the second. The visible places alone give some of it
    away; what an encoder adds that has never seen the masked centres can only be a guess.

    Args:
        model: a `PointMAE`; ``points``: clouds, (N, P, 3); ``mask``: (N, G) bool.

    Returns:
        R^2, at most 1; 0 is the mean over all clouds.
    """
    tokens, targets = [], []
    for clouds, hidden in zip(points.split(ROWS), mask.split(ROWS), strict=True):
        patches = model.encoder.group(clouds)
        places = split(hidden, int(hidden[0].sum()))
        _, z = model.predict(patches, places)
        tokens.append(z[:, : places.visible.shape[1]].mean(1))  # (B, D)
        targets.append(take_points(patches.centres, places.masked).mean(1))  # (B, 3)
    return ridge_r2(torch.cat(tokens), torch.cat(targets))


def ridge_r2(x: Tensor, y: Tensor, penalty: float = 1.0) -> float:
    """R^2 on the second half of the rows of a ridge regression fitted on the first half.

    Args:
        x: (N, D); brought to mean 0 and spread 1 by its first half. ``y``: (N, C).
        penalty: weight of the squared coefficients, beside the sum of squared errors.
    """
    x, y, half = x.double(), y.double(), len(x) // 2
    mean, scale = x[:half].mean(0), x[:half].std(0) + 1e-9
    x = (x - mean) / scale
    middle = y[:half].mean(0)
    gram = x[:half].T @ x[:half] + penalty * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, x[:half].T @ (y[:half] - middle))  # (D, C)
    rest = y[half:] - middle - x[half:] @ weight
    return float(1 - rest.square().sum() / (y[half:] - middle).square().sum())
