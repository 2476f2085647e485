"""How the three networks are trained, preset by preset."""

from dataclasses import dataclass, replace

from gentok.base import vqgan
from gentok.base.vqgan import VQGANConfig
from gentok.tokens.sg2im.model import PRESETS, SG2ImConfig
from gentok.tokens.sg2im.schedule import OneCycle
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile

SCENES = 40_000  # pictures of the chapter's set
SIDE = 256  # pixels of the published pictures
# The authors' code: peak rate of the first stage; eight positions there for Visual Genome, 32 in
# the joint stage, so that its checkpoint does not fit: 32 here.
PUBLISHED = {"coco": 2e-5, "visual-genome": 3e-4, "clevr": 3e-4}
JOINT_LAYOUT = 1e-4 / 3e-4  # rate of the layout over the image's, in the joint stage

# 32 x 32 pixels in 8 x 8 codes. No adversary and no perceptual term: flat shapes need neither.
TOKENIZER = replace(vqgan.PRESETS["tiny"], codebook_size=100, dead_threshold=0.3)


@dataclass(frozen=True)
class Plan:
    """What decides a training.

    Args:
        data: ``"scenes"`` (procedural), ``"coco"``, ``"visual-genome"`` or ``"clevr"``.
        scenes: how many are drawn.
        size: of both transformers; ``tokenizer_size``: of the tokenizer.
        tokenizer, layout, image: how each is trained, one after the other. The last stage trains
            both transformers where the image's learns behind predicted layouts.
    """

    data: str
    scenes: int
    size: SG2ImConfig
    tokenizer_size: VQGANConfig
    tokenizer: Stage
    layout: Stage
    image: Stage


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    if preset in PUBLISHED:
        return _published(preset, size, profile)
    tokenizer = Stage(
        steps=profile.pick(smoke=4, cpu=600, long=1600, gpu=20_000),
        batch_size=profile.pick(smoke=8, cpu=16),
        lr=3e-3,
        betas=(0.9, 0.99),
        warmup=profile.pick(smoke=1, cpu=20),
        schedule="cosine",
        clip=1.0,
    )
    layout = Stage(
        steps=profile.pick(smoke=4, cpu=1000, long=2500),
        batch_size=profile.pick(smoke=8, cpu=64),
        lr=3e-3,
        warmup=profile.pick(smoke=1, cpu=50),
        schedule="cosine",
        clip=1.0,
    )
    image = Stage(
        steps=profile.pick(smoke=4, cpu=600, long=7000, gpu=40_000),
        batch_size=profile.pick(smoke=8, cpu=32, gpu=128),
        lr=2e-3,
        betas=(0.9, 0.95),
        weight_decay=1e-4,
        spare=(),
        warmup=profile.pick(smoke=1, cpu=50),
        schedule="cosine",
        clip=1.0,
        ema=0.99,
    )
    scenes = profile.pick(smoke=64, cpu=SCENES)
    return Plan("scenes", scenes, size, TOKENIZER, tokenizer, layout, image)


def _published(preset: str, size: SG2ImConfig, profile: Profile) -> Plan:
    """The authors' code: Adam, one cycle of the rate, gradients clipped at 1.

    Its 300 epochs are taken for 60,000 steps of 128. Beta1, which the cycle moves there, stays. In
    the joint stage the layout's constant rate follows the image's cycle here, and the layout is
    clipped as well. How long that stage and the tokenizer's training take is not known.
    """
    steps = profile.pick(smoke=4, cpu=1000, gpu=60_000)
    rows = profile.pick(smoke=8, cpu=16, gpu=128)
    cycle = OneCycle(steps)
    tokenizer = Stage(steps=steps, batch_size=rows, lr=1e-4, betas=(0.5, 0.9), clip=None)
    layout = Stage(steps=steps, batch_size=rows, lr=PUBLISHED[preset], schedule=cycle, clip=1.0)
    image = Stage(
        steps=steps,
        batch_size=rows,
        lr=3e-4,
        betas=(0.9, 0.95),
        weight_decay=1e-4,
        spare=(),
        schedule=cycle,
        clip=1.0,
    )
    kept = replace(vqgan.PRESETS["vqgan-f16-1024"], codebook_size=8192, published_params=73_976_707)
    return Plan(preset, 0, size, kept, tokenizer, layout, image)
