"""LPIPS from files in the published format, against the formula written out with functions."""

import pytest
import torch
import torch.nn.functional as F

from gentok.base.perception import perceived, perceptual_network
from gentok.measure.features.lpips import BACKBONE, HEADS, LPIPS, load_lpips

# Where torchvision's VGG-16 has its convolutions, and after which of them LPIPS reads.
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
READ, POOLED_BEFORE = (2, 7, 14, 21, 28), (5, 10, 17, 24)
WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Random weights in the two published files, VGG's unused classifier included."""
    rng, vgg = torch.Generator().manual_seed(0), {}
    for n, (c, wider) in zip(CONVOLUTIONS, zip(WIDTHS, WIDTHS[1:], strict=False), strict=True):
        vgg[f"features.{n}.weight"] = torch.randn(wider, c, 3, 3, generator=rng) / (3 * c**0.5)
        vgg[f"features.{n}.bias"] = 0.1 * torch.randn(wider, generator=rng)
    heads = {
        f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1, generator=rng)
        for k, c in enumerate((64, 128, 256, 512, 512))
    }
    folder = tmp_path_factory.mktemp("lpips")
    torch.save({**vgg, "classifier.0.bias": torch.zeros(4)}, folder / BACKBONE)
    torch.save(heads, folder / HEADS)
    return folder, vgg, heads


def pairs(n=2, size=32):
    rng = torch.Generator().manual_seed(1)
    x = torch.rand(n, 3, size, size, generator=rng) * 2 - 1
    return x, (x + 0.3 * torch.randn(x.shape, generator=rng)).clamp(-1, 1)


def written_out(x, y, vgg, heads):
    """Equation 1 of Zhang et al., with the published names."""

    def maps(image):
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        h, found = ((image + 1) / 2 - mean) / std, []  # ImageNet's own statistics, on [0, 1]
        for n in CONVOLUTIONS:
            if n in POOLED_BEFORE:
                h = F.max_pool2d(h, 2)
            h = F.conv2d(h, vgg[f"features.{n}.weight"], vgg[f"features.{n}.bias"], padding=1)
            h = h.relu()
            if n in READ:
                found.append(F.normalize(h, dim=1))
        return found

    total = torch.zeros(len(x))
    for k, (a, b) in enumerate(zip(maps(x), maps(y), strict=True)):
        weighted = heads[f"lin{k}.model.1.weight"][0] * (a - b) ** 2  # (B, C, h, w)
        total += weighted.sum(1).mean((1, 2))
    return total


def test_it_is_the_published_formula(stored):
    folder, vgg, heads = stored
    x, y = pairs()
    found = load_lpips(folder)(x, y)
    # 1 % for the statistics, which LPIPS rounds to two or three digits.
    torch.testing.assert_close(found, written_out(x, y, vgg, heads), rtol=1e-2, atol=0)
    assert (found > 0).all() and load_lpips(folder)(x, x).abs().max() == 0


def test_counts_are_vgg_16s_without_its_classifier():
    with torch.device("meta"):
        model = LPIPS()
    assert sum(p.numel() for p in model.features.parameters()) == 14_714_688
    assert sum(p.numel() for p in model.parameters()) == 14_714_688 + 64 + 128 + 256 + 512 + 512


def test_gradients_are_finite_even_where_features_are_zero(stored):
    model = load_lpips(stored[0])
    for p in model.features[0].parameters():
        p.data.zero_()  # the first map is 0 everywhere
    x, y = pairs(1, 16)
    y.requires_grad_()
    model(x, y).sum().backward()
    assert y.grad.isfinite().all()


def test_a_perceptual_loss_finds_it_under_gentok_data(stored, tmp_path, monkeypatch):
    (tmp_path / "lpips").symlink_to(stored[0])
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    network = perceptual_network("vgg-lpips").on(torch.device("cpu"))
    x, y = pairs()
    torch.testing.assert_close(perceived(network, x, y), load_lpips(stored[0])(x, y))
    assert not any(p.requires_grad for p in network.parameters())
    outline = perceptual_network("vgg-lpips").on(torch.device("meta"))
    assert perceived(outline, x.to("meta"), y.to("meta")).shape == (2,)


def test_what_is_missing_or_wrong_is_said(stored, tmp_path, monkeypatch):
    monkeypatch.delenv("GENTOK_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"vgg16-397923af\.pth.*GENTOK_DATA"):
        perceptual_network("vgg-lpips").on(torch.device("cpu"))
    torch.save(stored[1], tmp_path / BACKBONE)
    with pytest.raises(FileNotFoundError, match=r"LPIPS weights vgg\.pth"):
        load_lpips(tmp_path)
    torch.save({"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)}, tmp_path / HEADS)
    with pytest.raises(ValueError, match=r"does not hold LPIPS's lin\* tensors.*lin0"):
        load_lpips(tmp_path)
    (tmp_path / HEADS).write_bytes(b"not weights")
    with pytest.raises(ValueError, match="is not a readable file of weights"):
        load_lpips(tmp_path)
    with pytest.raises(ValueError, match="unknown perceptual network 'vgg'; accepted"):
        perceptual_network("vgg")
    with pytest.raises(ValueError, match="16 pixels a side or more"):
        load_lpips(stored[0])(*pairs(1, 8))
