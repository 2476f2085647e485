"""Sizes of a MicroDiT, and how its blocks grow with depth.

Layer-wise scaling: early blocks are narrow, late ones wide. The ratios of attention width and of
feed-forward width to D rise linearly with depth; widths are rounded up to whole heads and to
multiples that a GPU likes. Every second block has a mixture of experts for a feed-forward layer.
"""

from dataclasses import dataclass

from gentok.diffusion.micro_diffusion.layers import round_up

MASKINGS = ("deferred", "naive")
ROUTERS = ("expert-choice", "token-choice")
CAPTION_RATIO = 4.0  # feed-forward width of the block over the caption, in D


@dataclass(frozen=True)
class BlockSize:
    """What one block has of its own.

    Args:
        attention: width of self-attention, all heads together.
        hidden: width of the feed-forward layer, or of each expert.
        experts: whether it is a mixture.
    """

    attention: int
    hidden: int
    experts: bool


@dataclass(frozen=True)
class MicroDiTConfig:
    """Sizes, objective and masking; the defaults are MicroDiT_XL_2 at 256 pixels.

    Args:
        in_channels: C of the latents; ``input_size``: h = w, a multiple of ``patch_size`` p.
        dim, depth, head_dim: D, blocks and width of a head of the backbone.
        mixer_dim, mixer_depth: of the patch mixer; its blocks are all of one size.
        attention_ratios, feed_ratios: of the first and the last block.
        multiple_of: what feed-forward widths are rounded up to.
        num_experts: E in every second block; 0 leaves all blocks dense.
        capacity: experts that a token meets on average.
        router: ``"expert-choice"``, or ``"token-choice"`` for the rival.
        caption_dim, caption_length: of the text encoder's states.
        caption_drop: probability of training a sample without its caption.
        position_scale: divides positions; 2 at twice the resolution of the first training.
        masking: ``"deferred"``: tokens are dropped behind the mixer; ``"naive"``: before it.
        mask_ratio: share of tokens dropped in training, until step ``unmasked_from`` (None: to the
            end). Nothing is dropped in eval mode.
        sigma_data, sigma_mean, sigma_std: of EDM: standard deviation of what the network sees as
            data, and mean and standard deviation of ln sigma in training.
        latent_scale: fixed factor of a published tokenizer's latents (0.13025: SDXL's); None for
            tokenizers whose statistics are measured.
        text: name or folder of the text encoder; ``"words"`` is the offline one. The public code
            also takes T5-XXL (4096 channels, 120 places), with which nothing was published.
        published_params: as counted from the public code.

    Raises:
        ValueError: if sizes do not divide, or a name is unknown.
    """

    in_channels: int = 4
    input_size: int = 32
    patch_size: int = 2
    dim: int = 1024
    depth: int = 28
    head_dim: int = 64
    mixer_dim: int = 768
    mixer_depth: int = 6
    mixer_feed_ratio: float = 4.0
    attention_ratios: tuple[float, float] = (0.5, 1.0)
    feed_ratios: tuple[float, float] = (0.5, 4.0)
    multiple_of: int = 256
    num_experts: int = 8
    capacity: float = 2.0
    router: str = "expert-choice"
    caption_dim: int = 1024
    caption_length: int = 77
    caption_drop: float = 0.1
    position_scale: float = 1.0
    masking: str = "deferred"
    mask_ratio: float = 0.75
    unmasked_from: int | None = None
    sigma_data: float = 0.9
    sigma_mean: float = -0.6
    sigma_std: float = 1.2
    latent_scale: float | None = 0.13025
    text: str = "apple/DFN5B-CLIP-ViT-H-14-378"
    published_params: int | None = None

    def __post_init__(self):
        if self.masking not in MASKINGS:
            raise ValueError(f"unknown masking {self.masking!r}; accepted: {MASKINGS}")
        if self.router not in ROUTERS:
            raise ValueError(f"unknown router {self.router!r}; accepted: {ROUTERS}")
        if self.input_size % self.patch_size:
            raise ValueError(
                f"patch_size must divide input_size, got {self.patch_size} and {self.input_size}"
            )
        if self.dim % self.head_dim or self.mixer_dim % self.head_dim:
            raise ValueError(
                f"head_dim must divide dim and mixer_dim, got {self.head_dim}, {self.dim} "
                f"and {self.mixer_dim}"
            )
        if min(self.depth, self.mixer_depth) < 1:
            raise ValueError(
                f"depth and mixer_depth must be at least 1, got {self.depth}, {self.mixer_depth}"
            )
        if not 0 <= self.mask_ratio < 1 or not 0 <= self.caption_drop <= 1:
            raise ValueError(
                "mask_ratio must lie in [0, 1) and caption_drop in [0, 1], "
                f"got {self.mask_ratio} and {self.caption_drop}"
            )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        return (self.in_channels, self.input_size, self.input_size)

    @property
    def grid(self) -> int:
        """Tokens along one side."""
        return self.input_size // self.patch_size

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.grid**2

    @property
    def patch_values(self) -> int:
        """Numbers of a patch, p p C."""
        return self.patch_size**2 * self.in_channels

    @property
    def caption_hidden(self) -> int:
        """Feed-forward width of the block over the caption."""
        return self.dense_hidden(int(self.dim * CAPTION_RATIO))

    def dense_hidden(self, width: int) -> int:
        """Width of a SwiGLU: two thirds, since it has three matrices; rounded up."""
        return round_up(2 * width // 3, self.multiple_of)

    def backbone(self) -> list[BlockSize]:
        """Sizes of the backbone's blocks; the last has no experts."""
        pairs = [
            (self._between(self.attention_ratios, i), self._between(self.feed_ratios, i))
            for i in range(self.depth)
        ]
        return [
            self._block(self.dim, attention, feed, i % 2 == 1 and i < self.depth - 1)
            for i, (attention, feed) in enumerate(pairs)
        ]

    def mixer(self) -> list[BlockSize]:
        """Sizes of the patch mixer's blocks."""
        return [
            self._block(self.mixer_dim, 1.0, self.mixer_feed_ratio, i % 2 == 1)
            for i in range(self.mixer_depth)
        ]

    def _between(self, ends: tuple[float, float], block: int) -> float:
        """The ratio of a block: evenly from the first block's to the last one's."""
        return ends[0] + (ends[1] - ends[0]) * block / max(1, self.depth - 1)

    def _block(self, dim: int, attention: float, feed: float, experts: bool) -> BlockSize:
        heads = 2 * self.head_dim  # an even number of heads
        width = dim if attention == 1 else round_up(int(dim * attention), heads)
        experts = experts and self.num_experts > 0
        hidden = int(dim * feed)
        hidden = round_up(hidden, self.multiple_of) if experts else self.dense_hidden(hidden)
        return BlockSize(width, hidden, experts)
