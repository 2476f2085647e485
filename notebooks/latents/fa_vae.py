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
# # Where do the fine details of an image get lost?

# %% tags=["parameters"]
profile = "cpu"  # "smoke" for tests, "study" for the record, "gpu"
seed = 0

# %% tags=["hide-input"]
from dataclasses import replace
from functools import cache

import torch

from gentok.book import chapter
from gentok.data import available, batches, cifar10, photographs
from gentok.latents.fa_vae import HighBranch, merge, recipe, split
from gentok.measure import (
    band_errors,
    load_classifier,
    octave_power,
    perceptual_distance,
    psnr,
    radial_power_spectrum,
    spectrum_distance,
)
from gentok.nn.wavelet import haar2d
from gentok.training import fit, profiles

page = chapter.open("fa_vae", profile, seed)
study = page.study
level = profiles.profile(profile)


# %%
@torch.no_grad()
def reconstruct(model, x):
    """There and back: (n, 3, H, W) -> the same, cut to [-1, 1]."""
    parts = [model.decode(model.encode(part)) for part in x.split(128)]
    return torch.cat(parts).clamp(-1, 1)


# %%
task = recipe.plan("study-32", level)  # sizes, rivals, optimiser, steps
train_set = recipe.pictures(task, seed=0)[0]
test_set = photographs(32, "test", count=level.pick(smoke=32, cpu=512))
test = test_set.floats()  # (512, 3, 32, 32) in [-1, 1]

# %% tags=["hide-input"]
judge = load_classifier("photographs")  # measures; no model trains on it


def metrics(x_hat, x):
    """All numbers of final images, cut to [-1, 1]; bands are orthonormal."""
    errors, true, made = band_errors(x, x_hat), haar2d(x)[1], haar2d(x_hat)[1]
    missing = octave_power(x - x_hat)
    return {
        "mse": float((x - x_hat).square().mean()),
        "psnr": float(psnr(x, x_hat).mean()),
        "low_mse": errors["LL"],
        "high_mse": errors["high"],
        "unexplained": errors["high"] / float(true.square().mean()),
        "high_l1": float((true - made).abs().mean()),
        "detail": float(made.norm() / true.norm()),
        "zero": float((made.abs() < 0.01).float().mean()),
        "octaves": missing.tolist(),
        "cast": float(missing[0]),
        "above_quarter": float(missing[-1]),
        "residual": radial_power_spectrum(x - x_hat)[1].tolist(),
        "spectrum_gap": spectrum_distance(x_hat, x, above=0.25),
        "perceptual": float(perceptual_distance(judge, x, x_hat).mean()),
    }


# %%
def learn(kind, seed, images=train_set, **options):
    """Train one tokenizer by the plan."""
    return recipe.train_kind(kind, task, images, level, seed, **options)


# %%
def run_kind(seed, kind):
    model = learn(kind, seed, progress=False)
    return metrics(reconstruct(model, test), test)


ARMS = {kind: {"kind": kind} for kind in ("pixel", "coupled", "decoupled")}
kinds = study.ablate("kinds", run_kind, ARMS)


# %%
@cache
def second(part, count):
    """CIFAR-10; a smoke run does without it."""
    if level.name == "smoke" and not available()["cifar10"]:
        return photographs(32, part, seed=9, count=count)
    return cifar10(part).subset(slice(0, count))


def run_second(seed, kind):
    images = second("train", len(train_set))
    x = second("test", len(test)).floats()
    model = learn(kind, seed, images, progress=False)
    return metrics(reconstruct(model, x), x)


cifar = study.ablate("cifar10", run_second, ARMS)

# %%
HIGHS = {
    "L1 + GAN (paper)": {},
    "L2 + GAN": {"reconstruction": "l2"},
    "L1": {"gan_weight": 0.0},
    "L1 + GAN + perceptual": {"perceptual_weight": 0.1},
}


def run_high(seed, **changes):
    """The high branch alone; the other band is the true one."""
    stage = task.tokenizer
    torch.manual_seed(seed)
    branch = HighBranch(replace(task.size.high, **changes))
    data = batches(train_set, stage.batch_size, seed, flip=True)
    arguments = stage.fit_arguments()
    branch = fit(branch, data, **arguments, seed=seed, progress=False).ema
    with torch.no_grad():
        x_hat = merge(split(test)[0], branch.decode(branch.encode(test)))
    return metrics(x_hat.clamp(-1, 1), test)


highs = study.ablate("high branch", run_high, HIGHS)

# %% tags=["hide-input"]
study.finish()
