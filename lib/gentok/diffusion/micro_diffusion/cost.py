"""What MicroDiT costs: parameters that a token meets, operations of a step, GPU-hours, dollars.

A multiplication and an addition count as two operations; matrix products alone are counted. The
backward pass counts as two forward ones, so a training step is three.

Shapes: T tokens, M of them kept, L places of a caption, D width, E experts, k tokens an expert.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gentok.diffusion.micro_diffusion.config import BlockSize, MicroDiTConfig
from gentok.diffusion.micro_diffusion.layers import TIME_FEATURES
from gentok.nn.token_masks import num_kept

TRAINING = 3  # a step over a forward pass


def block_flops(
    config: MicroDiTConfig, dim: int, size: BlockSize, tokens: int, one_hot: bool = False
) -> int:
    """Operations of one block on ``tokens`` tokens and a whole caption.

    Args:
        config: of the model; ``dim``: width of the block; ``size``: the block's own.
        tokens: that the block works on.
        one_hot: count the products with one-hot matrices by which the public code hands tokens to
            experts and back; here both are look-ups, which cost no product.
    """
    places, width = config.caption_length, size.attention
    modulation = 2 * config.dim * 6 * dim
    own = 2 * tokens * dim * 3 * width + 4 * tokens**2 * width + 2 * tokens * width * dim
    caption = 4 * tokens * dim**2 + 4 * places * dim**2 + 4 * tokens * places * dim
    if not size.experts:
        return modulation + own + caption + 6 * tokens * dim * size.hidden
    taken = config.num_experts * int(config.capacity * tokens / config.num_experts)  # E k
    experts = 2 * tokens * dim * config.num_experts + 4 * taken * dim * size.hidden
    dispatch = 4 * taken * tokens * dim if one_hot else 0
    return modulation + own + caption + experts + dispatch


def forward_flops(
    config: MicroDiTConfig, mask_ratio: float = 0.0, one_hot: bool = False
) -> dict[str, int]:
    """Operations of the network for one picture, by part.

    Args:
        config: its ``masking`` says whether the mixer sees all tokens.
        mask_ratio: share of tokens dropped; sampling drops none.
        one_hot: see `block_flops`.

    Returns:
        ``ends`` (patches in and out), ``caption`` (and noise level), ``mixer``, ``backbone``.

    Raises:
        ValueError: if the ratio leaves no token.
    """
    all_tokens, kept = config.num_tokens, num_kept(config.num_tokens, mask_ratio)
    mixed = kept if config.masking == "naive" else all_tokens
    dim, places, narrow = config.dim, config.caption_length, config.mixer_dim
    first = 2 * all_tokens * config.patch_values * dim
    last = 2 * kept * dim * config.patch_values + 2 * dim * 2 * dim
    time = 2 * TIME_FEATURES * dim + 2 * dim**2
    block = 8 * places * dim**2 + 4 * places**2 * dim + 6 * places * dim * config.caption_hidden
    caption = 2 * places * config.caption_dim * dim + 2 * places * dim**2 + block + 4 * dim**2
    maps = 0 if narrow == dim else 2 * dim * narrow * (mixed + places + kept)
    mixer = sum(block_flops(config, narrow, size, mixed, one_hot) for size in config.mixer())
    backbone = sum(block_flops(config, dim, size, kept, one_hot) for size in config.backbone())
    return {
        "ends": first + last,
        "caption": time + caption,
        "mixer": maps + mixer,
        "backbone": backbone,
    }


def total_flops(config: MicroDiTConfig, mask_ratio: float = 0.0, one_hot: bool = False) -> int:
    """The sum of `forward_flops`: 246.3 billion for XL as published, 95.7 at three quarters."""
    return sum(forward_flops(config, mask_ratio, one_hot).values())


def saving(config: MicroDiTConfig, mask_ratio: float, one_hot: bool = False) -> float:
    """How many times fewer operations a masked pass takes: 2.57 for XL, not 4.

    The mixer and the caption's path see everything.
    """
    return total_flops(config, 0.0, one_hot) / total_flops(config, mask_ratio, one_hot)


def expert_parameters(config: MicroDiTConfig) -> int:
    """Parameters of all experts, routers left out."""
    pairs = [(config.mixer_dim, size) for size in config.mixer()]
    pairs += [(config.dim, size) for size in config.backbone()]
    each = (2 * dim * size.hidden for dim, size in pairs if size.experts)
    return config.num_experts * sum(each)


def active_parameters(config: MicroDiTConfig, total: int) -> int:
    """Parameters that an average token meets: it meets ``capacity`` of the experts.

    Args:
        config: the sizes; ``total``: all parameters of the model.
    """
    if config.num_experts == 0:
        return total
    idle = 1 - config.capacity / config.num_experts
    return total - round(expert_parameters(config) * idle)


@dataclass(frozen=True)
class Phase:
    """A part of a training in which every picture costs the same.

    Args:
        config: of the network in it; ``mask_ratio``: what its steps drop.
        steps: of ``batch_size`` pictures each.
    """

    config: MicroDiTConfig
    mask_ratio: float
    steps: int
    batch_size: int

    @property
    def flops(self) -> int:
        """Operations of the whole phase, one-hot products included where the code has them."""
        return TRAINING * total_flops(self.config, self.mask_ratio, True) * self.pictures

    @property
    def pictures(self) -> int:
        """Pictures seen."""
        return self.steps * self.batch_size


def training_flops(phases: Iterable[Phase]) -> int:
    """Operations of a training of several phases."""
    return sum(phase.flops for phase in phases)


@dataclass(frozen=True)
class Bill:
    """A training as its invoice says it.

    Args:
        days: of wall clock; ``gpus``: that were hired.
        dollars: for all of it.
    """

    days: float
    gpus: int
    dollars: float

    @property
    def gpu_hours(self) -> float:
        """Hours of one GPU."""
        return 24 * self.days * self.gpus

    @property
    def dollars_per_gpu_hour(self) -> float:
        """The price that the bill implies."""
        return self.dollars / self.gpu_hours

    def rate(self, flops: float) -> float:
        """Operations a second that each GPU managed, if the training took ``flops``."""
        return flops / (3600 * self.gpu_hours)

    def at_price(self, dollars_per_gpu_hour: float) -> "Bill":
        """The same training at another price."""
        return Bill(self.days, self.gpus, self.gpu_hours * dollars_per_gpu_hour)


def bill_of(flops: float, rate: float, gpus: int, dollars_per_gpu_hour: float) -> Bill:
    """What a training would cost.

    Args:
        flops: of the training; ``rate``: operations a second of one GPU in practice.
        gpus: that are hired; ``dollars_per_gpu_hour``: each.

    Raises:
        ValueError: if a number is not above 0.
    """
    given = {"flops": flops, "rate": rate, "gpus": gpus, "price": dollars_per_gpu_hour}
    if wrong := [name for name, value in given.items() if not value > 0]:
        raise ValueError(f"{wrong[0]} must be above 0, got {given[wrong[0]]}")
    hours = flops / rate / 3600
    return Bill(hours / 24 / gpus, gpus, hours * dollars_per_gpu_hour)


PUBLISHED = Bill(days=2.6, gpus=8, dollars=1890)  # eight H100; abstract
# Stated in the abstract: 118 times below Stable Diffusion, 14 times below the cheapest before it.
TIMES_CHEAPER = {"Stable Diffusion": 118, "the cheapest before": 14}
