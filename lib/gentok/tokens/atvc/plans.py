"""How the two stages are trained, preset by preset."""

from dataclasses import dataclass, replace

from gentok.tokens.atvc.dvae import DVAES, DVAEConfig
from gentok.tokens.atvc.model import PRESETS
from gentok.tokens.atvc.orders import COLOUR, REMOVE, UNDER
from gentok.tokens.atvc.stream import StreamConfig
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile

# Kinds of orders and numbers of colours that the small presets learn. All three answers need UNDER.
LEARNED = {
    "tiny": {"templates": (COLOUR, REMOVE), "colours": 2},
    "orders-24": {"templates": (COLOUR, UNDER, REMOVE), "colours": 3},
}
PUBLISHED = {"clevr-atvc": "dvae-128", "fruit-atvc": "dvae-256"}


@dataclass(frozen=True)
class Plan:
    """What decides a training.

    Args:
        data: ``"orders"`` (procedural), ``"clevr-atvc"`` or ``"fruit-atvc"``.
        orders: how many are drawn; ``templates``: of which kind; ``colours``: of their objects.
        tokenizer_size, size: of the discrete VAE and of the transformer.
        tokenizer, stream: how each is trained, one after the other.
    """

    data: str
    orders: int
    templates: tuple[int, ...]
    colours: int
    tokenizer_size: DVAEConfig
    size: StreamConfig
    tokenizer: Stage
    stream: Stage


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset in PUBLISHED:
        return _published(preset, size, profile)
    steps = profile.pick(smoke=4, cpu=1000, long=2000, gpu=4000)
    tokenizer = Stage(
        steps=steps,
        batch_size=profile.pick(smoke=8, cpu=16),
        lr=3e-3,
        betas=(0.9, 0.99),
        warmup=profile.pick(smoke=1, cpu=20),
        schedule="cosine",
        clip=1.0,
    )
    stream = Stage(
        steps=profile.pick(smoke=4, cpu=700, long=3500, gpu=20_000),
        batch_size=profile.pick(smoke=8, cpu=32, gpu=128),
        lr=3e-3,
        betas=(0.9, 0.95),
        warmup=profile.pick(smoke=1, cpu=50),
        schedule="cosine",
        clip=0.5,
    )
    return Plan(
        "orders",
        profile.pick(smoke=64, cpu=24_000, long=100_000),
        LEARNED[preset]["templates"],
        LEARNED[preset]["colours"],
        # The choice is sharp from two thirds of the run on, as its codes will be.
        replace(DVAES["tiny"], anneal=max(1, 2 * steps // 3)),
        size,
        tokenizer,
        stream,
    )


def _published(preset: str, size: StreamConfig, profile: Profile) -> Plan:
    """The base's defaults: Adam, batches of 8 and 4, rates of 1e-3 and 3e-4, clipping at .5.

    The authors' schedule, batch and hardware are not known. Twenty epochs of CLEVR-ATVC would be
    3.1 million steps of 4; the transformer gets 60,000 of 128 here. Of the base's rate of the
    first stage, 0.98 for each hundred steps from the start of every epoch, the constant is kept.
    """
    rows = profile.pick(smoke=2, cpu=4, gpu=128)
    steps = profile.pick(smoke=2, cpu=1000, gpu=60_000)
    tokenizer = Stage(steps=steps, batch_size=profile.pick(smoke=2, cpu=8), lr=1e-3, clip=None)
    stream = Stage(steps=steps, batch_size=rows, lr=3e-4, clip=0.5)
    return Plan(preset, 0, (), 0, DVAES[PUBLISHED[preset]], size, tokenizer, stream)
