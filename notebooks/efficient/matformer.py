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
# # Can one training run give a model for every budget?
#
# :::{admonition} Before you start
# **Time, memory, threads**: measured by this very run, in the cell
# [What this run cost](matformer-cost) near the end · **GPU** not needed ·
# **Read first** {doc}`/book/how_to` and {doc}`/book/parts/efficient` ·
# **Paper** {cite:p}`devvrit2023matformer` · **Builds on** nested
# representations {cite:p}`kusupati2022mrl` and speculative decoding
# {cite:p}`leviathan2023speculative`
# :::
#
# A language model is released in three or four sizes, each trained on its
# own. Whoever has room for something in between takes the smaller one. The
# sizes know nothing of each other: where they are used together, as a draft
# and its verifier or as two encoders of one search index, they disagree.
#
# MatFormer trains *one* network whose feed-forward layers can be cut short.
# The first neurons of each layer form a smaller layer, and training visits
# all cuts in turn. Afterwards every layer may be cut on its own: four cuts
# and $l$ layers give $4^l$ networks of which four were trained.
#
# **You will be able to**
# - slice a feed-forward layer so that the smaller one is exact, and name three
#   ways to get it wrong;
# - compute what any mixture of widths costs;
# - draw the whole curve of loss against cost that one network traces;
# - explain why speculative decoding never changes what a model writes, and
#   predict its gain from one number;
# - test whether two encoders of different size share one space.

# %% tags=["parameters"]
profile = "cpu"  # "smoke" for tests, "study" for the record, "gpu"

# %% tags=["hide-input"]
import html
import inspect
import resource
import sys
import time
import warnings
from dataclasses import replace

warnings.filterwarnings("ignore", message="IProgress not found")

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import HTML
from matplotlib.patches import Rectangle

from gentok.book.study import Study, summarize
from gentok.data import batches, digits, text
from gentok.data.characters import (
    split_text,
    to_ids,
    to_text,
    window_batches,
    windows,
)
from gentok.efficient import matformer
from gentok.efficient.matformer import elastic, nested
from gentok.efficient.matformer.decoding import write
from gentok.measure import count_flops, count_parameters, tsne
from gentok.process import speculative
from gentok.show import plot
from gentok.training import profiles
from gentok.training.loop import fit

began = time.perf_counter()
plot.use_style()
level = profiles.profile(profile)
study = Study("matformer", level)
torch.manual_seed(0);

# %% [markdown]
# ## The idea
#
# A feed-forward layer maps a token $x$ of width $D$ to $F$ neurons and back.
# Take only its first $m$ neurons:
#
# $$
# \mathrm{FFN}_m(x)=W_2[:,0{:}m]\;\sigma\big(W_1[0{:}m]\,x+b_1[0{:}m]\big)+b_2,
# \qquad m\in\{F/8,\;F/4,\;F/2,\;F\}.
# $$ (eq-nested)
#
# The four choices are called S, M, L and XL. They are *nested*: the neurons of
# S are the first of M, those of M the first of L. Everything else (attention,
# norms, embeddings, the head and the second bias $b_2$) is shared at full
# width. With a layer's $4D^2$ weights of attention, S has $5D^2$ weights a
# layer and XL $12D^2$: the smallest model is no less than five twelfths of
# the largest.

# %% mystnb={"image": {"alt": "Left: two weight matrices with four nested bands S, M, L and XL, rows in the first and columns in the second. Right: bars of weights per layer, attention equal and feed-forward doubling from S to XL"}}
figure, (left, right) = plt.subplots(
    1, 2, figsize=(9, 3.6), width_ratios=(1.5, 1)
)
shares = {"S": 1, "M": 2, "L": 4, "XL": 8}
for i, (name, share) in reversed(list(enumerate(shares.items()))):
    colour = f"C{i}"
    left.add_patch(Rectangle((0, 8 - share), 3, share, fc=colour, ec="w"))
    left.add_patch(Rectangle((5, 4.4), share, 3, fc=colour, ec="w"))
    left.text(1.5, 8 - share + 0.5, name, ha="center", va="center")
    left.text(5 + share - 0.5, 5.9, name, ha="center", va="center")
left.text(1.5, -0.7, "$W_1$: rows of neurons", ha="center")
left.text(9, 3.6, "$W_2$: columns of neurons", ha="center")
left.set(xlim=(-0.5, 13.5), ylim=(-1.2, 8.4))
left.set_title("Four layers in one")
left.set_axis_off()
right.bar(list(shares), [4] * 4, label="attention", color="#bbbbbb")
right.bar(
    list(shares), list(shares.values()), bottom=4, label="feed-forward"
)
right.set(title="Weights of one layer", xlabel="granularity")
right.set_ylabel("weights (multiples of $D^2$)")
right.legend();

# %% [markdown]
# Left: a granularity takes rows of $W_1$ from the top and the *same* columns
# of $W_2$ from the left. Right: what that saves. Only the feed-forward part
# shrinks, so a cut to an eighth there leaves five twelfths of the layer.
#
# ## Slicing, exactly
#
# In the library a granularity is two slices and nothing more:

# %%
print(inspect.getsource(nested.NestedFeedForward.forward))

# %% [markdown]
# Three things can go wrong without any error message. The released vision
# code multiplies neurons by a 0/1 mask *before* the activation; that equals
# slicing only because $\mathrm{GELU}(0)=0$. A public reproduction on gated
# layers applies the activation to the product of gate and value, which is
# not SwiGLU {cite:p}`shazeer2020glu`. And $b_2$ must not be sliced or
# repeated. The next cell holds the layer against a plain one that is filled
# by hand.

# %%
# NBVAL_CHECK_OUTPUT
torch.manual_seed(0)
layer, x = nested.NestedFeedForward(96, 384), torch.randn(5, 96)
m = 48  # S
hidden = F.gelu(F.linear(x, layer.up.weight[:m], layer.up.bias[:m]))
by_hand = F.linear(hidden, layer.down.weight[:, :m], layer.down.bias)
keep = (torch.arange(384) < m).float()
print("output", tuple(layer(x, m).shape), "from", m, "of 384 neurons")
print("equals the sliced layer:", torch.allclose(layer(x, m), by_hand))
masked = layer.masked(x, keep)
print("equals the mask:", torch.allclose(masked, by_hand, atol=1e-6))
late = layer.down(F.sigmoid(layer.up(x) * keep))  # an activation, 1/2 at 0
early = F.sigmoid(F.linear(x, layer.up.weight[:m], layer.up.bias[:m]))
early = F.linear(early, layer.down.weight[:, :m], layer.down.bias)
print("a mask with a sigmoid:", torch.allclose(late, early, atol=1e-2))
gated = nested.NestedGated(96, 384)
product = gated.down(F.silu(gated.gate(x) * gated.up(x)))
print("activation on the product:", torch.allclose(product, gated(x)))

# %% [markdown]
# ## MatLM
#
# A decoder language model made of such layers. `forward` takes the name of a
# granularity, or one name for each layer. The library's tiny preset reads
# characters; the alphabet has 96.

# %%
# NBVAL_CHECK_OUTPUT
tiny = matformer.PRESETS["tiny"]
torch.manual_seed(0)
network = matformer.build(tiny).eval()
ids = torch.randint(96, (2, 20))
print("tokens", tuple(ids.shape), "-> logits", tuple(network(ids).shape))
mixture = ("S", "S", "M", "XL")
print("neurons of the mixture:", tiny.widths(mixture))
small = matformer.extract(network, mixture)
same = torch.allclose(small(ids), network(ids, mixture), atol=1e-6)
print("extracted network equals the slice:", same)
for name in tiny.names:
    whole = matformer.extract(network, name)
    counted = sum(count_parameters(block) for block in whole.blocks)
    formula = elastic.block_params(tiny, name)
    print(f"{name:>2}: {counted:>7,} parameters, formula: {formula:>7,}")

# %% [markdown]
# `extract` copies the weights into an ordinary transformer. Nothing is lost
# and nothing is approximated: the tests compare it with GPT-NeoX of the
# `transformers` package, built at the small size and filled with the same
# numbers. Cost follows in the same way, and PyTorch's own counter agrees:

# %%
# NBVAL_CHECK_OUTPUT
head = 20 * tiny.dim * tiny.vocab_size
for submodel in ("S", mixture, "XL"):
    with torch.device("meta"):
        meta = matformer.build(tiny)
    flops = count_flops(meta, ids[:1].to("meta"), submodel)
    macs = elastic.block_macs(tiny, submodel, tokens=20) + head
    print(submodel, "counted equals formula:", flops // 2 == macs)

# %% [markdown]
# ## Two objectives under one name
#
# The first version of the paper trains all granularities at every step and
# adds their losses:
#
# $$
# \mathcal L_{\text{joint}}=\sum_i\lambda_i\,\mathcal L(\mathcal M_i(x),y).
# $$ (eq-joint)
#
# The revised version draws *one* granularity $i$ a step and trains it alone,
# $\mathcal L_{\text{sampling}}=\mathcal L(\mathcal M_i(x),y)$; the joint mean
# is then called the DynaBERT baseline {cite:p}`hou2020dynabert`. Public code
# follows either. With $\lambda_i=1/4$ the two have the same gradient on
# average. Written as a sum without weights, the joint gradient is four times
# as large, a pitfall of two of the three public versions. The library has
# both modes and averages:

# %%
print(inspect.getsource(matformer.MatFormer.loss))

# %% [markdown]
# The text is the language reference that every Python installation brings
# along, less every tenth piece of it, which is for testing.

# %%
train_ids, test_ids = split_text(to_ids(text()))
CONTEXT = tiny.context
HELD = windows(test_ids, CONTEXT + 1, level.pick(smoke=2, cpu=48))
print(f"{len(train_ids):,} characters to train on, {HELD.numel():,} held out")
print(to_text(HELD[1]))

# %% [markdown]
# The budget is the paper's: a baseline of each size trains for $X$ steps, and
# MatFormer for $4X$, so that each granularity is visited $X$ times. In all,
# both see the same number of tokens. The weights of S are then trained in
# every step, those that only XL has in a quarter of them.

# %%
X = level.pick(smoke=2, cpu=160)


def train_lm(config, steps, seed=0, progress=False):
    """Train on random windows; returns the network and its history."""
    torch.manual_seed(seed)
    fitted = fit(
        matformer.build(config).to(level.device),
        window_batches(train_ids, CONTEXT + 1, 8, seed),
        steps=steps,
        lr=4e-3,
        betas=(0.9, 0.95),
        weight_decay=0.01,
        warmup=min(30, steps // 2),
        schedule="cosine",
        seed=seed,
        log_every=1,
        progress=progress,
    )
    return fitted.model.cpu(), fitted.history


@torch.no_grad()
def held_loss(network, submodel=None):
    """Nats a character on the held-out windows."""
    return float(network.cross_entropy({"tokens": HELD}, submodel))


network, history = train_lm(tiny, 4 * X, progress=True)

# %% mystnb={"image": {"alt": "Training loss of the four granularities over the steps in which each was drawn: all fall together, S a little above XL"}}
log = pd.DataFrame(history)
figure, axes = plt.subplots(figsize=(7.2, 3.6))
for i, (name, dash) in enumerate(zip(tiny.names, plot.DASHES, strict=False)):
    drawn = log[log["granularity"].round() == i]
    smooth = drawn["loss"].rolling(max(1, len(drawn) // 12), 1).mean()
    axes.plot(drawn["step"], smooth, linestyle=dash, label=name)
axes.set(title="One run, four granularities in turn", xlabel="optimiser step")
axes.set_ylabel("cross-entropy (nats a character)")
axes.legend();

# %% [markdown]
# Each curve holds only the steps that drew its granularity. They fall
# together: what one step teaches S is in XL as well, since S is a part of it.
#
# ## Hundreds of submodels
#
# Now cut every layer on its own: four layers and four granularities make 256
# networks. The paper calls this Mix'n'Match. It asks for widths that do not
# fall with depth, and among those for the *least slope*: take two neighbouring
# granularities, the smaller for the early layers and the larger for the late
# ones.
#
# All 256 losses come from one walk through the tree of prefixes: mixtures
# that begin alike share their first layers.

# %%
print(inspect.getsource(elastic.every_loss))

# %% [markdown]
# **Predict first**: 252 of these networks were never trained. Where will they
# lie: on the line between the trained ones, above it, or scattered?

# %% mystnb={"image": {"alt": "Loss against parameters for 256 mixtures as a cloud that falls to the right; the four trained sizes and the least-slope mixtures lie near its lower edge"}}
config_all = elastic.every_mixture(tiny)
sizes_all = [elastic.block_params(tiny, mix) / 1e3 for mix in config_all]
losses_all = elastic.every_loss(network, HELD).flatten().tolist()
loss_of = dict(zip(config_all, losses_all, strict=True))
size_of = dict(zip(config_all, sizes_all, strict=True))
gentle = sorted(elastic.two_level(tiny, adjacent=True), key=size_of.get)
steep = set(elastic.two_level(tiny)) - set(gentle)
trained = elastic.uniform(tiny)
figure, axes = plt.subplots(figsize=(8.2, 4.4))
for group, look, label in (
    (config_all, {"c": "#bbbbbb", "s": 14}, "all 256 mixtures"),
    (steep, {"c": "C1", "s": 34, "marker": "^"}, "two levels, far apart"),
    (gentle, {"c": "C0", "s": 34, "marker": "s"}, "least slope"),
    (trained, {"c": "k", "s": 80, "marker": "*"}, "trained"),
):
    points = [(size_of[mix], loss_of[mix]) for mix in group]
    axes.scatter(*zip(*points, strict=True), label=label, **look)
axes.plot(
    [size_of[mix] for mix in gentle], [loss_of[mix] for mix in gentle], "C0"
)
axes.set(title="One network, 256 budgets")
axes.set_xlabel("parameters of all blocks (thousands)")
axes.set_ylabel("held-out loss (nats a character)")
axes.legend();

# %% [markdown]
# Stars are the four sizes that training has seen; each grey dot is a mixture
# that it has not. None of them falls out of the band: a layer has learned to
# be followed and preceded by layers of any width that it met in other steps.
# Mixtures of widths far apart lie higher than gentle ones of their size. Some
# grey dots lie a little below the blue line: the rule is a good one and not
# the best of 256, of which a few win by luck on any one text. How closely the
# line follows the chords, and how much steeper mixtures lose, is measured over
# seeds below. A budget is turned into a model by one call:

# %%
# NBVAL_CHECK_OUTPUT
for budget in (190_000, 250_000, 330_000, 440_000):
    best = elastic.least_slope(tiny, budget)
    size = elastic.block_params(tiny, best)
    print(f"budget {budget:,}: {' '.join(best):<12} {size:,} parameters")

# %% [markdown]
# ## An instrument: where did the neurons go?
#
# What would the same slicing do to an ordinary network? Its neurons have no
# order. For each neuron take the size of what it adds to the residual stream,
# $\overline{|h_i|}\,\lVert W_2[:,i]\rVert$, and average over the bands that S,
# M, L and XL add. An ordinary XL and an ordinary S, trained for $X$ steps
# each, will serve as the *independent pair* from here on.
#
# **Predict first**: how do the four bands compare in each of the two networks?

# %%
alone_config = {n: matformer.submodel_config(tiny, n) for n in tiny.names}
alone = {n: train_lm(alone_config[n], X, seed=0)[0] for n in ("S", "XL")}


def as_nested(plain):
    """An ordinary XL in a network that can be sliced."""
    sliced = matformer.build(tiny).eval()
    sliced.load_state_dict(plain.state_dict())
    return sliced


rows = []
for name, model in {"MatFormer": network, "ordinary XL": alone["XL"]}.items():
    found = elastic.neuron_contributions(model, HELD[:, :-1]).detach()
    found = found / found.mean(1, keepdim=True)  # each layer's mean is 1
    edges = [0, 48, 96, 192, 384]
    bands = [
        found[:, a:b].mean()
        for a, b in zip(edges, edges[1:])  # noqa: B905
    ]
    rows.append((name, [float(value) for value in bands], found.mean(0)))

# %% mystnb={"image": {"alt": "Left: contribution of neurons by position, high for the first 48 and falling in steps for MatFormer, flat for the ordinary network. Right: the same as bars for the four bands"}}
figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.6))
for i, (name, bands, line) in enumerate(rows):
    smooth = pd.Series(line.numpy()).rolling(16, 1, center=True).mean()
    left.plot(smooth, linestyle=plot.DASHES[i], label=name)
    places = [k + 0.38 * (i - 0.5) for k in range(4)]
    right.bar(places, bands, 0.36, label=name, hatch=("", "//")[i])
for edge in (48, 96, 192):
    left.axvline(edge, color="#888888", linestyle=":")
left.set(title="Size of a neuron's contribution", xlabel="neuron")
left.set_ylabel("relative to the layer's mean")
left.set_ylim(bottom=0)
left.legend()
right.set_xticks(range(4), ["S", "M less S", "L less M", "XL less L"])
right.set(title="Mean of each band", xlabel="neurons that the size adds")
right.set_ylabel("relative to the layer's mean")
right.legend();

# %% [markdown]
# The dotted lines are the cuts. Nested training sorts the layer: neurons that
# all four sizes rely on carry most, and those that only XL has add little
# each, though there are four times as many of them. In the ordinary network
# position means nothing, so a cut to an eighth throws away a random seven
# eighths.

# %%
sliced = as_nested(alone["XL"])
table = {
    "MatFormer": [held_loss(network, n) for n in tiny.names],
    "ordinary XL, sliced": [held_loss(sliced, n) for n in tiny.names],
}
pd.DataFrame(table, index=tiny.names).T.round(3)

# %% [markdown]
# ## Speculative decoding
#
# Writing is slow because each token waits for the one before. Let S *draft*
# $k$ tokens, and let XL read all of them in one pass. A draft $x$ with
# probability $q(x)$ under S and $p(x)$ under XL is accepted with probability
# $\min(1,p(x)/q(x))$. The first refused one is replaced by a draw from the
# residual
#
# $$
# r(x)\propto\max\big(p(x)-q(x),0\big),
# $$ (eq-residual)
#
# and the drafts behind it are dropped. If all are accepted, XL's last logits
# give one more token for free {cite:p}`leviathan2023speculative`. The token at
# each place then follows $p$ exactly: $x$ comes out as an accepted draft with
# probability $\min(p,q)$, as a replacement with probability
# $\max(p-q,0)$, and the two add up to $p(x)$. A draft is accepted
# with probability $\alpha=\sum_x\min(p(x),q(x))$.

# %%
print(inspect.getsource(speculative.verify).split('"""')[2])

# %% [markdown]
# Because attention is not nested, keys and values of S and XL have the same
# shape. They can share one cache: XL's pass overwrites what S wrote, and S
# goes on from the better keys and values. At temperature 0 the rule says
# "accept while both agree", and the text must be XL's own, letter for letter:

# %%
# NBVAL_CHECK_OUTPUT
prompt = test_ids[2000:2024]
greedy = network.sample(1, 40, prompt, temperature=0)[0]
for shared in (False, True):
    made = write(
        network, prompt, 40, "S", shared_cache=shared, temperature=0
    )
    same = torch.equal(made.tokens[:40], greedy)
    print(f"shared cache {shared}: greedy text unchanged: {same}")

# %% [markdown]
# And with sampling. Each character below is coloured by who wrote it.

# %%
LOOK = {
    speculative.ACCEPTED: "background:#cfe3f3;color:#000",
    speculative.CORRECTED: "background:#f6c9a8;color:#000;"
    "text-decoration:underline",
    speculative.BONUS: "background:#c5e6d6;color:#000;font-weight:bold",
}


def printable(char):
    return html.escape(char).replace("\n", "¶\n")


def coloured(made, caption):
    """Text whose characters show where they come from."""
    spans = [
        f'<span style="{LOOK[int(who)]}">{printable(char)}</span>'
        for char, who in zip(to_text(made.tokens), made.origin, strict=True)
    ]
    key = " ".join(
        f'<span style="{LOOK[who]}">{words}</span>'
        for who, words in (
            (speculative.ACCEPTED, "draft of S, accepted"),
            (speculative.CORRECTED, "corrected by XL (underlined)"),
            (speculative.BONUS, "added by XL (bold)"),
        )
    )
    numbers = (
        f"{made.acceptance:.0%} of judged drafts accepted, "
        f"{made.tokens_per_call:.2f} characters for each pass of XL"
    )
    return HTML(
        f"<p><b>{caption}</b>: {numbers}<br>{key}</p>"
        f'<pre style="white-space:pre-wrap">{"".join(spans)}</pre>'
    )


torch.manual_seed(1)
LENGTH = level.pick(smoke=20, cpu=400)
made = write(network, prompt, LENGTH, "S", k=4, temperature=0.8)
coloured(made, "S drafts, XL verifies")

# %% [markdown]
# Words come and go, sentences do not: a network that saw a few minutes of
# training spells better than it writes. Most characters are S's. The bonus
# characters stand a fixed distance apart where all goes well; corrections sit
# where many continuations are possible, often early in a word. The text as a
# whole follows XL.
#
# How many characters does one pass of XL yield? If each draft were accepted
# independently with probability $\alpha$, a round of $k$ drafts would give
# $1+\alpha+\dots+\alpha^k=(1-\alpha^{k+1})/(1-\alpha)$.
#
# **Predict first**: with $\alpha=0.9$, how much is there to gain from $k=8$
# over $k=4$?

# %%
held_in = HELD[:, :-1]
with torch.no_grad():
    logits = {n: network(held_in, n) for n in ("S", "XL")}
    pair = {n: model(held_in) for n, model in alone.items()}
agreement = {
    "S and XL of MatFormer": elastic.consistency(logits["S"], logits["XL"]),
    "S and XL trained apart": elastic.consistency(pair["S"], pair["XL"]),
}
starts = range(100, 100 + 900 * level.pick(smoke=1, cpu=6), 900)
prompts = [test_ids[i : i + 16] for i in starts]


WRITTEN = level.pick(smoke=6, cpu=48)  # characters after each prompt


def yields(verifier, k, draft="S", draft_model=None):
    """Characters a pass, and acceptance, over several prompts."""
    made = [
        write(
            verifier,
            p,
            WRITTEN,
            draft,
            draft_model,
            shared_cache=draft_model is None,
            k=k,
        )
        for p in prompts
    ]
    passes = sum(part.verifier_calls for part in made)
    judged = sum(part.drafted for part in made)
    kept = sum(part.accepted for part in made)
    return sum(len(part.tokens) for part in made) / passes, kept / judged


torch.manual_seed(0)
DRAFTS = level.pick(smoke=(1, 2), cpu=(1, 2, 4, 8))
measured = {
    "S and XL of MatFormer": [yields(network, k)[0] for k in DRAFTS],
    "S and XL trained apart": [
        yields(alone["XL"], k, None, alone["S"])[0] for k in DRAFTS
    ],
}

# %% mystnb={"image": {"alt": "Characters per pass of the verifier against the number of drafts: the nested pair lies well above the independent pair, and the dotted formula curves run close to the points"}}
figure, axes = plt.subplots(figsize=(6.8, 3.8))
for i, (name, values) in enumerate(measured.items()):
    a = agreement[name]["overlap"]
    ks = torch.linspace(1, max(DRAFTS), 50)
    axes.plot(ks, (1 - a ** (ks + 1)) / (1 - a), f"C{i}:")
    axes.plot(DRAFTS, values, f"C{i}{'os'[i]}", label=name)
axes.axhline(1, color="#888888", linestyle="--", label="plain decoding")
axes.set(title="What one pass of XL yields", xlabel="drafts a round, k")
axes.set_ylabel("characters for each pass of XL")
axes.set_xticks(DRAFTS)
axes.set_ylim(bottom=0)
axes.legend();

# %% [markdown]
# Points are counted in real decoding, dotted curves are the formula with
# $\alpha$ measured on held-out text, a single number. They need not agree:
# easy and difficult places come in clusters, which the formula does not know,
# and long rounds are cut short where a text ends. At this size a pass of XL
# costs hardly more than one of S, so nothing is gained in seconds; what counts
# is the number of passes.
#
# ## Where do the two disagree?

# %% mystnb={"image": {"alt": "Two blocks of characters of held-out text coloured by divergence between S and XL: a few dark spots in rare words for the nested pair, many and darker ones for the independent pair"}}
ROWS = level.pick(smoke=2, cpu=6)
maps = {
    "trained together": elastic.kl_per_token(logits["S"], logits["XL"]),
    "trained apart": elastic.kl_per_token(pair["S"], pair["XL"]),
}
top = float(maps["trained apart"][:ROWS].quantile(0.97))
figure, axes = plt.subplots(2, 1, figsize=(9.4, 1.1 + 0.46 * ROWS))
for ax, (name, kl) in zip(axes, maps.items(), strict=True):
    picture = ax.imshow(
        kl[:ROWS], cmap="cividis_r", vmin=0, vmax=top, aspect="auto"
    )
    for r in range(ROWS):
        for c in range(CONTEXT):
            char = to_text(HELD[r, c + 1 : c + 2]).replace("\n", "¶")
            dark = float(kl[r, c]) > 0.55 * top
            ax.text(
                c,
                r,
                char.replace("$", r"\$"),
                ha="center",
                va="center",
                fontsize=7,
                color="w" if dark else "k",
                family="monospace",
            )
    ax.set(xticks=[], yticks=[])
    ax.set_ylabel(name, fontsize=9)
    ax.grid(False)
axes[0].set_title("How much S and XL differ about the next character")
axes[1].set_xlabel("characters of held-out text, one window a line")
figure.colorbar(picture, ax=axes, label="KL(S ‖ XL), nats");

# %% [markdown]
# Each cell is coloured by the divergence of the two predictions *for the
# character printed in it*. Both readers saw the same prefix; letting each
# write freely and comparing would only measure how quickly texts part. Dark
# cells sit in unusual words, and where a word may end or go on. Between
# networks trained apart they are frequent and darker, and ordinary words have
# them too: the two have opinions of their own, not only more or less skill.
#
# ## One run against four, over seeds
#
# Four ways to get four sizes:
#
# - **MatFormer**: sampling mode, $4X$ steps;
# - **joint**: the mean of four losses, $X$ steps, the same tokens for each
#   granularity;
# - **four runs**: S, M, L and XL trained apart, $X$ steps each;
# - **XL alone, sliced**: all $4X$ steps go into one ordinary XL, which is then
#   sliced as if it were nested.
#
# All four are turned into ordinary networks by `extract` and measured alike.
# **Predict first**: who has the best XL? The best S?

# %%
SEEDS = (0, 1, 2)
GENTLE = [  # pairs of mixtures with equally many parameters
    (("S", "M", "M", "M"), ("S", "S", "S", "L")),
    (("M", "M", "M", "L"), ("S", "S", "L", "L")),
    (("M", "L", "L", "L"), ("M", "M", "M", "XL")),
    (("L", "L", "L", "XL"), ("M", "M", "XL", "XL")),
]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def mixtures(network):
    """What the mixtures of one nested network lose, by kind."""
    losses = elastic.every_loss(network, HELD).flatten().tolist()
    loss = dict(zip(elastic.every_mixture(tiny), losses, strict=True))
    chord = []
    mixed = [
        mix
        for mix in elastic.two_level(tiny, adjacent=True)
        if len(set(mix)) == 2
    ]
    for mix in mixed:
        ends = [loss[(name,) * 4] for name in (mix[0], mix[-1])]
        sizes = [elastic.block_params(tiny, n) for n in (mix[0], mix[-1])]
        share = elastic.block_params(tiny, mix) - sizes[0]
        share /= sizes[1] - sizes[0]
        chord.append((1 - share) * ends[0] + share * ends[1])
    return {
        "mixtures": [round(value, 4) for value in losses],
        "mixed": mean(loss[mix] for mix in mixed),
        "chord": mean(chord),
        "falling": mean(loss[mix[::-1]] for mix in mixed),
        "gentle": mean(loss[a] for a, _ in GENTLE),
        "steep": mean(loss[b] for _, b in GENTLE),
    }


def family(kind, seed):
    """Four ordinary networks by name, and what the mixtures say."""
    if kind == "four runs":
        models = {
            n: train_lm(c, X, seed)[0] for n, c in alone_config.items()
        }
        return models, {}
    if kind == "XL alone, sliced":
        nested_network = as_nested(
            train_lm(alone_config["XL"], 4 * X, seed)[0]
        )
    elif kind == "joint":
        config = replace(tiny, objective="joint")
        nested_network = train_lm(config, X, seed)[0]
    else:
        config = replace(tiny, draw_seed=seed)
        nested_network = train_lm(config, 4 * X, seed)[0]
    extra = mixtures(nested_network) if kind == "MatFormer" else {}
    return {
        n: matformer.extract(nested_network, n) for n in tiny.names
    }, extra


def run_arm(seed, kind):
    models, result = family(kind, seed)
    for name, model in models.items():
        result[f"loss_{name}"] = held_loss(model)
    result["loss_mean"] = mean(result[f"loss_{n}"] for n in tiny.names)
    with torch.no_grad():
        both = models["S"](held_in), models["XL"](held_in)
    result.update(elastic.consistency(*both))
    torch.manual_seed(seed)
    result["yield"], result["acceptance"] = yields(
        models["XL"], 4, None, models["S"]
    )
    return result


runs = study.ablate(
    "language",
    run_arm,
    {
        name: {"kind": name}
        for name in ("MatFormer", "joint", "four runs", "XL alone, sliced")
    },
    seeds=SEEDS,
)
summarize(runs, ["loss_S", "loss_M", "loss_L", "loss_XL", "loss_mean"])

# %% mystnb={"image": {"alt": "Held-out loss of four sizes for four ways of training, with intervals over seeds: MatFormer lowest but for XL, four separate runs higher, the sliced ordinary network far above at small sizes"}}
figure, axes = plt.subplots(figsize=(7.6, 4.2))
params = [elastic.block_params(tiny, n) / 1e3 for n in tiny.names]
columns = [f"loss_{n}" for n in tiny.names]
for i, (name, rows_of) in enumerate(runs.groupby("variant", sort=False)):
    values = rows_of[columns]
    axes.errorbar(
        [p * (1 + 0.006 * (i - 1.5)) for p in params],
        values.mean(),
        yerr=[values.mean() - values.min(), values.max() - values.mean()],
        marker="os^D"[i],
        linestyle=plot.DASHES[i % len(plot.DASHES)],
        capsize=3,
        label=name,
    )
ticks = zip(tiny.names, params, strict=True)
axes.set_xticks(params, [f"{name}\n{size:.0f}" for name, size in ticks])
axes.set(title="Four sizes, four ways to get them", yscale="log")
axes.set_xlabel("parameters of all blocks (thousands)")
axes.set_ylabel("held-out loss (nats a character)\nmean and range of seeds")
axes.yaxis.set_major_formatter(plot.PlainNumbers())
axes.yaxis.set_minor_formatter(plot.PlainNumbers(minor_thresholds=(2, 1)))
axes.legend();

# %% [markdown]
# Read it size by size. Against *four runs*, MatFormer's every size profits
# from the steps of the others: at these few steps the longest training wins,
# and the shared weights had four times as many. *Joint* has seen the same
# text as MatFormer but took a quarter of its steps. *XL alone* shows what the
# budget buys if only one size is wanted, and what slicing does to a network
# that never practised it.
#
# In the paper the same budget rule holds at billions of tokens, where a
# model of 78M gains at all four sizes and one of 850M gives up 0.006 nats at
# XL for gains of 0.02 to 0.05 below {cite:p}`devvrit2023matformer`.

# %%
summarize(runs, ["agreement", "kl", "overlap", "acceptance", "yield"])

# %% mystnb={"image": {"alt": "Share of places where S and XL find the same character most likely, for four ways of training, with intervals"}}
plot.intervals(
    runs,
    "agreement",
    "Do S and XL choose the same character?",
    "agreement of greedy characters (share, higher is better)",
);

# %% [markdown]
# Agreement is high for both kinds of nested training, lower for networks
# trained apart, and lowest where a network is sliced without practice. Part
# of the gap is skill: better models agree more, on the right answer. The
# divergence map above shows the other part.
#
# ### Which mixtures?

# %%
nested_runs = runs[runs["variant"] == "MatFormer"]


def as_variants(rows, **columns):
    """Columns of the same runs, as variants of one metric."""
    parts = [
        pd.DataFrame(
            {"variant": name, "seed": rows["seed"], "value": rows[column]}
        )
        for name, column in columns.items()
    ]
    return pd.concat(parts)


# %% mystnb={"image": {"alt": "What mixing adds to the loss, with intervals over seeds: hardly anything for neighbouring widths, rising or falling, and clearly more for widths far apart"}}
gaps = 1000 * nested_runs[["mixed", "falling", "steep"]]
gaps = gaps.sub(1000 * nested_runs["chord"], axis=0).assign(
    seed=nested_runs["seed"],
    steep=1000 * (nested_runs["steep"] - nested_runs["gentle"]),
)
panel = plot.intervals(
    as_variants(
        gaps,
        **{
            "neighbours, rising": "mixed",
            "neighbours, falling": "falling",
            "far apart": "steep",
        },
    ),
    "value",
    "What mixing adds to the loss",
    "added loss (thousandths of a nat a character)",
)
panel.axvline(0, color="#555555", linestyle=":");

# %% [markdown]
# *Neighbours* are least-slope mixtures against the chord between the two
# trained sizes that they mix: zero means exactly on the straight line.
# *Falling* turns each of them round, wide layers first. Both lie on the chord
# to within thousandths of a nat: with four layers, it hardly matters which of
# them are wide.
#
# What matters is how *far apart* the widths of a mixture are, and the chord
# explains it. Loss against width is a curve that flattens out. A mixture of
# neighbours lies on a short chord of that curve, a mixture of extremes on a
# long one, and the long chord of such a curve runs above the short ones. The
# last row compares pairs with equally many parameters, such as M M M XL with
# M L L L: what the steep one of each pair loses against the gentle one.
#
# ## MatViT and a search index
#
# The second use of agreement is retrieval. A database of pictures is encoded
# once, by the largest encoder. A phone that asks has room for a small one. The
# two must share one space: nearest neighbours by cosine between a query of S
# and entries of XL. MatViT is a vision transformer {cite:p}`dosovitskiy2021vit`
# with nested layers; the class token after the last norm is the code. Our
# pictures are scikit-learn's handwritten digits of 8×8 pixels, which a network
# learns in seconds; the recipe of `gentok train` uses the procedural world.

# %%
# NBVAL_CHECK_OUTPUT
vit = replace(matformer.PRESETS["tiny-vit"], image_size=8, patch_size=2)
images = torch.zeros(2, 3, 8, 8)
eyes = matformer.build(vit).eval()
print("code", tuple(eyes.features(images, "S").shape))
print("class logits", tuple(eyes(images, "S").shape))
macs = {n: elastic.block_macs(vit, n, tokens=17) for n in vit.names}
print(f"S needs {1 - macs['S'] / macs['XL']:.0%} fewer MACs than XL")

# %%
V = level.pick(smoke=2, cpu=100)
pictures, unseen = digits().split(0.6, seed=0)
half = level.pick(smoke=40, cpu=len(unseen) // 2)
queries, query_label = unseen.floats()[:half], unseen.labels[:half]
database, label = unseen.floats()[half:], unseen.labels[half:]


def train_vit(config, steps, seed=0, progress=False):
    torch.manual_seed(seed)
    fitted = fit(
        matformer.build(config).to(level.device),
        batches(pictures, 32, seed=seed),  # digits are never mirrored
        steps=steps,
        lr=2e-3,
        weight_decay=0.1,
        warmup=min(30, steps // 2),
        schedule="cosine",
        seed=seed,
        progress=progress,
    )
    return fitted.model.cpu()


together = train_vit(vit, 4 * V, progress=True)
apart = {
    n: train_vit(matformer.submodel_config(vit, n), V) for n in ("S", "XL")
}

# %% mystnb={"image": {"alt": "Three rows of eight pictures: queries, their nearest neighbours by XL among pictures encoded by the nested network, and by the independent pair"}}
with torch.no_grad():
    query_code = {n: together.features(queries, n) for n in vit.names}
    entries = together.features(database)
    apart_query = {n: model.features(queries) for n, model in apart.items()}
    apart_entries = apart["XL"].features(database)
found = elastic.nearest(query_code["S"], entries)
lost = elastic.nearest(apart_query["S"], apart_entries)
plot.compare_rows(
    {
        "query, by S": queries[:8],
        "found, nested": database[found[:8]],
        "found, apart": database[lost[:8]],
    },
    "Nearest neighbours in an index made by XL",
    count=8,
);

# %% [markdown]
# A right answer is another picture of the same digit. The second row is right
# but for a slip or two. The third row is guesswork, since the two encoders put
# the same picture in unrelated directions.
#
# **Predict first**: a map of codes by S and by XL of the same pictures, both
# in one t-SNE. For which pair will the two lie on top of each other?

# %% mystnb={"image": {"alt": "Two t-SNE maps: codes of S and XL mixed in common clusters for the nested network, in two separate regions for networks trained apart"}}
SHOWN = level.pick(smoke=20, cpu=150)
figure, axes = plt.subplots(1, 2, figsize=(9.8, 4.4))
for ax, name, small_codes, large_codes in (
    (axes[0], "trained together", query_code["S"], query_code["XL"]),
    (axes[1], "trained apart", apart_query["S"], apart_query["XL"]),
):
    codes = torch.cat([small_codes[:SHOWN], large_codes[:SHOWN]])
    codes = F.normalize(codes, dim=-1)
    points = tsne(codes, perplexity=min(20, SHOWN - 1))
    for start, mark, who in ((0, "o", "S"), (SHOWN, "^", "XL")):
        part = points[start : start + SHOWN]
        ax.scatter(
            part[:, 0],
            part[:, 1],
            c=query_label[:SHOWN],
            cmap="tab10",
            marker=mark,
            s=22,
            edgecolors="k" if who == "XL" else "none",
            linewidths=0.6,
            label=who,
        )
    ax.set(title=f"S and XL, {name}", xlabel="t-SNE axis 1 (no unit)")
    ax.tick_params(labelbottom=False, labelleft=False)
    ax.legend()
axes[0].set_ylabel("t-SNE axis 2 (no unit)");


# %% [markdown]
# Colours are digits, discs are codes of S, triangles those of XL. Trained
# together, a disc and its triangle are neighbours. Trained apart, the map
# falls in two halves, one for each encoder: nothing ever asked them to agree
# on a basis.

# %%
def search(kind, seed):
    """1-NN accuracy by encoder of the query; the index is XL's."""
    if kind == "MatViT":
        model = train_vit(replace(vit, draw_seed=seed), 4 * V, seed)
        models = {n: matformer.extract(model, n) for n in ("S", "XL")}
    else:
        models = {
            n: train_vit(matformer.submodel_config(vit, n), V, seed)
            for n in ("S", "XL")
        }
    with torch.no_grad():
        asked = {n: m.features(queries) for n, m in models.items()}
        index = {n: m.features(database) for n, m in models.items()}
        right = {
            n: (m.head(asked[n]).argmax(-1) == query_label).float().mean()
            for n, m in models.items()
        }

    def hit(query, entry):
        return elastic.retrieval_accuracy(
            asked[query], query_label, index[entry], label
        )

    return {
        "S to XL": hit("S", "XL"),
        "XL to XL": hit("XL", "XL"),
        "S to S": hit("S", "S"),
        "class_S": float(right["S"]),
        "class_XL": float(right["XL"]),
    }


search_runs = study.ablate(
    "retrieval",
    lambda seed, kind: search(kind, seed),
    {"MatViT": {"kind": "MatViT"}, "two ViTs": {"kind": "two"}},
    seeds=SEEDS,
)
summarize(
    search_runs, ["S to XL", "XL to XL", "S to S", "class_S", "class_XL"]
)

# %% mystnb={"image": {"alt": "Retrieval accuracy of three pairs of query and index encoder for MatViT and for two separate ViTs; S to XL falls to chance for separate ViTs only"}}
parts = []
for kind, rows_of in search_runs.groupby("variant", sort=False):
    columns = {
        f"{kind}: {pair}": pair for pair in ("XL to XL", "S to XL", "S to S")
    }
    parts.append(as_variants(rows_of, **columns))
axes = plot.intervals(
    pd.concat(parts),
    "value",
    "Nearest neighbour of the same class",
    "1-NN accuracy (share, higher is better)",
)
chance = float((label.bincount() / len(label)).square().sum())
axes.axvline(chance, color="#555555", linestyle=":");

# %% [markdown]
# The dotted line is chance. *S to S* shows that the separate small ViT is not
# a bad encoder: it finds neighbours in an index of its own. What it cannot do
# is ask another's index.
#
# ## Claims: what the paper says, what we saw
#
# Numbers, seeds and verdicts come from the recorded study; the rule is in
# {doc}`/book/ledger`. The comparisons and the sides were fixed before the
# study, the margins after trials of single seeds.

# %%
study.table()

# %% [markdown]
# Most claims reproduce, some by margins far beyond the paper's. Four remarks on
# how to read them.
#
# - **C1, C1b, C1c: the budget rule decides.** Each baseline stops after $X$
#   steps, long before it has converged. The shared weights of MatFormer train
#   four times as long. At billions of tokens a model gains little from a
#   fourfold budget; here it gains much. The arm *XL alone* shows the price:
#   who wants one size only does better to train that one.
# - **C5** is the same story: the joint mean has the tokens but a quarter of
#   the updates. The paper's difference of 0.01 is one between long runs.
# - **C2, C2b, C2d** do not lean on the budget. Mixtures stay on the chord, and
#   an ordinary XL of the same number of steps collapses when it is sliced.
#   **C2c** stays open: in four layers the order of widths makes no
#   difference that we can see. The paper's networks have 16 to 24 layers.
# - **C3, C3b, C4** compare networks of unequal skill as well as of unequal
#   kinship. Skill alone does not explain C4: the separate small ViT finds its
#   way in its own index and is lost in the other's.
#
# ## At the size of the paper
#
# MatLM comes in five sizes, MatViT in two, and the released vision code adds
# two smaller ones. All are built on the meta device. *Total* includes the
# embedding of 256,000 words, which is most of the smallest model; compare
# the blocks. The paper prints two or three digits, and some of them cut off
# where others are rounded.

# %%
# NBVAL_CHECK_OUTPUT
for name, size in matformer.PRESETS.items():
    if size.published_params is None:
        continue
    with torch.device("meta"):
        count = count_parameters(matformer.build(size))
    near = abs(count / size.published_params - 1) < 0.01
    print(f"{name:>11}: {count / 1e6:6.1f}M in all, as published: {near}")
    if size.published_blocks:
        ours = [elastic.block_params(size, n) / 1e6 for n in size.names]
        pairs = zip(ours, size.published_blocks, strict=True)
        line = ", ".join(f"{a:.1f} ({b / 1e6:g})" for a, b in pairs)
        print(f"{'':>11}  blocks S to XL, here (paper): {line}")


# %% [markdown]
# MatLM needs a row of token ids at `$GENTOK_DATA/text/tokens.npy`, made by any
# tokenizer of 256,000 words; MatViT needs ImageNet's layout under
# `$GENTOK_DATA/images/<class>/`. Then, on one GPU or on many:
#
# ```bash
# gentok info matformer --preset matlm-78m
# gentok train matformer --preset matlm-78m --profile gpu --out runs/mat.safetensors
# accelerate launch --num_processes 8 -m gentok.cli train matformer \
#     --preset matlm-78m --profile gpu --out runs/mat.safetensors --resume
# gentok sample matformer --from runs/mat.safetensors --out texts.txt -n 4
# ```
#
# `sample` drafts with S, verifies with XL, and prints the share of accepted
# drafts above each text.
#
# ## Exercises
#
# ```{exercise} Cut a layer
# :label: ex-matformer-slice
# Write `cut(w1, b1, w2, b2, m)` for weights in the layout of `nn.Linear`
# (outputs first): the four tensors of the layer with the first m neurons.
# ```

# %%
def cut(w1, b1, w2, b2, m): ...


def check_cut(function):
    torch.manual_seed(0)
    w1, b1, w2 = torch.randn(8, 4), torch.randn(8), torch.randn(4, 8)
    b2, x = torch.randn(4), torch.randn(3, 4)
    answer = function(w1, b1, w2, b2, 2)
    if answer is None:
        return "not yet: return four tensors"
    shapes = [tuple(part.shape) for part in answer]
    if shapes[2] == (2, 8):
        return "not yet: neurons are the columns of the second matrix"
    if shapes[3] == (2,):
        return "not yet: the second bias belongs to the output, not to neurons"
    if shapes != [(2, 4), (2,), (4, 2), (4,)]:
        return f"not yet: shapes are {shapes}"
    a1, c1, a2, c2 = answer
    out = F.linear(F.gelu(F.linear(x, a1, c1)), a2, c2)
    right = F.linear(F.gelu(F.linear(x, w1[:2], b1[:2])), w2[:, :2], b2)
    return "correct" if torch.equal(out, right) else "not yet: the *first* m"


print(check_cut(cut))


# %% [markdown]
# ```{solution-start} ex-matformer-slice
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def cut(w1, b1, w2, b2, m):
    return w1[:m], b1[:m], w2[:, :m], b2


print(check_cut(cut))


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Judge a draft
# :label: ex-matformer-residual
# Write `outcome(p, q)`: from the verifier's law p and the draft's law q, each
# (K,), the chance that a draft is accepted, and the law (K,) of the
# replacement when it is not. Then convince yourself that both together give p.
# ```

# %%
def outcome(p, q): ...


def check_outcome(function):
    p = torch.tensor([0.5, 0.3, 0.2])
    q = torch.tensor([0.2, 0.2, 0.6])
    answer = function(p, q)
    if answer is None:
        return "not yet: return a number and a tensor (K,)"
    chance, residual = float(answer[0]), torch.as_tensor(answer[1])
    if abs(chance - float((p * q).sum())) < 1e-6:
        return "not yet: that is the chance of two draws being equal"
    if abs(chance - float((p / q).clamp(max=1).mean())) < 1e-6:
        return "not yet: drafts come from q; weigh min(1, p/q) with it"
    if abs(chance - 0.6) > 1e-6:
        return "not yet: sum q min(1, p/q) over all tokens"
    if torch.allclose(residual, p):
        return "not yet: a fresh draw from p counts what q covers twice"
    if torch.allclose(residual, (p - q).clamp_min(0)):
        return "not yet: a law must sum to 1"
    right = torch.tensor([0.75, 0.25, 0.0])
    return "correct" if torch.allclose(residual, right) else "not yet: p - q"


print(check_outcome(outcome))


# %% [markdown]
# ```{solution-start} ex-matformer-residual
# :class: dropdown
# A token comes out with probability $\min(p,q)$ as an accepted draft, and
# with $(1-\alpha)\,r=\max(p-q,0)$ as a replacement. The sum is $p$.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def outcome(p, q):
    left = (p - q).clamp_min(0)
    return torch.minimum(p, q).sum(), left / left.sum()


print(check_outcome(outcome))


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What does a joint step cost?
# :label: ex-matformer-cost
# Write `joint_cost(ratios)`: the cost of one joint step divided by that of a
# step of XL alone. `ratios` are the m of the granularities divided by D, for
# example `(0.5, 1, 2, 4)`, the last is XL's. Count the weights of a layer;
# attention over tokens is left out. Then predict the cost of a *sampling* step.
# ```

# %%
def joint_cost(ratios): ...


def check_joint(function):
    value = function((0.5, 1, 2, 4))
    if value is None:
        return "not yet: return a number"
    right = sum(4 + 2 * r for r in (0.5, 1, 2, 4)) / 12
    if abs(value - right) < 1e-9:
        return "correct: a sampling step costs a quarter of it on average"
    if abs(value - 1.875) < 1e-9:
        return "not yet: attention runs four times, too"
    if abs(value - 4) < 1e-9:
        return "not yet: the small ones are cheaper than XL"
    if abs(value - right / 4) < 1e-9:
        return "not yet: that is the mean, a step of sampling"
    return "not yet: 4 D^2 for attention and 2 D m for the feed-forward part"


print(check_joint(joint_cost))


# %% [markdown]
# ```{solution-start} ex-matformer-cost
# :class: dropdown
# About 2.58 for the paper's ratios. A sampling step is cheaper than one of XL.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def joint_cost(ratios):
    return sum(4 + 2 * r for r in ratios) / (4 + 2 * ratios[-1])


print(check_joint(joint_cost))

# %% [markdown]
# ```{solution-end}
# ```
#
# (matformer-cost)=
# ## What this run cost

# %%
study.finish()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peak /= 1024**2 if sys.platform == "darwin" else 1024
cost = {
    "profile": level.name,
    "device": level.device,
    "wall time": f"{time.perf_counter() - began:.0f} s",
    "peak memory": f"{peak:.0f} MiB",
    "threads": torch.get_num_threads(),
}
pd.DataFrame(cost, index=[""]).T.rename(columns={"": "this run"})

# %% [markdown]
# ## Further reading
#
# - MatFormer itself {cite:p}`devvrit2023matformer`; nested *outputs* instead of
#   nested layers: Matryoshka representations {cite:p}`kusupati2022mrl`.
# - Before it: networks that run at several widths {cite:p}`yu2019slimmable`,
#   one network from which many are cut {cite:p}`cai2020ofa`, and width and
#   depth in BERT {cite:p}`hou2020dynabert`.
# - Speculative decoding: {cite:t}`leviathan2023speculative` and
#   {cite:t}`chen2023speculative`, found at the same time.
# - A smaller model taught by a larger one: {cite:p}`hinton2015distillation`.
# - The other chapters on cost: {doc}`/book/parts/efficient`.
