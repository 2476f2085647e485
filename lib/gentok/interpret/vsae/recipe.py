"""How `interpret/vsae` trains: a language model, then two dictionaries of one of its layers.

Published settings (the authors' code): Adam, clipping at 1, a batch of 192 activations, 10,001
steps, linear decay over the last fifth. TopK: learning rate 2e-4 / sqrt(F / 2^14), warm-up over a
tenth. vSAE: 8e-4, warm-up over a fiftieth, KL warm-up over a tenth. They trained in bfloat16; here
it is float32, which a processor needs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import torch

from gentok.base import gelu_1l
from gentok.base.language_model import PRESETS as LANGUAGE_MODELS
from gentok.base.language_model import LanguageModel, LanguageModelConfig, ResidualModel, load
from gentok.base.language_model import build as build_language_model
from gentok.data import batches
from gentok.interpret.vsae.activations import Activations, collect
from gentok.interpret.vsae.bench import Bench
from gentok.interpret.vsae.corpus import (
    Corpus,
    book_texts,
    byte_tokenizer,
    read_corpus,
    split_texts,
)
from gentok.interpret.vsae.explain import write_features
from gentok.interpret.vsae.microscope import (
    HALVES,
    HeldOut,
    HeldOutConfig,
    Microscope,
    View,
    view,
)
from gentok.interpret.vsae.model import PRESETS, VSAE, TopKConfig, VSAEConfig, build, build_topk
from gentok.interpret.vsae.webtext import web_corpus
from gentok.nn.sae import SparseDictionary, TopKSAE
from gentok.training.loop import Fit, fit, load_model
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.training.weights import Learned, Weights

BATCH = 192  # activations a step
PUBLISHED_STEPS = 10_001
OWN = ("tiny", "book")  # presets whose host is trained here
SCALED = 256  # contexts that decide the unit of the activations
GELU_FEATURES = PRESETS["gelu-1l-k64"].num_features
PYTHIA = "EleutherAI/pythia-70m-deduped"


@dataclass(frozen=True)
class WarmUpStayDecay:
    """The learning rate of the released code, over its peak, as a function of the step s.

    s / w in the warm-up of w steps (so the first step has rate 0), then 1, then from step d on
    (n - s) / (n - d), towards 0 at the end of n steps.
    """

    steps: int
    warmup: int

    def __call__(self, step: int) -> float:
        """The factor, in [0, 1]."""
        if step < self.warmup:
            return step / self.warmup
        decay = int(0.8 * self.steps)
        return 1.0 if step < decay else (self.steps - step) / (self.steps - decay)


@dataclass(frozen=True)
class Plan:
    """What decides a training of the two dictionaries.

    Args:
        host: whose activations are read: ``"own"`` (a small language model that is trained first,
            on the book's own texts), ``"pythia"`` or ``"gelu-1l"`` (from the hub).
        layer: of the host, from 0.
        contexts: training contexts that are read, or None for all there are.
        size, topk_size: of the vSAE and of the TopK autoencoder; ``host_size``: of a host of our
            own.
        vsae, topk, language_model: how each is trained.
    """

    host: str
    layer: int
    contexts: int | None
    size: VSAEConfig
    topk_size: TopKConfig
    host_size: LanguageModelConfig | None
    vsae: Stage
    topk: Stage
    language_model: Stage | None


def plan(preset: str, profile: Profile) -> Plan:
    """The training of a preset.

    Raises:
        ValueError: if there is no such preset.
    """
    size = preset_of(PRESETS, preset)
    steps = profile.pick(smoke=4, cpu=600, long=4000, gpu=PUBLISHED_STEPS)
    size = replace(size, kl_warmup=steps // 10)
    topk_size = TopKConfig(size.dim, size.num_features, size.k)
    stages = vsae_stage(steps), topk_stage(size.num_features, steps)
    if preset not in OWN:
        host, layer, context = ("pythia", 3, 128) if "pythia" in preset else ("gelu-1l", 0, 128)
        contexts = profile.pick(smoke=8, cpu=-(-steps * BATCH // (context - 1)))
        return Plan(host, layer, contexts, size, topk_size, None, *stages, None)
    host_size = replace(LANGUAGE_MODELS["tiny"], dim=size.dim)
    contexts = profile.pick(smoke=32, cpu=1300, long=None, gpu=None)
    language_model = language_stage(profile.pick(smoke=4, cpu=300, long=1900, gpu=6000))
    return Plan("own", 1, contexts, size, topk_size, host_size, *stages, language_model)


def toy_plan(profile: Profile) -> tuple[VSAEConfig, Stage]:
    """Size and training of the dictionaries that look for the directions of `Superposition`.

    Its samples are cheaper than a host's activations, and are learned at a higher rate.
    """
    steps = profile.pick(smoke=4, cpu=600)
    return VSAEConfig(64, 512, 8, kl_warmup=steps // 10), replace(vsae_stage(steps), lr=5e-3)


def vsae_stage(steps: int) -> Stage:
    """The published training of a vSAE, scaled to ``steps``."""
    return Stage(steps, BATCH, lr=8e-4, schedule=WarmUpStayDecay(steps, steps // 50), clip=1.0)


def topk_stage(num_features: int, steps: int) -> Stage:
    """The published training of a TopK autoencoder, scaled to ``steps``."""
    schedule = WarmUpStayDecay(steps, steps // 10)
    return Stage(steps, BATCH, lr=topk_rate(num_features), schedule=schedule, clip=1.0)


def language_stage(steps: int) -> Stage:
    """How the small language model is trained."""
    return Stage(
        steps, batch_size=16, lr=3e-3, warmup=min(50, steps // 4), schedule="linear", clip=1.0
    )


def topk_rate(num_features: int) -> float:
    """The TopK autoencoder's learning rate: 2e-4 at 2^14 features, growing as 1/sqrt(F)."""
    return 2e-4 / (num_features / 2**14) ** 0.5


def train_sae(
    sae: SparseDictionary,
    source: Activations | Callable[[int], dict],
    how: Stage,
    *,
    seed: int = 0,
    out: Path | None = None,
    resume: bool = False,
    after: Path | None = None,
    progress: bool = False,
) -> Fit:
    """Train an autoencoder.

    Args:
        sae: a `TopKSAE`, whose bias is set to the geometric median of the first batch, or a `VSAE`.
        source: activations, or batches ``{"x": (B, D)}`` by step.
        how: such as `vsae_stage` or `topk_stage` gives.
        seed: order of the activations, and the noise.
        out, resume, after, progress: as for `gentok.training.fit`.
    """
    stream = (
        batches({"x": source.x}, how.batch_size, seed=seed)
        if isinstance(source, Activations)
        else source
    )
    if isinstance(sae, TopKSAE):
        sae.start_at(stream(0)["x"].to(sae.bias.device))
    how = how.fit_arguments()
    files = {"out": out, "resume": resume, "after": after}
    return fit(sae, stream, **how, seed=seed, **files, progress=progress)


def train_language_model(
    config: LanguageModelConfig,
    corpus: Corpus,
    how: Stage,
    *,
    seed: int = 0,
    device: str = "cpu",
    out: Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Fit:
    """Train a small GPT-NeoX from scratch on a corpus.

    Args:
        config: its sizes.
        corpus: training contexts; its tokenizer becomes the model's.
        how: such as `language_stage` gives; a row of a batch is a context.
        seed: weights and order of the contexts.
        device: where to train.
        out, resume, progress: as for `gentok.training.fit`.
    """
    torch.manual_seed(seed)
    model = build_language_model(config).to(device)
    model.tokenizer = corpus.tokenizer
    stream = batches({"tokens": corpus.tokens}, how.batch_size, seed=seed)
    how = how.fit_arguments()
    return fit(model, stream, **how, seed=seed, out=out, resume=resume, progress=progress)


@lru_cache(maxsize=1)
def book_corpus(context: int) -> tuple[Corpus, Corpus]:
    """Training and test contexts of the book's own texts, a token a byte, in random order."""
    tokenizer = byte_tokenizer()
    parts = split_texts(book_texts())
    train, test = (read_corpus(part, tokenizer, context).shuffled() for part in parts)
    return train, test


def make_bench(model: ResidualModel, train: Corpus, test: Corpus, layer: int, **sizes) -> Bench:
    """Collect the activations of both corpora; ``sizes`` go to `Bench`."""
    activations = collect(model, train, layer)
    return Bench(
        model, layer, test, activations, collect(model, test, layer, activations.scale), **sizes
    )


@lru_cache(maxsize=1)
def bench_of(profile: Profile, seed: int) -> Bench:
    """A language model of its own for a seed, trained by the plan of ``tiny``, on the bench.

    The last one is kept, since the arms of one seed ask for it one after another.
    """
    task = plan("tiny", profile)
    train_set, test_set = book_corpus(task.host_size.context)
    model = train_language_model(task.host_size, train_set, task.language_model, seed=seed).model
    return make_bench(
        model,
        train_set.head(task.contexts),
        test_set.head(profile.pick(smoke=32, cpu=400)),
        task.layer,
        loss_contexts=profile.pick(smoke=4, cpu=128),
        probe_items=profile.pick(smoke=300, cpu=4000),
    )


@lru_cache(maxsize=1)
def views_of(profile: Profile, seed: int) -> tuple[View, View]:
    """The held-out text, seen by the language model of a seed: to find names, and to judge them."""
    bench = bench_of(profile, seed)
    held, limit = HeldOut.of(split_texts(book_texts())[1]), profile.pick(smoke=4096, cpu=None)
    halves = [{n: text[:limit] for n, text in held.texts(half).items()} for half in HALVES]
    find, judge = (view(bench.model, half, bench.layer, bench.train.scale) for half in halves)
    return find, judge


def train(
    preset: str,
    profile: Profile,
    *,
    out: Path | None = None,
    resume: bool = False,
    seed: int = 0,
) -> VSAE:
    """Train a vSAE, and a TopK autoencoder beside it, on one host's activations.

    Raises:
        ValueError: if there is no such preset.
        FileNotFoundError: if the plan's host or texts are absent.
    """
    task = plan(preset, profile)
    source = _activations(task, profile, out, resume, seed)
    host_file = stage(out, "language_model") if task.host == "own" else None

    def dictionary(make: Callable, size: VSAEConfig | TopKConfig, how: Stage, path: Path | None):
        torch.manual_seed(seed)  # both start from the same directions
        model = make(size).to(profile.device)
        return train_sae(
            model,
            source,
            how,
            seed=seed,
            out=path,
            resume=resume,
            after=host_file,
            progress=True,
        ).model

    dictionary(build_topk, task.topk_size, task.topk, stage(out, "topk"))
    return dictionary(build, task.size, task.vsae, out)


def _activations(
    task: Plan, profile: Profile, out: Path | None, resume: bool, seed: int
) -> Activations:
    """Activations of the plan's host; one of our own is trained first."""
    if task.host != "own":
        model = host(task.host).to(profile.device)
        return collect(
            model, web_corpus(task.host, model.tokenizer, 128, task.contexts), task.layer
        )
    train_set, _ = book_corpus(task.host_size.context)
    model = train_language_model(
        task.host_size,
        train_set,
        task.language_model,
        seed=seed,
        device=profile.device,
        out=stage(out, "language_model"),
        resume=resume,
        progress=True,
    ).model
    scale = _scale(model, train_set, task.layer)
    return collect(model, train_set.head(task.contexts), task.layer, scale)


def host(name: str, download: bool = True) -> ResidualModel:
    """A published language model: ``"pythia"`` or ``"gelu-1l"``."""
    return (gelu_1l.load if name == "gelu-1l" else partial(load, PYTHIA))(download=download)


def _scale(model: LanguageModel, corpus: Corpus, layer: int) -> float:
    """Root mean square norm of the activations, from the first contexts."""
    return collect(model, corpus.head(SCALED), layer).scale


def sample(checkpoint: Path, out: Path, *, n: int = 16, seed: int = 0) -> None:
    """Write what ``n`` features of a trained vSAE fire on, as text.

    Args:
        checkpoint: as `train` wrote it, with the language model's beside it, if it had one.
        out: text file to write.
        n: features, drawn among those that fire.
        seed: draws them.
    """
    beside = stage(checkpoint, "language_model")
    sae: VSAE = load_model(checkpoint, VSAEConfig, build, after=beside)
    if beside.is_file():
        model, layer = load_model(beside, LanguageModelConfig, build_language_model), 1
        _, corpus = book_corpus(model.config.context)
    else:
        name = "gelu-1l" if sae.config.num_features == GELU_FEATURES else "pythia"
        model = host(name, download=False)  # the network is not asked because a file is there
        layer = 0 if name == "gelu-1l" else 3
        corpus = web_corpus(name, model.tokenizer, 128, 400)
    write_features(sae, collect(model, corpus, layer), corpus, out, n, seed)


def _collect(out: Path) -> dict[str, torch.nn.Module]:
    """The parts of the weights; the dictionaries are taken back to the host's own units."""
    beside = stage(out, "language_model")
    model = load_model(beside, LanguageModelConfig, build_language_model)
    train_set, _ = book_corpus(model.config.context)
    scale = _scale(model, train_set, layer=1)
    parts = {
        "vsae": load_model(out, VSAEConfig, build, after=beside),
        "topk": load_model(stage(out, "topk"), TopKConfig, build_topk, after=beside),
    }
    for part in parts.values():
        part.scale_biases(scale)
    _, test = split_texts(book_texts())
    return {"language_model": model, **parts, "held_out": HeldOut.of(test)}


def _data(profile: Profile, seed: int) -> dict[str, Learned]:
    corpus, _ = book_corpus(LANGUAGE_MODELS["tiny"].context)
    return {"training": Learned(corpus.source, (corpus.tokens,))}


WEIGHTS = Weights(
    preset="book",
    parts={
        "language_model": (LanguageModelConfig, build_language_model),
        "vsae": (VSAEConfig, build),
        "topk": (TopKConfig, build_topk),
        "held_out": (HeldOutConfig, HeldOut),
    },
    train=train,
    collect=_collect,
    assemble=Microscope,
    measure=lambda system, n: system.measure(n),
    data=_data,
)
