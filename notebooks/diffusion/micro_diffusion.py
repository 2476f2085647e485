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
#
# :::{admonition} Before you start
# **Time** {glue:text}`micro_diffusion_time`, **memory**
# {glue:text}`micro_diffusion_memory`, on {glue:text}`micro_diffusion_device`:
# measured in the run that is stored here ·
# **GPU** not needed · **Level** 2 of 3 ·
# **Read first** {doc}`/book/primers/denoising_diffusion` and, for latents,
# {doc}`/notebooks/latents/fa_vae` ·
# **Paper** {cite:p}`sehwag2024microdiffusion`
# :::
#
# **You will be able to**
# - train a text-to-image transformer that sees a quarter of its tokens;
# - say why it matters *where* in the network tokens are dropped;
# - count what a training costs, in operations and in dollars;
# - write a mixture whose experts choose their tokens;
# - compare trainings at equal steps and at equal cost, and tell the two apart.

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

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch

import gentok
from gentok.book import chapter
from gentok.book.chapter import show_code
from gentok.book.checks import micro_diffusion as check
from gentok.book.study import summarize
from gentok.data import batches, generator, to_float
from gentok.data.placed_shapes import placed_shapes
from gentok.data.world import COLOURS
from gentok.diffusion import micro_diffusion as micro
from gentok.diffusion.micro_diffusion import recipe
from gentok.diffusion.micro_diffusion.sources import World, encode_texts
from gentok.measure import count_flops, count_parameters
from gentok.measure.embed import tsne
from gentok.measure.fixed import fixed_noise
from gentok.nn.experts import ExpertChoice
from gentok.nn.token_masks import num_kept, random_keep
from gentok.show import plot
from gentok.training import fit, profiles
from gentok.training.weights import header_of as weights_of

page = chapter.open("micro_diffusion", profile, seed)
level = profiles.profile(profile)  # apart: no experiment reads the page
study = page.study

# %% [markdown]
# ## What it can do
#
# A sentence goes in, a picture comes out. In four fifths of its training the
# network saw sixteen tokens out of sixty-four at a time.

# %%
system = gentok.pretrained("micro_diffusion")  # part of the book
number = level.pick(smoke=8, cpu=60, study=8)
asked, looks = micro.asked(number, recipe.HELD_OUT)
images = micro.draw(system, asked, recipe.HELD_OUT)
found = micro.obeyed(images, looks)  # a rule reads the pictures

# %% mystnb={"image": {"alt": "Four rows of six generated pictures, each above the sentence it was drawn for: shapes in bright colours on shaded floors, at the left, right, top, bottom or in the centre, as the sentences say"}} tags=["hide-input", "slide"]
words = [caption.replace(" at ", "\nat ") for caption in asked[:24]]
plot.image_grid(
    images[:24], "Sentences and what was drawn", columns=6, captions=words
);

# %% tags=["hide-input"]
kept_file = weights_of("micro_diffusion")["metrics"]
page.glue("micro_diffusion_all", kept_file["drawn_all"], ".0%")
page.say(
    "A rule that knows nothing of the network reads the pictures: of {n} "
    "the shape is right in {shape:.0%}, the colour in {colour:.0%}, the place "
    "in {place:.0%}. On {many} pictures, when the weights were made: "
    "**{s:.1%}, {c:.1%} and {p:.1%}**. The rule itself reads {real:.1%} of "
    "true pictures right, and {decoded:.1%} once they have passed the "
    "autoencoder.",
    n=len(asked),
    shape=found["shape"],
    colour=found["colour"],
    place=found["place"],
    many=kept_file["items"],
    s=kept_file["drawn_shape"],
    c=kept_file["drawn_colour"],
    p=kept_file["drawn_place"],
    real=kept_file["real_all"],
    decoded=kept_file["decoded_all"],
)

# %% [markdown]
# ## The question
#
# A diffusion transformer costs pictures times parameters times tokens. The
# last factor is the easiest to cut: show the network a random quarter of the
# patches, and let it denoise those. But a patch that is dropped at the input
# is gone, and what is left has to be denoised without its neighbours. MicroDiT
# {cite:p}`sehwag2024microdiffusion` asks: can we drop tokens *late* enough
# that nothing is lost, and *early* enough that nearly everything is saved?
#
# ```{figure} ../../book/img/micro_diffusion.svg
# :name: fig-micro-diffusion-architecture
# :alt: Architecture of MicroDiT. A noisy latent is cut into 64 tokens. A light patch mixer passes all of them; then three quarters are dropped and the deep backbone works on 16. A head denoises these, and the loss is theirs alone. A caption passes a frozen text encoder and a block of its own; mixer and backbone read it by cross-attention.
#
# Dropped after the mixer: what is left has already heard of what is missing.
# Sampling drops nothing, and runs the mixer, too.
# ```
#
# **The idea in three sentences.** A light transformer, the *patch mixer*, sees
# all patches, and only behind it three quarters of the tokens are dropped. The
# deep backbone works on the rest, which carry what the mixer told them of the
# others, and the loss is the error of the kept patches. A short training
# without a mask follows, because that is how the network will be used.
#
# ## Words, and a grid of latents
#
# The {doc}`KL-VAE </notebooks/latents/fa_vae>` of the book turns 32×32 pixels
# into a grid of 8×8 places with four channels; each place is a token. Captions
# become states of a frozen text encoder: here a random vector for each word,
# so that nothing is understood which the network does not learn. The published
# model reads the 77 states of a CLIP.

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


# %% mystnb={"image": {"alt": "Two rows of eight pictures: shapes on shaded floors, and the same pictures after the autoencoder, which look alike"}} tags=["hide-input"]
examples = placed_shapes(8, part.image_size, seed=7)
real = to_float(examples.images)
with torch.no_grad():
    back = world.tokenizer.decode(world.tokenizer.encode(real))
plot.compare_rows(
    {"picture": real, "from its latents": back.clamp(-1, 1)},
    f"{examples.captions[0]}, {examples.captions[1]}, ...",
    count=8,
);

# %% tags=["nbval-check-output"]
print("latents", tuple(table["latent"].shape[1:]))
print("caption", tuple(table["caption"].shape[1:]))
print("parameters", f"{count_parameters(micro.build(part.size)):,}")

# %% [markdown]
# ## A denoiser for every level of noise
#
# The network $F$ is trained as in EDM {cite:p}`karras2022edm`. A picture $x$
# with noise of level $\sigma$ is cleaned by
#
# $$
# D(x_\sigma;\sigma)=c_{skip}\,x_\sigma+c_{out}\,F(c_{in}x_\sigma,
# \tfrac14\ln\sigma,y),\qquad
# L=\frac1{|K|}\sum_{i\in K}\lambda(\sigma)\,\lVert D_i-x_i\rVert^2,
# $$ (eq-micro-diffusion-loss)
#
# where $c_{in}$ makes the input's variance 1, $c_{skip}$ and $c_{out}$ the
# target's, and $\lambda$ the loss of all levels equally large. The sum runs
# over the *kept* patches $K$.
#
# | symbol | meaning |
# |---|---|
# | $x_\sigma=x+\sigma n$ | noisy latent; $\ln\sigma\sim\mathcal N(-0.6,1.2^2)$ in training |
# | $F$, $D$ | the network; the denoiser made of it |
# | $y$ | states of the caption |
# | $K$ | places that are kept: $\lvert K\rvert=\lfloor T(1-r)\rfloor$ of $T$ |
# | $r$ | share of tokens dropped; 3/4 in the paper |

# %%
show_code(
    micro.MicroDiT.forward,
    start="tokens = self.patchify",
    highlight=("naive", "self.mixer(", "deferred"),
)

# %% [markdown]
# Two lines decide everything. With `"naive"` tokens are dropped before the
# mixer, with `"deferred"` behind it; blocks and weights are the same. Captions
# come in twice: token by token through cross-attention, and as their mean,
# together with the noise level, through the scales, shifts and gates of every
# block.
#
# ### What does a dropped patch still say?
#
# We let the dropped patches hold something else and see whether the answers
# for the kept ones move. **Predict first**: for which of the two?

# %%
torch.manual_seed(0)
network = micro.build(micro.PRESETS["study-32"])
for weights in network.parameters():  # zero at first: the answer is zero
    torch.nn.init.normal_(weights, std=0.1)
naive = micro.continued(network, micro.arms(network.config)["naive"])
x, captioned = torch.randn(4, 4, 8, 8), torch.randn(4, 8, 32)
places = random_keep(4, 64, 0.75)
probe = x, torch.ones(4), captioned, places

# %% tags=["nbval-check-output"]
print("kept:", tuple(places.shape))
for name, model in {"deferred": network, "naive": naive}.items():
    moved = micro.influence(model, *probe)
    print(f"{name}: the answers move: {bool(moved.max() > 0)}")

# %% [markdown]
# ## Narrow first, wide later; and experts that choose
#
# Two further choices stretch the budget. *Layer-wise scaling*: width grows
# with depth, since early layers have little to say. *Mixtures of experts* in
# every second block {cite:p}`zhou2022expertchoice`: a router gives each token
# a probability for each of $E$ experts, and each **expert takes the $k$ tokens
# that it scores highest**. No expert is idle and none is crowded, so the loss
# needs no term that spreads the load. A token may be taken by several experts,
# or by none.

# %% mystnb={"image": {"alt": "Widths of the 28 blocks of the published network: attention grows in steps from 512 to 1024, feed-forward layers from 512 to 3840, higher in every second block, which holds experts"}} tags=["hide-input"]
sizes = micro.PRESETS["MicroDiT_XL_2"].backbone()
figure, axes = plt.subplots(figsize=(7.2, 3.2))
axes.step(
    range(28), [s.attention for s in sizes], where="mid", label="attention"
)
for mark, label, chosen in (
    ("s", "feed-forward", False),
    ("o", "feed-forward, of each of 8 experts", True),
):
    rows = [i for i, s in enumerate(sizes) if s.experts == chosen]
    axes.plot(rows, [sizes[i].hidden for i in rows], mark, label=label)
axes.set(title="Block by block, the published network of 1.2 billion")
axes.set(xlabel="block", ylabel="width (channels)")
axes.legend();

# %%
show_code(ExpertChoice.choose, start="scores")

# %% tags=["nbval-check-output"]
mixture = ExpertChoice(dim=32, hidden=64, num_experts=4, capacity=2.0)
for ratio in (0.0, 0.75, 0.875):
    left = num_kept(64, ratio)
    each = mixture.tokens_per_expert(left)
    print(f"{left:2} tokens: each of 4 experts takes {each}")

# %% [markdown]
# ## What it costs
#
# Three quarters of the tokens are dropped; does a pass cost a quarter?
# **Predict first**: how many times cheaper is it?

# %% tags=["hide-input", "nbval-check-output"]
for name in ("MicroDiT_XL_2", "study-32"):
    size = micro.PRESETS[name]
    print(f"{name}, million operations of a forward pass")
    for ratio in (0.0, 0.5, 0.75, 0.875):
        cost = micro.forward_flops(size, ratio, one_hot="XL" in name)
        split = ", ".join(f"{k} {v / 1e6:,.0f}" for k, v in cost.items())
        less = micro.saving(size, ratio, one_hot="XL" in name)
        print(f"  r = {ratio:<5}: {split}; {less:.2f} times cheaper")

# %% [markdown]
# Not four times: mixer and captions see everything. The mixer of our small
# network is a larger part of it than the published one's, so it saves less.
# From the operations of a pass to the bill of the whole training: a backward
# pass counts as two forward ones, and a batch has 2,048 pictures.

# %%
large = profiles.Profile("gpu", (0,), "cpu")  # counted, not run
published = recipe.plan("MicroDiT_XL_2-512", large)
phases = published.phases()
total = micro.training_flops(phases)
whole = micro.training_flops(replace(p, mask_ratio=0.0) for p in phases)
rate = micro.PUBLISHED.rate(total)  # operations a second of one GPU
bill = micro.bill_of(
    whole, rate, micro.PUBLISHED.gpus, micro.PUBLISHED.dollars_per_gpu_hour
)

# %% mystnb={"image": {"alt": "Bars of the four stages of the published training, in operations, as trained and without masking: the first, masked stage at 256 pixels is by far the longest and would cost more than twice as much without the mask"}} tags=["hide-input", "slide"]
stages = ["256, masked", "256, unmasked", "512, masked", "512, unmasked"]
spent = [p.flops / 1e18 for p in phases]
without = [replace(p, mask_ratio=0.0).flops / 1e18 for p in phases]
figure, axes = plt.subplots(figsize=(7.2, 2.8))
axes.barh(stages, without, color="#d9d6cc", label="without a mask")
axes.barh(stages, spent, height=0.5, label="as trained")
axes.invert_yaxis()
axes.set(title="Where the published training goes")
axes.set(xlabel="operations ($10^{18}$)")
axes.legend(loc="lower right");

# %% tags=["hide-input"]
page.say(
    "In all {total:.2e} operations; the paper's {days} days of {gpus} GPUs "
    "and **${dollars:,.0f}** are then ${hour:.2f} for an hour of one GPU, at "
    "{share:.0%} of an H100's peak. The same steps without a mask would take "
    "{more:.2f} times the operations: ${unmasked:,.0f}. The authors count 118 "
    "times less than Stable Diffusion.",
    total=total,
    days=micro.PUBLISHED.days,
    gpus=micro.PUBLISHED.gpus,
    dollars=micro.PUBLISHED.dollars,
    hour=micro.PUBLISHED.dollars_per_gpu_hour,
    share=rate / 989e12,
    more=whole / total,
    unmasked=bill.dollars,
)

# %% [markdown]
# What the bill leaves out: failed runs, the encoding of 37 million pictures
# and captions, and the two networks that do it, which were trained by others.
#
# ## Learning begins
#
# The plan of all experiments below: 500 steps, the last hundred without a
# mask. The rate falls to a third of its peak while tokens are dropped, and
# stays there.

# %%
ours, history = train(part.size, part.training, seed, progress=True)

# %% mystnb={"image": {"alt": "The training loss falls from about one and flattens; a line marks the step from which nothing is dropped"}} tags=["hide-input"]
frame = pd.DataFrame(history)
frame["smoothed"] = frame["loss"].rolling(5, min_periods=1).mean()
axes = plot.loss_curves(
    frame, "MicroDiT, EDM's loss", ["loss", "smoothed"], "loss (no unit)"
)
axes.axvline(part.size.unmasked_from, color="#555555", linestyle=":")
axes.annotate(
    "no mask from here",
    (part.size.unmasked_from, 0.9),
    (-6, 0),
    textcoords="offset points",
    ha="right",
);

# %% mystnb={"image": {"alt": "A row of six pictures of the briefly trained network above their captions: blurred blobs, most at the right place and some of the right colour"}} tags=["hide-input"]
young = micro.TextToImage(world.tokenizer, ours, **recipe.SAMPLER)
first = micro.draw(young, asked[:6], recipe.HELD_OUT)
plot.image_grid(
    first, "After the short training", columns=6, captions=words[:6]
);

# %% [markdown]
# Places and colours come first; outlines take the much longer training of the
# weights above.
#
# ## Where is the mask put?
#
# Three ways to train one network, from the same start, on the same batches
# with the same noise: *unmasked* sees everything, *naive* drops tokens before
# the mixer, *deferred* behind it. We also mask seven eighths. Afterwards all
# are asked about the same held-out pictures at six fixed noise levels, with
# **nothing dropped**, as in sampling.

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


# %% [markdown]
# **Predict first**: order the three by their error. How much of what naive
# masking loses does the mixer win back?

# %%
def run_arm(seed, size, stage):
    network, history = train(size, stage, seed)
    test = network, latents, captions, SIGMAS, noise
    errors = micro.errors_at(*test).mean(1)  # (S,), nothing dropped
    wrong = micro.errors_at(
        network, latents, captions.roll(1, 0), SIGMAS, noise
    )
    return {
        "error": float(errors.mean()),
        "by_sigma": errors.tolist(),
        "low_noise": float(errors[:3].mean()),
        "high_noise": float(errors[3:].mean()),
        "as_trained": float(
            micro.errors_at(*test, kept(size.mask_ratio)).mean()
        ),
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
    loads = [
        micro.expert_loads(model, x, middle, captions)
        for model in (network, start)
    ]
    return {
        "influence": float(moved.mean()),
        "unevenness": micro.unevenness(loads[0]),
        "unevenness_at_start": micro.unevenness(loads[1]),
    }


# %%
runs = study.ablate("masking", run_arm, arms, seeds=range(5))

# %% tags=["hide-input"]
summarize(runs, ["error", "as_trained", "influence"])

# %% mystnb={"image": {"alt": "Held-out error of five arms as means with intervals over seeds and single seeds as rings: unmasked lowest, then deferred, then naive, for both mask ratios"}} tags=["hide-input", "slide"]
shown = ["unmasked", "deferred", "naive", "deferred 7/8", "naive 7/8"]
plot.intervals(
    runs[runs["variant"].isin(shown)],
    "error",
    "Equal steps: where tokens are dropped",
    "error with nothing dropped (lower is better)",
);


# %% tags=["hide-input"]
def of(arm, metric="error"):
    """Mean over the seeds of an arm."""
    return runs[runs["variant"] == arm][metric].astype(float).mean()


def won(ratio=""):
    """Share of the loss by naive masking that the mixer wins back."""
    gap = of(f"naive{ratio}") - of("unmasked")
    return (of(f"naive{ratio}") - of(f"deferred{ratio}")) / gap


page.say(
    "The mixer wins back **{quarter:.0%}** of what naive masking loses at "
    "three quarters, {eighth:.0%} at seven eighths. (The paper's FIDs, 3.79, "
    "5.03 and 16.5, give nine tenths.) A dropped patch moves the answers of "
    "the kept ones by {moved:.0%} of their size; by nothing in the naive arm.",
    quarter=won(),
    eighth=won(" 7/8"),
    moved=of("deferred", "influence"),
)

# %% [markdown]
# Both masked arms were asked to do more than they had learned: they see four
# times as many tokens now. The column *as trained* gives the error of the kept
# patches at the training's own ratio. There the two differ more, since the
# naive network has to guess with three quarters missing, and the other has
# heard of them. Once nothing is missing, most of that handicap is gone: a
# network that learned on random quarters has seen every pair of places, only
# never all of them at once.

# %% mystnb={"image": {"alt": "What masking adds to the error, at six noise levels, for the naive and the deferred arm: deferred lies below naive at every level"}} tags=["hide-input"]
by_level = runs[["variant", "seed", "by_sigma"]].explode("by_sigma")
by_level["sigma"] = SIGMAS.tolist() * len(runs)
by_level["error"] = by_level["by_sigma"].astype(float)
base = by_level[by_level["variant"] == "unmasked"]["error"].tolist()
pair = by_level[by_level["variant"].isin(["deferred", "naive"])].copy()
pair["added"] = pair["error"] - base * 2
axes = sns.lineplot(
    pair,
    x="sigma",
    y="added",
    hue="variant",
    style="variant",
    markers=True,
    errorbar=("ci", 95),
)
axes.set(xscale="log", title="What masking costs, by noise level")
axes.set(xlabel="noise level $\\sigma$", ylabel="error added")
axes.axhline(0, color="#555555", linestyle=":");


# %% [markdown]
# The mixer helps at every level of noise, so what it tells of the missing
# patches is not the layout alone: at low noise the layout is plain to see.
#
# ## At equal cost
#
# Equal steps are no fair match: a masked step is cheaper. So two more arms may
# spend what *deferred* spends, naive masking on more steps and no masking on
# fewer. Two others go on from *deferred* at its step 400: *tuned* with a
# hundred steps without a mask, *masked on* with masked steps of the same cost.
# **Predict first**: which of all is best at the price of *deferred*?

# %% tags=["hide-input"]
def training_cost(size, stage):
    """Billion operations of a training; a step is three forward passes."""
    end = size.unmasked_from or stage.steps
    cheap = micro.total_flops(size, size.mask_ratio)
    after = (stage.steps - end) * micro.total_flops(size)
    return 3 * stage.batch_size * (end * cheap + after) / 1e9


runs["cost"] = [training_cost(**arms[name]) for name in runs["variant"]]

# %% mystnb={"image": {"alt": "Held-out error against the operations of a training for seven arms: at the price of deferred masking, training without a mask lies about level with it, naive masking with more steps below both"}} tags=["hide-input", "slide"]
spent_on = ["unmasked", "deferred", "naive", "unmasked, equal cost"]
spent_on += ["naive, equal cost", "tuned", "masked on"]
figure, axes = plt.subplots(figsize=(7.2, 4.0))
sns.scatterplot(
    runs[runs["variant"].isin(spent_on)],
    x="cost",
    y="error",
    hue="variant",
    style="variant",
    hue_order=spent_on,
    style_order=spent_on,
    s=70,
    ax=axes,
)
axes.set(title="Error against cost, a mark a seed")
axes.set(xlabel="operations of the training ($10^9$)")
axes.set(ylabel="error with nothing dropped")
axes.legend(bbox_to_anchor=(1, 1));

# %% tags=["hide-input"]
page.say(
    "At the price of *deferred* ({ours:.3f}): {whole:.3f} without a mask, in "
    "{few} steps instead of {steps}, and **{naive:.3f}** with a naive mask, "
    "in {many}. The unmasked end takes {ours:.3f} to {tuned:.3f}; as many "
    "operations spent on masked steps give {on:.3f}.",
    ours=of("deferred"),
    whole=of("unmasked, equal cost"),
    few=steps["unmasked"],
    steps=part.training.steps,
    naive=of("naive, equal cost"),
    many=steps["naive"],
    tuned=of("tuned"),
    on=of("masked on"),
)

# %% [markdown]
# At this size a mask pays if it is cheap. With the operations of *deferred*,
# training without a mask comes out about level; the naive mask, which buys
# most steps, is well ahead. And the unmasked end beats as many masked steps,
# but not masked steps of the same cost. Our mixer is more than half of the
# work of a masked pass, the published one's four tenths; and the paper judged
# by FID, after trainings so long that more steps bring little, when what a
# single step can teach decides.
#
# ### A quarter of the tokens, and nothing else
#
# Is the unmasked end what makes the pictures good? A second file of weights
# stopped before it, at the same step of the same training.

# %%
masked = gentok.pretrained("micro_diffusion_masked")
few = level.pick(smoke=4, cpu=16)
quarter = micro.draw(masked, asked[:few], recipe.HELD_OUT)

# %% mystnb={"image": {"alt": "Two rows of eight pictures drawn from the same noise and captions, by the network with an unmasked end and by the one that was trained with a mask alone: both show the shapes, colours and places asked for"}} tags=["hide-input", "slide"]
plot.compare_rows(
    {"with the end": images[:few], "masked alone": quarter},
    "The same captions, the same noise",
    count=8,
);

# %% tags=["hide-input"]
alone = weights_of("micro_diffusion_masked")["metrics"]
page.say(
    "Trained on a quarter of the tokens alone, the network draws the right "
    "shape in **{shape:.1%}**, the right colour in {colour:.1%} and the right "
    "place in {place:.1%} of {n} pictures; all three in {both:.1%}, against "
    "{end:.1%} with the unmasked end.",
    shape=alone["drawn_shape"],
    colour=alone["drawn_colour"],
    place=alone["drawn_place"],
    n=alone["items"],
    both=alone["drawn_all"],
    end=kept_file["drawn_all"],
)

# %% [markdown]
# ## Look inside
#
# ### Which frequencies are missing?
#
# Power by spatial frequency of pictures, of the same pictures after the
# autoencoder, and of samples of both files. What the autoencoder loses no
# generator of its latents can bring back.

# %% mystnb={"image": {"alt": "Radial power spectra of pictures, decoded pictures and samples of two networks: they agree at low frequencies and part at high ones, where the autoencoder has lost power"}} tags=["hide-input"]
pictures = to_float(held.images[:few])
with torch.no_grad():
    decoded = world.tokenizer.decode(world.tokenizer.encode(pictures))
plot.spectra(
    {
        "pictures": pictures,
        "from their latents": decoded.clamp(-1, 1),
        "samples": images[:few].clamp(-1, 1),
        "samples, masked alone": quarter.clamp(-1, 1),
    },
    "Power by frequency",
);


# %% [markdown]
# ### What do experts take?
#
# In the trained network each expert takes half as many tokens as there are,
# since four experts share them twice over. Which? Below, how many of the four
# took each token, in the last block that has experts. **Predict first**: floor
# or shape?

# %%
@torch.no_grad()
def look(layer, read):
    """What a layer is given by noisy held-out pictures, read by `read`."""
    kept = []
    hook = layer.register_forward_pre_hook(
        lambda _, given: kept.append(read(given[0]))
    )
    nobody = torch.zeros_like(captions)
    here = system.generator, latents, nobody
    micro.errors_at(*here, torch.tensor([0.3]), noise)
    hook.remove()
    return kept[0]


experts = list(system.generator.blocks.modules())
experts = [m for m in experts if isinstance(m, ExpertChoice)][-1]
chosen = look(experts, lambda x: experts.choose(x)[1])  # (n, E, k)
taken = torch.stack([row.flatten().bincount(minlength=T) for row in chosen])

# %% mystnb={"image": {"alt": "Eight pictures above maps of 8 by 8 places that show how many of four experts took each token"}} tags=["hide-input"]
figure, panels = plt.subplots(2, 8, figsize=(12, 3.4))
for i, (above, below) in enumerate(panels.T):
    above.imshow(((to_float(held.images[i : i + 1])[0] + 1) / 2).movedim(0, 2))
    seen = below.imshow(taken[i].view(8, 8), vmin=0, vmax=4, cmap="cividis")
    for ax in (above, below):
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
figure.colorbar(seen, ax=panels, label="experts (of 4)", shrink=0.8)
figure.suptitle("How many experts take a token");

# %% tags=["hide-input"]
picture = to_float(held.images)
middle_of = picture.flatten(2).median(2).values[..., None, None]
stands_out = (picture - middle_of).abs().mean(1, keepdim=True)
stands_out = torch.nn.functional.avg_pool2d(stands_out, 4).flatten(1)
on_shape = stands_out > stands_out.mean(1, keepdim=True) * 1.5
page.say(
    "A token on a shape is taken by {shape:.2f} experts, one on the floor by "
    "{floor:.2f}; {none:.0%} of all tokens by none, {all:.0%} by all four.",
    shape=float(taken[on_shape].float().mean()),
    floor=float(taken[~on_shape].float().mean()),
    none=float((taken == 0).float().mean()),
    all=float((taken == 4).float().mean()),
)

# %% [markdown]
# Neither is favoured, and next to no token goes without. Which experts take a
# token is another matter; it is left open here.
#
# ### What do its features know?
#
# The same pictures pass the trained network with little noise and *no*
# caption. Its last features, averaged over the tokens, are laid out on a plane
# by t-SNE, with no label used. **Predict first**: by shape, by colour or by
# place?

# %% mystnb={"image": {"alt": "A t-SNE map of averaged features of held-out pictures, marked by the colour of their shape"}} tags=["hide-input"]
features = look(system.generator.head, lambda x: x.mean(1))
points = tsne(features, perplexity=min(30.0, len(features) / 4))
plot.scatter(
    points,
    held.looks[:, 1],
    list(COLOURS),
    title="Averaged last features, by colour (t-SNE)",
);

# %% tags=["hide-input"]
apart = torch.cdist(features, features).fill_diagonal_(torch.inf)
alike = held.looks[apart.argmin(1)] == held.looks  # (n, 3)
chance = (held.looks[:, None] == held.looks).float().mean((0, 1))
page.say(
    "The nearest neighbour among {n} pictures has the same shape in "
    "{a:.0%} (chance {d:.0%}), the same colour in {b:.0%} ({e:.0%}), the same "
    "place in {c:.0%} ({f:.0%}).",
    n=len(held),
    **dict(zip("abc", alike.float().mean(0).tolist(), strict=True)),
    **dict(zip("def", chance.tolist(), strict=True)),
)

# %% [markdown]
# Colours are known best. An average over all tokens keeps what many of them
# share, and blurs which of them it was that lay on the shape.
#
# ## Claims: what the paper says, what we saw
#
# They were written down before the study ran, each with the smallest effect
# that matters, in `micro_diffusion.claims.toml` beside this notebook; the rule
# that turns runs into verdicts is in {doc}`/book/method`. First the gates.

# %% tags=["hide-input"]
study.gates("masking")

# %% tags=["hide-input", "slide"]
page.claims()

# %% [markdown]
# Counts and costs are identities: tests hold them, and they are counted apart.
# The paper's evidence is the FID of networks trained for tens of thousands of
# steps; it cannot be tested at this scale. Router loads are those of the
# trained networks on held-out pictures: without an auxiliary loss ours crowd
# less than at the start, but they do not come near the even load that experts
# that choose have by construction.
#
# ## Is my run healthy?
#
# The live run above is seed 0 of the arm *tuned*. Its loss should lie within
# three standard deviations of the recorded seeds.

# %% tags=["hide-input"]
recorded = runs[runs["variant"] == "tuned"]["loss"].astype(float)
mean, spread = recorded.mean(), recorded.std()
page.healthy(
    "MicroDiT, mean loss of the last fifth",
    last_loss(history),
    mean - 3 * spread,
    mean + 3 * spread,
)

# %% [markdown]
# ## At the size of the paper
#
# All presets are built on the meta device and compared with the counts of the
# public code.

# %% tags=["hide-input", "nbval-check-output"]
for name, size in micro.PRESETS.items():
    if size.published_params is None:
        continue
    with torch.device("meta"):
        count = count_parameters(micro.build(size))
    active = micro.active_parameters(size, count)
    same_count = count == size.published_params
    print(f"{name:>21}: {count:>13,} as published: {same_count}")
    print(f"{'an average token':>21}  {active:>13,} meets")

# %% [markdown]
# With pairs of pictures and captions in `$GENTOK_DATA/captioned`, SDXL's
# autoencoder in `$GENTOK_DATA/sdxl_vae` and the text encoder in the cache of
# `transformers`, on one GPU or on many:
#
# ```bash
# gentok info micro_diffusion --preset MicroDiT_XL_2-512
# accelerate launch --num_processes 8 -m gentok.cli train micro_diffusion \
#     --preset MicroDiT_XL_2-512 --profile gpu --out runs/micro.safetensors
# ```
#
# The recipe trains 256 pixels first, masked and then unmasked, and goes on at
# 512 with positions squeezed and other noise levels, as published: AdamW
# {cite:p}`loshchilov2019adamw` at 2.4e-4, batches of 2,048, 280,000 and 55,000
# steps. The weights of this chapter come from
# `make weights NB=micro_diffusion`.
#
# ## What we learned

# %% tags=["hide-input", "slide"]
other = gentok.pretrained("fa_vae")
blank = torch.randn(1, *other.tokenizer.config.latent_shape)
one = torch.zeros(1), torch.zeros(1, dtype=torch.int64)
theirs = 2 * other.options["num_steps"] * count_flops(
    other.generator, blank, *one
)
calls = 2 * (2 * recipe.SAMPLER["num_steps"] - 1)  # two branches
here = calls * micro.total_flops(system.generator.config)
judged = weights_of("fa_vae")["metrics"]["judge_accuracy"]
lessons = (
    f"1. With four fifths of the steps on a quarter of the tokens, sentences "
    f"are obeyed: all three words in {kept_file['drawn_all']:.0%} of the "
    f"pictures, and in {alone['drawn_all']:.0%} before any unmasked step.",
    f"2. At equal steps the error is {of('unmasked'):.3f} without a mask, "
    f"{of('deferred'):.3f} with one behind the mixer, {of('naive'):.3f} "
    f"with one before it: {won():.0%} of the loss is won back.",
    f"3. At equal cost {of('unmasked, equal cost'):.3f}, "
    f"{of('deferred'):.3f} and {of('naive, equal cost'):.3f}: at this size "
    f"the cheapest mask pays most.",
    f"4. Dropping 75 % of the tokens makes a pass "
    f"{micro.saving(micro.PRESETS['MicroDiT_XL_2'], 0.75, True):.2f} times "
    f"cheaper in the published network and "
    f"{micro.saving(part.size, 0.75):.2f} times in ours.",
    f"5. A picture costs {here / 1e9:.1f} billion operations in {calls} "
    f"calls; that of the chapter on FA-VAE, a class and no sentence, "
    f"{theirs / 1e9:.1f} in {2 * other.options['num_steps']}, and a judge "
    f"names {judged:.0%} of them right.",
)
page.say("{lines}", lines="\n".join(lessons))


# %% [markdown]
# ## Limits
#
# One procedural world with 8×8 tokens, captions of one grammar, networks of
# 1.3 million parameters in the comparisons, a few hundred steps for each.
# The arms are compared by EDM's error on held-out latents after equally many
# steps or operations, not at their ends, and not by FID: a difference in error
# says little about how a picture looks to a person. Five seeds share one data
# set and one autoencoder. The 16-channel autoencoder and the 512-pixel stage are
# in the library and not in this study; masks of whole blocks, which the paper
# tried and dropped, are in neither. Operations are
# counted, not timed: on one core a small network does not get faster in
# proportion.
#
# ## Exercises
#
# ```{exercise} Not four times (difficulty 1, 10 minutes)
# :label: ex-micro-diffusion-saving
# Of a pass, `whole` operations see all tokens whatever is masked, `thinned`
# ones grow with the tokens that are left. Write `saving(whole, thinned,
# ratio)`, how many times cheaper a pass is when `ratio` of them are dropped.
# What is its limit for `ratio` near 1?
# ```

# %%
def saving(whole, thinned, ratio): ...


check.saving(saving)


# %% [markdown]
# ```{solution-start} ex-micro-diffusion-saving
# :class: dropdown
# The limit is $1+t/w$: what sees everything is paid for in any case. (Pairs of
# tokens in attention fall even faster; at these sizes that is little.)
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def saving(whole, thinned, ratio):
    return (whole + thinned) / (whole + thinned * (1 - ratio))


check.saving(saving)


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Experts choose (difficulty 2, 20 minutes)
# :label: ex-micro-diffusion-experts
# Write `expert_choice(scores, k)` for the router's scores (N, E) of N tokens:
# the weight of each expert at each token, (N, E), zero where the expert did
# not take the token. Can a token end up with nothing but zeros?
# ```

# %%
def expert_choice(scores, k): ...


check.expert_choice(expert_choice)


# %% [markdown]
# ```{solution-start} ex-micro-diffusion-experts
# :class: dropdown
# It can: then the layer adds nothing, and the token goes on as it came.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def expert_choice(scores, k):
    weights = scores.softmax(1)
    best = weights.topk(k, dim=0)
    return torch.zeros_like(weights).scatter(0, best.indices, best.values)


check.expert_choice(expert_choice)


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The loss of what is left (difficulty 2, 15 minutes)
# :label: ex-micro-diffusion-loss
# Write `kept_loss(error, keep, p)`: `error` (B, C, h, w) are weighted squared
# errors, `keep` (B, M) the places of the kept patches of $p\times p$, counted
# row by row. Return the loss of each picture, (B,), by
# {eq}`eq-micro-diffusion-loss`, as a mean over channels, too.
# ```

# %%
def kept_loss(error, keep, p): ...


check.kept_loss(kept_loss)


# %% [markdown]
# ```{solution-start} ex-micro-diffusion-loss
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def kept_loss(error, keep, p):
    mean = error.mean(1, keepdim=True)
    patches = torch.nn.functional.avg_pool2d(mean, p).flatten(1)
    return patches.gather(1, keep).mean(1)


check.kept_loss(kept_loss)


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} How far to trust the noisy picture (difficulty 3, 20 minutes)
# :label: ex-micro-diffusion-skip
# Data $x$ of mean 0 and variance $\sigma_d^2$, noise of variance $\sigma^2$.
# Derive the factor $c$ for which $c\,(x+\sigma n)$ is the best guess of $x$ by
# squared error, and write it as `c_skip(sigma, sigma_data)`. What is left for
# the network to do at very low and at very high noise?
# ```

# %%
def c_skip(sigma, sigma_data): ...


check.c_skip(c_skip)


# %% [markdown]
# ```{solution-start} ex-micro-diffusion-skip
# :class: dropdown
# $\mathbb E\,(c(x+\sigma n)-x)^2=(c-1)^2\sigma_d^2+c^2\sigma^2$ is least where
# $c=\sigma_d^2/(\sigma_d^2+\sigma^2)$. At low noise the picture passes
# unchanged and the network names the noise; at high noise nothing passes and
# it must name the picture.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def c_skip(sigma, sigma_data):
    return sigma_data**2 / (sigma**2 + sigma_data**2)


check.c_skip(c_skip)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Change it and draw again (difficulty 1, 10 minutes)
# :label: ex-micro-diffusion-change
# Predict, then run: the trained network with `guidance_scale=1.0` and `6.0`,
# and with `num_steps=4`. Which change costs most, and which word suffers? Use
# `micro.draw(system, asked[:few], recipe.HELD_OUT, num_steps=4)` and
# `micro.obeyed` as at the top of the chapter.
# ```
#
# ```{solution-start} ex-micro-diffusion-change
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
changes = ({"guidance_scale": 1.0}, {"guidance_scale": 6.0}, {"num_steps": 4})
answers = {"as trained": micro.obeyed(images[:few], looks[:few])}
for change in changes:
    drawn = micro.draw(system, asked[:few], recipe.HELD_OUT, **change)
    answers[str(change)] = micro.obeyed(drawn, looks[:few])
pd.DataFrame(answers).T[["shape", "colour", "place", "all"]].round(2)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Read the record (difficulty 2, 10 minutes)
# :label: ex-micro-diffusion-record
# Which arms of the study differ in *one* thing only? Which comparison mixes
# the place of the mask with the number of batches, and what does that do to
# the conclusion?
# ```
#
# ```{solution} ex-micro-diffusion-record
# :class: dropdown
# *unmasked*, *deferred* and *naive* differ in the mask alone, *token choice*
# from *deferred* in the router, *tuned* in its last hundred steps. The arms of
# equal cost differ in the mask *and* in how many pictures they meet, because
# equal cost was wanted: they say what to buy with a budget, not what a mask
# does.
# ```
#
# ## What this run cost

# %% tags=["hide-input"]
study.finish()
page.cost()

# %% [markdown]
# ## Further reading
#
# - MicroDiT itself {cite:p}`sehwag2024microdiffusion`; the noise levels,
#   scales and sampler it trains with {cite:p}`karras2022edm`; the transformer
#   it starts from {cite:p}`peebles2023dit`, and a text-to-image training that was
#   called cheap before {cite:p}`chen2024pixart`.
# - Experts that choose {cite:p}`zhou2022expertchoice`, and tokens that choose
#   {cite:p}`shazeer2017moe`.
# - Masks that make learning cheap elsewhere: masked autoencoders
#   {cite:p}`he2022mae`, and {doc}`/notebooks/shapes/point_mae` on points.
# - The other systems of this part: {doc}`/book/parts/diffusion`.
