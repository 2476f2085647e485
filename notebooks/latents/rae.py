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
# # Can a generator draw in the space of a recogniser?
#
# :::{admonition} Before you start
# **Time** {glue:text}`rae_time`, **memory** {glue:text}`rae_memory`, on
# {glue:text}`rae_device`: measured in the run that is stored here ·
# **GPU** not needed · **Level** 2 of 3 ·
# **Read first** {doc}`/book/primers/flow_matching`, two minutes; the
# adversary is explained in {doc}`/book/primers/adversarial_loss` ·
# **Paper** {cite:p}`zheng2025rae`
# :::
#
# **You will be able to**
# - wrap a pretrained vision transformer as the encoder of a tokenizer;
# - derive why a denoiser must be as wide as one token, and measure it;
# - shift a noise schedule by the size of the latent, in the right direction;
# - say what a decoder gains and loses by training on noisy tokens;
# - build DiT$^{DH}$: a narrow deep backbone that steers a wide shallow head;
# - ask of a pretrained encoder what an untrained one would have given.

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
import tempfile
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import torch
import transformers

import gentok
from gentok.base import kl_vae
from gentok.base.judging import named
from gentok.base.lightning_dit import LightningDiTConfig
from gentok.book import chapter
from gentok.book.chapter import show_code
from gentok.book.checks import rae as check
from gentok.book.study import summarize
from gentok.data import SHAPES, batches, centred_shapes, plain_shapes
from gentok.latents import rae
from gentok.latents.rae import dit as rae_dit
from gentok.latents.rae import recipe, small_mae
from gentok.latents.rae.ddt import DDT
from gentok.latents.rae.dit import RAEDiTConfig
from gentok.latents.rae.encoder import EncoderConfig, outline_encoder
from gentok.latents.rae.plans import rivals, velocity_macs
from gentok.latents.rae.yardsticks import (
    decode_all,
    encode_all,
    noisy_errors,
    pooled,
    probe,
    round_trip,
    token_distance,
    velocity_error,
)
from gentok.measure import count_parameters, psnr
from gentok.measure.embed import tsne
from gentok.process.flow import shift_times
from gentok.show import plot
from gentok.training import fit
from gentok.training.weights import header_of as weights_of

transformers.utils.logging.disable_progress_bar()
page = chapter.open("rae", profile, seed)
level, study = page.level, page.study

# %% [markdown]
# ## What it can do
#
# Ten kinds of shape on shaded floors, one kind a column. A diffusion
# transformer drew their tokens in the space of a *frozen* encoder, which was
# never trained to give a picture back; a decoder painted them.

# %%
system = gentok.pretrained("rae")  # trained weights, part of the book
label = torch.arange(level.pick(smoke=10, cpu=40)) % 10
torch.manual_seed(seed)
drawn = system.sample(len(label), label).clamp(-1, 1)

# %% mystnb={"image": {"alt": "Four rows of ten generated pictures, one class a column: discs, squares, triangles, rings, bars, crosses, stars, hexagons, hearts and moons in bright colours on shaded floors"}} tags=["hide-input", "slide"]
heads = [SHAPES[int(k)] for k in label]
plot.image_grid(drawn, "Samples through RAE", columns=10, captions=heads);

# %% tags=["hide-input"]
metrics = weights_of("rae")["metrics"]
page.glue("rae_accuracy", metrics["judge_accuracy"], ".0%")
page.say(
    "A classifier that was trained on other, harder pictures names "
    "**{share:.0%}** of {n} such samples as the class that was asked for "
    "(chance: 10 %), and {here:.0%} of the {shown} above. The decoder gives "
    "pictures that it has not seen back with {db:.1f} dB.",
    share=metrics["judge_accuracy"],
    n=metrics["items"],
    here=named(drawn, label),
    shown=len(label),
    db=metrics["psnr"],
)

# %% [markdown]
# ## The question
#
# The tokenizers of latent diffusion are trained for pixels. Networks that
# know what a picture *shows*, such as DINOv2 {cite:p}`oquab2024dinov2`, were
# long thought useless for painting. RAE {cite:p}`zheng2025rae`, the
# representation autoencoder, takes one as it is. Can pixels be had back from
# its tokens? And can a diffusion transformer learn tokens of 768 channels,
# where a VAE's have 4?
#
# ```{figure} ../../book/img/rae.svg
# :name: fig-rae-architecture
# :alt: Architecture of RAE. An image passes a frozen encoder to tokens; noise is added in training; a trained decoder paints the image, judged by a discriminator through a frozen network. Below, noisy tokens enter a narrow deep backbone, whose output modulates each token of a wide shallow head, which gives the velocity.
#
# RAE: tokenizer above, generator below. What the paper adds is in colour.
# ```
#
# **The idea in three sentences.** Keep a pretrained encoder frozen and train
# only a decoder, on tokens with noise, because a generator's tokens will not
# be exact either. Let the generator be at least as *wide* as a token, for
# less than that cannot work however deep it is, and put the width into a
# short head that a narrow backbone steers. Move training and sampling towards
# noise the more numbers a latent has, since many numbers survive much noise.
#
# $$
# z=E(x)\ \text{(frozen)},\quad \hat x=D(z+\sigma\epsilon),\quad
# L=\lVert x-\hat x\rVert_1+\omega_L\,L_{perceptual}
#   +\omega_G\,\lambda\,L_{GAN}.
# $$ (eq-rae-decoder)
#
# There is no KL term and no bottleneck. With DINOv2-B at 256 pixels, $z$ has
# 16 × 16 tokens of 768 channels, as many numbers as the picture; a VAE keeps
# 4 × 32 × 32.
#
# ## An encoder, as it is
#
# Families differ in patch size, pixel statistics, and in the tokens before
# the patches ([CLS], registers {cite:p}`darcet2024registers`). One wrapper
# gives them one face. Here it is with each family's sizes, without weights:

# %% tags=["nbval-check-output"]
for encoder in (EncoderConfig(), rae.SIGLIP2_B, rae.MAE_B):
    with torch.device("meta"):
        network = outline_encoder(encoder).to("meta")
    tokens = network(torch.zeros(1, 3, 256, 256, device="meta"))
    print(f"{encoder.family:22s} {encoder.name}")
    print(f"  sees {encoder.image_size} px, tokens {tuple(tokens.shape[1:])}")

# %% [markdown]
# The last LayerNorm keeps normalising and loses its learned weight and bias.
# Every token then has mean 0 and variance 1 over its channels, and "noise of
# 0.8" means the same for every encoder.
#
# There is no DINOv2 in this book, so the chapter trains an encoder of its
# own: a small **masked autoencoder** {cite:p}`he2022mae`. It hides three
# quarters of the patches and must paint them from the rest. It sees no label
# and is saved in the hub's format; RAE reads it with the loader that reads
# `facebook/vit-mae-base`.

# %%
task = recipe.plan("study-32", level)  # sizes, pictures, steps, optimiser
train_set = recipe.pictures(task, seed=0)  # ten shapes, anywhere
test_set = plain_shapes(level.pick(smoke=40, cpu=1024), seed=1)
test = test_set.floats()  # (n, 3, 32, 32) in [-1, 1]


def train_encoder(seed, progress=False):
    """A small MAE; returns its configuration for RAE, and the history."""
    torch.manual_seed(seed)
    model = small_mae.build(recipe.mae_size(task.size))
    stage = task.encoder  # steps, batch size, learning rate, ...
    data = batches(train_set, stage.batch_size, seed, flip=True)
    arguments = stage.fit_arguments()
    done = fit(model, data, **arguments, seed=seed, progress=progress)
    folder = model.save(tempfile.mkdtemp())
    return model, replace(task.size.encoder, name=str(folder)), done.history


mae, encoder, mae_history = train_encoder(seed, progress=True)


# %% tags=["hide-input"]
@torch.no_grad()
def paint(model, images):
    """Pictures with their hidden patches grey, and with them painted."""
    net, mean, std = model.network, model.mean, model.std
    pixels = ((images + 1) / 2 - mean) / std
    out = net(pixel_values=pixels)
    true = net.patchify(pixels)  # (B, N, p p 3)
    centre, spread = true.mean(-1, True), true.std(-1, keepdim=True)
    hidden = out.mask[..., None].bool()
    painted = torch.where(hidden, out.logits * spread + centre, true)
    grey = torch.where(hidden, torch.zeros_like(true), true)
    both = (net.unpatchify(p) * std + mean for p in (grey, painted))
    return [(2 * picture - 1).clamp(-1, 1) for picture in both]


# %% mystnb={"image": {"alt": "Three rows of ten pictures of shapes: originals, the same with three quarters of their squares grey, and the masked autoencoder's completion, in which outlines are continued roughly"}} tags=["hide-input"]
torch.manual_seed(seed)
show = test[:10]
grey, painted = paint(mae, show)
plot.compare_rows(
    {"original": show, "what it sees": grey, "what it paints": painted},
    "A small masked autoencoder on new pictures",
);

# %% [markdown]
# (Its loss asks for each patch without its own mean and contrast; for the
# picture both are given back from the truth. Judge the structure inside a
# square, not its brightness.)
#
# ### What would an untrained encoder give?
#
# It is easy to be impressed by a frozen network: random weights keep a lot of
# a picture, too. So the *same network without any training* is the baseline
# of everything that is said here about meaning. The question to the tokens:
# which of ten shapes? A linear read-out is fitted to labelled pictures, in two
# ways: to *all tokens*, each at its place, and to *pooled* ones, mean and
# spread of each channel over the picture. A third arm is a KL-VAE on the same
# grid, trained for the pixels of the same pictures. Every seed has an encoder
# and a VAE of its own.
#
# **Predict first**: order *small MAE*, *random weights* and *KL-VAE* by the
# share of new pictures that a read-out of all tokens names right. Is the order
# the same when tokens are pooled?

# %%
others = rivals(task, level)  # what RAE is held against
FITTED = level.pick(smoke=32, cpu=4096)  # labelled pictures of the read-out
kept = {}  # networks of a seed: several experiments look at the same ones


def once(name, seed, make):
    """Train a network of a seed once, and keep it."""
    if (name, seed) not in kept:
        kept[name, seed] = make()
    return kept[name, seed]


def train_vae(seed, images):
    torch.manual_seed(seed)
    stage = others.vae_stage
    data = batches(images, stage.batch_size, seed, flip=True)
    arguments = stage.fit_arguments()
    model = kl_vae.build(others.vae)
    return fit(model, data, **arguments, seed=seed, progress=False).ema


# %%
def encoder_of(seed, kind):
    """What the read-out is fitted to: a trained or random encoder, a VAE."""
    if kind == "vae":
        return train_vae(seed, train_set)
    if kind == "mae":
        config = once("mae", seed, lambda: train_encoder(seed)[1])
        return rae.build(replace(task.size, encoder=config))
    torch.manual_seed(seed)
    blank = outline_encoder(task.size.encoder).eval()
    return rae.build(task.size).see_through(blank)


# %% tags=["hide-input"]
def read_out(seed, kind):
    tokenizer = encoder_of(seed, kind)
    z = encode_all(tokenizer, train_set.floats()[:FITTED])
    z_test = encode_all(tokenizer, test)
    labels = train_set.labels[:FITTED], test_set.labels
    each = probe(z.flatten(1), labels[0], z_test.flatten(1), labels[1])
    mean = probe(pooled(z), labels[0], pooled(z_test), labels[1])
    return {"probe": each, "pooled": mean}


KINDS = {"small MAE": "mae", "random weights": "random", "KL-VAE": "vae"}
encoders = study.ablate(
    "encoders",
    read_out,
    {name: {"kind": k} for name, k in KINDS.items()},
    seeds=range(6, 26),
)

# %% mystnb={"image": {"alt": "Share of pictures that a linear read-out names right, from all tokens on the left and from pooled tokens on the right, for the small masked autoencoder, the same network with random weights, and a KL-VAE, as means with intervals and single seeds as rings"}} tags=["hide-input", "slide"]
figure, axes = plt.subplots(1, 2, figsize=(9.6, 2.8), sharey=True)
for ax, (metric, title) in zip(
    axes, (("probe", "All tokens"), ("pooled", "Pooled tokens")), strict=True
):
    unit = "share of new pictures named right"
    plot.intervals(encoders, metric, title, unit, ax)
    ax.set_xlabel(unit)
figure.suptitle("Which of ten shapes? A linear read-out (chance: 0.1)");


# %% tags=["hide-input"]
def mean_of(runs, arm, metric):
    """Mean over the seeds of an arm."""
    return float(runs[runs["variant"] == arm][metric].astype(float).mean())


ours, blank = (
    mean_of(encoders, arm, "probe") for arm in ("small MAE", "random weights")
)
page.say(
    "From all tokens the read-out of the small MAE names **{ours:.0%}** of "
    "new pictures right, that of the *untrained* network {blank:.0%}, and "
    "that of the VAE {vae:.0%}. What pretraining adds is the difference to "
    "the second number, {gain:+.0f} points, and not the difference to chance. "
    "From pooled tokens they name {pooled:.0%}, {blank_pooled:.0%} and "
    "{vae_pooled:.0%}.",
    ours=ours,
    blank=blank,
    vae=mean_of(encoders, "KL-VAE", "probe"),
    gain=100 * (ours - blank),
    pooled=mean_of(encoders, "small MAE", "pooled"),
    blank_pooled=mean_of(encoders, "random weights", "pooled"),
    vae_pooled=mean_of(encoders, "KL-VAE", "pooled"),
)

# %% [markdown]
# Two read-outs of one network need not agree. A masked autoencoder is paid for
# saying what stands at *each place*; nothing asks it to put the whole picture
# into an average, and a bag of random local features is not a bad average. So
# "the probe says" is half a sentence: of what, read how, against what.
#
# Tokens of the longest trained encoder of this chapter, the one of the
# opening, on a plane: each picture's tokens are pooled and laid out by t-SNE,
# with no label used. Beside them the same network, untrained. Do the shapes
# part? Whatever the maps suggest, the pooled read-out says how much there is to
# find.

# %% mystnb={"image": {"alt": "Two t-SNE maps of pooled tokens of pictures, marked by shape: the trained encoder on the left, the same network with random weights on the right"}} tags=["hide-input"]
shown = plain_shapes(level.pick(smoke=40, cpu=400), seed=3)
torch.manual_seed(seed)
untrained = rae.build(task.size).see_through(
    outline_encoder(task.size.encoder).eval()
)
figure, axes = plt.subplots(1, 2, figsize=(9.4, 4.2))
pairs = (("trained", system.tokenizer), ("random weights", untrained))
for ax, (name, tokenizer) in zip(axes, pairs, strict=True):
    flat = pooled(encode_all(tokenizer, shown.floats()))
    points = tsne(flat, perplexity=min(30.0, len(flat) / 4))
    plot.scatter(
        points, shown.labels, SHAPES, title=f"Pooled tokens, {name}", ax=ax
    )
axes[0].get_legend().remove();

# %% [markdown]
# ## A decoder that expects noise
#
# The decoder is MAE's: a linear layer, a [CLS] token, sine-cosine positions,
# pre-norm blocks, and a linear layer to $p^2$ pixels a token. In training its
# tokens carry noise, one strength for each sample, $\sigma\sim|\mathcal
# N(0,\tau^2)|$ with $\tau=0.8$:

# %%
show_code(rae.RAE.add_noise, highlight="sigma")

# %%
show_code(rae.RAE.loss, start="config, x", highlight="self._reconstruct")

# %% [markdown]
# (The released code draws $\sigma$ uniformly from $[0,\tau]$: preset
# `vit-xl-code`.) The adversary looks through a frozen transformer and enters
# late; it took part in the weights above. In the minute below it does not.
#
# Decoder, VAE and generators of this chapter learn an easier set, so that a
# minute is enough: five kinds of shape, all of one size, in the middle of a
# grey floor. The encoder stays the one that saw ten shapes anywhere.

# %%
simple = recipe.pictures(task, seed=0, drawn=True)
simple_test = centred_shapes(level.pick(smoke=20, cpu=400), seed=1)
seen = simple_test.floats()  # (n, 3, 32, 32)
NAMES = torch.tensor([SHAPES.index(name) for name in simple.class_names])


# %%
def train_decoder(seed, encoder, tau=None, progress=False):
    """A decoder on the tokens of a frozen encoder; tau None: the plan's."""
    noise = task.size.noise if tau is None else tau
    size = replace(task.size, encoder=encoder, noise=noise)
    torch.manual_seed(seed)
    stage = task.decoder
    data = batches(simple, stage.batch_size, seed, flip=True)
    arguments = stage.fit_arguments()
    done = fit(
        rae.build(size), data, **arguments, seed=seed, progress=progress
    )
    return done.ema, done.history


tokenizer, decoder_history = train_decoder(seed, encoder, progress=True)

# %% mystnb={"image": {"alt": "Loss curves of the decoder against the step: the L1 error and the perceptual distance fall and flatten"}} tags=["hide-input"]
plot.loss_curves(
    decoder_history,
    "The decoder learns to paint",
    parts=["l1", "perceptual"],
    ylabel="L1 of images in [0, 1]; perceptual: no unit",
);

# %% mystnb={"image": {"alt": "Four rows of ten pictures: originals, and reconstructions from tokens with noise of strength 0, 0.5 and 1.0; shapes stay while noise rises, edges roughen"}} tags=["hide-input"]
rows = {"original": seen[:10]}
for strength in (0.0, 0.5, 1.0):
    torch.manual_seed(seed)
    z = encode_all(tokenizer, seen[:10])
    noisy_z = z + strength * torch.randn_like(z)
    rows[f"noise {strength}"] = decode_all(tokenizer, noisy_z)
plot.compare_rows(rows, "Decoding tokens that are not exact");

# %% [markdown]
# Read downwards: noise as strong as the signal, and the shapes are still
# there. Thousands of numbers say the same thing in many ways, so noise on
# each of them is averaged away. Remember this for the schedule.
#
# **Predict first**: two decoders of equal training, one with $\tau=0$ and one
# with $\tau=0.8$, and the VAE, whose latent has 512 numbers in place of 4,096.
# Each decodes the latents of new pictures plus noise. Sketch the three
# curves of the error against the noise. Where do they cross?

# %%
NOISES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)


def decoder_of(seed, tau):
    """The decoder of a seed and its history, on the seed's encoder."""
    config = once("mae", seed, lambda: train_encoder(seed)[1])
    return once(
        f"decoder {tau}", seed, lambda: train_decoder(seed, config, tau)
    )


# %% tags=["hide-input"]
def run_decoder(seed, tau):
    history = []
    if tau is None:
        model = once("vae", seed, lambda: train_vae(seed, simple))
    else:
        model, history = decoder_of(seed, tau)
    errors = noisy_errors(model, seen, NOISES)
    back = decode_all(model, encode_all(model, seen))
    return {
        "clean": errors[0],
        "noisy": errors[NOISES.index(0.5)],
        "back": round_trip(model, encode_all(model, seen)),
        "errors": errors,
        "psnr": float(psnr(seen, back).mean()),
        "loss": last_loss(history),
    }


# %% tags=["hide-input"]
def last_loss(history):
    """Mean training loss over the last fifth of the rows; 0 without any."""
    losses = [row["loss"] for row in history]
    last = losses[-max(1, len(losses) // 5) :]
    return sum(last) / max(1, len(last))


# %%
TAUS = {"tau 0": 0.0, "tau 0.8 (paper)": 0.8, "KL-VAE": None}
decoders = study.ablate(
    "decoders",
    run_decoder,
    {name: {"tau": tau} for name, tau in TAUS.items()},
)

# %% mystnb={"image": {"alt": "Error of decoded pictures against the noise on their latents, mean over seeds with the range: the decoder without training noise starts lower and rises steeply, the noise-trained one starts higher and is nearly flat, and so is the VAE"}} tags=["hide-input", "slide"]
figure, axes = plt.subplots(figsize=(6.6, 3.8))
for dash, (name, group) in zip(
    plot.DASHES, decoders.groupby("variant", sort=False), strict=False
):
    curves = torch.tensor(group["errors"].tolist())  # (seeds, noises)
    axes.plot(NOISES, curves.mean(0), linestyle=dash, label=name)
    axes.fill_between(NOISES, curves.amin(0), curves.amax(0), alpha=0.2)
axes.set(title="Error against noise on the latent")
axes.set(xlabel="noise (standard deviations of the latent)")
axes.set(ylabel="mean |error| (images in [-1, 1])")
axes.legend();

# %% tags=["hide-input"]
summarize(decoders, ["clean", "noisy", "psnr"])

# %% [markdown]
# The bands show smallest to largest over seeds. Robustness is paid for at the
# left end and pays to the right of the crossing. The VAE has it, too, with an
# eighth of the numbers, although the noise that its own training draws around a
# latent is far weaker than this. A reading that is not measured here: its
# encoder was free to write in large numbers whatever a picture needs, while a
# frozen one was paid for something else, and a decoder without noise learns to
# amplify small differences between its tokens. In the paper reconstruction
# gets worse (rFID 0.49 to 0.57) and generation better (gFID 4.81 to 4.28):
# its samples lie to the right.
#
# ## Why a stock transformer fails: width
#
# The generator learns tokens by {doc}`flow matching
# </book/primers/flow_matching>`. In this book time runs from noise ($t=0$) to
# data ($t=1$); the paper's runs the other way:
#
# $$
# z_t=t\,z+(1-t)\,\epsilon,\qquad v=z-\epsilon,\qquad
# L=\mathbb E\,\lVert v_\theta(z_t,t)-v\rVert^2.
# $$
#
# A token has $C$ channels, the transformer has width $d$, its first and last
# layers are linear. If $d<C$, every prediction lies in a subspace of
# dimension $d$. But $v$ contains $\epsilon$, and white noise fills all $C$
# dimensions. So even for a *single* picture, which leaves nothing to learn,
#
# $$
# L\ \ge\ \frac1C\sum_{i=d+1}^{C}\lambda_i,\qquad
# \lambda_1\ge\lambda_2\ge\dots\ \text{eigenvalues of }
# \mathrm{Cov}(\epsilon-z).
# $$ (eq-rae-bound)
#
# With one picture all eigenvalues are 1 and the bound is $(C-d)/C$. Depth does
# not enter. A VAE's tokens have 4 to 64 channels and never met the bound;
# DINOv2's have 768.
#
# **Predict first**: 16 tokens of 64 channels, one picture, width 32. Which
# loss can training not go below? Does it help to double the depth?

# %%
CHANNELS = 64  # of a token, as the small encoder's
WIDTHS = {
    "width 32, depth 4": {"dim": 32, "depth": 4},
    "width 32, depth 8": {"dim": 32, "depth": 8},
    "width 64, depth 4": {"dim": 64, "depth": 4},
}


# %%
def one_image(seed, dim, depth):
    """Fit a plain transformer to the tokens of a single picture."""
    size = LightningDiTConfig(
        in_channels=CHANNELS, input_size=4, dim=dim, depth=depth, num_heads=4,
        num_classes=1, label_drop=0.0, time_features="fourier",
    )  # fmt: skip
    torch.manual_seed(seed)
    point = torch.randn(1, CHANNELS, 4, 4)
    stage = others.one_image
    rows = point.expand(stage.batch_size, -1, -1, -1)
    label = torch.zeros(len(rows), dtype=torch.int64)
    batch = {"latent": rows, "label": label}
    network = rae_dit.build(still(size))
    arguments = stage.fit_arguments() | {"log_every": 1, "progress": False}
    done = fit(network, lambda step: batch, **arguments, seed=seed)
    return {"loss": last_loss(done.history)}


# %% tags=["hide-input"]
def still(size):
    """No head, no shift, uniform times: only width is in question."""
    base = size.in_channels * size.grid**2
    return RAEDiTConfig(size, head_depth=0, shift_base=base, times="uniform")


# %%
widths = study.ablate("width", one_image, WIDTHS)

# %% mystnb={"image": {"alt": "Velocity loss of three transformers on one picture with a mark at each one's theoretical bound: both of width 32 stay above theirs, the deeper no lower, width 64 lies below both"}} tags=["hide-input", "slide"]
axes = plot.intervals(
    widths,
    "loss",
    "One picture, 64 channels a token: what width allows",
    "velocity loss, mean of the last fifth of the steps",
)
for row, arm in enumerate(WIDTHS.values()):
    floor = max(0, CHANNELS - arm["dim"]) / CHANNELS
    axes.plot([floor] * 2, [row - 0.35, row + 0.35], color="#555555", lw=2)
axes.set_xlim(left=0);

# %% [markdown]
# The grey marks are the bounds. The narrow models are not badly trained: the
# target has directions that they cannot write down, and twice the depth does
# not change that. A model as wide as a token goes below a loss that *no*
# model of width 32 can reach, however long it trains.
#
# ## The shift: large latents need more noise
#
# In the rows of noisy tokens above the shapes outlived noise as strong as the
# signal: where many numbers say the same thing, much noise is needed to hide
# it. At a given $t$ a latent of $m$ numbers is therefore *less* destroyed
# than one of $n$. A schedule tuned for a VAE spends its time where nothing is
# in doubt any more. Following SD3 {cite:p}`esser2024sd3`, RAE bends time by
# $\alpha=\sqrt{m/n}$ with $n=4096$, the size of a VAE's latent. In the
# paper's time $t_p=1-t$ and in ours:
#
# $$
# t_p'=\frac{\alpha\,t_p}{1+(\alpha-1)\,t_p}
# \qquad\Longleftrightarrow\qquad
# t'=\frac{t/\alpha}{1+(1/\alpha-1)\,t}.
# $$ (eq-rae-shift)
#
# The same function with $1/\alpha$: whoever forgets the direction of time
# shifts the wrong way, and the loss does not complain. It even falls.

# %% tags=["nbval-check-output"]
theirs = torch.linspace(0, 1, 5).double()
alpha = 6.928
bent = alpha * theirs / (1 + (alpha - 1) * theirs)
mine = shift_times(1 - theirs, 1 / alpha)
print("the same bend:", torch.allclose(mine, 1 - bent))
for name in ("dit-dh-xl", "dit-dh-xl-512", "study-32"):
    size = rae_dit.PRESETS[name]
    print(f"{name:14s} {size.latent_shape!s:14s} alpha {size.alpha:.2f}")

# %% mystnb={"image": {"alt": "Densities of training times for three values of the shift: without one they are centred at one half, with alpha 2.83 and 6.93 they crowd near t = 0, which is noise"}} tags=["hide-input"]
figure, axes = plt.subplots(figsize=(6.4, 3.2))
torch.manual_seed(seed)
draws = torch.sigmoid(torch.randn(20_000))
for alpha, dash in zip((1.0, 2.83, 6.93), plot.DASHES, strict=False):
    height = torch.histc(shift_times(draws, 1 / alpha), 50, 0, 1) / 400
    centres = (torch.arange(50) + 0.5) / 50
    axes.plot(centres, height, linestyle=dash, label=f"alpha = {alpha:g}")
axes.set(title="Where training spends its time")
axes.set(xlabel="time t (0 = noise, 1 = data)")
axes.set(ylabel="density (per unit of time)")
axes.legend();

# %% [markdown]
# The sampler's grid is bent in the same way. Before diffusion each number is
# standardised by the mean and variance of **its channel at its position**.
# The decoder never sees that: it was trained on raw tokens, and `sample`
# undoes it.
#
# ## DiT with a wide head
#
# To make all of a deep transformer as wide as a token is dear: cost grows
# with the square of the width. DiT$^{DH}$, after DDT {cite:p}`wang2025ddt`,
# puts the width only where tokens are read and written:
#
# $$
# s=M(z_t\mid t,y),\qquad v=H(z_t\mid s,t).
# $$
#
# The backbone $M$ may be narrow. The head $H$ is wide and has two blocks. It
# reads $z_t$ itself; $s$ does not enter as tokens but *modulates*: each token
# has its own shift, scale and gate.

# %%
show_code(DDT.forward, start="cells = x", highlight="block(tokens, s)")

# %%
show_code(DDT.condition, highlight="self.s_project")

# %% [markdown]
# The rival is a plain LightningDiT. A fair one is *not* narrower than a token,
# or it would only meet the bound again: it has width 64, and the depth at
# which one velocity costs the same.

# %% tags=["nbval-check-output"]
sizes = {
    "DiT^DH, shift": task.generator_size,
    "DiT^DH, no shift": others.unshifted,
    "plain DiT, shift": others.plain,
    "DiT^DH, VAE": others.vae_head,
    "plain DiT, VAE": others.vae_plain,
}
for name, size in sizes.items():
    body = size.backbone
    print(
        f"{name:17s} tokens of {body.in_channels:2d},",
        f"width {body.dim} x {body.depth}, alpha {size.alpha:.2f},",
        f"{velocity_macs(size) / 1e6:.1f} million MACs",
    )


# %% [markdown]
# All five learn the latents of the five centred shapes, encoded once.

# %%
def train_generator(seed, size, z, stage=task.generator, progress=False):
    """Flow matching; returns the averaged network, and the history."""
    torch.manual_seed(seed)
    network = rae_dit.build(size)
    network.set_statistics(z)
    table = {"latent": z, "label": simple.labels}
    data = batches(table, stage.batch_size, seed)
    arguments = stage.fit_arguments()
    done = fit(network, data, **arguments, seed=seed, progress=progress)
    return done.ema, done.history


z_simple = encode_all(tokenizer, simple.floats())
live, generator_history = train_generator(
    seed, task.generator_size, z_simple, progress=True
)

# %% mystnb={"image": {"alt": "The velocity loss of the small DiT with a wide head falls from about two and then fluctuates from batch to batch"}} tags=["hide-input"]
plot.loss_curves(
    generator_history,
    "DiT$^{DH}$ on the tokens of the small encoder",
    parts=["velocity"],
    ylabel="velocity loss per number",
);

# %% [markdown]
# The curve starts at 2: a velocity of 0 misses unit-variance data and
# unit-variance noise.

# %% mystnb={"image": {"alt": "Two rows of ten pictures drawn by the small generator after a minute of training: centred shapes, most of them recognisable, edges rough"}} tags=["hide-input"]
five = torch.arange(20) % 5
torch.manual_seed(seed)
early = decode_all(tokenizer, live.sample(20, five, num_steps=20))
plot.image_grid(
    early,
    "After a minute: how learning begins",
    columns=10,
    captions=[simple.class_names[int(k)] for k in five],
);


# %% [markdown]
# ### Does each part help?
#
# Five generators a seed, of equal cost and equal steps: with and without the
# shift, with and without the head, and both layouts on the latents of the
# seed's VAE, whose tokens have 8 channels: there every width is plenty.
#
# - **velocity**: loss on new pictures' tokens, at fixed times with fixed noise
#   (comparable between arms with the same latent and the same times);
# - **back**: do drawn tokens come back when their picture is encoded again?
#   Mean squared difference, through the decoder without noise. Tokens that
#   belong to no picture do not come back (same latent only);
# - **tokens**: sliced Wasserstein distance of the cloud of drawn tokens to
#   that of real ones. No claim hangs on it: a few hundred samples decide it;
# - **accuracy**: share of samples that the judge names as asked, painted by
#   the noise-trained decoder, and (*exact*) by the one without noise.
#
# **Predict first**: the paper finds a gain from the head on RAE's tokens and
# none on a VAE's. Which of these arms should be closest together?

# %%
def run_generator(seed, size, tokens):
    if tokens == "vae":
        painter = once("vae", seed, lambda: train_vae(seed, simple))
        exact = painter
    else:
        painter, exact = (decoder_of(seed, tau)[0] for tau in (0.8, 0.0))
    z = encode_all(painter, simple.floats())
    z_test = encode_all(painter, seen)
    network, history = train_generator(seed, size, z)
    asked = torch.arange(len(z_test)) % 5
    torch.manual_seed(seed)
    drawn = network.sample(len(asked), asked, num_steps=20)
    return {
        "velocity": velocity_error(network, z_test, simple_test.labels),
        "back": round_trip(exact, drawn),
        "tokens": token_distance(network, drawn, z_test),
        "accuracy": named(decode_all(painter, drawn), NAMES[asked]),
        "exact": named(decode_all(exact, drawn), NAMES[asked]),
        "loss": last_loss(history),
    }


# %%
generators = study.ablate(
    "generators",
    run_generator,
    {
        name: {"size": size, "tokens": "vae" if "VAE" in name else "rae"}
        for name, size in sizes.items()
    },
)

# %% tags=["hide-input"]
summarize(generators, ["velocity", "back", "tokens", "accuracy", "exact"])

# %% mystnb={"image": {"alt": "Three panels of intervals over seeds for five generators: velocity loss on test tokens, what drawn tokens lose on a round trip, and accuracy of samples"}} tags=["hide-input", "slide"]
figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), sharey=True)
for ax, (metric, title, unit) in zip(
    axes,
    (
        ("velocity", "New pictures' tokens", "velocity loss (lower: better)"),
        ("back", "Drawn tokens", "lost on a round trip (lower)"),
        ("accuracy", "Samples", "named as asked (higher)"),
    ),
    strict=True,
):
    plot.intervals(generators, metric, title, unit, ax)
    ax.set_xlabel(unit)
figure.supxlabel("mean and 95 % interval; rings: single seeds", fontsize=10);

# %% [markdown]
# Compare within the rules of the list above: the velocity loss without the
# shift is an average over other times, and a VAE's latent is another space.
#
# The shift helps. The head lowers the loss on the encoder's tokens and not on a
# VAE's, which is the paper's order; but the plain transformer's samples of those
# tokens are named by chance, so its gate *rival* fails, and C4 says nothing yet.
# One answer goes against the paper: the same generator draws
# better pictures in the *VAE's* latent, by far. And the noise of the decoder's
# training, which the paper needs for drawn tokens, is not seen to help them
# here. Generators here train for a minute or two, the paper's for days. A
# guess, not measured: an eighth of the numbers is learned sooner, and what a
# young generator gets wrong is not white noise.
#
# ## A weak model that shows the way
#
# Guidance walks away from what a worse model would do,
# $v=v_{bad}+w\,(v_{good}-v_{bad})$; $w=1$ is off. *Classifier-free* guidance
# (CFG) takes the same network without its label. The paper's is **AutoGuidance**
# {cite:p}`karras2024autoguidance`: the bad model is a smaller, less trained
# copy *with* the label. The weights above hold such a guide, trained for a
# tenth of the steps.
#
# **Predict first**: what does the guide draw by itself? Which of the two would
# you take for a generator that is itself trained for less than an hour?

# %% mystnb={"image": {"alt": "Five rows of ten pictures from the same noise: the weak guide alone, whose shapes are malformed, no guidance, AutoGuidance at the published scale and at 3, and classifier-free guidance at 2; shapes become more regular downwards"}} tags=["hide-input"]
ten, weak = torch.arange(10), system.guide
scales = {
    "guide alone": {"guidance_scale": 0.0, "weak": weak},
    "w = 1": {"guidance_scale": 1.0},
    "Auto 1.42": {"guidance_scale": 1.42, "weak": weak},
    "Auto 3": {"guidance_scale": 3.0, "weak": weak},
    "CFG 2": {"guidance_scale": 2.0},
}
rows = {}
for name, options in scales.items():
    torch.manual_seed(seed + 1)
    rows[name] = system.sample(10, ten, num_steps=16, **options).clamp(-1, 1)
plot.compare_rows(rows, "The same noise, guided in different ways");

# %% [markdown]
# With $w=0$ the formula is the bad model itself. The opening uses the last row,
# and not the paper's sampler: AutoGuidance wants a guide that makes *the same
# mistakes, only worse*, and after trainings as short as these the missing label
# steers better. An exercise below counts.
#
# ## Look inside
#
# ### What a sampler decides when
#
# Follow one batch of noise along the grid, and decode the model's guess of
# the end, $\hat z=z_t+(1-t)\,v$.

# %% mystnb={"image": {"alt": "Rows of decoded guesses of the final picture at rising times: blurs at first, whole shapes from the second or third row on"}} tags=["hide-input"]
generator = system.generator
x = torch.randn(10, *generator.config.latent_shape)
grid = generator.sampling_grid(24)
rows = {}
with torch.no_grad():
    for i in range(24):
        v = generator(x, grid[i].expand(10), ten)
        if i in (0, 6, 12, 18, 23):
            end = generator.denormalize(x + (1 - grid[i]) * v)
            rows[f"t = {float(grid[i]):.2f}"] = decode_all(system, end)
        x = x + (grid[i + 1] - grid[i]) * v
plot.compare_rows(rows, "What the model expects to arrive at");

# %% [markdown]
# What is drawn, and where, is settled at small $t$. That is where the bent
# grid puts most of its points, and where an unbent one has few.
#
# ### Which frequencies are missing?

# %% mystnb={"image": {"alt": "Radial power spectra of pictures, their reconstructions and samples on logarithmic axes: they agree at low frequencies; at the highest ones reconstructions and samples lie above the pictures"}} tags=["hide-input", "slide"]
real = plain_shapes(len(drawn), seed=2).floats()
plot.spectra(
    {
        "pictures": real,
        "decoded from their tokens": decode_all(
            system, encode_all(system, real)
        ),
        "samples": drawn,
    },
    "Power by frequency",
);

# %% [markdown]
# What the decoder does wrong no generator of its tokens can mend. At the
# highest frequencies its pictures have *more* power than real ones: the edges
# of the 4 × 4 patches, which you also see in the opening. The samples follow
# the reconstructions there; where they leave *those*, the generator is at
# fault.
#
# ## Claims: what the paper says, what we saw
#
# They were written down before the study ran, each with the smallest effect
# that matters, in `rae.claims.toml` beside this notebook; the rule that turns
# runs into verdicts is in {doc}`/book/method`. First the gates: nothing is
# claimed before the ground is firm.

# %% tags=["hide-input"]
pd.concat(
    [study.gates(name) for name in ("encoders", "decoders", "generators")]
)

# %% tags=["hide-input", "slide"]
page.claims()

# %% [markdown]
# C1 is the closest to the paper: it is linear algebra, and size does not
# matter for it. C5-control has no counterpart there. DINOv2 saw 142 million
# photographs and this encoder a few thousand shapes: what is compared is
# *training against no training*, not one recogniser against another.
#
# ## Is my run healthy?
#
# The live run above is seed 0 of the study. Its losses should lie within
# three standard deviations of the recorded seeds.

# %% tags=["hide-input"]
for name, runs, arm, history in (
    ("decoder, total loss", decoders, "tau 0.8 (paper)", decoder_history),
    ("DiT^DH, velocity", generators, "DiT^DH, shift", generator_history),
):
    recorded = runs[runs["variant"] == arm]["loss"].astype(float)
    middle, reach = recorded.mean(), 3 * recorded.std()
    healthy = page.healthy(
        f"{name}, mean of the last fifth",
        last_loss(history),
        middle - reach,
        middle + reach,
    )
healthy

# %% [markdown]
# | sign | what it means |
# |---|---|
# | L1 stays far above the range | images not in [-1, 1], or pixel statistics not undone |
# | velocity loss starts far from 2 | latents are not standardised |
# | velocity loss stops near $(C-d)/C$ | the network is narrower than a token |
# | samples are blurred class means | the shift goes the wrong way: try $1/\alpha$ |
# | sharp reconstructions, samples full of blocks | decoder trained without noise |
#
# ## At the size of the paper
#
# Every count is held against the one of the public code, on the meta device:
# of the decoder its trainable parameters, of the generator all, with the
# fixed position table and the Fourier frequencies.

# %% tags=["hide-input", "nbval-check-output"]
for name in ("vit-b", "vit-l", "vit-xl"):
    size = rae.PRESETS[name]
    with torch.device("meta"):
        count = rae.build(size).decoder_parameters()
    print(f"{name:16s} {count:12,}", count == size.published_params)
for name in ("dit-dh-s", "dit-dh-b", "dit-dh-xl", "dit-xl"):
    size = rae_dit.PRESETS[name]
    with torch.device("meta"):
        network = rae_dit.build(size)
    count = count_parameters(network)
    count += network.network.time.frequencies.numel()
    print(f"{name:16s} {count:12,}", count == size.published_params)


# %% [markdown]
# With ImageNet's layout under `$GENTOK_DATA/images/<class>/` and LPIPS's
# weights where {doc}`/book/data` says, on one GPU or on many:
#
# ```bash
# gentok info rae --preset vit-xl
# accelerate launch -m gentok.cli train rae --preset vit-xl --profile gpu
# gentok sample rae --from runs/rae.safetensors --out samples.png
# ```
#
# Decoder, DiT$^{DH}$-XL and its weak guide are stages by the paper's plan, at
# 512 pixels (`vit-xl-512`) by that of this size; the encoder is read through
# `transformers`. The weights of this chapter come from `make weights NB=rae`.
#
# ## What we learned

# %% tags=["hide-input", "slide"]
def gap(arm):
    """What noise of 0.5 adds to the error of an arm."""
    return mean_of(decoders, arm, "noisy") - mean_of(decoders, arm, "clean")


other = weights_of("fa_vae")["metrics"]
lessons = (
    f"1. A frozen encoder's tokens can be painted and drawn: the judge names "
    f"**{metrics['judge_accuracy']:.0%}** of the samples right; FA-VAE, whose "
    f"encoder is trained for pixels, reaches {other['judge_accuracy']:.0%} on "
    f"the same shapes.",
    f"2. Pretraining moved the read-out of all tokens from {blank:.0%} "
    f"(untrained) to {ours:.0%}, and that of pooled ones from "
    f"{mean_of(encoders, 'random weights', 'pooled'):.0%} to "
    f"{mean_of(encoders, 'small MAE', 'pooled'):.0%}: ask for the first "
    f"number whenever you see the second.",
    f"3. At width 32 the loss on one picture stays at "
    f"{mean_of(widths, 'width 32, depth 4', 'loss'):.2f} (bound 0.50), twice "
    f"as deep at {mean_of(widths, 'width 32, depth 8', 'loss'):.2f}; at "
    f"width 64 it is {mean_of(widths, 'width 64, depth 4', 'loss'):.2f}.",
    f"4. Noise of 0.5 on the tokens costs a decoder trained on noise "
    f"{gap('tau 0.8 (paper)'):.3f} of L1, one trained without "
    f"{gap('tau 0'):.3f}.",
    f"5. At equal cost the head's velocity loss is "
    f"{mean_of(generators, 'DiT^DH, shift', 'velocity'):.3f} against "
    f"{mean_of(generators, 'plain DiT, shift', 'velocity'):.3f} of a plain "
    f"transformer that is as wide as a token: see the verdict of C4.",
)
page.say("{lines}", lines="\n".join(lessons))


# %% [markdown]
# ## Limits
#
# One procedural world, an encoder of 0.2 million parameters that saw eight
# thousand pictures, a minute of training for each network of the study. The
# arms are compared after equally many steps, not at their ends. Accuracy is
# what a small classifier says. FID, DINOv2 and 256 pixels are not tested here,
# and no claim hangs on the adversary, which plays in the long training only.
#
# ## Exercises
#
# ```{exercise} Shift in the right direction (difficulty 1, 10 minutes)
# :label: ex-rae-shift
# From {eq}`eq-rae-shift` write `shift(t, m, n)` for the book's times `t` (0 =
# noise): the bend for a latent of `m` numbers with base `n`. First predict: is
# `shift(0.5, 4 * 4096, 4096)` above or below 0.5?
# ```

# %%
def shift(t, m, n): ...


check.shift(shift)


# %% [markdown]
# ```{solution-start} ex-rae-shift
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def shift(t, m, n):
    alpha = (m / n) ** 0.5
    return (t / alpha) / (1 + (1 / alpha - 1) * t)


check.shift(shift)


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The bound of theorem 1 (difficulty 3, 25 minutes)
# :label: ex-rae-bound
# Derive {eq}`eq-rae-bound`: which subspace of dimension $d$ leaves the least
# error? Then write `bound(targets, width)`: the least velocity loss per
# number, from samples of the target `(S, C)`. A bias in the last layer is
# allowed. What does it say for a single picture at `width = C / 2`?
# ```

# %%
def bound(targets, width): ...


check.bound(bound)


# %% [markdown]
# ```{solution-start} ex-rae-bound
# :class: dropdown
# A prediction $Wh+b$ with $h\in\mathbb R^d$ lies in a plane of dimension $d$.
# The best plane through a cloud is that of its first $d$ principal
# components; what is left is the sum of the other eigenvalues. For a single
# picture all are 1: $(C-d)/C=\tfrac12$.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def bound(targets, width):
    eigenvalues = torch.linalg.eigvalsh(torch.cov(targets.T))  # rising
    channels = targets.shape[1]
    return eigenvalues[: channels - width].sum() / channels


check.bound(bound)


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Noise for a decoder (difficulty 1, 10 minutes)
# :label: ex-rae-noise
# Write `noisy(z, u, eps, tau)` for tokens `z` (B, C, g, g): the paper's
# augmentation, made of drawn numbers `u` (B,) and `eps` like `z`, all
# standard Gaussian. Predict the mean strength for `tau = 0.8`.
# ```

# %%
def noisy(z, u, eps, tau): ...


check.noisy(noisy)


# %% [markdown]
# ```{solution-start} ex-rae-noise
# :class: dropdown
# The mean of $|u|$ is $\sqrt{2/\pi}\approx 0.80$, so the mean strength is
# about 0.64.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def noisy(z, u, eps, tau):
    return z + tau * u.abs().view(-1, 1, 1, 1) * eps


check.noisy(noisy)


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What a wide block costs (difficulty 2, 20 minutes)
# :label: ex-rae-macs
# A block of the head has attention (four square matrices), SwiGLU (three
# matrices between `dim` and $\tfrac83$ `dim`), and a modulation of six vectors
# for *each token*. Write `head_macs(tokens, dim)`: its multiply-adds. How wide
# may a head of two blocks be for the price of 30 blocks of width 48, whose
# modulation is one for all tokens?
# ```

# %%
def head_macs(tokens, dim): ...


check.head_macs(head_macs)


# %% [markdown]
# ```{solution-start} ex-rae-macs
# :class: dropdown
# A token costs $4d^2$ for attention's matrices, $2Nd$ for its two products,
# $8d^2$ for SwiGLU and $6d^2$ for the modulation. Without the products,
# $2\cdot 18\,d^2=30\cdot 12\cdot 48^2$ gives $d\approx 152$.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def head_macs(tokens, dim):
    return tokens * (18 * dim**2 + 2 * tokens * dim)


check.head_macs(head_macs)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Change it and draw again (difficulty 1, 15 minutes)
# :label: ex-rae-change
# Predict, then run: the trained generator without guidance, with its default
# (classifier-free, 2), with that at 4, with AutoGuidance at 2
# (`weak=system.guide`), and in 4 steps in place of 16. Which change costs most accuracy? Use
# `system.sample(20, ten.repeat(2), num_steps=16)` and `named(...)`.
# ```
#
# ```{solution-start} ex-rae-change
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
changes = (
    ("no guidance", {"guidance_scale": 1.0}),
    ("CFG, w = 2", {}),
    ("CFG, w = 4", {"guidance_scale": 4.0}),
    ("AutoGuidance, w = 2", {"weak": weak}),
    ("4 steps", {"num_steps": 4}),
)
answers = {}
for name, change in changes:
    torch.manual_seed(seed + 2)
    options = {"num_steps": 16} | change
    tries = system.sample(20, ten.repeat(2), **options).clamp(-1, 1)
    answers[name] = named(tries, ten.repeat(2))
page.rows(answers, "Share of 20 samples named as asked")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Read the record (difficulty 2, 10 minutes)
# :label: ex-rae-record
# Look at the table of generators. Which two arms differ in *one* thing only?
# Why may the velocity loss of *DiT^DH, shift* be held against that of the plain
# transformer, but not against that of the arm without a shift?
# ```
#
# ```{solution} ex-rae-record
# :class: dropdown
# *DiT^DH, shift* and *DiT^DH, no shift* differ in their times only. The plain
# arm differs in layout, width *and* depth, because equal cost was wanted. The
# loss is an average over times, and the shift changes the times: near noise a
# velocity is harder to tell than in the middle. So the shift is judged by what
# is drawn.
# ```
#
# (rae-cost)=
# ## What this run cost

# %% tags=["hide-input"]
study.finish()
page.cost()

# %% [markdown]
# ## Further reading
#
# - RAE itself {cite:p}`zheng2025rae`; the detached head {cite:p}`wang2025ddt`;
#   LightningDiT and the opposite answer to the same question, a VAE aligned
#   with a foundation model {cite:p}`yao2025vavae`.
# - The encoders: DINOv2 {cite:p}`oquab2024dinov2` with registers
#   {cite:p}`darcet2024registers`, SigLIP 2 {cite:p}`tschannen2025siglip2`, MAE
#   {cite:p}`he2022mae`.
# - The discriminator: StyleGAN-T {cite:p}`sauer2023stylegant` on DINO
#   {cite:p}`caron2021dino`, with DiffAugment {cite:p}`zhao2020diffaugment`;
#   the perceptual loss {cite:p}`zhang2018lpips`.
# - Shifted schedules {cite:p}`esser2024sd3`; AutoGuidance
#   {cite:p}`karras2024autoguidance`.
# - The sibling chapter on continuous latents: {doc}`/notebooks/latents/fa_vae`.
