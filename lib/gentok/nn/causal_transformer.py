"""The causal transformer under the book's token generators: pre-norm blocks and a key-value cache.

Which place sees which is one rule: the places are cut into blocks, and a place sees its own block
and all blocks before it. Blocks of one place are the usual causal order (Radford et al. 2019); one
long first block is a prefix that reads itself in both directions; a block for each scale is
next-scale prediction (Tian et al. 2024, VAR).

Shapes: B batch, N new places, M all places so far, D channels, h heads, d = D / h.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.causal import KVCache
from gentok.nn.gpt_block import Attend, FixedKVCache, GptBlock, GptConfig, init_gpt, make_norm
from gentok.nn.position import sincos_1d
from gentok.nn.rope import Rope


class CausalTransformer(nn.Module):
    """Embedded places in, normalised hidden states out; positions, blocks, masks and cache between.

    Args:
        config: sizes; those of vocabulary and output are not used here.
        blocks: sizes of the visibility blocks, their sum is the length; None: one place each.
        attend: takes the place of the fused attention kernel in every layer, for chapters that
            study attention itself; it always gets an explicit mask, and no dropout.

    Raises:
        ValueError: if ``blocks`` do not add up to the length.
    """

    def __init__(
        self,
        config: GptConfig,
        blocks: Sequence[int] | None = None,
        attend: Attend | None = None,
    ):
        super().__init__()
        sizes = tuple(blocks or (1,) * config.length)
        if sum(sizes) != config.length or min(sizes) < 1:
            raise ValueError(f"blocks must add up to length={config.length}, got {sizes}")
        self.config, self.causal, self.attend = config, max(sizes) == 1, attend
        ends = zip(sizes, accumulate(sizes), strict=True)
        self.ends = [end for size, end in ends for _ in range(size)]  # of each place's block
        visible = torch.arange(config.length) < torch.tensor(self.ends)[:, None]  # (M, M)
        self.register_buffer("visible", visible, persistent=False)
        self.register_buffer("turn", None, persistent=False)
        self.add_positions(config)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(GptBlock(config, attend) for _ in range(config.num_layers))
        self.norm = make_norm(config)
        self.apply(init_gpt)

    def add_positions(self, config: GptConfig) -> None:
        """Tables of positions: (M, D) to add, or (M, d/2, 2) to turn by."""
        places = torch.arange(config.length)
        if config.positions == "learned":
            self.position = nn.Parameter(torch.zeros(config.length, config.dim))  # as minGPT
        elif config.positions == "sincos":
            table = sincos_1d(places, config.dim)
            self.register_buffer("position", table, persistent=False)
        elif config.positions == "rotary":
            angles = Rope((config.head_dim,)).angles(places[:, None]).float()
            self.turn = torch.stack([angles.cos(), angles.sin()], dim=-1)

    def new_cache(self) -> list[FixedKVCache]:
        """An empty cache for each layer."""
        return [FixedKVCache(self.config.length) for _ in self.blocks]

    def forward(
        self, x: Tensor, cache: list[KVCache] | None = None, keys: Tensor | None = None
    ) -> Tensor:
        """Run the new places.

        Args:
            x: their embeddings without position, (B, N, D).
            cache: of all layers; the places before x are in it.
            keys: (B, any), False at places that nobody else may read (padding), from the first
                place on; places beyond its end may be read.

        Returns:
            (B, N, D), after the last norm.

        Raises:
            ValueError: if the places do not fit, or end inside a visibility block.
        """
        start = len(cache[0]) if cache else 0
        stop = start + x.shape[1]
        if stop > self.config.length:
            raise ValueError(f"x must fit into {self.config.length} places, got {stop}")
        if self.ends[stop - 1] != stop:
            raise ValueError(
                f"x must end where a block ends, at {self.ends[stop - 1]} places, got {stop}"
            )
        visible, causal = self.visibility(start, stop, keys)
        turn = None if self.turn is None else self.turn[start:stop]
        if self.config.positions in ("learned", "sincos"):
            x = x + self.position[start:stop]
        x = self.drop(x)
        for block, layer_cache in zip(self.blocks, cache or [None] * len(self.blocks), strict=True):
            x = block(x, visible, causal, turn, layer_cache)
        return self.norm(x)

    def visibility(
        self, start: int, stop: int, keys: Tensor | None = None
    ) -> tuple[Tensor | None, bool]:
        """The mask of places [start, stop), or None with whether that stands for causal order."""
        if keys is None and self.attend is None:
            if self.ends[start] == stop:
                return None, False  # all new places are in the last block: they see everything
            if self.causal and start == 0:
                return None, True
        visible = self.visible[start:stop, :stop]
        if keys is not None:
            readable = F.pad(keys, (0, max(0, stop - keys.shape[1])), value=True)[:, :stop]
            visible = visible & readable[:, None, None, :]  # (B, 1, N, M)
            # Each place reads itself, so that no softmax is over nothing.
            visible = visible | torch.eye(stop, dtype=torch.bool, device=keys.device)[start:]
        return visible, False
