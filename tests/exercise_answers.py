"""The tests that the checks of every chapter's exercises must pass; a chapter brings the answers.

A test module names the checks as ``CHECKS``, a module of `gentok.book.checks`, and tables by
exercise: ``RIGHT`` holds right answers in every form, ``WRONG`` pairs of a wrong answer and words
of what is to be said about it. Then it takes the tests over: ``from exercise_answers import *``.
``ELSE`` names other words than those of ``ANYTHING``, by exercise and words, where a chapter's
answers are of another kind.
"""

import torch

__all__ = [
    "pytest_generate_tests",
    "test_a_call_in_the_place_of_the_function",
    "test_every_check_has_answers",
    "test_checks_leave_the_random_numbers_of_the_page_alone",
    "test_nothing_that_an_answer_does_is_a_traceback",
    "test_right_answers_in_every_form",
    "test_wrong_answers_are_told_apart",
]


def boom(*arguments):
    raise ZeroDivisionError("division by zero")


def nothing(*arguments): ...


ANYTHING = [
    (nothing, "returned nothing"),
    (boom, "stopped with ZeroDivisionError: division by zero"),
    (lambda: 1, "stopped with TypeError"),
    (lambda *a: ..., "your own code"),
    (lambda *a: "words", "not a str"),
    (lambda *a: boom, ""),
    (lambda *a: [[1], [2, 3]], ""),
    (lambda *a: object(), ""),
    (lambda *a: 1j, ""),
    (lambda *a: float("nan"), ""),
    (lambda *a: (boom() for _ in range(2)), ""),
]


def pytest_generate_tests(metafunc):
    module, given = metafunc.module, metafunc.fixturenames
    for table in ("RIGHT", "WRONG"):
        if table.lower() in given:
            rows = [
                (k, entry) for k, entries in getattr(module, table).items() for entry in entries
            ]
            metafunc.parametrize(("exercise", table.lower()), rows)
    if "anything" in given:
        metafunc.parametrize("anything", ANYTHING)
    if "every" in given:
        metafunc.parametrize("every", module.RIGHT)


def told(request, exercise, answer):
    """What the student reads."""
    return repr(getattr(request.module.CHECKS, exercise)(answer))


def test_right_answers_in_every_form(request, exercise, right):
    assert told(request, exercise, right) == "correct"


def test_wrong_answers_are_told_apart(request, exercise, wrong):
    answer, words = wrong
    said = told(request, exercise, answer)
    assert said.startswith("not yet: ") and words in said, said


def test_nothing_that_an_answer_does_is_a_traceback(request, every, anything):
    answer, words = anything
    words = getattr(request.module, "ELSE", {}).get((every, words), words)
    said = told(request, every, answer)
    assert said.startswith("not yet: ") and words in said, said
    assert "\n" not in said and len(said) < 250


def test_a_call_in_the_place_of_the_function(request, every):
    assert "leave out the call" in told(request, every, [1, 2])


def test_checks_leave_the_random_numbers_of_the_page_alone(request, every):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    told(request, every, request.module.RIGHT[every][0])
    assert torch.equal(torch.rand(3), expected)


def test_every_check_has_answers(request):
    checks = request.module.CHECKS
    public = {n for n, v in vars(checks).items() if getattr(v, "__module__", "") == checks.__name__}
    public = {name for name in public if not name.startswith("_")}
    assert public == set(request.module.RIGHT) == set(request.module.WRONG)
