"""How the sparse autoencoders of `interpret/vsae` are trained: a language model, then a dictionary.

Published settings (the authors' code): Adam, clipping at 1, a batch of 192 activations, 10,001
steps, linear decay over the last fifth. TopK: learning rate 2e-4 / sqrt(F / 2^14), warm-up over a
tenth. vSAE: 8e-4, warm-up over a fiftieth, KL warm-up over a tenth. They trained in bfloat16; here
it is float32, which a processor needs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from gentok.base.language_model import PRESETS as LANGUAGE_MODELS
from gentok.base.language_model import (
    LanguageModel,
    LanguageModelConfig,
    load,
)
from gentok.base.language_model import build as build_language_model
from gentok.data import batches
from gentok.interpret.vsae.activations import Activations, collect
from gentok.interpret.vsae.bench import Bench, features_of
from gentok.interpret.vsae.corpus import Corpus, book_texts, read_corpus, train_tokenizer
from gentok.interpret.vsae.explain import show, summarise, top_contexts
from gentok.interpret.vsae.model import PRESETS, VSAE, VSAEConfig, build
from gentok.nn.sae import SparseDictionary, TopKSAE
from gentok.training.loop import Fit, fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.stages import stage

BATCH = 192  # activations a step
PYTHIA = "EleutherAI/pythia-70m-deduped"


@dataclass(frozen=True)
class Plan:
    """What decides the training of a vSAE.

    Args:
        host: ``"own"`` (a small language model that is trained first, on the book's own texts) or
            ``"pythia"`` (Pythia-70m, from the hub).
        layer: of the host, whose activations are read.
        contexts: of the corpus that are read, or None for all.
        size: of the autoencoder; ``host_size``: of a host of our own.
        sae, language_model: how each is trained.
    """

    host: str
    layer: int
    contexts: int | None
    size: VSAEConfig
    host_size: LanguageModelConfig | None
    sae: Stage
    language_model: Stage | None


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    contexts = profile.pick(smoke=32, cpu=None)
    sae = vsae_stage(profile.pick(smoke=5, cpu=1000, gpu=10_001))
    if preset != "tiny":
        return Plan("pythia", 3, contexts, size, None, sae, None)
    host_size = replace(LANGUAGE_MODELS["tiny"], dim=size.dim)
    language_model = language_stage(profile.pick(smoke=2, cpu=450, gpu=3000))
    return Plan("own", 1, contexts, size, host_size, sae, language_model)


def vsae_stage(steps: int) -> Stage:
    """The published training of a vSAE, scaled to ``steps``."""
    return Stage(steps, BATCH, lr=8e-4, warmup=steps // 50, schedule="wsd")


def topk_stage(num_features: int, steps: int) -> Stage:
    """The published training of a TopK autoencoder, scaled to ``steps``."""
    return Stage(steps, BATCH, lr=topk_rate(num_features), warmup=steps // 10, schedule="wsd")


def language_stage(steps: int) -> Stage:
    """How the small language model is trained."""
    return Stage(steps, batch_size=16, lr=2e-3, warmup=min(50, steps // 4), schedule="linear")


def topk_rate(num_features: int) -> float:
    """The TopK autoencoder's learning rate: 2e-4 at 2^14 features, growing as 1/sqrt(F)."""
    return 2e-4 / (num_features / 2**14) ** 0.5


def train_sae(
    sae: SparseDictionary,
    source: Activations | Callable[[int], dict],
    *,
    steps: int,
    seed: int = 0,
    rate: float | None = None,
    batch_size: int = BATCH,
    out: Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Fit:
    """Train an autoencoder with the settings published for its kind, scaled to ``steps``.

    Args:
        sae: a `TopKSAE` or a `VSAE`.
        source: activations, or batches ``{"x": (B, D)}`` by step.
        steps: optimiser steps; warm-ups are fractions of it.
        seed: order of the activations, and the noise.
        rate: peak learning rate; the kind's published one if None.
        batch_size: activations a step.
        out, resume, progress: as for `gentok.training.fit`.
    """
    stream = (
        batches({"x": source.x}, batch_size, seed=seed)
        if isinstance(source, Activations)
        else source
    )
    if isinstance(sae, TopKSAE):
        sae.start_at(stream(0)["x"].to(sae.bias.device))
        how = topk_stage(len(sae.dictionary), steps)
    else:
        how = vsae_stage(steps)
    return fit(
        sae,
        stream,
        **replace(how, lr=rate or how.lr).fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
        progress=progress,
    )


def train_language_model(
    config: LanguageModelConfig,
    corpus: Corpus,
    *,
    steps: int,
    seed: int = 0,
    batch_size: int = 16,
    device: str = "cpu",
    out: Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Fit:
    """Train a small GPT-NeoX from scratch on a corpus.

    Args:
        config: its sizes.
        corpus: training contexts; its tokenizer becomes the model's.
        steps: optimiser steps of ``batch_size`` contexts.
        seed: weights and order of the contexts.
        device: where to train.
        out, resume, progress: as for `gentok.training.fit`.
    """
    torch.manual_seed(seed)
    model = build_language_model(config).to(device)
    model.tokenizer = corpus.tokenizer
    return fit(
        model,
        batches({"tokens": corpus.tokens}, batch_size, seed=seed),
        **language_stage(steps).fit_arguments(),
        seed=seed,
        out=out,
        resume=resume,
        progress=progress,
    )


def book_corpus(
    context: int, tokenizer: PreTrainedTokenizerFast | int = 2048
) -> tuple[Corpus, Corpus]:
    """Training and test contexts of the book's own texts.

    Args:
        context: tokens a context.
        tokenizer: a model's own, or the vocabulary of one to be trained on these texts.
    """
    texts = book_texts()
    if isinstance(tokenizer, int):
        tokenizer = train_tokenizer(texts.values(), tokenizer)
    return read_corpus(texts, tokenizer, context).split(test=400)


def make_bench(model: LanguageModel, train: Corpus, test: Corpus, layer: int, **sizes) -> Bench:
    """Collect the activations of both corpora; ``sizes`` go to `Bench`."""
    activations = collect(model, train, layer)
    return Bench(
        model, layer, test, activations, collect(model, test, layer, activations.scale), **sizes
    )


def _activations(
    task: Plan, profile: Profile, out: Path | None, resume: bool, seed: int
) -> Activations:
    """Activations of the plan's host; one of our own is trained first."""
    if task.host == "pythia":
        model = load(PYTHIA, download=True).to(profile.device)
        train_set, _ = book_corpus(128, model.tokenizer)
        return collect(model, train_set.head(task.contexts), task.layer)
    sizes = task.host_size
    train_set, _ = book_corpus(sizes.context, sizes.vocab_size)
    if out is not None:
        train_set.tokenizer.save_pretrained(str(_tokenizer_folder(out)))
    model = train_language_model(
        sizes,
        train_set,
        steps=task.language_model.steps,
        seed=seed,
        device=profile.device,
        out=stage(out, "language_model"),
        resume=resume,
        progress=True,
    ).model
    return collect(model, train_set.head(task.contexts), task.layer)


def _tokenizer_folder(out: Path) -> Path:
    return Path(out).with_suffix(".tokenizer")


def train(
    preset: str,
    profile: Profile,
    *,
    out: Path | None = None,
    resume: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Train a vSAE on its host's activations.

    A small language model of our own is kept beside the autoencoder; Pythia comes from the hub.

    Raises:
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    activations = _activations(task, profile, out, resume, seed)
    torch.manual_seed(seed)
    sae = build(task.size).to(profile.device)
    steps = task.sae.steps
    return train_sae(
        sae, activations, steps=steps, seed=seed, out=out, resume=resume, progress=True
    ).model


def sample(checkpoint: Path, out: Path, *, n: int = 16, seed: int = 0) -> None:
    """Write what ``n`` features of a trained vSAE fire on, as text.

    Args:
        checkpoint: as `train` wrote it, with the language model's beside it.
        out: text file to write.
        n: features, drawn among those that fire.
        seed: draws them.
    """
    sae: VSAE = load_model(checkpoint, VSAEConfig, build)
    beside = stage(checkpoint, "language_model")
    if beside.is_file():
        model, layer = load_model(beside, LanguageModelConfig, build_language_model), 1
        folder = str(_tokenizer_folder(checkpoint))
        model.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        _, corpus = book_corpus(model.config.context, model.tokenizer)
    else:
        model, layer = load(PYTHIA, download=True), 3
        _, corpus = book_corpus(128, model.tokenizer)
    acts = collect(model, corpus, layer)
    features = features_of(sae, acts)
    summaries = list(summarise(features, acts, corpus).values())
    order = torch.randperm(len(summaries), generator=torch.Generator().manual_seed(seed))
    lines = [f"{len(summaries)} of {features.shape[1]} features fire on {len(acts)} tokens", ""]
    for index in order[:n].tolist():
        summary = summaries[index]
        lines.append(f"{summary}, fires on {summary.density:.2%} of tokens")
        for row in top_contexts(features[:, summary.feature], acts):
            words = corpus.words(int(acts.context[row]))
            place = int(acts.position[row])
            around = "".join(words[max(0, place - 10) : place]), words[place]
            lines.append(f"    {show(around[0])}[[{show(around[1])}]]")
    Path(out).write_text("\n".join(lines) + "\n", encoding="utf-8")
