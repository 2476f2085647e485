"""Frozen networks behind losses: the VF loss by brute force, and DINOv2 from a local folder."""

import copy

import pytest
import torch

from gentok.base.foundation import (
    VFLoss,
    cosine_loss,
    distance_matrix_loss,
    feature_map,
    foundation_network,
)


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def test_margin_losses_against_their_sums():
    torch.manual_seed(0)
    z, f = torch.randn(2, 5, 6), torch.randn(2, 5, 6)
    mdms = mcos = 0.0
    for image in range(2):
        for i in range(5):
            mcos += max(0.0, 1 - 0.5 - cosine(z[image, i], f[image, i])) / 10
            for j in range(5):
                gap = cosine(z[image, i], z[image, j]) - cosine(f[image, i], f[image, j])
                mdms += max(0.0, abs(gap) - 0.25) / 50
    assert float(distance_matrix_loss(z, f, 0.25)) == pytest.approx(mdms, abs=1e-6)
    assert float(cosine_loss(z, f, 0.5)) == pytest.approx(mcos, abs=1e-6)


def test_aligned_latents_cost_nothing_and_margins_forgive():
    f = torch.randn(2, 9, 8)
    assert float(distance_matrix_loss(3 * f, f)) == 0.0
    assert float(cosine_loss(3 * f, f)) == 0.0
    assert float(cosine_loss(-f, f, margin=0.5)) == pytest.approx(1.5)
    assert float(cosine_loss(-f, f, margin=2.1)) == 0.0
    # Pairwise cosines do not care about a rotation of all latents; the other term does.
    rotation = torch.linalg.qr(torch.randn(8, 8)).Q
    assert float(distance_matrix_loss(f @ rotation, f)) == pytest.approx(0.0, abs=1e-6)
    assert float(cosine_loss(f @ rotation, f)) > 0.1


def test_features_of_another_grid_are_brought_to_the_latents():
    torch.manual_seed(0)
    loss, z = VFLoss(4, 6), torch.randn(2, 4, 4, 4)
    features = torch.randn(2, 6, 4, 4)
    doubled = features.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(loss(z, doubled), loss(z, features))
    assert loss(z, torch.randn(2, 6, 2, 2)).isfinite()
    assert loss.project.bias is None


@pytest.fixture
def dinov2(tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=12, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(tmp_path)
    return tmp_path


def test_dinov2_loads_from_a_folder(dinov2):
    network = foundation_network(str(dinov2)).on(torch.device("cpu"))
    image = torch.rand(2, 3, 32, 32, requires_grad=True) * 2 - 1
    features = feature_map(network, image)
    assert features.shape == (2, 12, 16, 16)
    assert not features.requires_grad and not network.training
    resized = torch.nn.functional.interpolate(image, (224, 224), mode="bilinear")
    tokens = network(resized).last_hidden_state[:, 1:]
    # Token 16 r + c is the patch in row r and column c.
    torch.testing.assert_close(features[:, :, 3, 5], tokens[:, 16 * 3 + 5].detach())


def test_a_frozen_network_is_loaded_once_late_and_shared_by_copies():
    calls = []

    def load():
        calls.append(1)
        return torch.nn.Linear(2, 2)

    from gentok.base.foundation import FrozenNetwork

    network = FrozenNetwork(load)
    assert not calls
    twin = copy.deepcopy(network)
    first, second = network.on(torch.device("cpu")), twin.on(torch.device("cpu"))
    assert first is second and calls == [1]
    assert not any(p.requires_grad for p in first.parameters())


def test_missing_weights_say_what_to_do(tmp_path):
    network = foundation_network(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no DINOv2 weights .*accepted: a folder"):
        network.on(torch.device("cpu"))
