"""RandAugment: published strengths, changes by hand, what is drawn how often; the mirrored crop."""

import numpy as np
import pytest
from PIL import Image

from gentok.data import rand_augment as module
from gentok.data.mirrored_crop import mirrored_crop
from gentok.data.rand_augment import CHANGES, FILL, rand_augment


def noise(size=(20, 12), seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def pixels(image):
    return np.asarray(image).astype(int)


def test_there_are_the_fifteen_changes_and_all_keep_the_size():
    assert len(CHANGES) == 15
    # Neither the full range nor an even spread, and pixels enough to count.
    image = noise((64, 48)).point(lambda value: 40 + value // 4)
    for name, change in CHANGES.items():
        for sign in (-1.0, 1.0):
            changed = change(image, 0.9, sign)
            assert (changed.size, changed.mode) == (image.size, "RGB"), name
            assert changed.tobytes() != image.tobytes(), name


def test_values_of_the_changes_of_colour():
    """At 0.9 of the largest strength: 1 bit stays, 26 is the threshold, 99 is added below 128."""
    x = pixels(noise())
    at = {name: pixels(change(noise(), 0.9, 1.0)) for name, change in CHANGES.items()}
    assert (at["posterize"] == (x & 0b10000000)).all()
    assert (at["solarize"] == np.where(x < 256 - 230, x, 255 - x)).all()
    assert (at["solarize add"] == np.where(x < 128, np.minimum(x + 99, 255), x)).all()
    assert (at["invert"] == 255 - x).all()
    assert np.abs(at["brightness"] - np.minimum(1.81 * x, 255)).max() <= 1
    dark = pixels(CHANGES["brightness"](noise(), 0.9, -1.0))
    assert np.abs(dark - 0.19 * x).max() <= 1


def test_values_of_the_moves():
    """0.45 of the side, 0.3 columns a row, 30 degrees, at the full strength."""
    x = pixels(noise())
    right = pixels(CHANGES["translate x"](noise(), 1.0, -1.0))  # 9 of 20 columns
    assert (right[:, 9:] == x[:, :-9]).all() and (right[:, :9] == FILL).all()
    up = pixels(CHANGES["translate y"](noise((12, 20)), 1.0, 1.0))
    assert (up[:-9] == pixels(noise((12, 20)))[9:]).all() and (up[-9:] == FILL).all()
    flat = Image.new("RGB", (40, 40), (9, 9, 9))
    outside = (pixels(CHANGES["shear x"](flat, 1.0, 1.0)) == FILL).all(-1)
    # Row y comes from x + 0.3 y: so many columns at the right end come from outside.
    assert np.abs(outside.sum(1) - 0.3 * np.arange(40)).max() <= 1.5
    assert outside[:, -1][5:].all() and not outside[:, 0].any()
    turned = CHANGES["rotate"](noise((21, 21)), 1.0, 1.0)
    by_hand = noise((21, 21)).rotate(30, Image.Resampling.BICUBIC, fillcolor=FILL)
    assert turned.tobytes() == by_hand.tobytes()


def test_strengths_signs_and_shares(monkeypatch):
    """Two draws of 15, each applied half of the time, at 9 +- 0.5 of 10 at most."""
    seen = []
    spies = {
        name: lambda image, level, sign, name=name: seen.append((name, level, sign)) or image
        for name in CHANGES
    }
    monkeypatch.setattr(module, "CHANGES", spies)
    rng, image = np.random.default_rng(0), noise()
    for _ in range(3000):
        rand_augment(image, rng)
    names, levels, signs = zip(*seen, strict=True)
    assert len(seen) == pytest.approx(3000, rel=0.05)
    counts = [names.count(name) / len(seen) for name in CHANGES]
    assert max(counts) < 1.3 / 15 and min(counts) > 0.7 / 15
    assert np.mean(levels) == pytest.approx(0.9, abs=0.005) and max(levels) == 1.0
    assert np.std(levels) == pytest.approx(0.05, abs=0.004)
    assert abs(np.mean(signs)) < 0.05 and set(signs) == {-1.0, 1.0}


def test_the_generator_decides_and_other_modes_are_refused():
    image = noise()
    draws = [rand_augment(image, np.random.default_rng(s)).tobytes() for s in (1, 1, 2, 3, 4)]
    assert draws[0] == draws[1] and len(set(draws)) > 2
    with pytest.raises(ValueError, match="image must be RGB, got L"):
        rand_augment(image.convert("L"), np.random.default_rng(0))


def test_a_mirrored_crop_is_the_middle_and_half_of_them_are_mirrored():
    ramp = np.zeros((10, 30, 3), np.uint8)
    ramp[..., 0] = 8 * np.arange(30)
    rng = np.random.default_rng(0)
    crops = [pixels(mirrored_crop(Image.fromarray(ramp), 10, rng))[0, :, 0] for _ in range(200)]
    middle = 8 * np.arange(10, 20)
    mirrored = [bool((crop == middle[::-1]).all()) for crop in crops]
    assert all(m or (crop == middle).all() for m, crop in zip(mirrored, crops, strict=True))
    assert 0.4 < np.mean(mirrored) < 0.6


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_the_ends_of_the_scale_are_taken(level):
    """A strength of 10 is drawn now and then; one bit of a value is the least that can stay."""
    for change in CHANGES.values():
        assert change(noise(), level, 1.0).size == (20, 12)
    assert (pixels(CHANGES["posterize"](noise(), 1.0, 1.0)) == pixels(noise()) & 128).all()
