"""Models out of checkpoints: outlined first, held against the file, and only then built and filled.

A configuration comes out of a file. So it is tried on the meta device, where nothing takes memory,
and its tensors are held against those of the file, before either is given any.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from gentok.training.checkpoint import Shapes, brief, digest_of, load_checkpoint, read_header
from gentok.training.configs import restore_config
from gentok.training.shard import slice_like

C = TypeVar("C")


def load_model(
    path: str | os.PathLike,
    config_class: type[C],
    build: Callable[[C], nn.Module],
    after: str | os.PathLike | None = None,
) -> nn.Module:
    """Build the model that a checkpoint holds, with its averaged (EMA) weights where it has them.

    The header is held against an outline of the model before memory is taken for either.

    Args:
        path: a checkpoint written by `gentok.training.fit` of a model with a ``config``.
        config_class: the system's configuration dataclass.
        build: the system's ``build(config)``.
        after: the checkpoint of the stage that this one was trained on, as `fit` was told.

    Returns:
        the model in eval mode, on the CPU.

    Raises:
        FileNotFoundError, ValueError: as `load_checkpoint`, or if it is another system's, or was
            trained on another ``after``.
    """
    source = f"checkpoint {path}"
    shapes, meta = read_header(path)
    check_after(meta, after, source)
    config = stored_config(meta, config_class, source)
    prefix = "ema." if any(name.startswith("ema.") for name in shapes) else "model."
    stored = {k.removeprefix(prefix): shape for k, shape in shapes.items() if k.startswith(prefix)}
    check_shapes(_outline(config, build, 10 * len(shapes) + 1000, source), stored, source)
    tensors, _ = load_checkpoint(path)
    model = build(config)
    load_weights(model, tensors, prefix, source)
    return model.eval()


def load_weights(module: nn.Module, tensors: dict[str, Tensor], prefix: str, source: str) -> None:
    """Copy the tensors named ``prefix + name`` into a module, all of them or none.

    Raises:
        ValueError: if a tensor is missing, is left over, has another shape or kind of number, or a
            weight is not finite; names the first.
    """
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    wanted = module.state_dict()
    check_shapes(_shapes(wanted), _shapes(found), source)
    trained = {name for name, _ in module.named_parameters()}
    for name, tensor in found.items():
        if _kind(tensor) != _kind(wanted[name]):
            kinds = f"{tensor.dtype} there and {wanted[name].dtype} here"
            raise ValueError(f"{source} is of another model or preset: {name} is {kinds}")
        if name in trained and not tensor.isfinite().all():
            raise ValueError(f"{source} is damaged: {name} holds numbers that are not finite")
    module.load_state_dict({name: slice_like(found[name], wanted[name]) for name in wanted})


def check_shapes(wanted: Shapes, found: Shapes, source: str) -> None:
    """Hold the tensors of a file against those of a model.

    Raises:
        ValueError: if one is missing, is left over or has another shape; names the first.
    """
    for name in sorted(wanted.keys() | found.keys()):
        here, there = wanted.get(name, "absent"), found.get(name, "absent")
        if here != there:
            raise ValueError(
                f"{source} is of another model or preset: {name} is {there} there and {here} here"
            )


def stored_config(meta: dict[str, Any], config_class: type[C], source: str) -> C:
    """The configuration in a checkpoint.

    Raises:
        ValueError: if there is none, or it is not of that class.
    """
    try:
        return restore_config(config_class, meta["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{source} holds a {meta.get('model', 'model')} without a configuration "
            f"that {config_class.__module__}.{config_class.__qualname__} accepts: {error}"
        ) from error


def check_after(meta: dict[str, Any], after: str | os.PathLike | None, source: str) -> None:
    """Refuse to put together stages of two runs.

    Raises:
        ValueError: if the checkpoint was trained on another ``after`` than the one there now.
    """
    now, then = digest_of(after), meta.get("after")
    if now is not None and then is not None and now != then:
        raise ValueError(f"{source} was trained on another {after} than the one that is there now")


def _outline(config: C, build: Callable[[C], nn.Module], most: int, source: str) -> Shapes:
    """The shapes of a model's tensors, without memory for them.

    A configuration of a million blocks is given up at ``most`` parameters.
    """
    count = 0

    def limit(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise ValueError(f"more than {most} parameters")

    hook = register_module_parameter_registration_hook(limit)
    try:
        with torch.device("meta"):
            return _shapes(build(config).state_dict())
    except Exception as error:  # whatever a configuration of a damaged file may bring about
        raise ValueError(f"{source} has a configuration of no model: {brief(error)}") from error
    finally:
        hook.remove()


def _shapes(tensors: dict[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _kind(tensor: Tensor) -> str:
    if tensor.is_complex():
        return "complex"
    return "real" if tensor.is_floating_point() else "whole"
