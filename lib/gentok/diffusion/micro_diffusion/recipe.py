"""How `gentok train micro_diffusion` trains: masked, then unmasked; small pictures, then large.

The checkpoint that `train` is told to write holds the model of the last resolution. A smaller one
that was trained before it stands beside it (``<name>.r32.safetensors`` for 32 pixels).

The captioned world needs no file but the book's own autoencoder. Published presets read pairs of
files under ``GENTOK_DATA/captioned``, a published autoencoder from ``GENTOK_DATA/sdxl_vae`` and a
text encoder from the cache of `transformers`.
"""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from gentok.base import kl_vae
from gentok.base.kl_vae import KLVAE, KLVAEConfig
from gentok.data.placed_shapes import placed_shapes
from gentok.diffusion.micro_diffusion.config import MicroDiTConfig
from gentok.diffusion.micro_diffusion.model import MicroDiT, build, continued
from gentok.diffusion.micro_diffusion.pipeline import TextToImage
from gentok.diffusion.micro_diffusion.plans import Part, Plan, plan
from gentok.diffusion.micro_diffusion.readout import asked, draw, obeyed, samples
from gentok.diffusion.micro_diffusion.sources import Folder, World, autoencoder, source
from gentok.show.captioned import save_captioned
from gentok.show.media import PICTURES
from gentok.training.loop import Fit, fit, load_model
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.training.weights import Learned, Weights

__all__ = ["SAMPLES", "WEIGHTS", "plan", "sample", "train", "train_part"]

SAMPLES = PICTURES  # what `sample` writes
HELD_OUT = 99_991  # the seed of captions and noise that nothing was chosen on
# Published: 30 steps, guidance 5. Small networks of a small world need less of both.
SAMPLER = {"num_steps": 18, "guidance_scale": 2.0}
PUBLISHED_SAMPLER = {"num_steps": 30, "guidance_scale": 5.0}
PROMPTS = (
    "a red fox in the snow",
    "a lighthouse on a cliff at sunset, oil painting",
    "a bowl of lemons on a wooden table",
    "an astronaut riding a horse",
)


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> MicroDiT:
    """Train the parts of the preset's plan, each from the weights of the one before it.

    Returns:
        the model of the last resolution, averaged where the plan says so.

    Raises:
        FileNotFoundError: if pictures, autoencoder or text encoder are absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    data = source(task, profile.device, seed)
    model, before = None, None
    for part in task.parts:
        path = stage(out, part.name) if part.name else out
        files = {"out": path, "resume": resume, "after": before}
        model = train_part(part, data, profile, seed, model, **files).ema
        before = path
    return model


def train_part(
    part: Part,
    data: World | Folder,
    profile: Profile,
    seed: int,
    before: MicroDiT | None = None,
    **options,
) -> Fit:
    """One resolution.

    Args:
        part: of a plan; ``data``: its source; ``profile``: says where.
        seed: of weights and noise.
        before: the model of the resolution before it; None starts anew.
        options: of `fit` (``out``, ``resume``, ``after``, ``progress``).
    """
    draws = data.batches(part)
    torch.manual_seed(seed)
    if before is None:
        model = build(part.size)
        if part.size.latent_scale is None:
            model.set_statistics(torch.cat([draws(step)["latent"] for step in range(8)]))
    else:
        model = continued(before, part.size)
    model.to(profile.device)
    return fit(model, draws, **part.training.fit_arguments(), seed=seed, **options)


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture: samples, each above its caption.

    Args:
        checkpoint: of the last part.
        out: image file to write (the name's ending says the format).
        n: number of samples.
        seed: of captions and noise.

    Raises:
        FileNotFoundError: if the checkpoint, the autoencoder or the text encoder is absent.
    """
    system = _assemble(**_collect(Path(checkpoint)))
    if system.generator.config.latent_scale is None:
        captions = asked(n, seed)[0]
    else:
        captions = [PROMPTS[i % len(PROMPTS)] for i in range(n)]
    save_captioned(draw(system, captions, seed).clamp(-1, 1), captions, out)


# --- weights --------------------------------------------------------------------------------------


def _collect(checkpoint: Path) -> dict[str, nn.Module]:
    generator = load_model(checkpoint, MicroDiTConfig, build, after=_earlier(checkpoint))
    return {"tokenizer": autoencoder(generator.config), "generator": generator}


def _earlier(checkpoint: Path) -> Path | None:
    """The checkpoint of the resolution before, if there is one."""
    found = sorted(checkpoint.parent.glob(stage(checkpoint, "r*").name))
    return found[-1] if found else None


def _assemble(tokenizer: KLVAE, generator: MicroDiT) -> TextToImage:
    own = generator.config.latent_scale is None
    return TextToImage(tokenizer, generator, **(SAMPLER if own else PUBLISHED_SAMPLER))


def _measure(system: TextToImage, n: int) -> dict[str, float]:
    """Words obeyed, and how well the detector reads pictures of the world and their decodings."""
    drawn = samples(system, n, HELD_OUT)
    real = placed_shapes(n, system.tokenizer.config.image_size, HELD_OUT)
    x = real.images.float() / 127.5 - 1
    found = {"real": obeyed(x, real.looks)}
    found["decoded"] = obeyed(system.decode(system.encode(x)), real.looks)
    kept = {f"drawn_{name}": value for name, value in drawn.items()}
    return kept | {f"{name}_all": read["all"] for name, read in found.items()}


def _data(preset: str, profile: Profile, seed: int) -> dict[str, Learned]:
    task: Plan = plan(preset, profile)
    scenes = placed_shapes(task.pictures, task.parts[-1].image_size, seed)
    return {"training": Learned(scenes.source, (scenes.images, scenes.looks))}


def _weights(preset: str) -> Weights:
    return Weights(
        preset=preset,
        parts={"tokenizer": (KLVAEConfig, kl_vae.build), "generator": (MicroDiTConfig, build)},
        train=train,
        collect=_collect,
        assemble=_assemble,
        measure=_measure,
        data=partial(_data, preset),
    )


WEIGHTS = {
    "micro_diffusion": _weights("world-32"),
    "micro_diffusion_masked": _weights("world-32-masked"),
}
