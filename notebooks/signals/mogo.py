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
# # Can one pass write a whole frame of motion?
#
# :::{admonition} Before you start
# **Time** {glue:text}`mogo_time`, **memory** {glue:text}`mogo_memory`, on
# {glue:text}`mogo_device`: measured in the run that is stored here ·
# **GPU** not needed · **Level** 2 of 3 ·
# **Read first** {doc}`/book/primers/vector_quantisation` and
# {doc}`/book/primers/residual_quantisation`, four minutes together ·
# **Paper** {cite:p}`fu2024mogo`, on MoMask {cite:p}`guo2024momask` and
# Transformer-XL {cite:p}`dai2019transformerxl`
# :::
#
# **You will be able to**
# - say what each level of a residual code adds, in millimetres and in hertz;
# - draw which code may see which in Mogo, and check it by experiment;
# - derive attention that knows distances only, and test where it helps;
# - stream motion with caches, and compute the delay of the decoder;
# - tell a model that predicts well from one that generates well.

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
import time
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

import gentok
from gentok.book import chapter
from gentok.book.chapter import show_code
from gentok.book.checks import mogo as check
from gentok.data import batches, plain_shapes
from gentok.data.motion import ACTIONS, FPS, PARENTS
from gentok.data.motion_features import (
    feature_slices,
    features_to_positions,
)
from gentok.measure import code_usage, count_parameters
from gentok.measure.embed import tsne
from gentok.show import plot
from gentok.show.media import show_skeletons, skeleton_frames
from gentok.signals import mogo
from gentok.signals.mogo import motion_rvq, recipe
from gentok.signals.mogo.flattened import FlattenedTransformer
from gentok.signals.mogo.judging import (
    asked,
    held_out,
    joint_error,
    obeys,
)
from gentok.signals.mogo.motion_text import HashedWords
from gentok.signals.mogo.relative_attention import RelativeAttention
from gentok.training import fit
from gentok.training.shared import share_weights

page = chapter.open("mogo", profile, seed)
level, study = page.level, page.study

# %% [markdown]
# ## What it can do
#
# Five sentences, five people. The network of this chapter wrote each of them
# frame by frame and never saw a clip of more than 3.2 seconds; these last for
# 9.6.

# %%
system = gentok.pretrained("mogo")  # trained weights, part of the book
prompts = list(recipe.PROMPTS)
LENGTH = level.pick(smoke=60, cpu=192)  # frames, twenty a second
torch.manual_seed(seed)
people = system.sample(5, prompts, LENGTH)  # joints, (5, T, 18, 3), metres

# %% tags=["hide-input"]
words = ["walk", "turn left", "wave, right hand", "squat", "jump"]
show_skeletons(
    people[:, ::3],
    PARENTS,
    fps=FPS / 3,
    title="Five prompts, streamed for three times the training length",
    alt="Five moving stick figures: one walks, one walks a circle to its "
    "left, one waves with the right hand, one squats, one jumps",
    captions=words,
)

# %% mystnb={"image": {"alt": "Five rows of eight poses of stick figures, four of the first and four of the last second and a half of 9.6: walking, turning, waving with the right hand, squatting and jumping"}} tags=["hide-input", "slide"]
steps = 8 * torch.arange(4)  # 0.4 s from pose to pose
moments = torch.cat([steps, LENGTH - 32 + steps])  # early, and at the end
row = skeleton_frames(people[:, moments], PARENTS)  # (8, 168, 864, 3)
clips_drawn = [row[:, :, 174 * k + 24 : 174 * k + 144] for k in range(5)]
tiles = torch.from_numpy(np.concatenate(clips_drawn)).movedim(-1, 1)
when = [f"{m / FPS:.1f} s" for m in moments.tolist()] * 5
plot.image_grid(
    tiles,
    "Walk, turn left, wave, squat, jump: one sample each",
    columns=8,
    captions=when,
    ax=plt.subplots(figsize=(9.4, 9.6))[1],
);

# %% tags=["hide-input"]
many = level.pick(smoke=10, cpu=100)
captions, action = asked(many)
WINDOW = level.pick(smoke=50, cpu=64)  # frames that the judge looks at
torch.manual_seed(seed + 1)
drawn = system.sample(many, captions, LENGTH)
judged = obeys(drawn[:, :WINDOW], captions, action)
judged_late = obeys(drawn[:, -WINDOW:], captions, action)
real, words_real, action_real = held_out(many)
judged_real = obeys(
    features_to_positions(real)[:, :WINDOW], words_real, action_real
)
page.glue("mogo_accuracy", judged, ".0%")
page.say(
    "A judge that looks at a few lengths and angles, and at the side, sees "
    "what was asked for in **{share:.0%}** of {n} samples within the training "
    "length and in **{late:.0%}** of their last 3.2 seconds. On real clips it "
    "is right in {real:.0%}.",
    share=judged,
    late=judged_late,
    n=many,
    real=judged_real,
)

# %% [markdown]
# ## The question
#
# A frame of human motion is a few hundred numbers. {doc}`Residual codes
# </book/primers/residual_quantisation>` write it with a handful of integers:
# a coarse one, and finer ones that correct it. A generator must then write a
# *matrix* of codes, time by levels, and someone has to decide in which order.
# Masked models such as MoMask {cite:p}`guo2024momask` fill it in many passes
# over the whole clip, so nothing can leave before the end. Code after code
# would take one pass for every level of every frame. Mogo asks: can one pass
# write a frame?
#
# ```{figure} ../../book/img/mogo.svg
# :name: fig-mogo-architecture
# :alt: Architecture of Mogo. Columns of four codes, one column a frame, are embedded with one table and summed from the coarse level down. Four causal transformers, deep for the coarse level and shallow for the fine ones, read text, level and the sums of past frames. One output layer gives the logits of all four codes of the next frame. The residual tokenizer turns columns into frames of motion.
#
# Mogo writes one frame. What is new against one transformer on a single
# codebook is in colour.
# ```
#
# **The idea in three sentences.** All codes of the next frame are written at
# once, by as many transformers as there are levels: deep for the coarse level,
# shallow for the fine ones. Each looks at past frames only, and at no level
# finer than its own. Distances between frames, not places in the clip, enter
# its attention, so that nothing ends where the training clips ended.
#
# :::{admonition} Symbols
# :class: dropdown
# | symbol | what it is | shape |
# |---|---|---|
# | $J$, $Q$, $K$ | joints, levels, codes of a level | numbers |
# | $r_q$ | what is left before level $q$; $r_0$ comes from the encoder | `(B, T, D)` |
# | $e^{(q)}_k$, $\hat z$ | vector of code $k$ of level $q$; the sum of those chosen | `(K, D)`, `(B, T, D)` |
# | $c^q_t$ | code of level $q$ at frame $t$ | `(B, T, Q)` |
# | $h^i_t$ | what level $i$ reads of frame $t$ | `(B, T, Q, D)` |
# | $q_a$, $k_b$ | query of place $a$, key of place $b$, in one head | `(B, h, N, d)` |
# | $R_n$, $W_R$ | sines and cosines of the distance $n$, and their projection | `(L, D)`, `(D, D)` |
# | $u$, $v$ | learned biases of content and of distance (here $v$ is no velocity) | `(h, d)` |
# :::
#
# ## Motion as numbers
#
# People walk, turn, wave, squat or jump, at 20 frames a second, each with a
# caption: the book's {doc}`procedural world </book/data>`. Mogo itself learns
# from HumanML3D {cite:p}`guo2022humanml3d`, about 14,600 captured clips; the
# recipe reads them if you have them. A network reads *features* that do not
# change when a person starts elsewhere or faces another way: how fast the body
# turns and moves on the ground, its height, joints as seen from the point
# below the hips, their rotations and velocities, and which feet rest. With $J$
# joints that is $12J-1$ numbers a frame, 263 for the 22 joints of HumanML3D.

# %%
task = recipe.plan("tiny", level)  # sizes, clips, optimiser, steps
clips = recipe.clips_of(task, seed=0)
SEEN = task.frames  # of a clip, for the transformer: two seconds
LONG = level.pick(smoke=60, cpu=240)  # frames of a test clip
test, captions_test, action_test = held_out(
    level.pick(smoke=10, cpu=96), LONG
)

# %% tags=["hide-input", "nbval-check-output"]
columns = feature_slices()
print({name: c.stop - c.start for name, c in columns.items()})
print("features a frame:", test.shape[-1])
back = features_to_positions(test)
print("all start at", back[:, 0, 0, ::2].abs().amax().item(), "metres")

# %% [markdown]
# ## The tokenizer: residual codes of single frames
#
# A convolutional encoder maps the frames to vectors $r_0$, one a frame. Each
# level replaces what is left by its nearest code and passes the rest on:
#
# $$
# c_q=\arg\min_k\lVert r_q-e^{(q)}_k\rVert^2,\qquad
# r_{q+1}=r_q-e^{(q)}_{c_q},\qquad \hat z=\textstyle\sum_q e^{(q)}_{c_q}.
# $$ (eq-mogo-rvq)
#
# MoMask shortens time by four. Mogo's released code does not: every frame has
# its own column of $Q$ codes, so that a stream can leave frame by frame. Three
# habits of training come from that code. A code is *drawn* with probability
# $\propto\exp(-\lVert r-e_k\rVert^2/\tau)$. Codes that too few vectors choose
# are overwritten by vectors of the batch. And one batch in five uses only the
# first few levels, so that every prefix of a column is a usable description.
# The loss is a smooth absolute error on features, once more on joint
# positions, and the commitment term.

# %%
show_code(
    motion_rvq.SampledResidualVQ.forward, highlight=("quantize", "residual -")
)

# %% [markdown]
# Mind the gradient in this loop: each level passes it straight through, so
# the encoder receives it once *per level*. The released code has it so, and
# AdamW {cite:p}`loshchilov2019adamw` hides the factor, except against the
# commitment term.
#
# The weights above took a while. Here a smaller tokenizer learns in half a
# minute, and all experiments below build on it.

# %%
fitted = recipe.fit_tokenizer(task, clips, level.device, seed=seed)
tokenizer = fitted.model.cpu()


# %%
@torch.no_grad()
def decoded_from(tokenizer, codes, keep):
    """Features from the first `keep` levels of columns (n, T, Q)."""
    codes = codes.clone()
    codes[..., keep:] = -1  # a level marked -1 adds nothing
    return tokenizer.decode(codes)


def level_errors(tokenizer, features):
    """Error of a joint after 1, 2, ... levels, millimetres."""
    codes, errors = tokenizer.encode(features), []
    for keep in range(1, tokenizer.config.num_levels + 1):
        back = decoded_from(tokenizer, codes, keep)
        errors.append(joint_error(features[:, :LONG], back[:, :LONG]))
    return errors


codes_test = tokenizer.encode(test)[:, :LONG]
errors = level_errors(tokenizer, test)

# %% mystnb={"image": {"alt": "Three panels: the tokenizer's losses fall; the error of joints falls with the number of levels used; the perplexity of the codes, one bar a level"}} tags=["hide-input", "slide"]
Q, K = tokenizer.config.num_levels, tokenizer.config.codebook_size
usage = [code_usage(codes_test[..., q], K)["perplexity"] for q in range(Q)]
figure, axes = plt.subplots(1, 3, figsize=(11, 3.3))
plot.loss_curves(
    fitted.history,
    "Tokenizer losses",
    ["reconstruction", "position"],
    "smooth L1 (no unit)",
    axes[0],
)
names = list(range(1, Q + 1))
axes[1].plot(names, errors, "o-")
axes[1].set(title="What a level adds", xlabel="levels used", xticks=names)
axes[1].set(ylabel="error of a joint (mm)", ylim=(0, None))
axes[2].bar(names, usage, color="C2")
axes[2].axhline(K, color="#555555", linestyle=":")
axes[2].set(title="Codes in use", xlabel="level", xticks=names)
axes[2].set(ylabel="perplexity (codes)");


# %% [markdown]
# Middle: the first level carries most, each further one less. Right: the
# dotted line is $K$; a bar near it means that the level uses its codes
# evenly. No level has shrunk to a handful of codes.
#
# Where in time does an error live? Take each joint's velocity and its power at
# each frequency, in the data and in what is still wrong after one, two and all
# levels. **Predict first**: do further levels mend slow motion or fast?

# %% tags=["hide-input"]
def local(features):
    """Joints around the root, (..., T, J - 1, 3), metres."""
    return features[..., columns["positions"]].unflatten(-1, (-1, 3))


def velocity_spectrum(features):
    """Frequencies (Hz) and power of joint velocities, mean over all."""
    velocity = local(features).diff(dim=1) * FPS  # (n, T - 1, J - 1, 3)
    length = velocity.shape[1]
    window = torch.hann_window(length)[:, None, None]
    power = torch.fft.rfft(velocity * window, dim=1).abs().square()
    power = power.mean((0, 2, 3)) / (FPS * window.square().sum())
    return torch.fft.rfftfreq(length, 1 / FPS), power


def spectra(rows, title):
    ax = plt.subplots(figsize=(6.8, 3.6))[1]
    for (name, features), dash in zip(rows.items(), plot.DASHES, strict=False):
        frequency, power = velocity_spectrum(features)
        ax.plot(frequency[1:], power[1:], linestyle=dash, label=name)
    ax.set(yscale="log", title=title, xlabel="frequency (Hz)")
    ax.set(ylabel="power of velocity (m²/s² per Hz)")
    ax.legend()


# %% mystnb={"image": {"alt": "Power of joint velocities against frequency: the data fall steeply above one hertz; the errors are flatter, and more levels lower them"}} tags=["hide-input", "slide"]
rows = {"data": test[:, :LONG]}
for keep, name in ((1, "1 level"), (2, "2 levels"), (Q, f"{Q} levels")):
    back = decoded_from(tokenizer, codes_test, keep)
    rows[f"error, {name}"] = test[:, :LONG] - back
spectra(rows, "Motion, and what the codes get wrong")


# %% [markdown]
# Walking, waving and squatting live around 1 Hz, and there the error is a
# small share of the motion. Further levels help there, at the slow end. Above
# a few hertz all errors are one, and as large as the motion: what little moves
# so fast is lost whatever the number of levels. That error is the decoder's,
# and no code can mend it.
#
# ### How many levels?
#
# **Predict first**: does the error fall as much from 4 to 6 levels as from 1
# to 2? Each arm trains its own tokenizer; encoder, start and batches are the
# same.

# %%
def tokenizer_run(seed, **changes):
    sizes = replace(task.tokenizer_size, **changes)
    plan = replace(task, tokenizer_size=sizes)
    done = recipe.fit_tokenizer(plan, clips, "cpu", seed=seed, progress=False)
    errors = level_errors(done.model, test)
    tail = [row["reconstruction"] for row in done.history[-5:]]
    return {
        "error_mm": errors[-1],
        "first_level_mm": errors[0],
        "loss": sum(tail) / len(tail),
    }


level_runs = study.ablate(
    "levels",
    tokenizer_run,
    {f"{q} level{'s' * (q > 1)}": {"num_levels": q} for q in (1, 2, 4, 6)},
)

# %% mystnb={"image": {"alt": "Error of a joint in millimetres over seeds for tokenizers of one, two, four and six levels"}} tags=["hide-input"]
plot.intervals(
    level_runs,
    "error_mm",
    "Residual depth and precision",
    "error of a joint, held-out clips (mm)",
);

# %% [markdown]
# The answer stands in the distances between the rows: the first levels buy
# most of the precision. Where it stops falling, what is left is the decoder's
# own error, which more codes cannot mend.
#
# ## The hierarchy
#
# $c^q_t$ is the code of level $q$ at frame $t$. All levels share one table of
# embeddings; level $i$ reads the *prefix sum*
#
# $$
# h^i_t=\sum_{q\le i}\mathrm{Emb}(c^q_t),
# $$ (eq-mogo-prefix)
#
# the frame as far as levels $0..i$ describe it. Its transformer runs over
# $[\text{text},\text{level}_i,h^i_0,h^i_1,\dots]$, and after frame $t-1$ it
# predicts $c^i_t$. One output layer serves all levels. So
#
# $$
# p(c\mid\text{text})=\prod_t\prod_q
# p\big(c^q_t\mid c^{0..q}_{<t},\text{text}\big):
# $$ (eq-mogo-product)
#
# given the past, the codes of a frame are independent. That makes one pass
# enough, and it is an assumption: the fine codes correct the coarse one, and
# cannot see which coarse code was drawn.

# %%
show_code(
    mogo.Mogo.forward,
    highlight=("prefix_sums", "torch.cat"),
    start="prefix, past",
)

# %% [markdown]
# Text enters as one frozen sentence vector. Mogo takes it from CLIP
# {cite:p}`radford2021clip`. Here a substitute does: every word has a fixed
# random vector, a sentence is their sum. It knows which words occur, and
# nothing of their meaning.
#
# We do not have to believe a formula. Change one code and look which
# predictions move. **Predict first**: does any in the code's own frame?

# %%
torch.manual_seed(0)
network = mogo.build(mogo.PRESETS["tiny"]).eval()
text = HashedWords(task.size.text_dim)
sentence = text.encode(prompts[:1])
column = torch.randint(64, (1, 8, 4))  # codes of eight frames
touched = []
with torch.no_grad():
    base = network(column, sentence)
    for q in range(4):
        other = column.clone()
        other[0, 3, q] = (other[0, 3, q] + 1) % 64
        moved = (network(other, sentence) - base).abs().amax(-1)[0]
        touched.append(moved > 1e-7)  # (frames, levels)

# %% tags=["hide-input", "nbval-check-output"]
print("logits", tuple(base.shape))
for q, cells in enumerate(touched):
    moved = cells.any(1).nonzero().flatten().tolist()
    print(
        f"code of level {q} at frame 3 acts on frames {moved[0]} to "
        f"{moved[-1]}, levels {cells.any(0).nonzero().flatten().tolist()}"
    )

# %% mystnb={"image": {"alt": "Four grids of frames by levels: a code of level q at frame 3 acts on frames 4 and later, at levels q and finer"}} tags=["hide-input", "slide"]
figure, axes = plt.subplots(1, 4, figsize=(9, 2.4), sharey=True)
for q, (ax, cells) in enumerate(zip(axes, touched, strict=True)):
    ax.imshow(cells.T.float(), cmap="Blues", vmin=0, vmax=1.4)
    ax.plot(3, q, "X", color="C3", ms=9)
    ax.set(title=f"level {q} changed", xlabel="frame")
    ax.grid(False)
    ax.set(xticks=range(0, 8, 2), yticks=range(4))
axes[0].set_ylabel("level predicted");

# %% [markdown]
# The cross is the code we changed, blue are the predictions that moved:
# later frames, the same and finer levels. No blue stands in the cross's own
# frame, and none above it: the coarse level never learns what the fine codes
# were. The paper speaks of a hierarchy that hands information down; in the
# released code it passes through the *past* only.
#
# ## Attention that knows distances only
#
# Each level is a Transformer-XL without its recurrence. The score of query
# $a$ on key $b$ is
#
# $$
# A_{ab}=\frac{(q_a+u)^\top k_b+(q_a+v)^\top W_R R_{a-b}}{\sqrt{d}},
# $$ (eq-mogo-relative)
#
# with $R_n$ the sine-cosine vector of the *number* $n$, and learned $u,v$.
# Neither $a$ nor $b$ occurs alone. To compute the second term for all pairs,
# one multiplies every query with every $R_n$ once and sorts the products: the
# *relative shift*.

# %%
show_code(RelativeAttention.distance_scores, highlight="relative_shift")

# %%
torch.manual_seed(0)
attention = RelativeAttention(32, 1).eval()
same = torch.randn(1, 1, 1, 32).expand(1, 1, 24, 32)  # one query everywhere
with torch.no_grad():
    r = attention.project(torch.arange(23, -1, -1))
    before = (same @ r.mT)[0, 0] / 32**0.5
    after = attention.distance_scores(same, 24)[0, 0]

# %% mystnb={"image": {"alt": "Left: products of queries and distance vectors, sorted by distance. Right: after the shift, constant along diagonals, and empty above the main diagonal"}} tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6))
limit = float(before.abs().max())
for ax, scores in zip(axes, (before, after), strict=True):
    scores = scores.masked_fill(scores.isinf(), float("nan"))
    shown = ax.imshow(scores, cmap="PuOr", vmin=-limit, vmax=limit)
    ax.grid(False)
    ax.set_ylabel("query a")
axes[0].set(title="By distance", xlabel="distance n")
axes[0].set_xticks([0, 8, 16, 23], [23, 15, 7, 0])
axes[1].set(title="By key, future masked", xlabel="key b")
figure.colorbar(shown, ax=axes, label="score (no unit)");

# %% tags=["hide-input", "nbval-check-output"]
spread = [
    float(after.diagonal(-n).max() - after.diagonal(-n).min())
    for n in range(24)
]
print("constant along every diagonal:", max(spread) < 1e-5)

# %% [markdown]
# With the same query everywhere, the shifted scores are constant along
# diagonals: a clip that starts later looks the same. A wrong order of the
# $R_n$ would still train and still look plausible here and there; the
# diagonal test is what catches it.
#
# ## Learning begins
#
# The loss is the cross-entropy of all codes. One more habit from the released
# code: half of all *input* codes are replaced by random ones, while targets
# stay clean. When the network later reads its own mistakes, it has seen worse
# (compare scheduled sampling {cite:p}`bengio2015scheduled`). A small network
# learns from the first two seconds of each clip; it is also the network of all
# experiments below, and its plan is theirs.

# %%
stage = task.generator  # steps, batch size, learning rate, ...
table = {
    "codes": torch.stack(recipe.clip_codes(tokenizer, clips)),
    "text": text.encode([caption for _, caption in clips.pairs]),
}


def fit_generator(seed, build=mogo.build, size=task.size, progress=False):
    """Train on codes; all variants of a seed start alike where they can."""
    torch.manual_seed(seed)
    whole = mogo.build(replace(task.size, depths=(4, 4, 4, 4)))
    network = build(size)
    share_weights(whole, network)
    codes = table["codes"][..., : size.num_levels]
    data = batches(table | {"codes": codes}, stage.batch_size, seed)
    arguments = stage.fit_arguments()
    return fit(network, data, **arguments, seed=seed, progress=progress)


trained = fit_generator(seed, progress=True)

# %% mystnb={"image": {"alt": "Cross-entropy of four levels of codes against the step: all fall, the coarse level's lies lowest"}} tags=["hide-input"]
plot.loss_curves(
    trained.history,
    "Mogo: cross-entropy by level",
    [f"level_{q}" for q in range(Q)],
    "nats a code, half of the input corrupted",
);

# %% [markdown]
# All levels start near $\log K\approx4.16$ nats, the cost of guessing. The
# coarse level becomes by far the most predictable. What the finer ones code
# looks more like noise, and no transformer can foresee noise: one reason to
# spend depth on level 0.
#
# ### Streaming
#
# `stream` is a generator in Python's sense: one column of codes at a time,
# without end. Keys and values of the past are kept, so a frame costs one pass
# of each level over one token. The decoder looks to both sides and therefore
# lags.

# %%
asked_for = 0


def counted(columns):
    global asked_for
    for column in columns:
        asked_for += 1
        yield column


endless = counted(trained.model.stream(text.encode(prompts[:1])))
frame = next(tokenizer.decode_stream(endless))

# %% tags=["hide-input", "nbval-check-output"]
print("first frame", tuple(frame.shape), "after", asked_for, "columns")
print(f"delay {(asked_for - 1) / FPS:.2f} s at {FPS:.0f} frames a second")

# %% [markdown]
# ## Three choices, tested
#
# **Predict first**, for each change: what happens to the likelihood of the
# two seconds that were trained, of seconds 8 to 12, and to samples of 12
# seconds?
#
# - *absolute*: a learned vector for each place, instead of distances;
# - *clean past*: the inputs are not corrupted;
# - *even* and *upside down*: the same eight blocks, but two a level, or one,
#   one, two and four.

# %%
late = slice(LONG - level.pick(smoke=50, cpu=80), LONG)
early = slice(0, late.stop - late.start)
sentences = text.encode(captions_test)


@torch.no_grad()
def nll_of(network):
    """Loss of held-out codes, the true past given: (T, Q), nats."""
    parts = zip(codes_test.split(32), sentences.split(32), strict=True)
    return torch.cat([network.nll(*part) for part in parts]).mean(0)


@torch.no_grad()
def obedience(network, seed):
    """Share of samples as asked, in the first and the last four seconds."""
    captions, action = asked(level.pick(smoke=10, cpu=100))
    torch.manual_seed(seed)
    length = LONG + tokenizer.reach  # the decoder looks ahead
    codes = network.sample(len(captions), text.encode(captions), length)
    drawn = features_to_positions(tokenizer.decode(codes)[:, :LONG])
    return [obeys(drawn[:, part], captions, action) for part in (early, late)]


# %%
def generator_run(seed, **changes):
    done = fit_generator(seed, size=replace(task.size, **changes))
    nll, share = nll_of(done.model), obedience(done.model, seed)
    tail = [row["loss"] for row in done.history[-5:]]
    return {
        "nll": float(nll[:SEEN].mean()),
        "level_0": float(nll[:SEEN, 0].mean()),
        "late_nll": float(nll[late].mean()),
        "obeys": share[0],
        "late_obeys": share[1],
        "curve": nll.mean(1).tolist(),
        "loss": sum(tail) / len(tail),
    }


# %%
places = LONG + tokenizer.reach + 2  # a learned vector for each
arms = {
    "Mogo": {},
    "absolute": {"positions": "absolute", "max_positions": places},
    "clean past": {"corruption": 0.0},
    "even": {"depths": (2, 2, 2, 2)},
    "upside down": {"depths": (1, 1, 2, 4)},
}
runs = study.ablate("generators", generator_run, arms)

# %% mystnb={"image": {"alt": "Loss of held-out codes against time in the clip for Mogo, learned places and a clean past; a dotted line marks the end of the training clips after two seconds"}} tags=["hide-input", "slide"]
ax = plt.subplots(figsize=(7.4, 3.6))[1]
for name, dash in zip(list(arms)[:3], plot.DASHES, strict=False):
    curves = torch.tensor(runs[runs["variant"] == name]["curve"].tolist())
    smooth = curves.mean(0).unfold(0, 8, 4).mean(-1)  # 0.4 s each
    at = (4 * torch.arange(len(smooth)) + 4) / FPS
    ax.plot(at, smooth, linestyle=dash, label=name)
ax.axvline(SEEN / FPS, color="#555555", linestyle=":")
ax.set(title="Beyond the training length", xlabel="time in the clip (s)")
ax.set(ylabel="nll (nats a code)")
ax.legend();

# %% [markdown]
# Left of the dotted line is what training showed. Right of it distances meet
# numbers that they never met, and learned places meet rows that were never
# trained.

# %% mystnb={"image": {"alt": "Two panels over seeds for five variants: likelihood with the true past, and share of samples that obey their caption"}} tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), sharey=True)
plot.intervals(
    runs, "nll", "With the true past", "nll (nats a code)", axes[0]
)
plot.intervals(
    runs, "obeys", "Listening to itself", "samples as asked (share)", axes[1]
);

# %% [markdown]
# The left panel flatters, the right one counts. A clean past gives the better
# likelihood by far, as it must: half of what the others read is noise. That
# does not carry over to samples, many of which ignore the caption. With a
# clean past a network can copy what went on before, and has little reason to
# read the text; when it starts from nothing, text is all it has. The glossary
# calls the gap {term}`exposure bias`.
#
# ### What does independence cost?
#
# The rival writes code after code: one transformer, as large as all levels
# together, over the matrix read row by row. It sees the codes of its own
# frame, and pays with a pass for each. Its sequence is so long that both get
# only two levels of codes.
#
# **Predict first**: which of the two levels gains from the rival's order, and
# which could lose?

# %%
two = replace(task.size, depths=(4, 2), num_heads=(2, 2))


def order_run(seed, build=mogo.build):
    network = fit_generator(seed, build, two).model
    with torch.no_grad():
        nll = network.nll(codes_test[:, :SEEN, :2], sentences).mean((0, 1))
    captions, _ = asked(level.pick(smoke=4, cpu=100))
    # Time of the processor: on a shared machine the clock tells little.
    start = time.process_time()
    network.sample(len(captions), text.encode(captions), SEEN)
    spent = time.process_time() - start
    return {
        "nll": float(nll.mean()),
        "level_0": float(nll[0]),
        "level_1": float(nll[1]),
        "ms_a_frame": 1000 * spent / SEEN,
    }


order_arms = {"Mogo": {}, "code by code": {"build": FlattenedTransformer}}
order_runs = study.ablate("order", order_run, order_arms)

# %% mystnb={"image": {"alt": "Two panels: loss of levels 0 and 1 for Mogo and for the transformer that writes code by code; time of a frame of both"}} tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
long_form = order_runs.melt(
    "variant", ["level_0", "level_1"], "level", "nll (nats a code)"
)
sns.barplot(
    long_form,
    x="level",
    y="nll (nats a code)",
    hue="variant",
    errorbar="sd",
    ax=axes[0],
)
axes[0].set(title="Loss by level")
axes[0].margins(y=0.35)  # room for the legend
axes[0].legend(ncols=2)
sns.barplot(order_runs, x="variant", y="ms_a_frame", errorbar="sd", ax=axes[1])
axes[1].set(title="Time of a frame, 100 clips at once", xlabel="")
axes[1].set(ylabel="processor time (ms)");

# %% [markdown]
# Level 1 gains from seeing level 0 of its own frame: the codes of a frame are
# *not* independent given the past. Level 0 could only lose: after equally many
# steps one network for both levels, with a past twice as long, has learned
# less of it.
#
# ## Looking inside
#
# Back to the trained weights. Where do their samples differ from motion, and
# is it the tokenizer or the generator? Reconstructions answer: no generator of
# these codes can be expected to do better.

# %% mystnb={"image": {"alt": "Power of joint velocities against frequency for data, reconstructions and samples of the trained weights: they agree at low frequencies"}} tags=["hide-input", "slide"]
real = real[:, :WINDOW]
torch.manual_seed(seed + 2)
codes = system.generator.sample(
    many, system.text.encode(words_real), WINDOW + system.tokenizer.reach
)
rows = {
    "data": real,
    "reconstructed": system.decode(system.encode(real)),
    "sampled": system.decode(codes)[:, :WINDOW],
}
spectra(rows, "Samples in the frequency view")

# %% [markdown]
# Up to a few hertz the three lie together: what a spectator sees is right.
# Where samples lie above the reconstructions, the surplus is made by the
# generator: neighbouring frames, and the levels within a frame, are drawn
# without knowing of each other, and what does not fit together trembles.
#
# What does a code stand for? One table holds the embeddings of all levels;
# here are those of the coarse level, each coloured by the action in which it
# is used most.

# %% mystnb={"image": {"alt": "A t-SNE map of the embeddings of the coarse level's codes, coloured by the action that uses each most: neighbours often share an action"}} tags=["hide-input"]
coarse = system.encode(real)[..., 0]  # (n, T)
counts = torch.zeros(system.generator.config.codebook_size, len(ACTIONS))
counts.index_put_(
    (coarse.flatten(), action_real.repeat_interleave(coarse.shape[1])),
    torch.ones(coarse.numel()),
    accumulate=True,
)
used = counts.sum(1) >= level.pick(smoke=1, cpu=5)
points = tsne(
    system.generator.embedding.weight[:-1][used],
    perplexity=min(15, int(used.sum()) - 1),
)
plot.scatter(
    points,
    counts[used].argmax(1),
    ACTIONS,
    title="Embeddings of the coarse codes",
);

# %% tags=["hide-input"]
pure = counts[used].max(1).values.sum() / counts[used].sum()
page.say(
    "{used} coarse codes are in use in {n} clips; a code is in its favourite "
    "action **{pure:.0%}** of the time (a fifth would be chance).",
    used=int(used.sum()),
    n=many,
    pure=float(pure),
)

# %% [markdown]
# Codes are poses, and poses are shared. Walks and turns lie together, squats
# and jumps do, and a raised hand has codes of its own: the table was never told
# an action, it found which poses follow each other.
#
# ## Claims: what the paper says, what we saw
#
# They were written down before the study ran, each with the smallest effect
# that matters, in `mogo.claims.toml` beside this notebook; the rule that turns
# runs into verdicts is in {doc}`/book/method`. First the gates: nothing is
# claimed before the ground is firm.

# %% tags=["hide-input"]
pd.concat([study.gates(name) for name in ("levels", "generators")])

# %% tags=["hide-input", "slide"]
page.claims()

# %% [markdown]
# The identities are tests of the library. The paper's own evidence is the FID
# of networks of half a billion parameters on HumanML3D {cite:p}`fu2024mogo`;
# that claim cannot be tested at this scale.
#
# ## Is my run healthy?
#
# The live runs above are seed 0. Their losses should lie within three standard
# deviations of the recorded seeds.

# %% tags=["hide-input"]
for name, frame_of_runs, arm, column_name, history in (
    ("tokenizer", level_runs, "4 levels", "reconstruction", fitted.history),
    ("Mogo", runs, "Mogo", "loss", trained.history),
):
    recorded = frame_of_runs[frame_of_runs["variant"] == arm]["loss"]
    recorded = recorded.astype(float)
    mean, deviation = recorded.mean(), recorded.std()
    health = page.healthy(
        f"{name}, mean {column_name} of the last rows",
        sum(row[column_name] for row in history[-5:]) / len(history[-5:]),
        mean - 3 * deviation,
        mean + 3 * deviation,
    )
health

# %% [markdown]
# ## At the size of the paper
#
# Two states of the released code are known; which of them gave the numbers
# of the paper is not stated. Its levels also create layers of Transformer-XL
# that no line calls, $(K+1)(D+1)$ parameters each. We leave them out, so our
# counts are the released ones less that.

# %% tags=["hide-input", "nbval-check-output"]
for module in (motion_rvq, mogo):
    for name, preset in module.PRESETS.items():
        if preset.published_params is None:
            continue
        with torch.device("meta"):
            count = count_parameters(module.build(preset), trainable=True)
        same = count == preset.published_params
        print(f"{name:>12}: {count:>11,} as published: {same}")


# %% [markdown]
# With HumanML3D's public layout under `$GENTOK_DATA/humanml3d/` and CLIP's
# text model under `$GENTOK_DATA/clip-vit-base-patch32/` or from the hub, on one
# GPU or on many:
#
# ```bash
# gentok info mogo --preset code-a-1024
# accelerate launch --num_processes 4 -m gentok.cli train mogo \
#     --preset code-a-1024 --profile gpu --out runs/mogo.safetensors
# gentok sample mogo --from runs/mogo.safetensors --out motion.gif
# ```
#
# The recipe trains the tokenizer first (AdamW at 2e-4, batch 256, windows of
# 64 frames, two drops of the rate by ten), then Mogo by the released plan:
# 3e-5, weight decay 1e-7, batch 28, a cosine over 800,000 steps. The weights
# of this chapter come from `make weights NB=mogo`.
#
# ## What we learned

# %% tags=["hide-input", "slide"]
def of(frame_of_runs, arm, metric):
    rows = frame_of_runs[frame_of_runs["variant"] == arm]
    return rows[metric].astype(float).mean()


def left_over(x, back):
    """Share of the variance that a reconstruction misses."""
    return float((x - back).square().sum() / (x - x.mean(0)).square().sum())


vqgan = gentok.pretrained("base/vqgan")
shapes = plain_shapes(level.pick(smoke=20, cpu=200), seed=1).floats()
with torch.no_grad():
    one_code = left_over(shapes, vqgan.decode(vqgan.encode(shapes)))
ours = system.tokenizer
written = ours.encode(real)
first, last = (
    left_over(local(real), local(decoded_from(ours, written, k)))
    for k in (1, ours.config.num_levels)
)
dependence = of(order_runs, "Mogo", "level_1") - of(
    order_runs, "code by code", "level_1"
)
lessons = (
    f"1. Streamed for three times its training length, Mogo still shows what "
    f"was asked in **{judged_late:.0%}** of the samples ({judged:.0%} within "
    f"the length).",
    f"2. A joint is {of(level_runs, '1 level', 'error_mm'):.1f} mm off with a "
    f"tokenizer of one level, {of(level_runs, '4 levels', 'error_mm'):.1f} "
    f"with four, {of(level_runs, '6 levels', 'error_mm'):.1f} with six.",
    f"3. One pass a frame takes {of(order_runs, 'Mogo', 'ms_a_frame'):.1f} "
    f"ms, a pass a code {of(order_runs, 'code by code', 'ms_a_frame'):.1f}; "
    f"independence costs level 1 {dependence:.2f} nats a code.",
    f"4. A corrupted past costs "
    f"{of(runs, 'Mogo', 'nll') - of(runs, 'clean past', 'nll'):.2f} nats a "
    f"code, and {of(runs, 'Mogo', 'obeys'):.0%} instead of "
    f"{of(runs, 'clean past', 'obeys'):.0%} of the samples obey.",
    f"5. One code a place, as in the VQGAN that the chapter on ENAT writes "
    f"with, leaves {one_code:.1%} of the variance of its pictures; one level "
    f"a frame leaves {first:.2%} of that of the joints here, all levels "
    f"{last:.3%}.",
)
page.say("{lines}", lines="\n".join(lessons))


# %% [markdown]
# ## Limits
#
# Five procedural actions that repeat for ever: a length that no training clip
# had is easier here than for people, who do something else after a while. The
# sentence vector knows words and no meaning. Networks in the comparisons have
# less than a million parameters and learn for half a minute; verdicts speak of
# equal training, not of convergence, and all seeds share one tokenizer. The
# judge is a rule about skeletons, not a person.
#
# ## Exercises
#
# ```{exercise} How many bits a second? (difficulty 1, 10 minutes)
# :label: ex-mogo-bits
# Write `bitrate(fps, levels, codebook_size)`: bits a second that a stream of
# columns needs at most. First predict: does doubling $K$ or doubling $Q$ cost
# more?
# ```

# %%
def bitrate(fps, levels, codebook_size): ...


check.bitrate(bitrate)


# %% [markdown]
# ```{solution-start} ex-mogo-bits
# :class: dropdown
# Doubling $K$ adds one bit a code; doubling $Q$ doubles the rate.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def bitrate(fps, levels, codebook_size):
    bits = torch.log2(torch.tensor(codebook_size, dtype=torch.float64))
    return fps * levels * float(bits)


check.bitrate(bitrate)


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What a level reads (difficulty 1, 10 minutes)
# :label: ex-mogo-prefix
# Write `inputs(table, codes)` of {eq}`eq-mogo-prefix`: from a table (K, D) and
# codes (B, T, Q) make the inputs of all levels, (B, T, Q, D). Does level $i$
# read its own codes?
# ```

# %%
def inputs(table, codes): ...


check.inputs(inputs)


# %% [markdown]
# ```{solution-start} ex-mogo-prefix
# :class: dropdown
# It does: inputs are *past* frames, so nothing is given away. Only a sum over
# the *present* frame would be.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def inputs(table, codes):
    return table[codes].cumsum(2)


check.inputs(inputs)


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} From distances to keys (difficulty 3, 20 minutes)
# :label: ex-mogo-shift
# `scores` (N, N) holds in column $j$ the product of query $a$ with
# $R_{N-1-j}$: the largest distance first. Write `by_key(scores)`: entry
# $(a,b)$ is the product for distance $a-b$, and 0 where $b>a$.
# ```

# %%
def by_key(scores): ...


check.by_key(by_key)


# %% [markdown]
# ```{solution-start} ex-mogo-shift
# :class: dropdown
# The library reaches the same by reading the padded matrix with another row
# length (`relative_shift`), without an index.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def by_key(scores):
    n = len(scores)
    distance = torch.arange(n)[:, None] - torch.arange(n)
    picked = scores.gather(1, (n - 1 - distance).clamp(0, n - 1))
    return picked.masked_fill(distance < 0, 0)


check.by_key(by_key)


# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Derive the delay (difficulty 2, 15 minutes)
# :label: ex-mogo-delay
# A decoder is a chain of convolutions of odd kernel sizes and dilations,
# without a change of length. Derive how many columns after its own a decoded
# frame depends on, and write `delay(kernels, dilations, fps)` in seconds. The
# decoder above: kernels 3, then 3 and 1 three times with dilations 9, 3 and 1,
# then 3, 3, 3.
# ```

# %%
def delay(kernels, dilations, fps): ...


check.delay(delay)


# %% [markdown]
# ```{solution-start} ex-mogo-delay
# :class: dropdown
# A convolution of kernel $k$ and dilation $d$ reads $d(k-1)/2$ places to either
# side of its own, and a chain adds these up: the place at the edge of one
# layer's reach reads as far again in the layer before.
# ```

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
def delay(kernels, dilations, fps):
    pairs = zip(kernels, dilations, strict=True)
    return sum(d * (k - 1) // 2 for k, d in pairs) / fps


check.delay(delay)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Change it and draw again (difficulty 1, 10 minutes)
# :label: ex-mogo-change
# Predict, then run: the trained system at temperature 0.5, at 1.5, with
# `top_k=1`. What happens to obedience, and what to variety, here how much the
# heights of twenty people differ who jump by the same prompt? Use
# `system.sample(20, prompts[4:], WINDOW, temperature=0.5)` and `obeys(...)`.
# ```
#
# ```{solution-start} ex-mogo-change
# :class: dropdown
# ```

# %% jupyter={"source_hidden": true} tags=["solution"]
changes = ({}, {"temperature": 0.5}, {"temperature": 1.5}, {"top_k": 1})
twenty, jump = prompts[4:] * 20, torch.full((20,), ACTIONS.index("jump"))
answers = {}
for change in changes:
    torch.manual_seed(seed + 1)
    others = system.sample(20, prompts[4:], WINDOW, **change)
    variety = 100 * float(others[:, :, 0, 1].std(0).mean())  # centimetres
    share = obeys(others, twenty, jump)
    answers[str(change or "as trained")] = f"{share:.0%}, {variety:.1f} cm"
page.rows(answers, "Jumps as asked, and how much their heights differ")

# %% [markdown]
# With `top_k=1` nothing is drawn: all twenty are one person. Obedience alone
# does not tell a good sampler from one that always says the same.
#
# ```{solution-end}
# ```
#
# ```{exercise} Read the record (difficulty 2, 10 minutes)
# :label: ex-mogo-record
# Look at the figure of five variants and at the claims. Which variant is best
# in the left panel, and would you ship it? What does the difference between
# *even* and *upside down* tell about where depth belongs, and what does it
# not?
# ```
#
# ```{solution} ex-mogo-record
# :class: dropdown
# The clean past wins on the left and loses on the right: likelihood is measured
# on true pasts, which sampling does not have. The two layouts have equal blocks
# and start alike, so their difference is the layout's; it speaks of eight
# blocks and half a minute, not of forty-two and weeks.
# ```
#
# (mogo-cost)=
# ## What this run cost

# %% tags=["hide-input"]
study.finish()
page.cost()

# %% [markdown]
# ## Further reading
#
# - Mogo itself {cite:p}`fu2024mogo`; MoMask, whose tokenizer it takes, with
#   masked instead of causal generation {cite:p}`guo2024momask`; T2M-GPT, the
#   causal generator on a single codebook {cite:p}`zhang2023t2mgpt`.
# - Features and data of human motion: {cite:t}`guo2022humanml3d`; motion
#   capture behind the book's skeleton: {cite:t}`peng2018deepmimic`.
# - Relative positions: Transformer-XL {cite:p}`dai2019transformerxl`, and
#   rotations instead of sums {cite:p}`su2024rope`.
# - Residual codes: for sound {cite:p}`zeghidour2021soundstream`, for images
#   {cite:p}`lee2022rqvae`; straight-through gradients
#   {cite:p}`bengio2013ste` and Gumbel noise {cite:p}`jang2017gumbel`.
# - Reading one's own mistakes: {cite:t}`bengio2015scheduled`.
# - The other chapter of this part: {doc}`/notebooks/signals/mert`.
