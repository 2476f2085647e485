"""How the book's own base tokenizers are trained: ``vqgan`` and ``kl_vae`` on 32-pixel scenes.

Systems that need a tokenizer but do not study one start from these. They see single shapes and
scenes of up to three on plain floors, so that they serve more than one kind of picture.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from gentok.base import kl_vae, vqgan
from gentok.base.judging import reconstructions
from gentok.base.kl_vae import KLVAE, KLVAEConfig
from gentok.base.vqgan import VQGAN, AdversarialVQGAN, VQGANConfig
from gentok.data import ImageSet, batches, plain_shapes
from gentok.measure import SmallClassifier, load_classifier
from gentok.training.loop import fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.weights import Weights, fetch, read

PRESETS: dict[str, VQGANConfig | KLVAEConfig] = {
    "vqgan": vqgan.PRESETS["world-32"],
    "kl_vae": kl_vae.PRESETS["world-32"],
}
SCENES = 1000  # added to the seed for the scenes of several shapes


@dataclass(frozen=True)
class Plan:
    """What decides the training of a base tokenizer.

    Args:
        size: of the tokenizer.
        shapes: pictures of one shape; ``scenes``: pictures of up to three.
        tokenizer: how it is trained.
    """

    size: VQGANConfig | KLVAEConfig
    shapes: int
    scenes: int
    tokenizer: Stage


def plan(preset: str, profile: Profile) -> Plan:
    """The training of ``"vqgan"`` or ``"kl_vae"``: ten minutes on a core in the long profile.

    Raises:
        ValueError: if there is no such tokenizer.
    """
    size = preset_of(PRESETS, preset)
    long = {"vqgan": 4500, "kl_vae": 2400}[preset]
    steps = profile.pick(smoke=4, cpu=400, long=long, gpu=20_000)
    stage = Stage(
        steps=steps,
        batch_size=profile.pick(smoke=4, cpu=16, gpu=64),
        lr=2e-3,
        betas=(0.9, 0.99),
        warmup=profile.pick(smoke=1, cpu=50),
        schedule="cosine",
        # A codebook and its encoder move together; an average of the encoder alone would not fit.
        clip=1.0,
        ema=None if preset == "vqgan" else 0.995,
    )
    if preset == "vqgan":
        size = replace(size, gan_start=int(0.8 * steps))
    shapes = profile.pick(smoke=32, cpu=16_384)
    return Plan(size, shapes, shapes // 2, stage)


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> VQGAN | KLVAE:
    """Train a base tokenizer.

    Returns:
        it in eval mode, averaged where its plan says so.

    Raises:
        ValueError: if there is no such tokenizer.
    """
    task = plan(preset, profile)
    source = pictures(task, seed)
    torch.manual_seed(seed)
    if preset == "vqgan":
        model = AdversarialVQGAN(vqgan.build(task.size), load_classifier("world"))
    else:
        model = kl_vae.build(task.size)
    fitted = fit(
        model.to(profile.device),
        batches(source, task.tokenizer.batch_size, seed, flip=True),
        **task.tokenizer.fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
    ).ema
    return fitted.tokenizer if preset == "vqgan" else fitted


def pictures(task: Plan, seed: int) -> ImageSet:
    """Single shapes, then scenes of up to three."""
    one = plain_shapes(task.shapes, seed=seed)
    several = plain_shapes(task.scenes, seed=seed + SCENES, max_objects=3)
    return replace(
        one,
        images=torch.cat([one.images, several.images]),
        labels=torch.cat([one.labels, several.labels]),
        source=f"{one.source}, one of them and up to three",
    )


def pretrained(name: str) -> VQGAN | KLVAE:
    """The trained tokenizer ``weights/base/<name>``.

    Raises:
        ValueError: if there is no such tokenizer.
        FileNotFoundError: if its weights are absent.
    """
    weights = preset_of(WEIGHTS, name)
    return weights.assemble(**read(fetch(f"base/{name}"), weights))


def _collect(preset: str, out: Path) -> dict[str, nn.Module]:
    if preset == "vqgan":
        return {"tokenizer": load_model(out, VQGANConfig, _game).tokenizer}
    return {"tokenizer": load_model(out, KLVAEConfig, kl_vae.build)}


def _game(config: VQGANConfig) -> AdversarialVQGAN:
    return AdversarialVQGAN(vqgan.build(config), SmallClassifier())


def _data(preset: str, profile: Profile, seed: int) -> dict[str, ImageSet]:
    return {"training": pictures(plan(preset, profile), seed)}


WEIGHTS = {
    name: Weights(
        preset=name,
        parts={"tokenizer": part},
        train=train,
        collect=partial(_collect, name),
        assemble=lambda tokenizer: tokenizer,
        measure=reconstructions,
        data=partial(_data, name),
    )
    for name, part in {
        "vqgan": (VQGANConfig, vqgan.build),
        "kl_vae": (KLVAEConfig, kl_vae.build),
    }.items()
}
