# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does a Gaussian code make better features?
#
# :::{admonition} Before you start
# **Time** {glue:text}`vsae_time`, **memory** {glue:text}`vsae_memory`, on
# {glue:text}`vsae_device`: measured in the run that is stored here ·
# **GPU** not needed · **Level** 2 of 3 ·
# **Read first** {doc}`/book/primers/sparse_autoencoders`, two minutes ·
# **Paper** {cite:p}`baker2025vsae`
# :::
#
# **You will be able to**
# - write a TopK sparse autoencoder and its variational form, and say what each
#   term of the loss does to a single feature;
# - give features names by a rule that cannot flatter you;
# - judge a dictionary: what it explains, what it costs the language model,
#   how many of its features are dead;
# - take a published comparison apart, one change at a time;
# - remove a feature and see which predictions suffer.

# %% tags=["parameters"]
profile = "cpu"  # "smoke" for tests, "study" for the record, "gpu"
seed = 0

# %% tags=["hide-input"]
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import torch

from gentok.book import chapter
from gentok.book.chapter import show_code
from gentok.book.study import summarize
from gentok.interpret.vsae import (
    VSAE,
    TopKConfig,
    VSAEConfig,
    build,
    build_topk,
    recipe,
)
from gentok.interpret.vsae.microscope import SHIFT, names_in
from gentok.interpret.vsae.naming import named
from gentok.interpret.vsae.superposition import Superposition
from gentok.nn.sae import TopKSAE
from gentok.show import plot

page = chapter.open("vsae", profile, seed)
level, study = page.level, page.study

# %% [markdown]
# ## The question
#
# A transformer hands one vector from layer to layer for each token: the
# *residual stream* $x\in\mathbb R^D$. It seems to hold many more properties
# than it has dimensions, each as a direction, few at a time
# {cite:p}`elhage2022superposition`. A
# {doc}`sparse autoencoder </book/primers/sparse_autoencoders>` looks for these
# directions. The vSAE {cite:p}`baker2025vsae` asks whether they come out
# better if the code is a *distribution*, as in a variational autoencoder
# {cite:p}`kingma2014vae`.
#
# ```{figure} ../../book/img/vsae.svg
# :name: fig-vsae-architecture
# :alt: Architecture. The residual stream of a frozen language model after a block enters an encoder. The encoder gives a mean for every feature; where the mode has noise, noise is added. TopK by magnitude keeps k values. The dictionary adds up their rows to the reconstruction, which can go back into the language model. A KL term pulls all means to zero.
#
# What a vSAE does with the stream of one token. What is new against a TopK
# autoencoder is in colour.
# ```
#
# **The idea in three sentences.** Each feature gets a Gaussian instead of a
# number: a mean read off the activation, noise around it, and a KL term
# towards $\mathcal N(0,1)$. The $k$ sampled values of largest magnitude are
# kept, and a dictionary adds up their directions. The hope is a "dispersive
# pressure": codes that are noisy must keep their distance to be told apart.
#
# ## Two dictionaries
#
# The baseline {cite:p}`gao2025topk` chooses the $k$ largest activations and
# needs no penalty:
#
# $$
# a=\mathrm{ReLU}(W_e(x-b)+b_e),\quad f=\mathrm{TopK}_k(a),\quad
# \hat x=W_df+b,\quad \mathcal L=\lVert x-\hat x\rVert^2 .
# $$ (eq-vsae-topk)
#
# The vSAE subtracts nothing from $x$, samples, and keeps by magnitude:
#
# $$
# \mu=\mathrm{ReLU}(W_ex+b_e),\quad z=\mu+\sigma\odot\varepsilon,\quad
# S=\mathrm{TopK}_k(\lvert z\rvert),\quad f_i=z_i\,\mathbf 1[i\in S],\quad
# \hat x=W_df+b ,
# $$ (eq-vsae-model)
#
# $$
# \mathcal L=\lVert x-\hat x\rVert^2+\beta\,w(t)\,\tfrac12\sum_{i=1}^{F}
# \big(\mu_i^2+\sigma_i^2-1-\log\sigma_i^2\big),\qquad\beta=1 .
# $$ (eq-vsae-loss)
#
# The KL is a *sum* over all $F$ features, chosen or not; $w$ rises from 0 to 1
# over the first tenth of the steps. This is the library's code:

# %%
show_code(VSAE.posterior, start="mu =")

# %%
show_code(VSAE.sample, start="if not")

# %%
show_code(VSAE.select, start="indices")

# %%
show_code(VSAE.kl, start="square", highlight="LARGEST_MEAN")

# %% [markdown]
# Three readings of $\sigma$ exist, and this chapter always names the one it
# uses:
#
# | mode | $\sigma$ | whose |
# |---|---|---|
# | `deterministic` | no noise at all; the KL is $\frac12\sum\mu_i^2$ | the released code of the published runs |
# | `unit` | 1, always | the paper's text |
# | `learned` | $\log\sigma^2=W_vx+b_v$ | an option of the code |
#
# **Predict first.** Activations have mean squared norm 1, so a kept value is
# well below 1. Which units will TopK choose once noise with $\sigma=1$ is
# added to all of them?

# %% mystnb={"image": {"alt": "Three bar charts of 48 units. Without noise the three units with a large mean are kept. With sigma 0.1 the same three are kept. With sigma 1 noise hides the means and other units are kept."}} tags=["hide-input"]
draw = torch.Generator().manual_seed(1)
mu = torch.zeros(48)
mu[[5, 20, 37]] = torch.tensor([0.6, 0.45, 0.5])
eps = torch.randn(48, generator=draw)
figure, axes = plt.subplots(3, 1, figsize=(7, 4.4), sharex=True)
for ax, sigma in zip(axes, (0.0, 0.1, 1.0), strict=True):
    z = mu + sigma * eps
    kept = z.abs().topk(3).indices
    ax.bar(range(48), z, color="#bbbbbb")
    ax.bar(kept, z[kept], color="C0", hatch="///", label="kept (k = 3)")
    ax.plot([5, 20, 37], mu[[5, 20, 37]], "v", color="C1", label="true mean")
    ax.set(title=f"σ = {sigma:g}", ylabel="z (no unit)")
axes[-1].set_xlabel("unit")
handles = axes[0].get_legend_handles_labels()
figure.legend(*handles, loc="outside lower center", ncols=2);

# %% [markdown]
# A little noise changes nothing. Noise of size 1 sits on *every* unit, and of
# $F$ units the luckiest win. So mode `unit` cannot work on normalised
# activations unless the means grow far beyond 1, which the KL forbids.
#
# Two facts about the released mode are exact: nothing is sampled, and the
# objective *is* that of a TopK autoencoder with an L2 penalty on all
# activations before selection.

# %% tags=["nbval-check-output"]
x = torch.randn(10, 16)
released = build(VSAEConfig(dim=16, num_features=64, k=4, kl_warmup=0))
print("two passes equal:", torch.equal(released(x), released(x)))
twin = TopKSAE(16, 64, 4, aux_weight=0.0, l2_weight=1.0)
with torch.no_grad():
    released.dictionary.copy_(twin.dictionary)
    released.encoder.weight.copy_(twin.encoder.weight)
one, two = released.loss({"x": x})[0], twin.loss({"x": x})[0]
print("TopK with an L2 penalty:", torch.allclose(one, two))
print("features", tuple(released.encode(x).shape), "out", tuple(x.shape))

# %% [markdown]
# ## A toy where the truth is known
#
# Now data whose features we know: 256 random unit directions in 64 dimensions,
# a handful active at a time, direction $i$ with probability proportional to
# $1/i$ (words have such frequencies). A dictionary of 512 entries has room to
# spare. We can ask not only how well $x$ is explained but whether the *true*
# directions are found. Each arm changes one thing; "β = 0" is the vSAE without
# its KL term, the fair baseline for what that term does.
#
# **Predict first**: which arms lose features, those with a penalty, those with
# noise, or both?

# %%
toy, toy_steps = Superposition(), level.pick(smoke=4, cpu=600)


def make(kind, size, **changes):
    """A vSAE with changes, or a TopK autoencoder of the same shape."""
    if kind == "topk":
        shape = TopKConfig(size.dim, size.num_features, size.k)
        return build_topk(replace(shape, **changes))
    return build(replace(size, **changes))


def train_toy(seed, kind="vsae", **changes):
    size = VSAEConfig(64, 512, 8, kl_warmup=toy_steps // 10)
    torch.manual_seed(seed)
    sae, how = make(kind, size, **changes), recipe.vsae_stage(toy_steps)
    stream = toy.batches(how.batch_size, seed)
    recipe.train_sae(sae, stream, replace(how, lr=5e-3), seed=seed)
    return toy.measure(sae, level.pick(smoke=512, cpu=8192))


# %%
toy_arms = {
    "TopK": {"kind": "topk"},
    "TopK + L2": {"kind": "topk", "l2_weight": 1.0},
    "vSAE β = 0": {"kl_weight": 0.0},
    "vSAE β = 0.01": {"kl_weight": 0.01},
    "vSAE β = 0.1": {"kl_weight": 0.1},
    "vSAE β = 1": {},
    "unit noise, β = 0": {"variance": "unit", "kl_weight": 0.0},
}
toy_runs = study.ablate("toy", train_toy, toy_arms)

# %% tags=["hide-input"]
shown = ["alive", "explained_variance", "recovered", "recovered_rare"]
summarize(toy_runs, shown)

# %% mystnb={"image": {"alt": "Three interval plots over seven toy arms: share of features alive, explained variance, and share of true directions recovered. All three fall as beta grows, and collapse with unit noise."}} tags=["hide-input"]
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True)
labels = {
    "alive": "share of features alive",
    "explained_variance": "explained variance",
    "recovered": "true directions found (share)",
}
for ax, (metric, label) in zip(axes, labels.items(), strict=True):
    plot.intervals(toy_runs, metric, label, ax=ax)
    ax.set(xlim=(-0.05, 1.05), xlabel=label)

# %% [markdown]
# Read the four β rows from top to bottom. Every tenfold step of β costs
# features, and with them true directions; the last column of the table says
# which: the rarer half goes first. A feature that fires seldom earns little
# reconstruction, but it pays on every sample on which it is not exactly 0.
# "TopK + L2" shows that nothing variational is needed. With unit noise some
# features are "alive" because noise selects them, and explain nothing.
#
# ## Learning begins
#
# The weights above took ten minutes of one core. Here a language model of
# GPT-NeoX's architecture {cite:p}`black2022gptneox` learns in one: three
# blocks of width 128, bytes for tokens, two texts. Then both dictionaries
# learn on its stream after the second block. This is the plan of all
# experiments below, which train *a language model of their own for every
# seed*: otherwise no interval would know how much depends on it.

# %%
task = recipe.plan("tiny", level)
bench = recipe.bench_of(level, seed)  # trains the language model
steps, F = task.vsae.steps, task.size.num_features


def train_one(bench, seed, kind="vsae", features=F, **changes):
    """A dictionary of this bench's activations, and its history."""
    torch.manual_seed(seed)
    size = replace(task.size, num_features=features)
    sae = make(kind, size, **changes)
    topk = recipe.topk_stage(features, steps)
    how = topk if kind == "topk" else task.vsae
    return recipe.train_sae(sae, bench.train, how, seed=seed)


topk_fit = train_one(bench, seed, "topk")
vsae_fit = train_one(bench, seed)

# %% tags=["hide-input"]
page.say(
    "{n:,} activations of width {d}. The language model pays {loss:.2f} nats "
    "a character on new text; with zeros in the place of the stream, "
    "{zeros:.2f}.",
    n=len(bench.train),
    d=bench.train.x.shape[1],
    loss=bench.original_loss,
    zeros=bench.zero_loss,
)

# %% mystnb={"image": {"alt": "Reconstruction loss of both dictionaries against the optimiser step on logarithmic axes; the TopK one ends below the vSAE."}} tags=["hide-input"]
histories = {
    name: [{"step": r["step"], "mse": r["mse"]} for r in fitted.history]
    for name, fitted in (("TopK", topk_fit), ("vSAE, β = 1", vsae_fit))
}
plot.loss_curves(
    histories,
    "Reconstruction loss",
    ylabel="‖x − x̂‖² (‖x‖² = 1 on average)",
);

# %% tags=["hide-input"]
core = {
    "TopK": bench.core(topk_fit.model),
    "vSAE, β = 1": bench.core(vsae_fit.model),
}
pd.DataFrame(core).T.round(3)

# %% [markdown]
# `ce_score` is the share of the language model's loss that survives when
# $\hat x$ replaces $x$; `nearest` the mean cosine of a living feature with its
# nearest neighbour; `agreement` says how often both fire on the same kind of
# character, 0 being chance. The main finding of the paper stands in the column
# `alive`: both use 16 features for each character, but the vSAE draws them
# from a much smaller part of its dictionary.
#
# ## One change at a time
#
# The published comparison changes five things at once: the start (rows of
# length 1 or 0.1), the rule of unit length, the bias at the input, the
# warm-up, and the KL. From "TopK" to "β = 0" everything changes *except* the
# penalty; along the β rows *only* the penalty. "KL on selected" spares the
# units that were not chosen, as a later file of the authors does. "TopK, F/5"
# has about as many features as the vSAE keeps alive: what it does better than
# the full TopK is an effect of size. Each arm meets the bench, on text that
# nothing was trained on:
#
# - **probes** that may read one or five features: which text, which kind of
#   line, does the word end here?
# - **SCR** {cite:p}`karvonen2025saebench`: a probe for *the word ends here* is
#   trained where that coincides with Shakespeare, so it leans on the wrong
#   thing. Ablate the $n$ features most to blame: how much accuracy returns?
# - **TPP**: a probe for each kind of line. Ablate the $n$ features of one
#   kind; its own probe's fall is *intended*, the others' *unintended*;
# - **names** that hold, for three of the arms.
#
# **Predict first**: which arm has the fewest living features? Does sparing the
# unselected bring them back?

# %%
def examine(seed, kind="vsae", names=False, **changes):
    """Train a dictionary on this seed's language model; ask everything."""
    bench = recipe.bench_of(level, seed)
    fitted = train_one(bench, seed, kind, **changes)
    sae = fitted.model
    found = {
        **bench.core(sae),
        **bench.probing(sae),
        **bench.spurious(sae),
        **bench.targeted(sae),
        "norm": float(sae.dictionary.detach().norm(dim=-1).mean()),
        "mse": last(fitted.history),
        "host_loss": bench.original_loss,
    }
    return found | (count_names(seed, sae) if names else {})


# %% tags=["hide-input"]
def last(history):
    """Mean reconstruction loss over the last fifth of the rows."""
    values = [row["mse"] for row in history]
    values = values[-max(1, len(values) // 5) :]
    return sum(values) / len(values)


def count_names(seed, sae):
    """Distinct names that hold: all, beyond characters, and controls."""
    views = recipe.views_of(level, seed)
    found, control = names_in(views, sae), names_in(views, sae, SHIFT)
    return {
        "named": len(named(found)),
        "named_context": len(named(found, beyond_characters=True)),
        "named_shifted": len(named(control)),
    }


# %%
arms = {
    "TopK": {"kind": "topk", "names": True},
    "TopK, F/5": {"kind": "topk", "features": F // 5},
    "TopK + L2": {"kind": "topk", "l2_weight": 1.0},
    "vSAE β = 0": {"kl_weight": 0.0, "names": True},
    "vSAE β = 0.1": {"kl_weight": 0.1},
    "vSAE β = 1": {"names": True},
    "KL on selected": {"kl_on": "selected"},
    "unit noise, β = 0": {"variance": "unit", "kl_weight": 0.0},
}
runs = study.ablate("language", examine, arms)

# %% tags=["hide-input", "slide"]
page.claims()

# %% tags=["hide-input"]
study.finish()
page.cost()
