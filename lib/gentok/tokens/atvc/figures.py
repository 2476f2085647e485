"""An exchange, drawn: the order above, both pictures, the answer below."""

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from torch import Tensor


def draw_exchange(
    axes: Sequence[Axes], before: Tensor, order: str, after: Tensor | None, answer: str
) -> None:
    """Fill two axes, one above the other.

    Args:
        axes: of the picture before, and of the one after or of the refusal.
        before, after: (3, S, S) in [-1, 1]; ``after`` None where the order was refused.
        order, answer: in words.
    """
    for ax, image in zip(axes, (before, after), strict=True):
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        if image is not None:
            ax.imshow(((image + 1) / 2).clamp(0, 1).permute(1, 2, 0))
        else:
            ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
            ax.plot([0.1, 0.9], [0.1, 0.9], color="#999999", lw=1)
            ax.plot([0.1, 0.9], [0.9, 0.1], color="#999999", lw=1)
    axes[0].set_title(textwrap.fill(order, 24), fontsize=7.5)
    axes[1].set_xlabel(textwrap.fill(answer, 24), fontsize=7.5)
