"""Learning-rate schedules against torch's own schedulers, their properties, and bad input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gentok.training.schedules import (
    KINDS,
    Drops,
    Schedule,
    check_schedule,
    described,
    knows_length,
    schedule_factor,
)


def torch_rates(make, steps):
    """The factors of one of torch's schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_cosine_with_a_floor_equals_torch():
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=90, eta_min=0.1), 90
    )
    schedule = Schedule("cosine", floor=0.1)
    found = [schedule_factor(step, 100, 10, schedule) for step in range(10, 100)]
    assert found == pytest.approx(expected, rel=1e-9)


def test_linear_from_start_to_end_equals_torch():
    """RAE's generator: constant, then from one epoch to another down to a tenth, then there."""

    def make(optimizer):
        hold = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=50)
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [hold, fall], milestones=[40])

    schedule = Schedule("linear", floor=0.1, start=40, end=90)
    found = [schedule_factor(step, 120, 0, schedule) for step in range(120)]
    assert found == pytest.approx(torch_rates(make, 120), rel=1e-9)
    assert found[:41] == [1.0] * 41 and found[90:] == pytest.approx([0.1] * 30)


def test_wsd_with_a_start_is_linear_from_there():
    wsd, linear = (Schedule(kind, 0.2, start=60) for kind in ("wsd", "linear"))
    assert [wsd.factor(s, 80) for s in range(80)] == [linear.factor(s, 80) for s in range(80)]
    early = Schedule("wsd", end=50)  # the last fifth of the first fifty steps
    assert [early.factor(s, 80) for s in (40, 45, 50, 79)] == [1.0, 0.5, 0.0, 0.0]


@given(
    kind=st.sampled_from(KINDS[1:]),
    floor=st.floats(0, 0.99),
    steps=st.integers(1, 300),
    warmup=st.integers(0, 20),
    data=st.data(),
)
def test_any_schedule_rises_then_falls_to_its_floor(kind, floor, steps, warmup, data):
    start = data.draw(st.none() | st.integers(warmup, warmup + steps))
    end = data.draw(st.integers(max(warmup, start or 0) + 1, 2 * (warmup + steps) + 1))
    schedule = Schedule(kind, floor, start, end)
    factors = [schedule.factor(step, steps, warmup) for step in range(end + 3)]
    assert factors[:warmup] == [(i + 1) / warmup for i in range(warmup)]
    after = factors[warmup:]
    assert all(a >= b - 1e-12 for a, b in zip(after, after[1:], strict=False))
    assert all(floor - 1e-12 <= factor <= 1 for factor in after)
    assert factors[end:] == pytest.approx([floor] * 3)
    begin = start if start is not None else max(warmup, 4 * end // 5 if kind == "wsd" else 0)
    assert factors[warmup : begin + 1] == [1.0] * (begin + 1 - warmup)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_schedule_equals_its_name(kind):
    steps, warmup = 37, 5
    for step in range(steps):
        named = schedule_factor(step, steps, warmup, kind)
        assert schedule_factor(step, steps, warmup, Schedule(kind)) == named


def test_a_function_is_taken_as_it_is():
    assert [schedule_factor(s, 4, 0, lambda step: 1 / (1 + step)) for s in range(3)] == [
        1, 1 / 2, 1 / 3,
    ]  # fmt: skip
    for bad in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="at step 7; 0 or more"):
            schedule_factor(7, 9, 0, lambda step, bad=bad: bad)


def test_drops_are_torchs_multi_step_rates():
    def make(optimizer):
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, [7, 12], gamma=0.1)

    ours = [schedule_factor(s, 20, 0, Drops(at=(7, 12))) for s in range(20)]
    assert ours == pytest.approx(torch_rates(make, 20))
    rising = Drops(at=(7, 12), warmup=4)
    assert [rising(s) for s in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert rising(12) == pytest.approx(0.01) and not knows_length(rising)
    assert described(rising) == {"type": "Drops", "at": (7, 12), "warmup": 4, "by": 0.1}


def test_which_rates_depend_on_the_length():
    free = ["constant", Schedule("linear", end=9), Schedule("wsd", end=9), math.sqrt]
    bound = ["cosine", "wsd", Schedule("linear", start=3), Schedule("wsd", 0.1)]
    assert not any(map(knows_length, free)) and all(map(knows_length, bound))
    for schedule in free[:-1]:
        rates = [[schedule_factor(s, steps, 0, schedule) for s in range(8)] for steps in (8, 50)]
        assert rates[0] == rates[1]


def test_descriptions_tell_settings_apart():
    assert described("cosine") == "cosine" and described(0.9) == 0.9
    assert described(Schedule("cosine", 0.1)) != described(Schedule("cosine", 0.2))
    assert described(math.sqrt) == "math.sqrt"
    assert described(check_schedule) == "gentok.training.schedules.check_schedule"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("step",), "unknown schedule 'step'; accepted"),
        (("cosine", 1.0), r"floor must lie in \[0, 1\)"),
        (("cosine", -0.1), r"floor must lie in \[0, 1\)"),
        (("constant", 0.1), "a constant schedule has no floor"),
        (("linear", 0.0, -1), "start must be at least 0"),
        (("linear", 0.0, 5, 5), "end must lie after start=5, got 5"),
        (("linear", 0.0, None, 0), "end must lie after start=0, got 0"),
    ],
)
def test_bad_schedules(arguments, message):
    with pytest.raises(ValueError, match=message):
        Schedule(*arguments)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule("linear", start=3), "starts at step 3, in a warm-up of 5"),
        (Schedule("linear", end=5), "ends at step 5, in a warm-up of 5"),
        (Schedule("linear", start=20), "starts at step 20, the run has 20"),
        (math.sqrt, "has its own warm-up; got warmup=5"),
        (3, "a Schedule or a function of the step, got 3"),
    ],
)
def test_schedules_that_do_not_fit_the_run(schedule, message):
    with pytest.raises(ValueError, match=message):
        check_schedule(schedule, steps=20, warmup=5)
