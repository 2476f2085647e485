"""Figures show what they were given, say what it is, and stay legible on any page."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from scipy import stats

from gentok.data import to_uint8
from gentok.show import plot


@pytest.fixture(autouse=True)
def figures():
    with plt.rc_context():
        plot.use_style()
        yield
        plt.close("all")


def images(n=5, channels=3, size=8, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, size, size, generator=rng) * 2 - 1


def shown(ax):
    return np.asarray(ax.images[0].get_array())


def luminance(colour):
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], parts))


def test_the_background_is_opaque_and_the_text_reads_on_it():
    figure, ax = plt.subplots()
    ax.set(title="title", xlabel="x")
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    assert (pixels[..., 3] == 255).all(), "a transparent figure takes the page's colour"
    paper = luminance(to_hex(pixels[0, 0, :3] / 255))
    for text in (ax.title, ax.xaxis.label):  # WCAG 2: contrast of 7 and more is level AAA
        assert (paper + 0.05) / (luminance(text.get_color()) + 0.05) > 7


def test_grid_shows_every_image_once_and_in_order():
    x = images(5)
    ax = plot.image_grid(x, "five", columns=3)
    canvas, step = shown(ax), 8 + 1
    assert canvas.shape == (2 * step - 1, 3 * step - 1, 3)
    for i, image in enumerate(to_uint8(x).permute(0, 2, 3, 1).numpy()):
        row, column = divmod(i, 3)
        tile = canvas[row * step : row * step + 8, column * step : column * step + 8]
        np.testing.assert_array_equal(tile, image)
    assert ax.get_title() == "five"


def test_grid_takes_bytes_grey_images_and_values_out_of_range():
    np.testing.assert_array_equal(
        shown(plot.image_grid(images(1))), shown(plot.image_grid(to_uint8(images(1))))
    )
    grey = shown(plot.image_grid(images(1, channels=1)))
    assert (grey[..., 0] == grey[..., 2]).all()
    assert shown(plot.image_grid(torch.full((1, 3, 4, 4), 3.0))).min() == 255


def test_captions():
    ax = plot.image_grid(images(3), captions=["a", "b", "c"])
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="need 3 captions"):
        plot.image_grid(images(3), captions=["a"])


def test_rows_are_named_and_cut_to_the_count():
    ax = plot.compare_rows({"image": images(6), "copy": images(6, seed=1)}, "pairs", count=4)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["image", "copy"]
    assert shown(ax).shape == (17, 4 * 9 - 1, 3)
    below = to_uint8(images(6, seed=1))[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(shown(ax)[9:17, :8], below)


def test_bands_show_the_low_band_in_range_and_details_around_grey():
    flat = torch.full((3, 8, 8), 0.5)
    edges = flat.clone()
    edges[:, ::2] -= 1.0  # rows differ, columns do not
    figure = plot.bands({"flat rows": edges, "flat": flat})
    pictures = np.array([shown(ax)[0, 0, 0] for ax in figure.axes]).reshape(2, 5)
    grey, white = int(to_uint8(torch.zeros(1))), int(to_uint8(torch.full((1,), 0.5)))
    assert pictures[0].tolist() == [to_uint8(torch.tensor(-0.5)), grey, 0, grey, grey]
    assert pictures[1].tolist() == [white, white, grey, grey, grey]
    assert [figure.axes[i].get_ylabel() for i in (0, 5)] == ["flat rows", "flat"]


HISTORY = [
    {"step": s, "seconds": 0.1 * s, "lr": 1e-3, "loss": 1 / (s + 1), "kl": 0.5} for s in range(40)
]


def test_loss_curves_draw_parts_but_not_time_or_rate():
    ax = plot.loss_curves(HISTORY, ylabel="loss (nats)")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["loss", "kl"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [row["loss"] for row in HISTORY])
    smooth = pd.Series([row["loss"] for row in HISTORY]).rolling(2, min_periods=1).mean()
    np.testing.assert_allclose(ax.lines[1].get_ydata(), smooth)
    assert ax.get_yscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("optimiser step", "loss (nats)")
    negative = [{**row, "loss": -row["loss"]} for row in HISTORY]
    assert plot.loss_curves(negative).get_yscale() == "linear"


def test_runs_compare_by_name():
    ax = plot.loss_curves({"A": HISTORY, "B": pd.DataFrame(HISTORY)}, parts=["loss"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["A", "B"]
    with pytest.raises(ValueError, match=r"no \['mse'\]"):
        plot.loss_curves(HISTORY, parts=["mse"])
    with pytest.raises(ValueError, match="column 'step'"):
        plot.loss_curves([])


def test_spectra_leave_out_the_mean_and_name_their_units():
    wave = torch.cos(2 * torch.pi * 4 * torch.arange(32) / 32).expand(1, 1, 32, 32)
    ax = plot.spectra({"wave": wave + 100, "given": (torch.tensor([0, 0.1]), torch.ones(2))})
    frequencies, power = ax.lines[0].get_data()
    assert min(frequencies) > 0 and frequencies[np.argmax(power)] == pytest.approx(4 / 32)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert "cycles per pixel" in ax.get_xlabel() and "power" in ax.get_ylabel()
    assert len({line.get_linestyle() for line in ax.lines}) == 2, "lines differ by colour alone"


RUNS = pd.DataFrame(
    {"variant": ["b", "b", "b", "a", "a", "a"], "seed": [0, 1, 2] * 2, "mse": [1, 2, 4, 5, 5.5, 9]}
)


def test_intervals_show_the_t_interval_and_every_seed():
    ax = plot.intervals(RUNS, "mse", "Errors", label="MSE (squared pixel value)")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first variant belongs on top"
    for row, values in enumerate(([1, 2, 4], [5, 5.5, 9])):
        bar = ax.containers[row].lines[2][0].get_segments()[0][:, 0]
        sem = stats.sem(values)
        np.testing.assert_allclose(bar, stats.t.interval(0.95, 2, np.mean(values), sem))
    rings = [line.get_xdata() for line in ax.lines if line.get_markerfacecolor() == "none"]
    assert [list(values) for values in rings] == [[1, 2, 4], [5, 5.5, 9]]
    assert ax.get_xlabel().startswith("MSE (squared pixel value)")


def test_one_seed_has_no_interval():
    ax = plot.intervals(RUNS.iloc[[0]], "mse")
    assert "one seed" in ax.get_xlabel()
    with pytest.raises(ValueError, match=r"no \['fid'\]"):
        plot.intervals(RUNS, "fid")


def test_scatter_names_classes_and_notes():
    points = np.random.default_rng(0).normal(size=(30, 2))
    labels = np.arange(30) % 3 + 1
    ax = plot.scatter(points, labels, ["zero", "one", "two", "three"], notes={7: "seven"})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two", "three"]
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), points[labels == 1])
    shapes = {collection.get_paths()[0].vertices.tobytes() for collection in ax.collections}
    assert len(shapes) == 3, "classes differ by colour alone"
    (note,) = ax.texts
    assert note.get_text() == "seven" and np.allclose(note.xy, points[7])
    assert "no unit" in ax.get_xlabel()
    with pytest.raises(ValueError, match="need points"):
        plot.scatter(points, labels[:5])


def test_figures_go_into_given_axes():
    figure, axes = plt.subplots(1, 6)
    plot.image_grid(images(2), ax=axes[0])
    plot.compare_rows({"a": images(2)}, ax=axes[1])
    plot.loss_curves(HISTORY, ax=axes[2])
    plot.spectra({"a": images(2)}, ax=axes[3])
    plot.intervals(RUNS, "mse", ax=axes[4])
    plot.scatter(torch.zeros(3, 2), ax=axes[5])
    assert plt.get_fignums() == [figure.number]
    assert all(ax.has_data() for ax in axes)


@pytest.mark.parametrize("wrong", [torch.zeros(3, 8, 8), torch.zeros(1, 2, 8, 8)])
def test_what_is_no_image_is_refused(wrong):
    with pytest.raises(ValueError, match="B, 1 or 3, H, W"):
        plot.image_grid(wrong)


def test_rows_of_different_size_are_refused():
    with pytest.raises(ValueError, match="equally many images of one size"):
        plot.compare_rows({"a": images(2), "b": images(2, size=4)})
