# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How much can be learned from a quarter of the tokens?

# %% jupyter={"source_hidden": true} tags=["install", "remove-cell"]
# Fetches gentok where it is missing, as in Colab; elsewhere does nothing.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("gentok") is None:
    place = "github.com/generative-tokenizers/generative-tokenizers"
    gentok_at = os.environ.get("GENTOK_WHEEL", f"gentok @ git+https://{place}")
    pip = [sys.executable, "-m", "pip", "install", "-q", gentok_at]
    subprocess.run(pip, check=True)
    importlib.invalidate_caches()

# %% tags=["parameters"]
profile = "cpu"  # "smoke" for tests, "study" for the record, "gpu"
seed = 0

# %% tags=["hide-input"]
from dataclasses import replace

import torch

from gentok.book import chapter
from gentok.data import batches, generator, to_float
from gentok.data.placed_shapes import placed_shapes
from gentok.diffusion import micro_diffusion as micro
from gentok.diffusion.micro_diffusion import recipe
from gentok.diffusion.micro_diffusion.sources import World, encode_texts
from gentok.measure.fixed import fixed_noise
from gentok.nn.token_masks import num_kept
from gentok.training import fit, profiles

page = chapter.open("micro_diffusion", profile, seed)
level = profiles.profile(profile)  # apart: no experiment reads the page
study = page.study

# %% [markdown]
# ## Learning begins

# %%
task = recipe.plan("study-32", level)  # pictures, sizes, optimiser, steps
part = task.parts[-1]
world = World(task, "cpu", seed=0)
table = world.latents(part.image_size)  # latents and states of captions


def train(size, stage, seed, progress=False):
    """A network of that size by that stage; its average and its history."""
    torch.manual_seed(seed)
    network = micro.build(size)
    draws = batches(table, stage.batch_size, seed)
    first = torch.cat([draws(step)["latent"] for step in range(8)])
    network.set_statistics(first)
    arguments = stage.fit_arguments()
    done = fit(network, draws, **arguments, seed=seed, progress=progress)
    return done.ema, done.history


# %% [markdown]
# ## Where is the mask put?

# %%
ways = micro.arms(part.size)  # r = 3/4
narrow = micro.arms(part.size, 7 / 8)
steps = micro.equal_steps(ways, part.training.steps)


def lasting(steps):
    """The plan's training over another number of steps, all else to scale."""
    steps = max(steps, 3)
    fall = replace(part.training.schedule, end=4 * steps // 5)
    warmup = max(1, steps // 20)
    return replace(part.training, steps=steps, warmup=warmup, schedule=fall)


# %% tags=["hide-input"]
# Unmasked steps at the end, paid for in masked ones: the same checkpoint.
tuned = part.training.steps - part.size.unmasked_from
more = tuned * steps["deferred"] // max(1, steps["unmasked"])
longer = replace(part.training, steps=part.size.unmasked_from + more)
same = {"stage": part.training}
arms = {
    "unmasked": {"size": ways["unmasked"], **same},
    "deferred": {"size": ways["deferred"], **same},
    "naive": {"size": ways["naive"], **same},
    "deferred 7/8": {"size": narrow["deferred"], **same},
    "naive 7/8": {"size": narrow["naive"], **same},
    "unmasked, equal cost": {
        "size": ways["unmasked"],
        "stage": lasting(steps["unmasked"]),
    },
    "naive, equal cost": {
        "size": ways["naive"],
        "stage": lasting(steps["naive"]),
    },
    "tuned": {"size": part.size, **same},
    "masked on": {"size": ways["deferred"], "stage": longer},
    "token choice": {"size": micro.token_choice(ways["deferred"]), **same},
}

# %% tags=["hide-input"]
held = placed_shapes(level.pick(smoke=16, cpu=128), part.image_size, seed=1)
with torch.no_grad():
    latents = world.tokenizer.encode(to_float(held.images))
captions = encode_texts(world.encoder, held.captions)
noise = fixed_noise(latents.shape, seed=2)
SIGMAS = micro.fixed_sigmas(6)  # noise levels, equally likely in training
T = part.size.num_tokens
order = torch.rand(len(held), T, generator=generator(3)).argsort(1)
middle = SIGMAS[3].expand(len(held))


def kept(ratio):
    """The places of the held-out tokens that are left: (n, M)."""
    return order[:, : num_kept(T, ratio)]


# %%
def run_arm(seed, size, stage):
    network, history = train(size, stage, seed)
    test = network, latents, captions, SIGMAS, noise
    errors = micro.errors_at(*test).mean(1)  # (S,), nothing dropped
    wrong = micro.errors_at(network, latents, captions.roll(1, 0), SIGMAS, noise)
    return {
        "error": float(errors.mean()),
        "by_sigma": errors.tolist(),
        "low_noise": float(errors[:3].mean()),
        "high_noise": float(errors[3:].mean()),
        "as_trained": float(micro.errors_at(*test, kept(size.mask_ratio)).mean()),
        "wrong_caption": float(wrong.mean()),
        "loss": last_loss(history),
        **look_inside(network, size, seed),
    }


# %% tags=["hide-input"]
def last_loss(history):
    """Mean training loss over the last fifth of the rows."""
    losses = [row["loss"] for row in history]
    last = losses[-max(1, len(losses) // 5) :]
    return sum(last) / len(last)


def look_inside(network, size, seed):
    """What dropped patches say, and how even experts are, also untrained."""
    x = network.scaled(latents) + middle.view(-1, 1, 1, 1) * noise
    torch.manual_seed(seed)
    start = micro.build(size)
    moved = micro.influence(network, x, middle, captions, kept(0.75))
    loads = [micro.expert_loads(model, x, middle, captions) for model in (network, start)]
    return {
        "influence": float(moved.mean()),
        "unevenness": micro.unevenness(loads[0]),
        "unevenness_at_start": micro.unevenness(loads[1]),
    }


# %%
runs = study.ablate("masking", run_arm, arms)

# %% tags=["hide-input"]
study.finish()
page.cost()
