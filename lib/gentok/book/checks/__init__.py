"""Checks of exercises: "correct", or "not yet" and the likely mistake.

A chapter's checks stand in `gentok.book.checks.<slug>`, outside the notebook, so that a student's
copy gives nothing away. Each holds an answer against a reference on random inputs of several rows
and takes every right form: a number may be an int, a float, NumPy's or a tensor's; an array may be
a list, NumPy's or a tensor. Whatever an answer does, the student reads one sentence.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Arguments = tuple[Any, ...]
MISSING = "the function returned nothing; end it with `return ...`"


@dataclass(frozen=True)
class Verdict:
    """What a check says; notebooks show the sentence."""

    correct: bool
    mistake: str = ""

    def __repr__(self) -> str:
        return "correct" if self.correct else f"not yet: {self.mistake}"


class Unfit(Exception):
    """An answer of a wrong type or shape; the message says what to return instead."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that many give.

    Args:
        says: the sentence for those who give it.
        answer: computes it, from the exercise's arguments.
    """

    says: str
    answer: Callable[..., Any]


def check(
    answer: Callable,
    right: Callable,
    cases: Sequence[Arguments],
    mistakes: Sequence[Mistake] = (),
    read: Callable[[Any, Arguments], Tensor] = lambda result, case: as_array(result),
    otherwise: str = "the numbers differ; try a case by hand",
    tolerance: float = 1e-4,
) -> Verdict:
    """Hold an answer against the right one.

    Args:
        answer: the student's function.
        right: the reference.
        cases: arguments of each call; every call gets a copy, so writing into them is harmless.
        mistakes: looked through in order when the answer is wrong; one fits if it gives the
            student's result in every case and the right one not in all.
        read: makes a result and the arguments it belongs to a tensor, or raises `Unfit`.
        otherwise: the sentence if nothing else fits.
        tolerance: absolute and relative, of every entry.
    """
    if not callable(answer):
        return Verdict(False, f"give the function itself, not {_kind(answer)}: leave out the call")
    try:
        given = [_call(answer, case, read) for case in cases]
    except Unfit as unfit:
        return Verdict(False, str(unfit))
    wanted = [read(right(*copy.deepcopy(case)), case) for case in cases]
    if _all_close(given, wanted, tolerance):
        return Verdict(True)
    for mistake in mistakes:
        try:
            wrong = [read(mistake.answer(*copy.deepcopy(case)), case) for case in cases]
        except Exception:  # a mistake need not have an answer to every case
            continue
        if _all_close(given, wrong, tolerance):
            return Verdict(False, mistake.says)
    sentences = (_difference(*pair, tolerance) for pair in zip(given, wanted, strict=True))
    return Verdict(False, next(filter(None, sentences), otherwise))


def _call(answer: Callable, case: Arguments, read: Callable[[Any, Arguments], Tensor]) -> Tensor:
    try:
        result = answer(*copy.deepcopy(case))
        result = list(result) if isinstance(result, Iterator) else result
    except Exception as error:
        words = str(error).split("\n")[0][:160] or "no message"
        raise Unfit(f"your function stopped with {type(error).__name__}: {words}") from None
    if result is None:
        raise Unfit(MISSING)
    if result is Ellipsis:
        raise Unfit("put your own code in the place of `...`")
    return read(result, case)


def as_array(result: Any) -> Tensor:
    """Any array of numbers or truth values as a tensor of float64.

    Raises:
        Unfit: if it is none.
    """
    if callable(result) and not isinstance(result, Tensor):
        raise Unfit("a function was returned; return what it gives")
    if isinstance(result, (str, bytes, dict, set)):
        raise Unfit(f"return numbers, not {_kind(result)}")
    try:
        if isinstance(result, (list, tuple, range)):
            # Lists of tensors, of lists and of numbers alike.
            result = np.array([as_array(item).numpy() for item in result], dtype=np.float64)
        if not isinstance(result, Tensor):
            result = torch.as_tensor(np.array(result, order="C"))  # no negative strides
        array = result.detach().cpu()
        if array.is_complex():
            raise Unfit("return real numbers, not complex ones")
        return array.to(torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise Unfit(f"return an array of numbers with equal rows, not {_kind(result)}") from None


def as_number(result: Any) -> Tensor:
    """One number of any kind as a tensor without axes.

    Raises:
        Unfit: if it is none, or several.
    """
    array = as_array(result)
    if array.numel() != 1:
        raise Unfit(f"return one number, not an array of shape {tuple(array.shape)}")
    return array.reshape(())


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _all_close(given: Sequence[Tensor], wanted: Sequence[Tensor], tolerance: float) -> bool:
    pairs = list(zip(given, wanted, strict=True))
    return all(a.shape == b.shape for a, b in pairs) and all(
        torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs
    )


def _difference(given: Tensor, wanted: Tensor, tolerance: float) -> str:
    """A sentence on how one result differs from the right one; empty if nothing tells."""
    if given.shape != wanted.shape:
        if given.ndim == wanted.ndim and sorted(given.shape) == sorted(wanted.shape):
            return f"two axes are swapped: {tuple(given.shape)} and not {tuple(wanted.shape)}"
        return f"the shape is {tuple(given.shape)} and should be {tuple(wanted.shape)}"
    if not torch.isfinite(given).all() and torch.isfinite(wanted).all():
        return "the result holds NaN or infinity; look for log(0) and for a division by 0"
    if given.ndim > 1 and len(given) > 1:
        fits = torch.isclose(given, wanted, rtol=tolerance, atol=tolerance).flatten(1).all(1)
        if bool(fits.any()) and not bool(fits.all()):
            rows = [index for index, fit in enumerate(fits.tolist()) if fit]
            return f"of the rows only {rows} are right; each row must use its own data"
    return ""
