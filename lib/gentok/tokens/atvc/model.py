"""Accountable textual-visual chat: presets of the transformer, and what they are built by."""

import torch
from torch import Tensor

from gentok.tokens.atvc.stream import ChatStream, StreamConfig

# Four layers: names are put together, found in the picture, counted, and answered. An edit is
# learned long before an answer, whose share of the loss is larger for that.
_SMALL = StreamConfig(
    codebook_size=32, grid=3, dim=64, num_layers=4, num_heads=2, table_std=0.1, image_weight=0.25
)
CLIP_WORDS = 49_408  # ids of CLIP's byte pairs, which the base reads texts by

PRESETS: dict[str, StreamConfig] = {
    # Two templates, two colours: the chapter's live training and its study.
    "tiny": _SMALL,
    # Three of each, with all three answers: the book's weights.
    "orders-24": _SMALL,
    # 32 x 32 codes of 8,192, words as in the base. Depth and width of the paper are not known:
    # these are the base's demonstration, with eight heads of 64 channels.
    "clevr-atvc": StreamConfig(8192, 32, CLIP_WORDS, 256, 256),
    "fruit-atvc": StreamConfig(8192, 32, CLIP_WORDS, 256, 256),
}


def build(config: StreamConfig) -> ChatStream:
    """The transformer of a configuration, untrained."""
    return ChatStream(config)


def example(config: StreamConfig, batch_size: int = 1, device: str = "meta") -> dict[str, Tensor]:
    """A batch of the right shapes that ``loss`` takes."""
    sizes = config.sizes
    batch = {
        name: torch.ones(batch_size, sizes[name], dtype=torch.int64, device=device)
        for name in config.parts
    }
    return batch | {"obeyed": torch.ones(batch_size, dtype=torch.bool, device=device)}
