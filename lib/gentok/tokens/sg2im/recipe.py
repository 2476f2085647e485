"""How `gentok train sg2im` trains: the tokenizer, the layout, and the picture's codes.

The checkpoint that `train` is told to write holds both transformers; the tokenizer's and the first
stage of the layout's stand beside it (``<name>.tokenizer.safetensors``, ``<name>.layout...``).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from gentok.base.vqgan import VQGAN, VQGANConfig
from gentok.data import batches, to_float
from gentok.data.graph_scenes import GraphScenes, graph_scenes
from gentok.show.media import PICTURES, save_grid
from gentok.tokens.sg2im.annotated import AnnotatedBatches
from gentok.tokens.sg2im.layout import SGTransformer, graphs_of
from gentok.tokens.sg2im.model import SG2Im, SG2ImConfig, build
from gentok.tokens.sg2im.pipeline import ScenePipeline
from gentok.tokens.sg2im.plans import JOINT_LAYOUT, Plan, plan
from gentok.tokens.sg2im.readers import READERS
from gentok.tokens.sg2im.readout import measure_layouts, measure_pictures, muted
from gentok.tokens.sg2im.tokenizer import build_tokenizer
from gentok.training.loop import Fit, fit, load_model
from gentok.training.parameter_groups import ParameterGroup
from gentok.training.profiles import Profile
from gentok.training.stages import stage
from gentok.training.weights import Learned, Weights

Batches = Callable[[int], dict[str, Tensor]]
HELD_OUT = 99_991  # the seed of scenes that no training has drawn
MEASURED = 99_993  # the seed of scenes that no sampler was chosen on, either
SAMPLES = PICTURES  # what `sample` writes


def train(
    preset: str, profile: Profile, *, out: str | Path | None, resume: bool, seed: int
) -> SG2Im:
    """Train the three networks, one after the other.

    Returns:
        both transformers, averaged where the plan says so.

    Raises:
        FileNotFoundError: if the plan's pictures are absent.
        ValueError: if there is no such preset.
    """
    task = plan(preset, profile)
    scenes = None if task.data != "scenes" else graph_scenes(task.scenes, seed=seed)
    options = {"resume": resume}
    tokenizer = train_tokenizer(
        task, scenes, profile, seed, out=stage(out, "tokenizer"), **options
    ).model
    layout = train_layout(task, scenes, profile, seed, out=stage(out, "layout"), **options).model
    options["after"] = stage(out, "tokenizer")
    return train_image(task, scenes, profile, seed, tokenizer, layout, out=out, **options).ema


def train_tokenizer(
    task: Plan, scenes: GraphScenes | None, profile: Profile, seed: int, **options
) -> Fit:
    """Train the tokenizer without an adversary; ``options`` are those of `fit`."""
    if scenes is None:
        rows = task.tokenizer.batch_size
        draw = AnnotatedBatches(READERS[task.data](), task.tokenizer_size.image_size, rows, seed,
                                task.size.graph)  # fmt: skip
        source = _only(draw, "image")
    else:
        source = batches({"image": scenes.images}, task.tokenizer.batch_size, seed)
    torch.manual_seed(seed)
    model = build_tokenizer(task.tokenizer_size).to(profile.device)
    return fit(model, source, **task.tokenizer.fit_arguments(), seed=seed, **options)


def train_layout(
    task: Plan,
    scenes: GraphScenes | None,
    profile: Profile,
    seed: int,
    constant: bool = False,
    **options,
) -> Fit:
    """Train the graph transformer alone, on boxes and labels.

    Args:
        task: the plan; its ``size.graph`` is trained.
        scenes: what is learned from; None reads the plan's pictures.
        profile: says where; ``seed``: of weights, order and noise.
        constant: say the same predicate on every edge, so that nothing can be learned from it.
        options: of `fit` (``out``, ``resume``, ``progress``).
    """
    size, rows = task.size.graph, task.layout.batch_size
    if scenes is None:
        draw = AnnotatedBatches(READERS[task.data](), task.tokenizer_size.image_size, rows, seed,
                                size)  # fmt: skip
        source = _without(draw, "image")
    else:
        source = batches(graphs_of(muted(scenes) if constant else scenes, size), rows, seed)
    torch.manual_seed(seed)
    model = SGTransformer(size).to(profile.device)
    return fit(model, source, **task.layout.fit_arguments(), seed=seed, **options)


def train_image(
    task: Plan,
    scenes: GraphScenes | None,
    profile: Profile,
    seed: int,
    tokenizer: VQGAN,
    layout: SGTransformer | None = None,
    codes: Tensor | None = None,
    **options,
) -> Fit:
    """Train the image transformer behind layouts; both transformers where these are predicted.

    Args:
        task, scenes, profile, seed, options: as for `train_layout`.
        tokenizer: writes the codes.
        layout: the first stage's; None starts it anew.
        codes: of the scenes, (n, N), where they are known.
    """
    if scenes is None:
        draw = AnnotatedBatches(READERS[task.data](), task.tokenizer_size.image_size,
                                task.image.batch_size, seed, task.size.graph)  # fmt: skip
        source = _encoded(draw, tokenizer)
    else:
        codes = codes_of(tokenizer, scenes) if codes is None else codes
        table = graphs_of(scenes, task.size.graph) | {"codes": codes}
        source = batches(table, task.image.batch_size, seed)
    torch.manual_seed(seed)
    model = build(task.size)
    if layout is not None:
        model.layout.load_state_dict(layout.state_dict())
    model.to(profile.device)
    arguments = task.image.fit_arguments(model)
    arguments["groups"] = _slowed(arguments["groups"])
    return fit(model, source, **arguments, seed=seed, **options)


@torch.no_grad()
def codes_of(tokenizer: VQGAN, scenes: GraphScenes) -> Tensor:
    """Codes of scenes' pictures, (n, N)."""
    device = next(tokenizer.parameters()).device
    parts = (to_float(part).to(device) for part in scenes.images.split(256))
    return torch.cat([tokenizer.encode(part).cpu() for part in parts])


def _slowed(groups: list[ParameterGroup]) -> list[ParameterGroup]:
    """The layout's parameters in groups of their own: slower, and without weight decay."""
    names = {name for group in groups for name in group.names if name.startswith("layout.")}
    kept = [replace(group, names=group.names - names) for group in groups]
    return [*kept, ParameterGroup(frozenset(names), 0.0, JOINT_LAYOUT)]


def _only(draw: Batches, *names: str) -> Batches:
    def batch(step: int) -> dict[str, Tensor]:
        found = draw(step)
        return {name: found[name] for name in names}

    return batch


def _without(draw: Batches, name: str) -> Batches:
    def batch(step: int) -> dict[str, Tensor]:
        return {key: value for key, value in draw(step).items() if key != name}

    return batch


def _encoded(draw: Batches, tokenizer: VQGAN) -> Batches:
    device = next(tokenizer.parameters()).device

    @torch.no_grad()
    def batch(step: int) -> dict[str, Tensor]:
        found = draw(step)
        return found | {"codes": tokenizer.encode(found.pop("image").to(device)).cpu()}

    return batch


def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Write a picture: scenes of the held-out set above what is drawn of their graphs.

    Args:
        checkpoint: the transformers'; the tokenizer's is looked for beside it.
        out: image file to write (the name's ending says the format).
        n: number of samples.
        seed: of scenes and sampler.

    Raises:
        FileNotFoundError: if one of the two checkpoints is absent.
    """
    system = ScenePipeline(**_collect(Path(checkpoint)))
    scenes = graph_scenes(n, system.tokenizer.config.image_size, HELD_OUT + seed)
    torch.manual_seed(seed)
    drawn = system.sample(scenes)
    save_grid(torch.cat([to_float(scenes.images), drawn]), out, n)


# --- weights --------------------------------------------------------------------------------------


def _collect(checkpoint: Path) -> dict[str, nn.Module]:
    beside = stage(checkpoint, "tokenizer")
    return {
        "tokenizer": load_model(beside, VQGANConfig, build_tokenizer),
        "generator": load_model(checkpoint, SG2ImConfig, build, after=beside),
    }


def _measure(system: ScenePipeline, n: int) -> dict[str, float]:
    """Relations obeyed in layouts and pictures, and how well the detector reads."""
    scenes = graph_scenes(n, system.tokenizer.config.image_size, MEASURED)
    real = to_float(scenes.images)
    again = system.decode(system.encode(real))
    torch.manual_seed(0)
    signs = torch.ones(system.generator.config.graph.position_dim)
    drawn = system.sample(scenes, signs=signs)
    found = {
        "real": measure_pictures(real, scenes),
        "decoded": measure_pictures(again, scenes),
        "drawn": measure_pictures(drawn, scenes),
        "layout": measure_layouts(system.generator.layout, scenes),
    }
    error = (real - again.clamp(-1, 1)).square().mean()
    kept = {"psnr": float(10 * torch.log10(4 / error))}
    for name, names in {
        "real": ("relations",),
        "decoded": ("relations",),
        "drawn": ("relations", "objects", "all"),
        "layout": ("directions", "nesting", "overlap"),
    }.items():
        kept |= {f"{name}_{metric}": found[name][metric] for metric in names}
    return kept


def _data(preset: str, profile: Profile, seed: int) -> dict[str, Learned]:
    items = graph_scenes(plan(preset, profile).scenes, seed=seed)
    return {"training": Learned(items.source, (items.images, items.labels, items.edges))}


WEIGHTS = Weights(
    preset="scenes-32",
    parts={"tokenizer": (VQGANConfig, build_tokenizer), "generator": (SG2ImConfig, build)},
    train=train,
    collect=_collect,
    assemble=ScenePipeline,
    measure=_measure,
    data=partial(_data, "scenes-32"),
)
