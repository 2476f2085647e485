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
# **Time** {glue:text}`matformer_time`, **memory**
# {glue:text}`matformer_memory`, on {glue:text}`matformer_device`: measured in
# the run that is stored here · **GPU** not needed · **Level** 2 of 3 ·
# **Read first** {doc}`/book/primers/autoregression`, two minutes ·
# **Paper** {cite:p}`devvrit2023matformer`
# :::
#
# **You will be able to**
# - cut a feed-forward layer so that the smaller one is exact, and name three
#   ways to get it wrong;
# - compute what any mixture of widths costs, and draw what it loses;
# - explain why speculative decoding never changes what a model writes, and
#   predict its gain from one number;
# - tell what one nested run owes to sharing from what it owes to more steps.

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
import html
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from IPython.display import HTML

import gentok
from gentok.book import chapter
from gentok.book.chapter import show_code
from gentok.book.checks import matformer as check
from gentok.book.study import summarize
from gentok.data import digits, text
from gentok.data.characters import (
    split_text,
    to_ids,
    to_text,
    window_batches,
    windows,
)
from gentok.efficient import matformer
from gentok.efficient.matformer import elastic, nested, recipe
from gentok.efficient.matformer.decoding import write
from gentok.measure import count_flops, count_parameters, tsne
from gentok.process import speculative
from gentok.show import plot
from gentok.tokens import enat
from gentok.tokens.enat.cost import sample_macs
from gentok.training import fit, profiles

page = chapter.open("matformer", profile, seed)
study = page.study
level = profiles.profile(profile)  # apart: no experiment reads the page

# %% [markdown]
# ## What it can do
#
# Python brings its own manual along, half a million characters of English.
# *One* network has learned to write it, character by character. Below, four
# models of different size begin with the same words. All four were cut out of
# that one file, without any further training.

# %%
family = gentok.pretrained("matformer")  # trained weights, part of the book
network = family.nested
config = matformer.PRESETS["text"]
sizes = list(config.names)  # S, M, L and XL
prompt = to_ids("\nIf the ")
written = {}
for name in sizes:
    torch.manual_seed(seed)
    new = network.sample(1, 230, prompt, name, temperature=0.6)[0]
    written[name] = to_text(torch.cat([prompt, new]))

# %% tags=["hide-input", "slide"]
for name in written:
    size = elastic.block_params(config, name)
    print(f"{name}, {size:,} parameters in its blocks")
    print(written[name].strip() + " ...\n")

# %% tags=["hide-input"]
train_ids, test_ids = split_text(to_ids(text()))
CONTEXT = config.context
HELD = windows(test_ids, CONTEXT + 1, level.pick(smoke=2, cpu=256))
KNOWN = set(re.findall("[a-z]+", to_text(train_ids).lower()))


def known_words(sampled):
    """Share of whole words of texts (n, length) that the manual has."""
    words = [
        word
        for row in sampled
        for word in re.findall("[a-z]+", to_text(row).lower())[1:-1]
    ]
    return sum(word in KNOWN for word in words) / max(len(words), 1)


MANY = level.pick(smoke=2, cpu=16)  # texts of each model
shares = {}
for name in sizes:
    torch.manual_seed(seed)
    shares[name] = known_words(network.sample(MANY, 160, prompt, name))
shuffled = train_ids[torch.randperm(len(train_ids))][: MANY * 160]
chance = known_words(shuffled.view(MANY, -1))
losses = family.losses(HELD)
page.say(
    "Drawn at temperature 1, **{small:.0%}** of the words of S and "
    "**{large:.0%}** of those of XL are words of the manual ({chance:.0%} of "
    "the words of a shuffled text are). On text that no model has seen, the "
    "worst of the four cuts lies **{excess:.1%} {side}** the loss of a "
    "network of its size that was trained alone.",
    small=shares["S"],
    large=shares["XL"],
    chance=chance,
    excess=abs(losses["excess"]),
    side="below" if losses["excess"] < 0 else "above",
)

# %% mystnb={"image": {"alt": "Held-out loss against parameters for S, M, L and XL: a circle for the cut of the nested network and a square for the network of that size that was trained alone; both fall from S to XL"}} tags=["hide-input", "slide"]
budgets = [elastic.block_params(config, name) / 1e3 for name in sizes]
figure, axes = plt.subplots(figsize=(6.8, 3.4))
for kind, look, words in (
    ("slice", "C0o-", "cut from one network"),
    ("twin", "C1s--", "trained alone"),
):
    heights = [losses[f"{kind}_{name}"] for name in sizes]
    axes.plot(budgets, heights, look, label=words)
ticks = zip(sizes, budgets, strict=True)
axes.set_xticks(budgets, [f"{name}\n{size:.0f}" for name, size in ticks])
axes.set(title="Four cuts of one network, and their twins")
axes.set_xlabel("parameters of all blocks (thousands)")
axes.set_ylabel("held-out loss (nats a character)")
axes.legend();

# %% [markdown]
# ## The question
#
# A language model is released in three or four sizes, each trained on its
# own. Whoever has room for something in between takes the smaller one. The
# sizes know nothing of each other: where two are used together, as a draft
# and its verifier or as two encoders of one search index, they disagree.
# MatFormer {cite:p}`devvrit2023matformer` asks whether one run can replace
# them all.
#
# ```{figure} ../../book/img/matformer.svg
# :name: fig-matformer-architecture
# :alt: Architecture of MatLM. Tokens are embedded, pass blocks of attention and a nested feed-forward layer, and the head. Below, the neurons of the nested layer in a row; S reads the first eighth, M the first quarter, L the first half and XL all.
#
# A language model with nested layers. What is new against a plain one is in
# colour.
# ```
#
# **The idea in three sentences.** The first $m$ neurons of each feed-forward
# layer are a feed-forward layer themselves, so a large network contains
# smaller ones that share all their weights with it. Training draws one of four
# widths at each step and trains that part alone. Afterwards every layer may
# have a width of its own: $l$ layers give $4^l$ networks, of which four were
# trained.
#
# A layer maps a token $x$ of width $D$ to $F$ neurons and back. With $m$ of
# them,
#
# $$
# \begin{gathered}
# \mathrm{FFN}_m(x)=W_2[:,0{:}m]\;\sigma\big(W_1[0{:}m]\,x+b_1[0{:}m]\big)+b_2,
# \\ m\in\{F/8,\;F/4,\;F/2,\;F\}.
# \end{gathered}
# $$ (eq-nested)
#
# The four {term}`granularities <granularity>` are called S, M, L and XL.
# Attention, norms, embeddings, the head and the second bias $b_2$ are shared
# at full width. With the $4D^2$ weights of attention and $F=4D$, S has $5D^2$
# weights a layer and XL $12D^2$: the smallest model is no less than five
# twelfths of the largest.
#
# ## Cutting, exactly
#
# In the library a width is two slices and nothing more:

# %%
show_code(nested.NestedFeedForward.forward, highlight="[:m]")

# %% [markdown]
# Three things go wrong without any error message. The released vision code
# multiplies neurons by a 0/1 mask *before* the activation; that equals slicing
# only because $\mathrm{GELU}(0)=0$. A public reproduction on gated layers
# applies the activation to the product of gate and value, which is not SwiGLU
# {cite:p}`shazeer2020glu`. And $b_2$ must be neither sliced nor repeated. The
# next cell holds the layer against a plain one that is filled by hand.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
layer, x, m = nested.NestedFeedForward(96, 384), torch.randn(5, 96), 48
hidden = F.gelu(F.linear(x, layer.up.weight[:m], layer.up.bias[:m]))
by_hand = F.linear(hidden, layer.down.weight[:, :m], layer.down.bias)
print("output", tuple(layer(x, m).shape), "from", m, "of 384 neurons")
print("equals the sliced layer:", torch.allclose(layer(x, m), by_hand))
keep = (torch.arange(384) < m).float()
masked = layer.masked(x, keep)
print("equals the mask:", torch.allclose(masked, by_hand, atol=1e-6))
gated = nested.NestedGated(96, 384)
product = gated.down(F.silu(gated.gate(x) * gated.up(x)))
print("activation on the product:", torch.allclose(product, gated(x)))

# %% [markdown]
# `extract` copies the slices into an ordinary transformer. Nothing is lost
# and nothing is approximated: the tests compare it with GPT-NeoX of the
# `transformers` package, built at the small size and filled with the same
# numbers. PyTorch's own counter agrees with the formula of the cost, too.

# %% tags=["nbval-check-output"]
mixture, ids = ("S", "S", "M", "XL"), torch.arange(20)[None]
torch.manual_seed(0)
model = matformer.build(config).eval()
small = matformer.extract(model, mixture)
same = torch.allclose(small(ids), model(ids, mixture), atol=1e-5)
print("neurons of the mixture:", config.widths(mixture))
print("extracted network equals the slice:", same)
head = 20 * config.dim * config.vocab_size
for submodel in ("S", mixture, "XL"):
    with torch.device("meta"):
        flops = count_flops(matformer.build(config), ids, submodel)
    macs = elastic.block_macs(config, submodel, tokens=20) + head
    print(submodel, "counted equals formula:", flops // 2 == macs)

# %% [markdown]
# ## Two objectives under one name
#
# The first version of the paper trains all widths at every step and adds
# their losses, $\mathcal L_{\text{joint}}=\sum_i\lambda_i\,\mathcal L_i$.
# The revised one draws *one* width $i$ a step and trains it alone,
# $\mathcal L=\mathcal L_i$; the joint mean is then called the DynaBERT
# baseline {cite:p}`hou2020dynabert`. Public code follows either. With
# $\lambda_i=1/4$ the two have the same gradient on average. Written as a sum
# without weights the joint gradient is four times as large, a pitfall of two
# of the three public versions.

# %%
show_code(matformer.MatFormer.loss, start="names", highlight="index")


# %% [markdown]
# ## Learning begins
#
# The weights above took a third of an hour of one core. Here a smaller network
# of the same build learns in a minute, by the plan that its experiment below
# follows, too.

# %%
def train(model, stage, seed, progress=False):
    """Train on windows of the manual; the network and its history."""
    data = window_batches(train_ids, CONTEXT + 1, stage.batch_size, seed)
    how = stage.fit_arguments()
    done = fit(model.train(), data, **how, seed=seed, progress=progress)
    return done.model, done.history


task = recipe.plan("study-mixtures", level)  # sizes, steps, batch, rates
start = matformer.untrained(replace(task.size, draw_seed=seed), seed)
live, history = train(start.nested, task.model, seed, progress=True)

# %% mystnb={"image": {"alt": "Training loss of the four widths over the steps in which each was drawn: all fall together, S a little above XL"}} tags=["hide-input"]
log = pd.DataFrame(history)
figure, axes = plt.subplots(figsize=(7.2, 3.4))
for i, (name, dash) in enumerate(zip(sizes, plot.DASHES, strict=False)):
    drawn = log[log["granularity"].round() == i]
    smooth = drawn["loss"].rolling(max(1, len(drawn) // 12), 1).mean()
    axes.plot(drawn["step"], smooth, linestyle=dash, label=name)
axes.set(title="One run, four widths in turn", xlabel="optimiser step")
axes.set_ylabel("cross-entropy (nats a character)")
axes.legend();

# %% tags=["hide-input"]
torch.manual_seed(seed)
words = live.sample(1, 150, prompt, temperature=0.6)[0]
print("After a minute, XL:\n" + to_text(torch.cat([prompt, words])).strip())

# %% [markdown]
# Each curve holds only the steps that drew its width. They fall together: what
# a step teaches S is in XL as well, since S is a part of it.
#
# ## Hundreds of submodels
#
# Now cut every layer on its own: four layers and four widths make 256
# networks. The paper calls this {term}`Mix'n'Match`. It asks for widths that
# do not fall with depth, and among those for the *least slope*: two
# neighbouring widths, the smaller in the early layers and the larger in the
# late ones. All 256 losses come from one walk through the tree of prefixes,
# since mixtures that begin alike share their first layers.

# %%
show_code(elastic.every_loss, start="def grow", highlight="torch.stack")

# %% [markdown]
# **Predict first**: 252 of these networks were never trained. Where will they
# lie: on the line between the trained ones, above it, or scattered?

# %%
MIXED = HELD[: level.pick(smoke=1, cpu=96)]
all_mixtures = elastic.every_mixture(config)
found = elastic.every_loss(network, MIXED).flatten().tolist()
loss_of = dict(zip(all_mixtures, found, strict=True))
size_of = {mix: elastic.block_params(config, mix) for mix in all_mixtures}
gentle = sorted(elastic.two_level(config, adjacent=True), key=size_of.get)

# %% mystnb={"image": {"alt": "Loss against parameters for 256 mixtures as a cloud that falls to the right; the four trained sizes and the least-slope mixtures lie near its lower edge"}} tags=["hide-input", "slide"]
steep = set(elastic.two_level(config)) - set(gentle)
figure, axes = plt.subplots(figsize=(8.2, 4.2))
for group, look, called in (
    (all_mixtures, {"c": "#bbbbbb", "s": 14}, "all 256 mixtures"),
    (steep, {"c": "C1", "s": 34, "marker": "^"}, "two widths, far apart"),
    (gentle, {"c": "C0", "s": 34, "marker": "s"}, "least slope"),
    (elastic.uniform(config), {"c": "k", "s": 80, "marker": "*"}, "trained"),
):
    points = [(size_of[mix] / 1e3, loss_of[mix]) for mix in group]
    axes.scatter(*zip(*points, strict=True), label=called, **look)
line = [(size_of[mix] / 1e3, loss_of[mix]) for mix in gentle]
axes.plot(*zip(*line, strict=True), "C0")
axes.set(title="One network, 256 budgets")
axes.set_xlabel("parameters of all blocks (thousands)")
axes.set_ylabel("held-out loss (nats a character)")
axes.legend();

# %% tags=["hide-input"]
untrained_mixtures = [mix for mix in gentle if len(set(mix)) == 2]
gaps = [
    loss_of[mix] - elastic.on_chord(config, mix, loss_of)
    for mix in untrained_mixtures
]
spread = loss_of[("S",) * 4] - loss_of[("XL",) * 4]
page.say(
    "From S to XL the loss falls by {spread:.3f} nats. The {n} untrained "
    "least-slope mixtures lie {mean:+.3f} nats from the line between their "
    "trained neighbours on average, the farthest {worst:+.3f}.",
    spread=spread,
    n=len(gaps),
    mean=sum(gaps) / len(gaps),
    worst=max(gaps, key=abs),
)

# %% [markdown]
# Stars are the four sizes that training has seen; each grey dot is a mixture
# that it has not. A layer has learned to be followed and preceded by layers of
# any width that it met in other steps. How closely mixtures follow the line,
# and how much steep ones lose, is measured over seeds below. A budget is
# turned into a model by one call:

# %% tags=["nbval-check-output"]
for budget in (85_000, 110_000, 150_000, 190_000):
    best = elastic.least_slope(config, budget)
    parameters = elastic.block_params(config, best)
    print(f"at most {budget:,}: {' '.join(best):<11} {parameters:,}")

# %% [markdown]
# ## Look inside
#
# ### Where did the neurons go?
#
# What would the same cut do to an ordinary network? Its neurons have no order.
# For each neuron take the size of what it adds to the residual stream,
# $\overline{|h_i|}\,\lVert W_2[:,i]\rVert$, relative to its layer's mean.
# **Predict first**: how do the neurons of S, those that M adds, those that L
# adds and those that XL adds compare, in the nested network and in its twin
# XL?

# %%
kinds = {"nested": network, "XL trained alone": family.twins["XL"]}
sizes_of_neurons = {}
for name, model in kinds.items():
    added = elastic.neuron_contributions(model, HELD[:, :-1])  # (l, F)
    sizes_of_neurons[name] = (added / added.mean(1, keepdim=True)).mean(0)

# %% mystnb={"image": {"alt": "Contribution of neurons by position: high for the first eighth and falling in steps at the cuts for the nested network, flat for the network trained alone"}} tags=["hide-input"]
figure, axes = plt.subplots(figsize=(7.4, 3.2))
for (name, line), dash in zip(
    sizes_of_neurons.items(), plot.DASHES, strict=False
):
    smooth = pd.Series(line.numpy()).rolling(12, 1, center=True).mean()
    axes.plot(smooth, linestyle=dash, label=name)
for edge in config.widths("S")[:1] + config.widths("M")[:1]:
    axes.axvline(edge, color="#888888", linestyle=":")
axes.axvline(config.hidden // 2, color="#888888", linestyle=":")
axes.set(title="What a neuron adds", xlabel="neuron; dotted: the cuts")
axes.set_ylabel("relative to its layer's mean")
axes.set_ylim(bottom=0)
axes.legend();

# %% tags=["hide-input"]
sliced = matformer.build(config).eval()
sliced.load_state_dict(family.twins["XL"].state_dict())
sliced.requires_grad_(False)
cut = {n: float(sliced.cross_entropy({"tokens": HELD}, n)) for n in sizes}
page.say(
    "Nested training sorts the layer. A network that was trained without cuts "
    "loses {plain:.2f} nats when it is cut to S all the same, where it has "
    "{whole:.2f} as a whole; the nested one has {nested:.2f} as S.",
    plain=cut["S"],
    whole=cut["XL"],
    nested=losses["slice_S"],
)


# %% [markdown]
# ### Which characters are hard?
#
# Text has a frequency of its own: words. Split the loss of S and of XL by the
# place of the character within its word. **Predict first**: where is the gap
# between the two widest?

# %% mystnb={"image": {"alt": "Loss of S and XL by place of the character in its word: high at the first letter, falling towards the later ones, lowest for what stands between words; S lies above XL throughout"}} tags=["hide-input"]
def places(tokens):
    """Place in its word of each character: 0 outside, 5 for later ones."""
    rows = []
    for row in tokens:
        here, out = 0, []
        for char in to_text(row):
            here = here + 1 if char.isalpha() else 0
            out.append(min(here, 5))
        rows.append(out)
    return torch.tensor(rows)


target, where = HELD[:, 1:], places(HELD)[:, 1:]
records = []
for name in ("S", "XL"):
    with torch.no_grad():
        logits = network(HELD[:, :-1], name)
    nats = F.cross_entropy(logits.mT, target, reduction="none")
    for place in range(6):
        there = nats[where == place].mean().item()
        records.append({"size": name, "place": place, "nats": there})
by_place = pd.DataFrame(records)
figure, axes = plt.subplots(figsize=(6.8, 3.2))
sns.barplot(by_place, x="place", y="nats", hue="size", ax=axes)
names = ["outside", "1st", "2nd", "3rd", "4th", "later"]
axes.set_xticks(range(6), names)
axes.set(title="Loss by place of the character in its word")
axes.set(xlabel="place in the word", ylabel="nats a character");

# %% [markdown]
# The first letters decide which word comes, and there both are least sure.
# Further on the word is known and spelling is left. What XL has and S has not
# is spread over all places.
#
# ## Speculative decoding
#
# Writing is slow because each token waits for the one before. Let S *draft*
# $k$ tokens, and let XL read all of them in one pass. A draft $x$ with
# probability $q(x)$ under S and $p(x)$ under XL is accepted with probability
# $\min(1,p(x)/q(x))$. The first refused one is replaced by a draw from
#
# $$
# r(x)\propto\max\big(p(x)-q(x),0\big),
# $$ (eq-residual)
#
# and the drafts behind it are dropped. If all are accepted, XL's last logits
# give one more token for free {cite:p}`leviathan2023speculative`. What is
# written follows $p$ exactly: $x$ comes out as an accepted draft with
# probability $\min(p,q)$, as a replacement with probability $\max(p-q,0)$, and
# the two add up to $p(x)$. A draft is accepted with probability
# $\alpha=\sum_x\min(p(x),q(x))$.

# %%
show_code(speculative.verify, start="kept =", highlight="residual")

# %% [markdown]
# Attention is not nested, so keys and values of S and XL have the same shape
# and can share one {term}`KV cache`: XL's pass overwrites what S wrote, and S
# goes on from the better keys and values. At temperature 0 the rule says
# "accept while both agree", and the text must be XL's own, letter for letter:

# %% tags=["nbval-check-output"]
opening = test_ids[2000:2024]
greedy = network.sample(1, 40, opening, temperature=0)[0]
for shared in (False, True):
    made = write(network, opening, 40, "S", shared_cache=shared, temperature=0)
    same = torch.equal(made.tokens[:40], greedy)
    print(f"shared cache {shared}: greedy text unchanged: {same}")

# %% tags=["hide-input"]
LOOK = {
    speculative.ACCEPTED: "background:#cfe3f3;color:#000",
    speculative.CORRECTED: "background:#f6c9a8;color:#000;"
    "text-decoration:underline",
    speculative.BONUS: "background:#c5e6d6;color:#000;font-weight:bold",
}
WHO = {
    speculative.ACCEPTED: "draft of S, accepted",
    speculative.CORRECTED: "corrected by XL (underlined)",
    speculative.BONUS: "added by XL (bold)",
}


def marked(words, who):
    shown = html.escape(words).replace("\n", "¶\n")
    return f'<span style="{LOOK[who]}">{shown}</span>'


torch.manual_seed(seed + 1)
made = write(network, prompt, level.pick(smoke=20, cpu=420), temperature=0.7)
pairs = zip(to_text(made.tokens), made.origin.tolist(), strict=True)
body = "".join(marked(char, who) for char, who in pairs)
key = " ".join(marked(words, who) for who, words in WHO.items())
HTML(
    f"<p>S drafts four characters a round, XL verifies: "
    f"{made.acceptance:.0%} of the judged drafts accepted, "
    f"{made.tokens_per_call:.2f} characters for each pass of XL.<br>{key}</p>"
    f'<pre style="white-space:pre-wrap">{body}</pre>'
)

# %% [markdown]
# Most characters are S's, and the text as a whole follows XL's law. How many
# does one pass of XL yield? If each draft were accepted independently with
# probability $\alpha$, a round of $k$ drafts would give
# $1+\alpha+\dots+\alpha^k$. **Predict first**: with $\alpha=0.9$, how much is
# there to gain from $k=8$ over $k=4$?

# %%
small_twin, large_twin = family.twins["S"], family.twins["XL"]
pairs = {  # the verifier, the size that drafts, and whose it is
    "S and XL of one nested network": (network, "S", None),
    "S and XL trained alone": (large_twin, None, small_twin),
}
starts = range(100, 100 + 900 * level.pick(smoke=1, cpu=8), 900)
DRAFTS = level.pick(smoke=(1, 2), cpu=(1, 2, 4, 8))


def characters_a_pass(verifier, draft, draft_model, k):
    """New characters for each pass of XL, over several openings."""
    torch.manual_seed(seed)
    opened = [test_ids[i : i + 16] for i in starts]
    how = draft, draft_model, draft_model is None  # one cache for both?
    made = [write(verifier, part, 48, *how, k=k) for part in opened]
    return 48 * len(made) / sum(each.verifier_calls for each in made)


# %% mystnb={"image": {"alt": "Characters for each pass of the verifier against drafts a round: the nested pair lies above the pair trained alone, and dotted curves of the formula run close to the points"}} tags=["hide-input", "slide"]
held_in, agree, laws = HELD[:, :-1], {}, {}
figure, axes = plt.subplots(figsize=(6.8, 3.6))
for i, (name, (large, draft, alone)) in enumerate(pairs.items()):
    with torch.no_grad():
        both = (alone or large)(held_in, draft), large(held_in)
    laws[name], agree[name] = both, elastic.consistency(*both)
    values = [characters_a_pass(*pairs[name], k) for k in DRAFTS]
    a, ks = agree[name]["overlap"], torch.linspace(1, max(DRAFTS), 50)
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
# and the last rounds are cut short where a text ends. At this size a pass of
# XL costs hardly more than one of S, so nothing is gained in seconds; what
# counts is the number of passes.
#
# ### Where do the two disagree?

# %% mystnb={"image": {"alt": "Two blocks of characters of held-out text coloured by divergence between S and XL: fewer and lighter spots for the nested pair than for the pair trained alone"}} tags=["hide-input"]
ROWS = level.pick(smoke=2, cpu=6)
maps = {name: elastic.kl_per_token(*both) for name, both in laws.items()}
top = float(list(maps.values())[1][:ROWS].quantile(0.97))
figure, axes = plt.subplots(2, 1, figsize=(9.4, 1.1 + 0.46 * ROWS))
for ax, (name, kl) in zip(axes, maps.items(), strict=True):
    picture = ax.imshow(
        kl[:ROWS], cmap="cividis_r", vmin=0, vmax=top, aspect="auto"
    )
    for r in range(ROWS):
        for c in range(CONTEXT):
            char = to_text(HELD[r, c + 1 : c + 2]).replace("\n", "¶")
            dark = "w" if float(kl[r, c]) > 0.55 * top else "k"
            look = {"fontsize": 7, "family": "monospace", "color": dark}
            look |= {"ha": "center", "va": "center"}
            ax.text(c, r, char.replace("$", r"\$"), **look)
    ax.set(xticks=[], yticks=[])
    ax.set_ylabel(name.replace(" of ", "\nof ").replace(" tr", "\ntr"))
    ax.yaxis.label.set_fontsize(8)
    ax.grid(False)
axes[0].set_title("How much S and XL differ about the next character")
axes[1].set_xlabel("characters of held-out text, one window a line")
figure.colorbar(picture, ax=axes, label="KL(S ‖ XL), nats");

# %% [markdown]
# Each cell is coloured by the divergence of the two predictions *for the
# character printed in it*. Both readers saw the same prefix; letting each
# write freely and comparing would only measure how quickly texts part. Between
# networks trained alone the dark cells are more frequent: the two have
# opinions of their own, not only more or less skill.
#
# ## One run against four, over seeds
#
# The paper's rule of the budget: a baseline of each size trains for $X$ steps,
# and the nested network for $4X$, so that each width is drawn $X$ times. In
# all both see equally many tokens. But what is shared is trained at *every*
# step, four times as long as in a baseline. So three things are told apart:
#
# - **nested, 4X** against **four runs, X**: the paper's comparison;
# - **nested, 4X** against **four runs, 4X**: equally many steps for each
#   network;
# - **nested, X** and **joint, X**: one width a step against the mean of all
#   four, at equally many steps; *nested, 4X* has the tokens of *joint, X*, and
#   costs as much.
#
# All networks of a seed begin as the same numbers, a twin as the slice that it
# is held against, and see the same batches in the same order
# ({doc}`/book/method`). $X$ is so large that a baseline gains little from
# twice as many steps; the gates below say how much.
#
# **Predict first**: who has the best S, who the best XL?

# %%
rival = recipe.plan("study-text", level)
FOUR, ONE = rival.model, rival.twin  # 4X steps and X


def members(seed, stage, kind="sampling", names=sizes):
    """Trained networks by name: cut from one, or each trained alone."""
    setting = replace(rival.size, draw_seed=seed)
    if kind != "alone":
        setting = replace(setting, objective=kind)
    start = matformer.untrained(setting, seed)
    if kind == "alone":
        return {n: train(start.twins[n], stage, seed)[0] for n in names}
    whole, _ = train(start.nested, stage, seed)
    return {n: matformer.extract(whole, n) for n in names}


# %%
def run_arm(seed, stage, kind="sampling", names=sizes):
    models = members(seed, stage, kind, names)
    with torch.no_grad():
        result = {f"loss_{n}": held(m) for n, m in models.items()}
        both = models["S"](HELD[:, :-1]), models["XL"](HELD[:, :-1])
        result["loss_mean"] = mean(result.values())
        if kind == "alone":  # what a cut does that nobody trained for
            result["cut_S"] = held(matformer.extract(as_nested(models), "S"))
    return result | elastic.consistency(*both)


# %% tags=["hide-input"]
def mean(values):
    values = list(values)
    return sum(values) / len(values)


def held(model):
    """Nats a character on the held-out windows."""
    return float(model.cross_entropy({"tokens": HELD}))


def as_nested(models):
    """An ordinary XL in a network that can be cut."""
    whole = matformer.build(rival.size).eval()
    whole.load_state_dict(models["XL"].state_dict())
    return whole


# %%
arms = {
    "nested, 4X": {"stage": FOUR},
    "four runs, X": {"stage": ONE, "kind": "alone"},
    "four runs, 4X": {"stage": FOUR, "kind": "alone", "names": ["S", "XL"]},
    "nested, X": {"stage": ONE},
    "joint, X": {"stage": ONE, "kind": "joint"},
}
runs = study.ablate("language", run_arm, arms, seeds=range(3, 9))

# %% tags=["hide-input"]
summarize(runs, ["loss_S", "loss_XL", "agreement", "overlap"])

# %% mystnb={"image": {"alt": "Held-out loss of S and of XL for five ways of training, means with intervals over seeds"}} tags=["hide-input", "slide"]
figure, axes = plt.subplots(2, 1, figsize=(7.4, 5.8), sharex=True)
for ax, name in zip(axes, ("S", "XL"), strict=True):
    plot.intervals(
        runs, f"loss_{name}", f"Held-out loss of {name}", "nats", ax
    )
axes[0].set_xlabel("");


# %% [markdown]
# Read each panel by pairs. The first two rows are the paper's comparison, the
# first and the third the one at equal steps; what lies between the second and
# the third row is what more steps alone are worth. The last two rows put the
# two objectives side by side at equal steps.

# %% tags=["hide-input"]
def gap(metric, first, second):
    """Mean difference of two arms over seeds."""
    return of(first, metric) - of(second, metric)


def of(arm, metric):
    return runs[runs["variant"] == arm][metric].astype(float).mean()


page.say(
    "S cut from the nested network differs from S alone by {budget:+.3f} nats "
    "at the paper's budget, and by {steps:+.3f} at equal steps; XL by "
    "{large:+.3f} and {large_steps:+.3f}. More steps alone are worth "
    "{worth:.3f} nats to S and {large_worth:.3f} to XL. At equal steps, "
    "drawing one width differs from the mean of all by {joint:+.3f}.",
    budget=gap("loss_S", "nested, 4X", "four runs, X"),
    steps=gap("loss_S", "nested, 4X", "four runs, 4X"),
    large=gap("loss_XL", "nested, 4X", "four runs, X"),
    large_steps=gap("loss_XL", "nested, 4X", "four runs, 4X"),
    worth=gap("loss_S", "four runs, X", "four runs, 4X"),
    large_worth=gap("loss_XL", "four runs, X", "four runs, 4X"),
    joint=gap("loss_mean", "nested, X", "joint, X"),
)

# %% [markdown]
# Who needs all four sizes gets them for the price of one long run, which is
# the paper's point. Who needs a single size should look at the third row
# before choosing. A joint step costs four times as much as a step that draws
# one width, so equal steps favour it; at equal cost it is the other way round.
#
# ### Kin or skill?
#
# Two models agree because they are related, or because both are good. The pair
# of **four runs, 4X** has had as many steps as the nested one, and is not
# related.
# **Predict first**: which pair of S and XL agrees more often?

# %% mystnb={"image": {"alt": "Share of held-out places at which S and XL choose the same character, for five ways of training, with intervals over seeds"}} tags=["hide-input"]
plot.intervals(
    runs,
    "agreement",
    "S and XL choose the same character",
    "share of held-out places (higher is better)",
);

# %% [markdown]
# ### Do mixtures lie on the line?
#
# The network of the live run, over seeds. *Chord* is the line between the
# trained neighbours of a mixture, *falling* its mirror image, and *gentle* and
# *steep* are pairs of mixtures with equally many parameters.

# %% tags=["hide-input"]
EQUAL = [  # gentle and steep mixtures of equal size
    (("S", "M", "M", "M"), ("S", "S", "S", "L")),
    (("M", "M", "M", "L"), ("S", "S", "L", "L")),
    (("M", "L", "L", "L"), ("M", "M", "M", "XL")),
    (("L", "L", "L", "XL"), ("M", "M", "XL", "XL")),
]


# %%
def run_mixtures(seed):
    size = replace(task.size, draw_seed=seed)
    start = matformer.untrained(size, seed)
    whole, history = train(start.nested, task.model, seed)
    losses = elastic.every_loss(whole, MIXED).flatten().tolist()
    loss = dict(zip(elastic.every_mixture(size), losses, strict=True))
    two = elastic.two_level(size, adjacent=True)
    two = [mix for mix in two if len(set(mix)) == 2]
    return {
        "mixed": mean(loss[mix] for mix in two),
        "chord": mean(elastic.on_chord(size, mix, loss) for mix in two),
        "falling": mean(loss[mix[::-1]] for mix in two),
        "gentle": mean(loss[a] for a, _ in EQUAL),
        "steep": mean(loss[b] for _, b in EQUAL),
        "spread": loss[("S",) * 4] - loss[("XL",) * 4],
        "loss": mean([row["loss"] for row in history][-20:]),
        "loss_XL": loss[("XL",) * 4],
    }


mixed = study.ablate("mixtures", run_mixtures, {"nested": {}})

# %% mystnb={"image": {"alt": "Loss of mixtures, of the chord, of falling mixtures, and of gentle and steep mixtures, as differences from the chord, a dot a seed"}} tags=["hide-input"]
off = pd.DataFrame(
    {
        "least slope - chord": mixed["mixed"] - mixed["chord"],
        "falling - rising": mixed["falling"] - mixed["mixed"],
        "steep - gentle": mixed["steep"] - mixed["gentle"],
        "a tenth of S - XL": mixed["spread"] / 10,
    }
).melt(var_name="pair", value_name="nats")
figure, axes = plt.subplots(figsize=(7.2, 2.8))
sns.stripplot(off, x="nats", y="pair", hue="pair", size=7, ax=axes)
axes.axvline(0, color="#555555", linestyle=":")
axes.set(title="What a mixture loses; a dot a seed")
axes.set(xlabel="nats a character", ylabel="");

# %% [markdown]
# ## One index, two encoders
#
# A search engine encodes its database once, with the large encoder. Can
# queries be encoded by the small one? MatViT is the vision transformer of the
# paper; here it classifies handwritten digits, and its class token is the
# code. The pair that was trained alone has as many steps as MatViT, for each
# of its two networks.

# %%
vision = recipe.plan("study-digits", level)
seen = recipe.batches_of(vision, seed)
unseen = digits().split(recipe.DIGITS, seed=0)[1]
half = level.pick(smoke=40, cpu=len(unseen) // 2)
queries, query_label = unseen.floats()[:half], unseen.labels[:half]
database, label = unseen.floats()[half:], unseen.labels[half:]


def eyes(seed, kind):
    """S and XL as encoders: cut from one network, or trained alone."""
    torch.manual_seed(seed)
    whole = matformer.build(replace(vision.size, draw_seed=seed))
    draw, how = recipe.batches_of(vision, seed), vision.model.fit_arguments()
    if kind == "nested":
        fit(whole, draw, **how, seed=seed, progress=False)
    pair = {n: matformer.extract(whole, n) for n in ("S", "XL")}
    for model in pair.values() if kind == "alone" else ():
        fit(model.train(), draw, **how, seed=seed, progress=False)
    return {name: model.eval() for name, model in pair.items()}


# %% mystnb={"image": {"alt": "Two t-SNE maps: codes of S and XL of the same digits mixed in common clusters for the nested network, apart for networks trained alone"}} tags=["hide-input"]
SHOWN = level.pick(smoke=20, cpu=150)
figure, axes = plt.subplots(1, 2, figsize=(9.8, 4.4))
for ax, kind in zip(axes, ("nested", "alone"), strict=True):
    encoders = eyes(seed, kind).values()
    with torch.no_grad():
        codes = [model.features(queries[:SHOWN]) for model in encoders]
    points = tsne(
        F.normalize(torch.cat(codes), dim=-1), perplexity=min(20, SHOWN - 1)
    )
    for first, mark, who in ((0, "o", "S"), (SHOWN, "^", "XL")):
        part = points[first : first + SHOWN]
        look = {"c": query_label[:SHOWN], "cmap": "tab10", "s": 22}
        edge = {"edgecolors": "k" if who == "XL" else "none"}
        ax.scatter(
            *part.T, marker=mark, linewidths=0.6, label=who, **look, **edge
        )
    words = {"nested": "cut from one network", "alone": "trained alone"}[kind]
    ax.set(title=f"S and XL {words}", xlabel="t-SNE axis 1 (no unit)")
    ax.tick_params(labelbottom=False, labelleft=False)
    ax.legend()
axes[0].set_ylabel("t-SNE axis 2 (no unit)");


# %% [markdown]
# Colours are digits, discs are codes of S, triangles those of XL. Mind how the
# separate pair was made: its networks were trained alone, but both *began as
# the same numbers*, and saw the same batches.

# %%
def search(seed, kind):
    """1-NN accuracy by encoder of query and of index."""
    models = eyes(seed, kind)
    with torch.no_grad():
        asked = {n: m.features(queries) for n, m in models.items()}
        index = {n: m.features(database) for n, m in models.items()}
    return {
        f"{a} to {b}": elastic.retrieval_accuracy(
            asked[a], query_label, index[b], label
        )
        for a, b in (("S", "XL"), ("XL", "XL"), ("S", "S"))
    }


search_runs = study.ablate(
    "retrieval",
    search,
    {"MatViT": {"kind": "nested"}, "two ViTs": {"kind": "alone"}},
)

# %% mystnb={"image": {"alt": "Retrieval accuracy of three pairs of query and index encoder for MatViT and for two separate ViTs; S to XL falls to chance for separate ViTs only"}} tags=["hide-input"]
ways = ["XL to XL", "S to XL", "S to S"]
figure, axes = plt.subplots(figsize=(7.2, 2.8))
sns.stripplot(
    search_runs.melt("variant", ways),
    x="value",
    y="variable",
    hue="variant",
    dodge=True,
    size=6,
    ax=axes,
)
guess = float((label.bincount() / len(label)).square().sum())
axes.axvline(guess, color="#555555", linestyle=":")
axes.set(title="Nearest neighbour of the same digit; dotted: chance")
axes.legend(bbox_to_anchor=(1, 1))
axes.set(xlabel="1-NN accuracy; a dot a seed", ylabel="query to index");

# %% [markdown]
# Here the separate pair serves nearly as well as the nested one, against the
# paper, whose separate encoders find next to nothing. The likely reason is the
# common start that all pairs of this page have: two networks that begin alike
# and learn the same task keep a common basis, also without sharing weights. A
# pair with two different starts is the control that this record lacks; C4
# below must be read with that in mind, and C3 with it.
#
# ## Claims: what the paper says, what we saw
#
# They were written down before the study ran, with the smallest effects that
# matter, in `matformer.claims.toml` beside this notebook; the rule is in
# {doc}`/book/method`. First the gates.

# %% tags=["hide-input"]
names_of = ("language", "mixtures", "retrieval")
pd.concat([study.gates(name) for name in names_of])

# %% tags=["hide-input", "slide"]
page.claims()

# %% [markdown]
# Claims of one comparison stand beside their control at equal steps, and the
# two are to be read together: C1 with C1d, C5 with C5b. C2, C2c and C2d do not
# lean on the budget. C3 and C3b compare with a pair of equal steps, so
# that kinship is told from skill.
#
# ## Is my run healthy?
#
# The live run above is seed 0 of the experiment on mixtures. Its loss should
# lie within three standard deviations of the recorded seeds.

# %% tags=["hide-input"]
recorded = mixed["loss"].astype(float)
page.healthy(
    "loss of the last 20 rows (nats)",
    mean([row["loss"] for row in history][-20:]),
    recorded.mean() - 3 * recorded.std(),
    recorded.mean() + 3 * recorded.std(),
)

# %% [markdown]
# ## At the size of the paper
#
# MatLM comes in five sizes, MatViT in two, and the released vision code adds
# two smaller ones. All are built on the meta device. *In all* includes the
# embedding of 256,000 words, which is most of the smallest model; compare the
# blocks. The paper prints two or three digits, and some of them cut off where
# others are rounded.

# %% tags=["hide-input", "nbval-check-output"]
for name, size in matformer.PRESETS.items():
    if size.published_params is None:
        continue
    with torch.device("meta"):
        count = count_parameters(matformer.build(size))
    near = abs(count / size.published_params - 1) < 0.01
    print(f"{name:>11}: {count / 1e6:6.1f}M in all, as published: {near}")
    if size.published_blocks:
        ours = [elastic.block_params(size, n) / 1e6 for n in size.names]
        pairs_of = zip(ours, size.published_blocks, strict=True)
        line = ", ".join(f"{a:.1f} ({b / 1e6:g})" for a, b in pairs_of)
        print(f"{'':>11}  blocks S to XL, here (paper): {line}")

# %% [markdown]
# MatLM needs a row of token ids at `$GENTOK_DATA/text/tokens.npy`, made by any
# tokenizer of 256,000 words; MatViT needs ImageNet's layout under
# `$GENTOK_DATA/images/<class>/`. Then, on one GPU or on many:
#
# ```bash
# gentok info matformer --preset matlm-78m
# accelerate launch --num_processes 8 -m gentok.cli train matformer \
#     --preset matlm-78m --profile gpu --out runs/mat.safetensors
# gentok sample matformer --from runs/mat.safetensors --out texts.txt -n 4
# ```
#
# The weights of this chapter come from `make weights NB=matformer`.
#
# ## What we learned

# %% tags=["hide-input"]
per_character = elastic.block_macs(config, "XL") + config.dim * 96
picture = sample_macs(enat.PRESETS["world-32"])
nested_pair, alone_pair = agree.values()
lessons = (
    f"1. One file holds four models; the worst of them lies "
    f"{losses['excess']:+.1%} from the loss of a network trained alone, and "
    f"{shares['S']:.0%} of the words that the smallest writes are real ones.",
    f"2. At the paper's budget the nested S has "
    f"{of('nested, 4X', 'loss_S'):.3f} nats against "
    f"{of('four runs, X', 'loss_S'):.3f} for S alone; at equal steps S alone "
    f"has {of('four runs, 4X', 'loss_S'):.3f}.",
    f"3. Mixtures lie {(mixed['mixed'] - mixed['chord']).mean():+.3f} nats "
    f"from the line between trained sizes, which are "
    f"{mixed['spread'].mean():.3f} apart from S to XL.",
    f"4. S and XL choose the same character in "
    f"{of('nested, 4X', 'agreement'):.0%} of the places, in "
    f"{of('four runs, 4X', 'agreement'):.0%} if trained alone just as long.",
    f"5. A draft of the nested S is accepted with probability "
    f"{nested_pair['overlap']:.2f}, one of its twin with "
    f"{alone_pair['overlap']:.2f}.",
    f"6. 64 characters cost {64 * per_character / 1e6:.0f} million MACs with "
    f"a cache, in 64 passes; 64 tokens of a picture in the chapter on ENAT "
    f"{picture / 1e6:.0f} million, in eight: fewer passes, more work in each.",
)
page.say("{lines}", lines="\n".join(lessons))


# %% [markdown]
# ## Limits
#
# One technical text, characters, networks of at most two hundred thousand
# parameters. Nothing here measures seconds: at this size a small model is
# hardly faster than a large one, so the gain of drafting is counted in passes.
# The twins of the weights stop after a quarter of the nested network's steps,
# as the paper's rule has it, near their end and not at it: half as many steps
# had brought an XL to 1.149 nats in a pilot. The comparison at equal steps was
# made with smaller networks. Retrieval is over a few hundred digits.
#
# ## Exercises
#
# ```{exercise} Cut a layer (difficulty 1, 10 minutes)
# :label: ex-matformer-slice
# Write `cut(w1, b1, w2, b2, m)` for weights in the layout of `nn.Linear`
# (outputs first): the four tensors of the layer with the first $m$ neurons.
# ```

# %%
def cut(w1, b1, w2, b2, m): ...


check.cut(cut)


# %% [markdown]
# ```{solution-start} ex-matformer-slice
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def cut(w1, b1, w2, b2, m):
    return w1[:m], b1[:m], w2[:, :m], b2


check.cut(cut)


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What does a joint step cost? (difficulty 2, 15 minutes)
# :label: ex-matformer-cost
# Derive and write `joint_cost(ratios)`: the cost of one joint step, which
# trains all widths, divided by that of a step of XL alone. `ratios` are the
# $m/D$ of the widths, small to large. Count the weights of a layer, $4D^2$ and
# $2Dm$; what attention does between tokens is left out. Then predict the cost
# of a *sampling* step.
# ```

# %%
def joint_cost(ratios): ...


check.joint_cost(joint_cost)


# %% [markdown]
# ```{solution-start} ex-matformer-cost
# :class: dropdown
# $\sum_i(4+2r_i)$ over $4+2r_g$: 31/12, about 2.58, for the paper's ratios. A
# sampling step costs a quarter of that on average, 0.65 of a step of XL.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def joint_cost(ratios):
    return sum(4 + 2 * r for r in ratios) / (4 + 2 * ratios[-1])


check.joint_cost(joint_cost)


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Judge a draft (difficulty 2, 20 minutes)
# :label: ex-matformer-residual
# Write `outcome(p, q)`: from the verifier's law $p$ and the draft's law $q$,
# each (K,), the chance that a draft is accepted, and the law (K,) of the
# replacement when it is not. Then convince yourself that both together give
# $p$.
# ```

# %%
def outcome(p, q): ...


check.outcome(outcome)


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


check.outcome(outcome)


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What a pass yields (difficulty 2, 15 minutes)
# :label: ex-matformer-yield
# Each of $k$ drafts is accepted with probability $\alpha$, independently, up
# to the first refusal. Derive and write `tokens_per_pass(alpha, k)`: how many
# tokens a pass of the verifier yields on average. It must serve for
# $\alpha=1$, too. Which $k$ would you choose if a draft costs a fifth of a
# pass?
# ```

# %%
def tokens_per_pass(alpha, k): ...


check.tokens_per_pass(tokens_per_pass)


# %% [markdown]
# ```{solution-start} ex-matformer-yield
# :class: dropdown
# At least $i$ drafts are kept with probability $\alpha^i$; the mean of a count
# is the sum of these, and the verifier's own token comes on top. With a draft
# at a fifth of a pass divide by $1+k/5$ and look for the maximum: for
# $\alpha=0.9$ it lies at $k=7$, and is flat around it.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def tokens_per_pass(alpha, k):
    return sum(alpha**i for i in range(k + 1))


check.tokens_per_pass(tokens_per_pass)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Change it and write again (difficulty 1, 10 minutes)
# :label: ex-matformer-change
# Predict, then run: the share of drafts that XL accepts if M, or L, drafts
# instead of S; if the temperature is 0.3, or 1.5. Use
# `write(network, opening, 200, "M", temperature=1.0).acceptance`.
# ```
#
# ```{solution-start} ex-matformer-change
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
answers = {}
for draft, warm in (
    ("S", 1.0),
    ("M", 1.0),
    ("L", 1.0),
    ("S", 0.3),
    ("S", 1.5),
):
    torch.manual_seed(seed)
    length = level.pick(smoke=12, cpu=200)
    made = write(network, opening, length, draft, temperature=warm)
    answers[f"{draft}, temperature {warm}"] = made.acceptance
page.rows(answers, "Share of judged drafts that XL accepts")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Read the record (difficulty 2, 10 minutes)
# :label: ex-matformer-record
# Look at the two panels of the five arms. Which two arms differ in the number
# of steps only? Which two share the number of steps *and* the number of tokens
# that each width has seen? What would you have to add to tell whether sharing
# helps at all?
# ```
#
# ```{solution} ex-matformer-record
# :class: dropdown
# *Nested, 4X* and *nested, X* differ in steps only, and so do the two arms of
# separate runs. *Four runs, X* and *joint, X* take equally many steps, and
# each width sees every batch in both: of the five this pair comes closest to
# sharing or not, and nothing else. To tell whether sharing helps one would
# keep the tokens of each width fixed and vary only how much is shared, for
# instance with attention that is not shared.
# ```
#
# (matformer-cost)=
# ## What this run cost

# %% tags=["hide-input"]
study.finish()
page.cost()

# %% [markdown]
# ## Further reading
#
# - MatFormer itself {cite:p}`devvrit2023matformer`; nested *outputs* instead
#   of nested layers: Matryoshka representations {cite:p}`kusupati2022mrl`.
# - Before it: networks that run at several widths {cite:p}`yu2019slimmable`,
#   one network from which many are cut {cite:p}`cai2020ofa`, and width and
#   depth in BERT {cite:p}`hou2020dynabert`.
# - Speculative decoding: {cite:t}`leviathan2023speculative` and
#   {cite:t}`chen2023speculative`, found at the same time.
# - A smaller model taught by a larger one: {cite:p}`hinton2015distillation`.
# - The other chapters on cost: {doc}`/book/parts/efficient`.
