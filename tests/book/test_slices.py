"""What an experiment of a notebook depends on, and what its outputs do."""

import pytest

from gentok.book import slices
from gentok.book.slices import Cell

CELLS = [
    "import torch\nfrom gentok.book.study import Study\n"
    "from gentok.nn.wavelet import haar2d, inverse_haar2d\nstudy = Study('fa_vae')",
    "torch.manual_seed(0)\ntable = torch.randn(3)\nother = torch.randn(3)",
    "def low(x):\n    return haar2d(x)\n\ndef high(x):\n    return inverse_haar2d(x)",
    "network = torch.nn.Linear(2, 2)\nlog = {}\ndone = fit(network, table)\nprint(other)",
    "log['a'] = 1\nnetwork.eval()\nloss = low(other)",
    "def train(seed, width):\n    return {'mse': low(network(table)) + width}",
    "arms = {'a': {'width': 1}, 'b': {'width': 2}}\n"
    "runs = study.ablate('one', train, arms, seeds=(0, 1, 2))",
    "best = runs['mse'].min()\n\ndef again(seed):\n    return {'mse': high(log) * best}",
    "study.ablate('two', again, {'x': {}})",
    "def everything(name):\n    return study.ablate(name, train, arms)\neverything('three')",
]  # fmt: skip


def cells(changes=()):
    text = list(CELLS)
    for place, old, new in changes:
        assert old in text[place]
        text[place] = text[place].replace(old, new)
    return [Cell(source) for source in text]


def digest(name, *changes):
    return slices.experiment_closure(cells(changes), name).digest()


@pytest.mark.parametrize(
    ("change", "one", "two"),
    [
        ((2, "return haar2d(x)", "return -haar2d(x)"), True, True),  # two reads the runs of one
        ((2, "inverse_haar2d(x)", "-inverse_haar2d(x)"), False, True),
        ((1, "table = torch.randn(3)", "table = torch.randn(4)"), True, True),
        ((1, "manual_seed(0)", "manual_seed(1)"), True, True),
        ((1, "other = torch.randn(3)", "other = torch.randn(4)"), False, False),
        ((3, "fit(network, table)", "fit(network, table, 2)"), True, True),  # changes the network
        ((4, "network.eval()", "network.train()"), True, True),
        ((4, "log['a'] = 1", "log['a'] = 2"), False, True),
        ((4, "low(other)", "high(other)"), False, False),
        ((3, "print(other)", "print(table)"), False, False),
        ((6, "'width': 2", "'width': 3"), True, True),
        ((6, "(0, 1, 2)", "(0, 1, 2, 3)"), False, True),  # the record holds the seeds
        ((8, "{'x': {}}", "{'y': {}}"), False, True),
    ],
)
def test_an_experiment_depends_on_what_its_arms_use(change, one, two):
    assert (digest("one") != digest("one", change)) is one
    assert (digest("two") != digest("two", change)) is two


def test_experiments_are_found_by_name():
    assert slices.experiment_names(cells()) == ["one", "two", ""]
    assert slices.experiment_closure(cells()[:6], "one") is None
    # a call whose name is no literal may be any experiment that has no call of its own
    assert slices.experiment_closure(cells(), "three") is not None


def test_figures_and_solutions_count_only_for_what_others_read():
    def with_figure(width):
        drawn = Cell(f"table = {width}\nshown = {width}", aside=True)
        used = Cell(
            "def train(seed):\n    return {'mse': shown}\nstudy.ablate('one', train, {'a': {}})"
        )
        return slices.experiment_closure([*cells()[:2], drawn, used], "one")

    names = with_figure(1).names()
    assert "(notebook).shown" in names and "(notebook).table" not in names
    assert with_figure(1).digest() != with_figure(2).digest()


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("x = 1", "x  =  1  # one", True),
        ("plot(x)", "plot(x);", False),  # the semicolon hides the value
        ("plot(x);", "plot(x) ;  # quiet", True),
        ("'shown'", "'also shown'", False),
        ("x = 'é'; y", "x = 'é'; y;", False),  # columns are counted in bytes
        ("%matplotlib inline\nx = 1", "%matplotlib widget\nx = 1", False),
        ("%matplotlib inline\nx = 1", "%matplotlib inline\nx = 1  # one", True),
        ("%%bash\nls", "%%bash\nls -l", False),
        ("", "# only a comment", True),
        ("import os\nx = 1", "x = 1", True),
        (
            "import gentok.nn.wavelet as w\nw.haar2d",
            "from gentok.nn import wavelet\nwavelet.haar2d",
            True,
        ),
    ],
)  # fmt: skip
def test_outputs_depend_on_every_cell(a, b, same):
    first, second = (slices.outputs_digest([Cell(text)], {}) for text in (a, b))
    assert (first == second) is same


def test_outputs_depend_on_parameters_on_order_and_on_what_they_show():
    one, two = Cell("x = 1"), Cell("x = 2")
    assert slices.outputs_digest([one], {"a": 1}) != slices.outputs_digest([one], {"a": 2})
    assert slices.outputs_digest([one, two], {}) != slices.outputs_digest([two, one], {})
    assert slices.outputs_digest([one], {}, "rows") != slices.outputs_digest([one], {}, "others")


def test_cells_are_those_that_jupytext_reads():
    import jupytext

    from gentok.book import pairs

    for path in pairs.sources(pairs.find_root()):
        theirs = [c for c in jupytext.read(path, fmt="py:percent").cells if c.cell_type == "code"]
        mine = slices.code_cells(path)
        assert [c.source for c in mine] == [c.source.strip("\n") for c in theirs]
        assert [list(c.tags) for c in mine] == [c.metadata.get("tags", []) for c in theirs]
        aside = ["solution" in pairs.tags_of(c) or "mystnb" in c.metadata for c in theirs]
        assert [c.aside for c in mine] == aside
