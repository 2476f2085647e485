"""Accountable textual-visual chat: re-create a picture as told, or refuse and say why."""

from gentok.tokens.atvc.dvae import DVAE, DVAES, DVAEConfig, build_dvae
from gentok.tokens.atvc.figures import draw_exchange
from gentok.tokens.atvc.model import PRESETS, build, example
from gentok.tokens.atvc.orders import (
    ANSWERS,
    CANNOT,
    FORBIDDEN,
    KINDS,
    TEMPLATES,
    TYPE_NAMES,
    WORDS,
    YES,
    Orders,
    draw_orders,
    twins,
)
from gentok.tokens.atvc.pipeline import ChatPipeline, Reply
from gentok.tokens.atvc.readout import (
    bounds,
    decode_kinds,
    measure,
    measure_answers,
    measure_edits,
    measure_pairs,
    replies,
    swapped,
    table_of,
)
from gentok.tokens.atvc.scenes import paint, read_kinds, tiles
from gentok.tokens.atvc.stream import ANSWER_FIRST, PARTS, ChatStream, StreamConfig

__all__ = [
    "ANSWERS",
    "ANSWER_FIRST",
    "CANNOT",
    "DVAE",
    "DVAES",
    "FORBIDDEN",
    "KINDS",
    "PARTS",
    "PRESETS",
    "TEMPLATES",
    "TYPE_NAMES",
    "WORDS",
    "YES",
    "ChatPipeline",
    "ChatStream",
    "DVAEConfig",
    "Orders",
    "Reply",
    "StreamConfig",
    "bounds",
    "build",
    "build_dvae",
    "decode_kinds",
    "draw_exchange",
    "draw_orders",
    "example",
    "measure",
    "measure_answers",
    "measure_edits",
    "measure_pairs",
    "paint",
    "read_kinds",
    "replies",
    "swapped",
    "table_of",
    "tiles",
    "twins",
]
