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
# # Must every token pass the network at every step?
#
# :::{admonition} Before you start
# **Time, memory, threads**: measured by this very run, in the cell
# [What this run cost](enat-cost) near the end · **GPU** not needed ·
# **Read first** {doc}`/book/how_to` and {doc}`/book/notation` ·
# **Paper** {cite:p}`ni2024enat` · **Builds on** VQGAN
# {cite:p}`esser2021vqgan` and MaskGIT {cite:p}`chang2022maskgit`
# :::
#
# A masked token generator draws an image in about eight steps. At each step a
# transformer looks at all tokens, known and unknown, and starts from nothing.
# ENAT asks two questions. *Where* is the work needed: do known tokens have to
# see unknown ones? And *when*: has a token that was known a step ago to be
# computed again?
#
# **You will be able to**
# - train a VQ tokenizer with a perceptual and an adversarial term, and tell a
#   healthy codebook from a sick one;
# - follow a masked token generator from the first guess to the last;
# - derive what one of its steps costs, and check the formula by counting;
# - compare architectures at equal cost and not at equal depth;
# - say what reuse saves, what it costs, and why it must be trained.

# %% tags=["parameters"]
profile = "cpu"  # "smoke" for tests, "study" for the record, "gpu"

# %% tags=["hide-input"]
import inspect
import time
import warnings
from dataclasses import replace
from itertools import pairwise

warnings.filterwarnings("ignore", message="IProgress not found")

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F

from gentok.base import vqgan
from gentok.base.masked import nat
from gentok.base.masked.groups import Groups
from gentok.base.masked.likelihood import decoding_nll, grid_nll, masked_nll
from gentok.base.masked.unmask import generate, mask_schedule
from gentok.book.study import Study, summarize
from gentok.data import (
    SHAPES,
    ImageSet,
    available,
    batches,
    cifar10,
    render_images,
    sample_scenes,
    to_uint8,
)
from gentok.measure import (
    code_usage,
    count_flops,
    count_parameters,
    embeddings,
    frechet_distance,
    load_classifier,
    peak_memory,
    perceptual_distance,
    psnr,
)
from gentok.show import plot
from gentok.tokens import enat
from gentok.tokens.enat.cost import enat_step_macs, sample_macs
from gentok.tokens.enat.recipe import plan
from gentok.training import profiles
from gentok.training.loop import fit

began = time.perf_counter()
plot.use_style()
level = profiles.profile(profile)
study = Study("enat", level)
torch.manual_seed(0);


# %% [markdown]
# ## The pictures
#
# One shape on a plainly shaded floor, ten classes, drawn by the book's
# {doc}`procedural world </book/data>`: any number of pictures, with known
# labels. Floors are plain and shapes upright, since a network that trains so
# briefly should spend its time on shapes. In the `gpu` profile CIFAR-10
# {cite:p}`krizhevsky2009cifar` takes their place if you have it.

# %%
def shapes(n, seed):
    """n pictures (n, 3, 32, 32) of one upright shape on a plain floor."""
    scenes = sample_scenes(n, seed, max_objects=1)
    scenes = replace(
        scenes,
        texture=torch.zeros_like(scenes.texture),
        angle=torch.zeros_like(scenes.angle),
    )
    parts = [scenes[i : i + 512] for i in range(0, n, 512)]
    images = torch.cat([to_uint8(render_images(p, 32)) for p in parts])
    source = "procedural world: upright shapes on plain floors"
    return ImageSet(images, scenes.shape[:, 0].clone(), SHAPES, source)


photos = level.name == "gpu" and bool(available().get("cifar10"))
if photos:
    train_set, test_set = cifar10("train"), cifar10("test")
else:
    train_set = shapes(level.pick(smoke=96, cpu=4096), seed=0)
    test_set = shapes(level.pick(smoke=32, cpu=512), seed=1)
judge = load_classifier("cifar10" if photos else "world")
test, test_label = test_set.floats(), test_set.labels
print(train_set.source)

# %% mystnb={"image": {"alt": "Twenty small pictures, two of each class: cross, star, heart, crescent and other shapes in bright colours on shaded floors"}}
first = torch.cat([(test_label == k).nonzero()[:2, 0] for k in range(10)])
names = [test_set.class_names[int(k)] for k in test_label[first]]
plot.image_grid(
    test[first], "Two pictures of each class", columns=10, captions=names
);

# %% [markdown]
# ## The tokenizer: VQGAN
#
# An encoder maps the 32×32 picture to an 8×8 grid of vectors $z$; each is
# replaced by its nearest code, and a decoder maps the codes back:
#
# $$
# k_i=\arg\min_k\lVert z_i-e_k\rVert^2,\qquad
# \hat x=\mathrm{Dec}(e_{k_1},\dots,e_{k_N}).
# $$
#
# The codebook $e$ follows the moving average of the vectors that chose each
# code {cite:p}`oord2017vqvae`. Codes that nobody chooses are moved onto
# vectors of the batch. The loss has four terms {cite:p}`esser2021vqgan`:
#
# $$
# \underbrace{\lvert x-\hat x\rvert}_{\text{pixels}}
# +\underbrace{w\,d(x,\hat x)}_{\text{perceptual}}
# +\underbrace{\beta\lVert z-e_k\rVert^2}_{\text{commitment}}
# -\underbrace{\lambda\,D(\hat x)}_{\text{adversary}},\qquad
# \lambda=c\,\frac{\lVert\nabla_{\!W}\,\text{(first three)}\rVert}
# {\lVert\nabla_{\!W}\,D(\hat x)\rVert}.
# $$
#
# $W$ is the decoder's last weight: there the adversary's pull is $c$ times as
# strong as all others together, however confident $D$ has become. LPIPS
# {cite:p}`zhang2018lpips` needs a network trained on ImageNet; here $d$ has
# its form, on features of a small classifier of the book's own pictures.

# %%
# NBVAL_CHECK_OUTPUT
config = vqgan.PRESETS["tiny"]
torch.manual_seed(0)
game = vqgan.AdversarialVQGAN(vqgan.build(config), judge)
codes = game.tokenizer.encode(test[:2])
print("codes", tuple(codes.shape), "of", config.codebook_size)
print("decoded", tuple(game.tokenizer.decode(codes).shape))
print("parameters", f"{count_parameters(game.tokenizer):,}")
print("discriminator", f"{count_parameters(game.discriminator):,}")

# %% [markdown]
# The tokenizer's turn in this game, as the library has it. `frozen` keeps the
# discriminator's weights out of the gradient, while gradients still pass
# *through* it to the picture:

# %% tags=["hide-output"]
print(inspect.getsource(vqgan.AdversarialVQGAN.loss))

# %% [markdown]
# We train it once and share it among all experiments below: seeds vary the
# transformers, not the tokens they are made for. While it trains, a hook
# writes down how the codebook is used on test pictures, and keeps the
# reconstructions from just before the adversary starts.

# %%
TOKENIZER_STEPS = level.pick(smoke=6, cpu=800, gpu=20_000)
ADVERSARY = int(0.75 * TOKENIZER_STEPS)
probe = test[: level.pick(smoke=16, cpu=128)].to(level.device)


def train_tokenizer(
    steps=TOKENIZER_STEPS, start=ADVERSARY, seed=0, on_step=None, **changes
):
    size = replace(config, gan_start=start, **changes)
    torch.manual_seed(seed)
    game = vqgan.AdversarialVQGAN(vqgan.build(size), judge)
    how = plan("tiny", level).tokenizer  # as `gentok train enat` does
    how = replace(how, steps=steps, warmup=min(20, steps - 1))
    return fit(
        game.to(level.device),
        batches(train_set, how.batch_size, seed=seed, flip=True),
        **how.fit_arguments(),
        seed=seed,
        log_every=level.pick(smoke=1, cpu=5),
        progress=on_step is not None,
        on_step=on_step,
    )


@torch.no_grad()
def health(tokenizer):
    codes = tokenizer.eval().encode(probe)
    tokenizer.train()
    return code_usage(codes, config.codebook_size)


usage, before = [], {}


@torch.no_grad()
def watch(step, game):
    if step % max(1, TOKENIZER_STEPS // 40) == 0:
        usage.append({"step": step, **health(game.tokenizer)})
    if step == ADVERSARY - 1:
        game.tokenizer.eval()
        x = test[:10].to(level.device)
        x_hat = game.tokenizer.decode(game.tokenizer.encode(x))
        before["images"] = x_hat.cpu()
        game.tokenizer.train()


fitted = train_tokenizer(on_step=watch)
tokenizer = fitted.model.tokenizer.eval()

# %% mystnb={"image": {"alt": "Left: pixel error and perceptual distance fall over training. Right: perplexity rises close to the number of codes, and the share of used codes stays near one"}}
log = pd.DataFrame(fitted.history).rename(
    columns=lambda name: name.removeprefix("tokenizer/")
)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
plot.loss_curves(
    log, "Tokenizer losses", ["l1", "perceptual"], "loss (no unit)", left
)
left.axvline(ADVERSARY, color="#555555", linestyle=":")
watched = pd.DataFrame(usage)
right.plot(watched["step"], watched["perplexity"], label="perplexity")
right.plot(watched["step"], watched["used"], "--", label="used codes")
right.axhline(config.codebook_size, color="#555555", linestyle=":")
right.set(title="Codebook in use", xlabel="optimiser step", ylabel="codes")
right.set_ylim(bottom=0)
right.legend();

# %% [markdown]
# Left: the dotted line is where the adversary enters. Right: *used codes* are
# those that occur at all on the test pictures; *perplexity*
# $\exp(-\sum_k p_k\log p_k)$ also asks how evenly. The dotted line is the size
# $K$ of the codebook. A perplexity near $K$ is a healthy codebook: each
# token carries close to $\log_2 K$ bits. A fall of the curve in mid-training
# would be a collapse.

# %% mystnb={"image": {"alt": "Left: the discriminator's mean answer for real pictures rises above that for reconstructions. Right: the adaptive weight of the adversary changes by orders of magnitude"}}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.0))
game_log = log[log["step"] >= ADVERSARY]
for name, line in (("real", "-"), ("fake", "--")):
    left.plot(
        game_log["step"], game_log[f"discriminator/{name}"], line, label=name
    )
left.set(title="The discriminator's answer", xlabel="optimiser step")
left.set(ylabel="mean logit (positive: real)")
left.legend()
right.plot(game_log["step"], game_log["adaptive_weight"])
right.set(title="Adaptive weight", xlabel="optimiser step", yscale="log")
right.set(ylabel="weight of the adversary");

# %% [markdown]
# The discriminator soon tells most reconstructions from real pictures. As it
# grows sure of itself its gradient grows, and $\lambda$ falls in step: with a
# fixed weight it would now outshout the pixels.

# %% mystnb={"image": {"alt": "Three rows of ten pictures: originals, reconstructions before the adversary, which are soft, and at the end of training"}}
with torch.no_grad():
    test_codes = torch.cat(
        [tokenizer.encode(x.to(level.device)).cpu() for x in test.split(256)]
    )
    real = torch.cat(
        [
            tokenizer.decode(codes.to(level.device)).cpu()
            for codes in test_codes.split(256)
        ]
    )
plot.compare_rows(
    {
        "original": test[:10],
        "before adversary": before["images"],
        "at the end": real[:10],
    },
    "What 64 codes can say",
);

# %% [markdown]
# Shapes and floors come back, corners and fine gradients do not: 64 codes of
# 6 bits are 48 bytes for a picture of 3,072. The table holds the
# reconstructions to numbers. The *accuracy* is that of a classifier which has
# never seen a reconstruction: it bounds what any generator of these codes can
# reach.

# %%
device_judge = judge.to("cpu").eval()


@torch.no_grad()
def accuracy(images, label):
    """Share of images that the classifier takes for their class."""
    return float((device_judge(images).argmax(1) == label).float().mean())


overall = code_usage(test_codes, config.codebook_size)
pd.Series(
    {
        "PSNR (dB)": float(psnr(test, real.clamp(-1, 1)).mean()),
        "perceptual distance": float(
            perceptual_distance(device_judge, test, real).mean()
        ),
        "perplexity": overall["perplexity"],
        "bits a token": overall["entropy_bits"],
        "accuracy on originals": accuracy(test, test_label),
        "accuracy on reconstructions": accuracy(real, test_label),
    }
).round(3).to_frame("tokenizer")

# %% mystnb={"image": {"alt": "Thirty-two patches, each a whole picture made of one repeated code: most are flat colours, some show stripes or edges"}}
common = torch.bincount(test_codes.flatten(), minlength=config.codebook_size)
common = common.topk(32).indices
with torch.no_grad():
    wall = tokenizer.decode(common[:, None].repeat(1, 64).to(level.device))
plot.image_grid(
    wall.cpu()[:, :, 8:24, 8:24],
    "The 32 most frequent codes, each repeated over the whole grid",
    columns=16,
);

# %% [markdown]
# A code is no word with a fixed picture: the decoder sees its neighbours too.
# Repeated over the grid, a code is little more than a shade. Edges and corners
# are written by *different* codes side by side, which is why a generator must
# choose neighbours that agree.
#
# ### What keeps the codebook alive?
#
# **Predict first**: which change empties the codebook: no revival of dead
# codes, the commitment weight of the VQ-VAE paper (0.25 instead of 0.01), or
# latents without a fixed scale? Short trainings without an adversary, over
# seeds:

# %%
SHORT = level.pick(smoke=2, cpu=120)
SHORT_SEEDS = (0, 1, 2)


def short_tokenizer(seed, **changes):
    fitted = train_tokenizer(SHORT, SHORT, seed, **changes)
    tokenizer = fitted.model.tokenizer.eval()
    with torch.no_grad():
        z = tokenizer.latents(probe).flatten(0, 2)
        x_hat = tokenizer.decode(tokenizer.encode(probe))
    spread = torch.linalg.eigvalsh(torch.cov(z.T))
    used = code_usage(tokenizer.encode(probe), config.codebook_size)
    return {
        "perplexity": used["perplexity"],
        "used": used["used"],
        "dimensions": float(spread.sum() ** 2 / spread.square().sum()),
        "l1": float((x_hat - probe).abs().mean()),
        "losses": [row["tokenizer/l1"] for row in fitted.history],
    }


codebook_runs = study.ablate(
    "codebook",
    short_tokenizer,
    {
        "full": {},
        "no revival": {"dead_threshold": 0.0},
        "strong commitment": {"commitment": 0.25},
        "free scale": {"normalize_latents": False},
    },
    seeds=SHORT_SEEDS,
)
summarize(codebook_runs, ["perplexity", "used", "dimensions", "l1"])

# %% mystnb={"image": {"alt": "Perplexity over seeds for four variants of the tokenizer, as means with intervals"}}
plot.intervals(
    codebook_runs,
    "perplexity",
    "Codes in use after a short training",
    "perplexity (codes)",
);

# %% [markdown]
# Perplexity alone can deceive. *Dimensions* is the effective dimension of the
# latents, $(\sum_i\lambda_i)^2/\sum_i\lambda_i^2$ of their covariance's
# eigenvalues: a codebook may be in full use along a single line, and then it
# says only one thing, brightness. Look at both columns, and at the pixel error
# *l1*, before you call a codebook healthy.
#
# ## Masked token generation
#
# The tokenizer turns every picture into 64 codes. A generator now learns to
# fill in hidden ones {cite:p}`chang2022maskgit`. In training a share $r$ of
# the tokens is replaced by a mask token, one ratio for the whole batch,
# $r\sim\mathrm{Beta}(12,3)$, and the loss is the cross-entropy on those tokens
# only, with label smoothing 0.1. The class label enters every block through
# adaptive layer norm; it is replaced by "no class" with probability 0.15 and
# again with 0.1, so that the network can be asked without a class, too.
#
# To draw a picture, start with nothing but masks. At each of $T$ steps guess
# all hidden tokens, keep the most confident guesses, and hide the rest again.
# After step $t$ (counted from 0)
#
# $$
# \Big\lfloor N\cos\Big(\frac{\pi}{2}\,\frac{t+1}{T}\Big)\Big\rfloor
# $$
#
# tokens stay hidden: few are revealed at first, when little is known.

# %% mystnb={"image": {"alt": "Stacked bars over eight steps: masked tokens shrink from 64 to 12, newly revealed ones are few in every step, reused ones grow"}}
counts = mask_schedule(64, 8)
seen = [64 - c for c in counts[:-1]]  # visible at each step
new = [0] + [b - a for a, b in pairwise(seen)]
old = [v - n for v, n in zip(seen, new, strict=True)]
figure, axes = plt.subplots(figsize=(8.2, 3.2))
steps = range(1, 9)
axes.bar(steps, counts[:-1], label="masked: decoder")
axes.bar(steps, new, bottom=counts[:-1], label="newly revealed: encoder")
base = [64 - o for o in old]
axes.bar(steps, old, bottom=base, label="revealed earlier: reused", hatch="//")
axes.set(title="What ENAT does with 64 tokens, step by step")
axes.set(xlabel="decoding step", ylabel="tokens")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1));

# %% [markdown]
# A plain network (NAT) passes all 64 tokens through all blocks at every step:
# the whole bar, eight times. ENAT's two observations split the bar:
#
# 1. **Space.** Masked tokens mostly read, visible tokens mostly provide. What
#    is to be known about a visible token can be computed from visible tokens
#    alone. So a *deep encoder* sees visible tokens only, and a *shallow
#    decoder* lets masked tokens read the encoder's result.
# 2. **Time.** From one step to the next only the newly revealed tokens change
#    much. So the encoder takes only those, and reads the features of the older
#    ones, as they came out of the step before, through a small network
#    $f(z)=z+\mathrm{MLP}(\mathrm{LN}(z))$.
#
# Both use one kind of attention. Queries come from $x$. Keys and values come
# from a context $y$ and from $x$ itself, by two *different* projections, under
# one softmax:
#
# $$
# \mathrm{SC}(x,y)=\mathrm{softmax}\!\Big(\tfrac{1}{\sqrt d}\,
# Q\hat x\,[K_A\hat y;\,K_B\hat x]^\top\Big)\,[V_A\hat y;\,V_B\hat x].
# $$
#
# In the encoder $x$ are the new tokens and $y$ the projected old features; in
# the decoder $x$ are the masked tokens and $y$ all visible features. This is
# the library's code:

# %%
print(inspect.getsource(enat.SCAttention.forward))
print(inspect.getsource(enat.ENAT.features))

# %% [markdown]
# What `features` promises can be tested. Change the codes *under* the mask,
# or the embedding of the mask itself: visible features must not move.

# %%
# NBVAL_CHECK_OUTPUT
tiny = enat.PRESETS["tiny"]
torch.manual_seed(0)
network = enat.build(tiny).eval()
for name, parameter in network.named_parameters():
    if "modulation" in name:  # zero at first: every block is the identity
        torch.nn.init.normal_(parameter, std=0.3)
groups = Groups.from_order(torch.rand(2, 64).argsort(-1), num_masked=40)
grid, label = torch.randint(64, (2, 64)), torch.tensor([3, 7])
print("new, old, masked:", *(g.shape[1] for g in vars(groups).values()))
with torch.no_grad():
    z = network.embed(grid, label, groups, None)
    network.embedding.word.weight[64] += 1  # another mask embedding
    moved = network.embed(grid, label, groups, None)
same = (z == moved).all(-1)  # (2, 64)
print("features", tuple(z.shape))
print("visible features unmoved:", bool(same.gather(1, groups.new).all()))
print("masked features moved:", not same.gather(1, groups.masked).any())


# %% [markdown]
# ## What a step costs, exactly
#
# Count multiply-accumulates of matrix products, with $|\Delta|$ new, $|o|$
# old, $|V|=|\Delta|+|o|$ visible and $|M|$ masked tokens, width $D$:
#
# - encoder: $n_{enc}\,(12D^2|\Delta|+2D^2|o|+2|\Delta||V|D+8D^2)$, nothing if
#   no token is new;
# - projection of old features: $8D^2|o|$;
# - decoder: $n_{dec}\,(12D^2|M|+2D^2|V|+2|M|ND+8D^2)$;
# - head: $N\,(D^2+(K+1)D)$.
#
# The $8D^2$ is the modulation of a block. A plain network pays
# $L\,(12D^2N+2N^2D+6D^2)$ and the head at every step. The next cell holds the
# formula against PyTorch's own operation counter. On the *meta* device no
# number is computed, so ENAT-L at full size costs nothing.

# %%
# NBVAL_CHECK_OUTPUT
def one_step(network, groups, previous):
    codes = torch.zeros(previous.shape[:2], dtype=torch.int64, device="meta")
    z = network.embed(codes, codes[:, 0], groups, previous)
    network.head(network.norm(z), network.embedding.word.weight)


for name in ("tiny", "enat-l-256"):
    size = enat.PRESETS[name]
    n = size.num_tokens
    with torch.device("meta"):
        network = enat.build(size)
    for new, old in ((0, 0), (20, 0), (7, 30)):
        order = torch.zeros(1, n, dtype=torch.int64, device="meta")
        groups = Groups.from_order(order, n - new - old, new)
        previous = torch.zeros(1, n, size.dim, device="meta")

        counted = count_flops(one_step, network, groups, previous) // 2
        formula = enat_step_macs(size, new, old, n - new - old)
        print(f"{name:>10}: {new:2} new, {old:2} old:", counted == formula)

# %%
# NBVAL_CHECK_OUTPUT
large = enat.PRESETS["enat-l-256"]
for name, macs in {
    "ENAT-L with reuse": sample_macs(large, 8),
    "ENAT-L without": sample_macs(large, 8, reuse=False),
    "plain, 24 blocks": sample_macs(nat.PRESETS["nat-l-256"], 8),
}.items():
    print(f"{name:>18}: {macs / 1e9:.0f} GMACs a sample, 8 steps, one branch")

# %% [markdown]
# The released ENAT-L needs a fifth of a plain network of its depth and width.
# Guidance runs two branches and doubles all three numbers.
#
# ## Training
#
# For reuse the network must meet stale features in training. In half of the
# batches some visible tokens are hidden once more; a moving average of the
# network looks at this *earlier* state, and its features are handed over as
# those of the step before. `fit` keeps the average and hands it to the network
# by `set_teacher`.

# %%
with torch.no_grad():
    everything = train_set.floats()
    mirrored = torch.cat([everything, everything.flip(-1)])
    train_codes = torch.cat(
        [
            tokenizer.encode(x.to(level.device)).cpu()
            for x in mirrored.split(256)
        ]
    )
table = {"codes": train_codes, "label": train_set.labels.repeat(2)}
K = config.codebook_size
shares = torch.bincount(train_codes.flatten(), minlength=K).float()
unigram = torch.special.entr(shares / shares.sum()).sum()
print(f"{len(train_codes):,} grids; guessing by frequency: {unigram:.2f} nats")


def train_network(network, steps, seed=0, progress=False):
    """Train on the codes; returns the averaged network and the history."""
    how = plan("tiny", level).generator
    how = replace(how, steps=steps, warmup=min(60, steps // 2))
    fitted = fit(
        network.to(level.device),
        batches(table, batch_size=level.pick(cpu=16, smoke=4), seed=seed),
        **how.fit_arguments(),
        seed=seed,
        log_every=1,
        progress=progress,
    )
    return fitted.ema.cpu(), fitted.history


# %%
LIVE = level.pick(smoke=3, cpu=1600, gpu=20_000)
torch.manual_seed(0)
ours, history = train_network(enat.build(tiny), LIVE, progress=True)

# %% mystnb={"image": {"alt": "The training loss of ENAT falls from the logarithm of the codebook size and flattens; single batches scatter widely"}}
axes = plot.loss_curves(
    history, "ENAT, masked-token loss", ["loss"], "cross-entropy (nats)"
)
axes.axhline(float(unigram), color="#555555", linestyle=":")
axes.set_yscale("linear");

# %% [markdown]
# Each batch has its own mask ratio, so single losses scatter: filling in a
# tenth of a picture is easier than all of it. The dotted line is what the
# code frequencies alone give. The loss includes label smoothing, which keeps
# it above the true log-likelihood.
#
# ## Watching a picture come

# %% mystnb={"image": {"alt": "Five rows of pictures, one class each, over eight decoding steps: grey masked patches give way to a shape on a floor"}}
trace, shown = [], torch.arange(5)
torch.manual_seed(2)
final = generate(ours, shown, tiny.schedule, trace)


def painted(codes, mask):
    """Decode, and paint masked tokens grey: (B, 64) -> (B, 3, 32, 32)."""
    with torch.no_grad():
        images = tokenizer.cpu().decode(codes).clamp(-1, 1)
    grey = mask.view(-1, 1, 8, 8).float()
    grey = F.interpolate(grey, scale_factor=4)
    return images * (1 - grey) - 0.2 * grey


frames = torch.stack([painted(step.codes, step.mask) for step in trace], 1)
words = [f"step {t + 1}" for t in range(8)] * 5
plot.image_grid(
    frames.flatten(0, 1),
    "Decoding in eight steps; grey tokens are still masked",
    columns=8,
    captions=words,
);

# %% [markdown]
# The first tokens revealed are guesses that the network happens to be sure of:
# a corner of floor, the middle of an object. The rest grows around them, since
# every later token must agree with what is there. Tokens that are no longer
# grey never change again: an early mistake stays.

# %% mystnb={"image": {"alt": "Six rows of ten generated pictures, one class a column"}}
sixty = torch.arange(level.pick(smoke=10, cpu=60)) % 10
torch.manual_seed(3)
drawn = ours.sample(len(sixty), sixty)
with torch.no_grad():
    pictures = tokenizer.decode(drawn)
heads = [test_set.class_names[int(k)] for k in sixty]
plot.image_grid(
    pictures,
    "Samples, one class a column",
    columns=10,
    captions=heads,
);


# %% [markdown]
# So short a training gives one object in one colour on a smooth floor, and
# the beginnings of the right outline: rings have holes, bars lie flat, while
# stars and crosses are still lumps. The paper's network trains for 500,000
# steps of 2,048 pictures.
#
# ## An instrument: what changes between two steps?
#
# ENAT's second observation was made on a *plain* network, which computes all
# features anew at every step. Take one, decode, and measure for each token
# how far its last features turned since the step before, $1-\cos$. Tokens
# fall in three groups: just revealed, revealed earlier, still masked.
#
# **Predict first**: which group changes most, and by which factor?

# %%
@torch.no_grad()
def feature_change(network, count, seed=0):
    """1 - cos of features between steps: mean over (new, old, masked)."""
    trace = []
    torch.manual_seed(seed)
    generate(network, torch.arange(count) % 10, tiny.schedule, trace)
    masks = [torch.ones_like(trace[0].mask)] + [s.mask for s in trace]
    sums = {"new": [], "old": [], "masked": []}
    for t in range(1, len(trace)):
        z, earlier = trace[t].features, trace[t - 1].features
        change = 1 - F.cosine_similarity(z, earlier, dim=-1)  # (B, N)
        was, now = masks[t - 1], masks[t]  # what the two steps had hidden
        for name, where in {
            "new": was & ~now,
            "old": ~was,
            "masked": now,
        }.items():
            if where.any():
                sums[name].append((t, float(change[where].mean())))
    return sums


plain_tiny = nat.PRESETS["tiny"]
torch.manual_seed(0)
plain, _ = train_network(nat.build(plain_tiny), level.pick(smoke=2, cpu=500))
changes = feature_change(plain, level.pick(smoke=4, cpu=64))

# %% mystnb={"image": {"alt": "Change of features over decoding steps for three groups of tokens; newly revealed tokens change far more than the others"}}
figure, axes = plt.subplots(figsize=(6.4, 3.4))
for (name, points), mark in zip(changes.items(), "os^", strict=True):
    steps, values = zip(*points, strict=True)
    axes.plot([t + 1 for t in steps], values, marker=mark, label=name)
axes.set(title="Features of a plain network, from step to step")
axes.set(xlabel="decoding step", ylabel="change, 1 - cos (no unit)")
axes.set_ylim(bottom=0)
axes.legend();

# %% [markdown]
# A token that was just revealed swaps a mask's embedding for a code's, so its
# features turn most. Old tokens keep nearly theirs: to compute them again is
# work for little. That is the room for reuse.
#
# ## Who wins at equal cost?
#
# A deep plain network against a split one of the same depth is no fair match:
# the split one is cheaper. So each arm below gets the width at which *one
# sample of eight steps costs the same* as ENAT with three encoder blocks and
# one decoder block at width 96. The last two arms break that rule on purpose:
# the plain network at full width, and ENAT trained without reuse.

# %%
budget = sample_macs(tiny)


def equal_cost(size):
    """The width (a multiple of the heads) that comes closest to the budget."""
    widths = [replace(size, dim=d) for d in range(16, 161, size.num_heads)]
    return min(widths, key=lambda c: abs(sample_macs(c) - budget))


def split(encoder, decoder):
    return replace(tiny, encoder_depth=encoder, decoder_depth=decoder)


sizes = {
    "ENAT 3+1": tiny,
    "split 2+2": equal_cost(split(2, 2)),
    "inverted 1+3": equal_cost(split(1, 3)),
    "plain": equal_cost(plain_tiny),
    "plain, full width": plain_tiny,
    "ENAT, no reuse": replace(tiny, reuse_probability=0.0),
}
rows = []
for name, size in sizes.items():
    is_plain = isinstance(size, nat.NATConfig)
    with torch.device("meta"):
        network = (nat if is_plain else enat).build(size)
    rows.append(
        {
            "variant": name,
            "width": size.dim,
            "parameters": count_parameters(network),
            "MMACs a sample": round(sample_macs(size) / 1e6, 1),
            "without reuse": round(sample_macs(size, reuse=False) / 1e6, 1),
        }
    )
pd.DataFrame(rows).set_index("variant")

# %% [markdown]
# Every arm trains on the same batches with the same plan. We measure
#
# - **nll**: $-\log p$ of hidden tokens of test grids, mean over mask ratios,
#   no reuse, nats a token;
# - **decoding nll**: the same along a decoding, where real tokens are revealed
#   in random order on the sampler's schedule, with and without reuse;
# - **grid nll**: what eight steps of decoding with reuse pay for a whole grid,
#   nats a token; explained below;
# - **accuracy**: share of samples that the classifier takes for their class;
# - **Fréchet**: the Fréchet distance between samples and reconstructions of
#   test pictures on the classifier's features. It is no FID
#   {cite:p}`heusel2017fid`, and its numbers compare only with each other.

# %%
STEPS = level.pick(smoke=2, cpu=900)
SAMPLES = level.pick(smoke=10, cpu=400)
HELD = level.pick(smoke=4, cpu=512)  # test grids
RATIOS = (0.25, 0.5, 0.75, 0.95)
SEEDS = (0, 1, 2)
TIMES = (2, 4, 8, 16)  # decoding steps
BINS = (0, 50, 150, 300, 500, 850)  # training steps to report losses at
target = embeddings(device_judge, real[: len(test)])


@torch.no_grad()
def quality(network, seed):
    """Class accuracy and Fréchet distance of samples."""
    torch.manual_seed(seed)
    label = torch.arange(SAMPLES) % 10
    images = tokenizer.decode(network.sample(SAMPLES, label))
    distance = frechet_distance(target, embeddings(device_judge, images))
    return accuracy(images, label), distance


def run_arm(seed, size):
    is_plain = isinstance(size, nat.NATConfig)
    torch.manual_seed(seed)
    network = (nat if is_plain else enat).build(size)
    network, history = train_network(network, STEPS, seed)
    given = network, test_codes[:HELD], test_label[:HELD]
    losses = torch.tensor([row["loss"] for row in history])
    result = {
        "by_ratio": masked_nll(*given, RATIOS),
        "fresh": decoding_nll(*given, reuse=False),
        "losses": [float(losses[b : b + 50].mean()) for b in BINS],
    }
    result["nll"] = sum(result["by_ratio"]) / len(RATIOS)
    result["fresh_nll"] = sum(result["fresh"]) / 8
    if is_plain:
        result["reused"] = result["fresh"]
        moved = feature_change(network, SAMPLES // 4, seed)
        for name, points in moved.items():
            result[f"change_{name}"] = sum(v for _, v in points) / len(points)
    else:
        result["reused"] = decoding_nll(*given, reuse=True)
    result["reused_nll"] = sum(result["reused"]) / 8
    result["gap"] = result["reused_nll"] - result["fresh_nll"]
    result["accuracy"], result["frechet"] = quality(network, seed)
    result["curve"] = [grid_nll(*given, t) for t in TIMES]
    result["grid_nll"] = result["curve"][TIMES.index(8)]
    result["fresh_curve"] = [grid_nll(*given, t, reuse=False) for t in TIMES]
    if size == tiny:  # counting is slow, and one network is enough
        label = torch.zeros(1, dtype=torch.int64)
        flops = count_flops(network.sample, 1, label, guidance_scale=0.0)
        result["counted"], result["formula"] = flops // 2, sample_macs(size)
    return result


runs = study.ablate(
    "blocks",
    run_arm,
    {name: {"size": size} for name, size in sizes.items()},
    seeds=SEEDS,
)
summarize(runs, ["nll", "grid_nll", "accuracy", "frechet"])

# %% mystnb={"image": {"alt": "Negative log-likelihood of six variants as means with intervals over seeds"}}
plt.rcParams["axes.formatter.min_exponent"] = 3  # log axes: 200, not 2e2
plot.intervals(
    runs,
    "nll",
    "Predicting hidden tokens",
    "negative log-likelihood (nats a token, lower is better)",
);

# %% mystnb={"image": {"alt": "Negative log-likelihood against mask ratio for six variants: all rise towards a full mask, where they come close to each other"}}
figure, axes = plt.subplots(figsize=(6.8, 3.8))
dashes = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 2)))
for name, dash in zip(sizes, dashes, strict=True):
    chosen = runs[runs["variant"] == name]["by_ratio"].tolist()
    mean = torch.tensor(chosen).mean(0)
    axes.plot(RATIOS, mean, marker="o", linestyle=dash, label=name)
axes.set(title="More hidden, harder to guess")
axes.set(xlabel="share of tokens hidden", ylabel="nats a hidden token")
axes.legend(ncol=2, fontsize=9);

# %% [markdown]
# Read the table by pairs. *Inverted* against *ENAT* moves the depth from
# visible to masked tokens at the same cost: that is the paper's claim about
# space. *Plain* against *ENAT* asks whether splitting pays at all, once the
# plain network is as cheap. *Plain, full width* costs more than twice as much
# and shows what the cheap networks leave on the table.
#
# Splitting pays: the two networks with more than one decoder block come close
# to the wide plain one at a third of its cost. But the paper's preference for
# a deep encoder does not show here, the balance is the other way round. The
# curves say where: at every mask ratio but the highest, where the encoder has
# next to nothing to read and all networks meet.
#
# ## What does reuse cost, and what does it save?
#
# **Predict first**: a network trained *without* a simulated earlier step is
# decoded *with* reuse. Better, equal, worse?

# %% mystnb={"image": {"alt": "Two panels of negative log-likelihood over eight decoding steps with and without reuse: with reuse the loss ends higher, and the difference is larger for the network that was not trained for it"}}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
shown_arms = ("ENAT 3+1", "ENAT, no reuse")
for ax, name in zip(axes, shown_arms, strict=True):
    chosen = runs[runs["variant"] == name]
    for column, mark in (("fresh", "o"), ("reused", "^")):
        mean = torch.tensor(chosen[column].tolist()).mean(0)
        ax.plot(range(1, 9), mean, marker=mark, label=column)
    ax.set(title=name, xlabel="decoding step")
axes[0].set_ylabel("nats a hidden token")
axes[0].legend();

# %%
summarize(runs, ["fresh_nll", "reused_nll", "gap"]).loc[
    ["ENAT 3+1", "split 2+2", "inverted 1+3", "ENAT, no reuse"]
]

# %% [markdown]
# *Gap* is what reuse adds to the loss of the same network. Training simulates
# one earlier step; in decoding a token that was revealed long ago has passed
# $f$ once a step, $f(f(\dots))$, and its features are that much staler: the
# two curves part towards the end. Where training simulated nothing, $f$ is
# still the random network it began as, and the curves part further. It is not
# a catastrophe, since $f(z)=z+\dots$ keeps $z$ within what it returns.
#
# ## Quality against cost
#
# More steps, better pictures, higher bill. As quality we take the **grid
# nll**: decode real test grids in random order on the schedule of $T$ steps,
# and charge every token once, in the step that reveals it. Tokens of one step
# are guessed independently of each other, so few steps cost more. It is the
# exact negative log-likelihood of that way of decoding, and unlike a score of
# samples it has hardly any noise. Each curve is one network in 2, 4, 8 and 16
# steps.
#
# **Predict first**: does every curve fall when more steps are paid for?

# %% mystnb={"image": {"alt": "Negative log-likelihood of whole grids against the cost of a sample for four ways of decoding, each in two to sixteen steps; all fall with more steps but the one with reuse, which turns up at sixteen"}}
figure, axes = plt.subplots(figsize=(7.2, 4.0))
for (name, column, reuse), dash, mark in zip(
    (
        ("ENAT 3+1", "curve", True),
        ("ENAT 3+1", "fresh_curve", False),
        ("plain", "curve", False),
        ("plain, full width", "curve", False),
    ),
    ("-", "--", "-.", ":"),
    "os^D",
    strict=True,
):
    chosen = runs[runs["variant"] == name][column].tolist()
    mean = torch.tensor(chosen).mean(0)  # over seeds
    cost = [sample_macs(sizes[name], t, reuse) / 1e6 for t in TIMES]
    label = name
    if "ENAT" in name:
        label += ", reuse" if reuse else ", fresh"
    axes.plot(cost, mean, marker=mark, linestyle=dash, label=label)
    for t, x, y in zip(TIMES, cost, mean, strict=True):
        axes.annotate(
            f"{t}", (x, y), (4, 4), textcoords="offset points", fontsize=8
        )
axes.set(title="What a grid costs to draw, and how well", xscale="log")
axes.set(xlabel="cost of a sample, one branch (million MACs)")
axes.set(ylabel="grid nll (nats a token)")
axes.legend();

# %% [markdown]
# Left and low is good; the small numbers are the steps $T$. Reuse moves ENAT's
# curve to the left, and the more so the more steps there are, since a token
# passes the encoder once whatever $T$ is. But its curve turns up at the end:
# by then old features have passed $f$ a dozen times, while training showed it
# a single pass. The same network without reuse keeps falling. So the saving is
# real where the paper uses it, at few steps, and cannot be stretched at will.
# At the lowest costs all cheap networks lie on one line; who can pay for more
# is best served by width.
#
# ## Claims: what the paper says, what we saw
#
# Numbers, seeds and verdicts come from the recorded study; the rule is in
# {doc}`/book/ledger`. Each row is one claim of the paper, scaled down. Two of
# them were not fixed blindly: the margin of C2 was set before the study but
# after trials of one seed each, and C1c was added for the second study, when
# the first had left C1 undecided.

# %%
study.claim(
    "C1",
    "deep on visible, shallow on masked tokens beats the reverse",
    runs,
    "nll",
    system="ENAT 3+1",
    baseline="inverted 1+3",
    expected="lower",
    section="spatial interactions",
    note="equal cost of a sample",
)
study.claim(
    "C1b",
    "the split network beats a plain one of equal cost (likelihood)",
    runs,
    "nll",
    system="ENAT 3+1",
    baseline="plain",
    expected="lower",
    section="spatial interactions",
    note="equal cost of a sample",
)
study.claim(
    "C1c",
    "the split network with reuse beats a plain one of equal cost (decoding)",
    runs,
    "grid_nll",
    system="ENAT 3+1",
    baseline="plain",
    expected="lower",
    section="spatial and temporal interactions",
    note="equal cost of a sample, eight steps, reuse as in sampling",
)
study.claim(
    "C1d",
    "the split network beats a plain one of equal cost (samples)",
    runs,
    "frechet",
    system="ENAT 3+1",
    baseline="plain",
    expected="lower",
    section="results; there FID on ImageNet",
    note="Fréchet distance on classifier features, not FID",
)
ours_only = runs[runs["variant"] == "ENAT 3+1"]


def as_variants(rows, **columns):
    """Columns of the same runs, as variants of one metric."""
    parts = [
        pd.DataFrame(
            {"variant": name, "seed": rows["seed"], "value": rows[column]}
        )
        for name, column in columns.items()
    ]
    return pd.concat(parts)


study.claim(
    "C2",
    "reuse loses little: within 0.05 nats a token",
    as_variants(ours_only, reuse="reused_nll", fresh="fresh_nll"),
    "value",
    system="reuse",
    baseline="fresh",
    expected="equal",
    margin=0.05,
    section="temporal interactions",
    note="decoding nll of one network, with and without reuse",
)
study.claim(
    "C2b",
    "reuse must be trained: simulated steps make its loss smaller",
    runs,
    "gap",
    system="ENAT 3+1",
    baseline="ENAT, no reuse",
    expected="lower",
    section="temporal interactions",
    note="loss added by reuse when decoding",
)
full_width = runs[runs["variant"] == "plain, full width"]
study.claim(
    "C3",
    "in a plain network newly revealed tokens change more than old ones",
    as_variants(full_width, new="change_new", old="change_old"),
    "value",
    system="new",
    baseline="old",
    expected="higher",
    section="analysis of a plain network",
    note="1 - cos of features between steps",
)
study.claim(
    "C4",
    "the cost of a sample follows the formula exactly",
    as_variants(ours_only, counted="counted", formula="formula"),
    "value",
    system="counted",
    baseline="formula",
    expected="equal",
    margin=0.0,
    section="derived from the released code",
    note="exact by derivation; MACs by PyTorch's counter",
)
study.table()

# %% [markdown]
# *Time.* The claims about reuse (C2, C2b), about redundancy (C3) and about cost
# (C4) hold. C4 is exact: it tests our formula and our code, not nature.
#
# *Space.* The claims about the split (C1 to C1d) are not decided here, and C1
# leans the other way. Four reasons, none of which speaks against the paper:
#
# - **Few tokens.** Of 64 tokens about 13 are visible in a training batch and a
#   third at an average decoding step. The encoder's share of what is to be
#   known is small. ENAT-L has 256 or 1,024 tokens.
# - **One decoder block.** In 3+1 masked tokens read once; in ENAT-L twice, by
#   two blocks at width 1,024. The arm 2+2 reads twice, too, but its width
#   differs as well, and its interval overlaps that of 3+1.
# - **Short training.** All arms are far from converged, and what learns
#   quickest leads.
# - **Noise.** Three seeds make wide intervals, and the Fréchet distance of 400
#   lumpy samples on a small classifier's features scatters more than it tells.
# - **A second try.** A first study, with four times as many codes and fewer
#   steps, left these claims undecided, too; its record was replaced.
#
# The paper's own evidence is the FID of networks trained for weeks on ImageNet
# {cite:p}`ni2024enat`; that claim cannot be tested at this scale.
#
# ## Is my run healthy?
#
# Losses of the `tiny` presets under the plans above, over the recorded seeds:
# mean and spread (standard deviation). A tokenizer far above has no working
# codebook; a transformer that stays at the first value does not learn.

# %%
ours_losses = torch.tensor(ours_only["losses"].tolist())
expected = {"ENAT, loss (nats)": (BINS, ours_losses)}
short = codebook_runs[codebook_runs["variant"] == "full"]["losses"].tolist()
short = torch.tensor(short)
every = level.pick(smoke=1, cpu=5)
picked = range(0, short.shape[1], max(1, short.shape[1] // 5))
at = [every * i for i in picked]
expected["VQGAN, pixel error"] = (at, short[:, picked])
lines = []
for name, (at, values) in expected.items():
    for i, step in enumerate(at):
        mean, spread = values[:, i].mean(), values[:, i].std()
        lines.append((name, step, f"{mean:.3f} ± {spread:.3f}"))
columns = ["model", "step", "loss"]
pd.DataFrame(lines, columns=columns).pivot(
    index="step", columns="model", values="loss"
).fillna("")

# %% [markdown]
# ENAT's entries are means over the 50 steps from the one named, since the
# mask ratio of a single batch decides its loss; the tokenizer's are single
# batches of eight pictures.
#
# ## At the size of the paper
#
# The tokenizer of ENAT reduces 256×256 pixels to 16×16 tokens of 1,024 codes.
# All presets are built on the meta device and compared with the published
# counts. The released code of ENAT creates one more MLP, of $8D^2+5D$
# parameters, that no line of it calls. We leave it out, so our counts are the
# released ones less that.

# %%
# NBVAL_CHECK_OUTPUT
for module in (vqgan, enat):
    for name, size in module.PRESETS.items():
        if size.published_params is None:
            continue
        with torch.device("meta"):
            count = count_parameters(module.build(size))
        same = count == size.published_params
        print(f"{name:>15}: {count:>11,} as published: {same}")
released = enat.PRESETS["enat-l-256"].published_params + 8 * 1024**2 + 5 * 1024
print("ENAT-L as released, with its unused MLP:", f"{released:,}")


# %% [markdown]
# With ImageNet's layout under `$GENTOK_DATA/images/<class>/`, on one GPU or on
# many:
#
# ```bash
# gentok info enat --preset enat-l-256
# gentok train enat --preset enat-l-256 --profile gpu --out runs/enat.safetensors
# accelerate launch --num_processes 8 -m gentok.cli train enat \
#     --preset enat-l-256 --profile gpu --out runs/enat.safetensors --resume
# gentok sample enat --from runs/enat.safetensors --out samples.png
# ```
#
# The recipe trains the tokenizer first, then ENAT by the paper's plan: AdamW
# {cite:p}`loshchilov2019adamw` at 4e-4, betas (0.99, 0.99), weight decay 0.03,
# 5,000 steps of warm-up, batch 2,048, 500,000 steps, average 0.9999.
#
# ## Exercises
#
# ```{exercise} How many are revealed?
# :label: ex-enat-schedule
# Write `revealed(num_tokens, num_steps)`: a list of how many tokens each step
# *newly* reveals. First predict: does the first or the last step reveal more?
# ```

# %%
def revealed(num_tokens, num_steps): ...


def check_revealed(function):
    answer = function(256, 8)
    if answer is None:
        return "not yet: return a list of numbers"
    answer, visible = list(answer), [5, 20, 44, 75, 114, 159, 207, 256]
    right = [5, 15, 24, 31, 39, 45, 48, 49]
    if answer == right:
        return "correct"
    if answer == visible:
        return "not yet: these are all visible tokens; take differences"
    if answer == [256 - v for v in visible]:
        return "not yet: these stay masked; how many are newly revealed?"
    if len(answer) == 8 and sum(answer) != 256:
        return "not yet: the numbers must add up to all tokens"
    if answer == right[::-1]:
        return "not yet: reversed; few are revealed at first"
    return "not yet: floor(N cos(pi/2 (t+1)/T)) stay masked after step t"


print(check_revealed(revealed))


# %% [markdown]
# ```{solution-start} ex-enat-schedule
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def revealed(num_tokens, num_steps):
    counts = mask_schedule(num_tokens, num_steps)
    return [a - b for a, b in pairwise(counts)]


print(check_revealed(revealed))


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} When does reuse pay?
# :label: ex-enat-cost
# Write `saving(dim, depth, new, old)`: MACs that the *encoder and the
# projection of old features* save in one step by reuse, against encoding all
# `new + old` tokens. Leave out the modulation. Can the result be negative?
# ```

# %%
def saving(dim, depth, new, old): ...


def check_saving(function):
    d, depth, new, old = 8, 3, 5, 7
    value = function(d, depth, new, old)
    if value is None:
        return "not yet: return a number"
    v = new + old
    fresh = depth * (12 * d**2 * v + 2 * v * v * d)
    reused = depth * (12 * d**2 * new + 2 * d**2 * old + 2 * new * v * d)
    project = 8 * d**2 * old
    if value == fresh - reused - project:
        return "correct"
    if value == fresh - reused:
        return "not yet: the projection f of old features is not free"
    if value == fresh - reused - project + depth * 2 * d**2 * old:
        return "not yet: every layer projects the old keys and values anew"
    if value == -(fresh - reused - project):
        return "not yet: the sign; a saving is what is not spent"
    if value == fresh - reused - depth * project:
        return "not yet: f is applied once a step, not once a layer"
    return "not yet: start from 12 D^2 a new token and 2 D^2 an old one"


print(check_saving(saving))


# %% [markdown]
# ```{solution-start} ex-enat-cost
# :class: dropdown
# With one encoder block, $10D^2-8D^2$ a token remain (and attention): reuse
# pays little. With 22 blocks $f$ is next to nothing.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def saving(dim, depth, new, old):
    linear = depth * 10 * dim**2 * old  # 12 D^2 less 2 D^2 a token
    attention = depth * 2 * old * (new + old) * dim  # queries of old tokens
    return linear + attention - 8 * dim**2 * old


print(check_saving(saving))


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What to hide again
# :label: ex-enat-remask
# Write `hide(confidence, mask, count)`: given confidences (B, N) of the
# guesses and the present mask (B, N, True: masked), return the next mask with
# exactly `count` True a row. What must never happen to a visible token?
# ```

# %%
def hide(confidence, mask, count): ...


def check_hide(function):
    mask = torch.tensor([[True, True, True, False, False, True]])
    sure = torch.tensor([[0.9, 0.2, 0.6, 0.1, 0.05, 0.4]])
    answer = function(sure.clone(), mask.clone(), 2)
    if answer is None:
        return "not yet: return a boolean mask"
    answer = answer.bool()
    if answer.shape != mask.shape or int(answer.sum()) != 2:
        return "not yet: exactly `count` tokens a row must be hidden"
    if bool((answer & ~mask).any()):
        return "not yet: a visible token was hidden; be sure of those"
    if answer[0, 0]:
        return "not yet: the most confident were hidden; keep those"
    right = torch.tensor([[False, True, False, False, False, True]])
    return "correct" if torch.equal(answer, right) else "not yet: look again"


print(check_hide(hide))


# %% [markdown]
# ```{solution-start} ex-enat-remask
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def hide(confidence, mask, count):
    confidence = confidence.masked_fill(~mask, float("inf"))
    least = confidence.argsort(-1)[:, :count]
    return torch.zeros_like(mask).scatter(1, least, True)


print(check_hide(hide))

# %% [markdown]
# ```{solution-end}
# ```
#
# (enat-cost)=
# ## What this run cost

# %%
study.finish()
cost = {
    "profile": level.name,
    "device": level.device,
    "wall time": f"{time.perf_counter() - began:.0f} s",
    "peak memory": f"{peak_memory():.0f} MiB",
    "threads": torch.get_num_threads(),
}
pd.DataFrame(cost, index=[""]).T.rename(columns={"": "this run"})

# %% [markdown]
# ## Further reading
#
# - ENAT itself {cite:p}`ni2024enat`, and MaskGIT, whose sampler it keeps
#   {cite:p}`chang2022maskgit`; MAGE, whose tokenizer it uses
#   {cite:p}`li2023mage`.
# - Vector quantization: VQ-VAE {cite:p}`oord2017vqvae`, VQGAN
#   {cite:p}`esser2021vqgan`, the revival of dead codes
#   {cite:p}`zeghidour2021soundstream`, and quantization without a learned
#   table {cite:p}`mentzer2024fsq`.
# - Adaptive layer norm that starts as identity {cite:p}`peebles2023dit`, and
#   guidance {cite:p}`ho2022cfg`.
# - Masked generation without codes: {cite:t}`li2024mar`.
# - The other chapters on codes: {doc}`/book/parts/tokens`.
