"""ARD-VAE: published sizes, the prior as a constant, relevance, epochs, and its rivals."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gentok.latents.ard_vae.epochs import Epochs, each_epoch, look_noise
from gentok.latents.ard_vae.model import (
    ARDVAE,
    PRESETS,
    ARDVAEConfig,
    build,
    example,
)
from gentok.latents.ard_vae.networks import NetworkConfig, SameTransposed, build_decoder
from gentok.latents.ard_vae.plateau import Plateau
from gentok.latents.ard_vae.readout import elbow
from gentok.latents.ard_vae.rivals import RIVALS, mmd
from gentok.measure import count_parameters

SMALL = ARDVAEConfig(
    NetworkConfig(kind="mlp", channels=1, image_size=8, latent_dim=5, width=16), beta=0.1
)
# Trainable parameters of encoder and decoder, from the layers of the authors' code.
COUNTS = {
    "mnist": (3_280_960, 3_019_073),
    "mnist-16": (2_821_984, 2_789_697),
    "cifar10": (13_119_616, 27_343_107),
    "celeba": (3_807_168, 4_886_851),
    "celeba-128": (13_119_232, 15_278_723),
}


def pictures(n=40, side=8, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, side, side, generator=generator) * 2 - 1


def model(config=SMALL, seed=0):
    torch.manual_seed(seed)
    return build(config)


@pytest.mark.parametrize("name", COUNTS)
def test_published_sizes(name):
    with torch.device("meta"):
        network = build(PRESETS[name])
        counts = count_parameters(network.encoder), count_parameters(network.decoder)
        assert counts == COUNTS[name] and sum(counts) == count_parameters(network)
        batch = example(PRESETS[name], 2)
        assert network.loss(batch)[0].shape == ()
    assert network.decode(network.encode(batch["image"])).shape == batch["image"].shape


def test_published_settings():
    betas = {name: PRESETS[name].beta for name in COUNTS}
    assert betas == {
        "mnist": 0.5, "mnist-16": 0.5, "cifar10": 0.05, "celeba": 3.0, "celeba-128": 3.0,
    }  # fmt: skip
    assert [PRESETS[n].latent_dim for n in ("mnist", "cifar10", "celeba")] == [128, 256, 64]
    assert PRESETS["celeba"].network.signed and not PRESETS["cifar10"].network.signed
    tiny = build(PRESETS["tiny"])
    norms = [layer for layer in tiny.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    decoder = list(build_decoder(PRESETS["cifar10"].network))
    assert isinstance(decoder[1], nn.Unflatten), "a norm or an activation follows the Dense layer"
    assert isinstance(decoder[-2], SameTransposed) and isinstance(decoder[-1], nn.Sigmoid)


def test_celebas_encoder_sees_its_pictures_stretched():
    config = replace(PRESETS["tiny"].network, doubled=True)
    stretched, plain = (
        ARDVAE(ARDVAEConfig(c, 1.0)).eval() for c in (config, PRESETS["tiny"].network)
    )
    plain.encoder.load_state_dict(
        {f"{int(k.split('.')[0]) - 1}.{k.split('.', 1)[1]}": v
         for k, v in stretched.encoder.state_dict().items()}
    )  # fmt: skip
    x = pictures(3, 16)
    assert torch.equal(stretched.moments(x)[0], plain.moments(2 * x - 1)[0])


def test_the_last_layer_of_stride_one_is_kerass():
    """A Keras kernel k at stride 1 with 'same': y[i] = sum_j x[i + 1 - j] k[j], j = 0..3."""
    layer, x = SameTransposed(1, 1), torch.randn(1, 1, 6, 6)
    kernel, full = layer.weight[0, 0], torch.zeros(6, 6)
    for i in range(6):
        for j in range(6):
            for p in range(4):
                for q in range(4):
                    r, s = i + 1 - p, j + 1 - q
                    if 0 <= r < 6 and 0 <= s < 6:
                        full[i, j] += x[0, 0, r, s] * kernel[p, q].detach()
    torch.testing.assert_close(layer(x)[0, 0] - layer.bias, full, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_sheets():
    """Squared error summed over pixels of [0, 1]; KL summed over axes; then means."""
    network, x = model(), pictures()
    network.gamma_b.copy_(torch.rand(5) + 0.3)
    torch.manual_seed(1)
    total, parts = network.loss({"image": x}, 0)
    torch.manual_seed(1)
    mean, logvar = network.encoder(x).chunk(2, 1)
    z = mean + (logvar / 2).exp() * torch.randn_like(mean)
    sse = sum(
        float(((a + 1) / 2 - b).square().sum())
        for a, b in zip(x, network.decoder(z).detach(), strict=True)
    )
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(
        normal(mean, (logvar / 2).exp()), normal(torch.zeros(5), network.gamma_b.sqrt())
    )
    assert parts["sse"].item() == pytest.approx(sse / 40, rel=1e-5)
    assert parts["kl"].item() == pytest.approx(kl.sum().item() / 40, rel=1e-5)
    assert total.item() == pytest.approx(sse / 40 + 0.1 * kl.sum().item() / 40, rel=1e-5)


def test_a_signed_decoder_is_judged_in_its_own_range():
    signed = replace(SMALL, network=replace(SMALL.network, signed=True))
    x = pictures()
    assert torch.equal(model(signed).target(x), x)
    assert model().target(x).min() >= 0
    for config in (SMALL, signed):
        y = model(config).decode(torch.randn(50, 5) * 4)
        assert -1 <= y.min() < -0.3 and 0.3 < y.max() <= 1


def test_the_prior_is_the_second_moment_of_samples_and_a_constant():
    network, x = model(), pictures(300)
    noise = torch.randn(300, 5)
    mean, logvar = (part.detach() for part in network.moments(x))
    network.update_prior(x, noise)
    z = mean + (logvar / 2).exp() * noise
    torch.testing.assert_close(network.variance, z.square().mean(0))
    network.loss({"image": x}, 0)[0].backward()
    assert not network.variance.requires_grad
    assert {n for n, _ in network.named_parameters()} == {
        f"{side}.{n}" for side in ("encoder", "decoder")
        for n, _ in getattr(network, side).named_parameters()
    }  # fmt: skip
    network.update_prior(x, noise, means=True)
    torch.testing.assert_close(network.variance, mean.square().mean(0))


def test_looking_at_the_prior_moves_no_batch_norm():
    network = model(PRESETS["tiny"]).train()
    before = {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
    network.update_prior(pictures(20, 16), torch.randn(20, 16))
    assert before and all(torch.equal(network.state_dict()[k], v) for k, v in before.items())
    assert network.encoder.training


def test_a_fixed_prior_stays_and_its_axes_are_measured_all_the_same():
    network, x = model(replace(SMALL, prior="normal")), pictures(60)
    network.update_prior(x, torch.randn(60, 5))
    assert torch.equal(network.variance, torch.ones(5))
    network.find_relevant(x, torch.randn(60, 5))
    assert torch.equal(network.variance, torch.ones(5))
    assert not torch.allclose(network.measured_variance, torch.ones(5), atol=0.01)


def test_a_learned_prior_follows_the_gradient():
    network = model(replace(SMALL, prior="learned"))
    network.loss({"image": pictures()}, 0)[0].backward()
    assert network.log_variance.grad.abs().min() > 0


def test_the_student_prior_costs_nearly_what_the_gaussian_costs():
    gaussian, student = model(), model(replace(SMALL, prior="student"))
    x = pictures(200)
    found = []
    for network in (gaussian, student):
        network.update_prior(x, look_noise(network, 200, 0))
        torch.manual_seed(2)
        found.append(network.loss({"image": x}, 0)[1]["kl"].item())
    assert found[0] != found[1] and found[0] == pytest.approx(found[1], abs=0.05)


def test_only_relevant_axes_are_drawn():
    network, x = model(), pictures(300)
    with torch.no_grad():
        network.decoder[0].weight[:, 2:] = 0  # the decoder hears two axes
    scores = network.find_relevant(x, torch.randn(300, 5))
    assert scores[2:].max() == 0 and network.relevant.tolist()[2:] == [False] * 3
    drawn = []
    network.decode = lambda z: drawn.append(z) or z
    network.sample(50)
    network.reconstruct(x)
    mean = network.moments(x)[0]
    for axis in range(2, 5):
        assert torch.equal(drawn[0][:, axis], network.center[axis].expand(50))
        assert torch.equal(drawn[1][:, axis], mean[:, axis])
    kept = int(network.relevant.nonzero()[0])
    assert drawn[0][:, kept].std() > 0 and not torch.equal(drawn[1][:, kept], mean[:, kept])


def test_what_steers_the_rate_is_the_printed_kl():
    network, x, noise = model(), pictures(30), torch.randn(30, 5)
    network.gamma_b.copy_(torch.rand(5) + 0.3)
    mean, logvar = network.moments(x)
    z = mean + (logvar / 2).exp() * noise
    v = network.variance
    printed = 0.5 * (v - logvar - 1 + (mean.square() + logvar.exp()) / v).sum(1).mean()
    sse = ((x + 1) / 2 - network.decoder(z)).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(network.steering_loss(x, noise), (sse + 0.1 * printed).detach())


def test_the_rate_is_halved_after_ten_looks_without_a_gain():
    plateau = Plateau()
    plateau.observe(torch.tensor(1.0))
    for look in range(1, 31):
        plateau.observe(torch.tensor(1.0 - 0.5e-4))  # too little
        assert plateau(0) == 0.5 ** (look // 10)
    plateau.observe(torch.tensor(0.9))
    for _ in range(9):
        plateau.observe(torch.tensor(0.95))
    assert plateau(0) == 0.125
    other = Plateau()
    other.load_state_dict(plateau.state_dict())
    other.observe(torch.tensor(0.95))
    assert other(0) == 0.0625


def test_an_epochs_parts_are_disjoint_and_new_in_each():
    images = torch.arange(50.0)[:, None, None, None]
    epochs = Epochs(images, 4, prior_images=10, seed=3)
    assert epochs.steps == 10
    for epoch in (0, 1):
        steps = range(epoch * 10, epoch * 10 + 10)
        seen = torch.cat([epochs(step)["image"] for step in steps]).flatten().tolist()
        prior = epochs.prior(epoch).flatten().tolist()
        assert len(set(seen)) == 40 and not set(seen) & set(prior) and len(set(prior)) == 10
    assert epochs.prior(0).tolist() != epochs.prior(1).tolist()
    twin = Epochs(images, 4, 10, 3)
    assert torch.equal(twin(13)["image"], epochs(13)["image"])
    mistaken = Epochs(images, 4, 10, 3, overlap=True)
    assert torch.equal(mistaken(13)["image"], epochs(13)["image"])
    assert set(mistaken.prior(1).flatten().tolist()) <= {
        float(x) for step in range(10, 20) for x in epochs(step)["image"].flatten()
    }
    with pytest.raises(ValueError, match="50 images do not hold"):
        Epochs(images, 45, 10)


def test_the_prior_moves_once_an_epoch():
    network, epochs = model(), Epochs(pictures(50), 4, 10, 3)
    on_step, moved = each_epoch(epochs, 1000), []
    for step in range(20):
        before = network.gamma_b.clone()
        on_step(step, network)
        moved.append(not torch.equal(network.gamma_b, before))
    assert [step for step, m in enumerate(moved) if m] == [9, 19]


def test_elbows_are_found():
    assert elbow(torch.tensor([1.0, 0.5, 4.0, 5.0])) == (2, 4.0)
    place, ratio = elbow(torch.tensor([3.0, 0.5]))
    assert (place, ratio) == (1, 6.0)


@pytest.mark.parametrize("name", RIVALS)
def test_rivals_train_and_are_read_alike(name):
    torch.manual_seed(0)
    network, x = RIVALS[name](SMALL), pictures(60)
    total, parts = network.loss({"image": x}, 0)
    total.backward()
    assert parts["penalty"] != 0 and total == parts["sse"] + parts["penalty"]
    assert network.encode(x, sample=True).allclose(network.encode(x), atol=1e-5)
    assert network.find_relevant(x, torch.randn(60, 5)).sum() > 0


def test_mmd_tells_a_shift_and_is_unbiased():
    torch.manual_seed(0)
    same = torch.stack([mmd(torch.randn(60, 3), torch.randn(60, 3)) for _ in range(200)])
    assert abs(float(same.mean())) < 4 * float(same.std()) / 200**0.5
    assert mmd(torch.randn(60, 3) + 1, torch.randn(60, 3)) > 10 * same.std()


def test_one_batch_is_learned():
    network, x = model(replace(SMALL, beta=1e-4)), pictures(8)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    first = float(network.loss({"image": x}, 0)[1]["sse"])
    for _ in range(300):
        optimizer.zero_grad()
        loss, parts = network.loss({"image": x}, 0)
        loss.backward()
        optimizer.step()
    assert float(parts["sse"]) < 0.2 * first


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: model().encode(pictures(2, 9)), r"x must be float \(B, 1, 8, 8\)"),
        (lambda: model().encode(pictures().to(torch.uint8)), "torch.uint8"),
        (lambda: model().decode(torch.zeros(2, 4)), r"z must be \(B, 5\)"),
        (lambda: replace(SMALL, prior="gamma"), "prior must be one of"),
        (lambda: replace(SMALL, beta=-1.0), "beta must be 0 or more"),
        (lambda: NetworkConfig(kind="rnn"), "kind must be"),
        (lambda: NetworkConfig(image_size=64), "make 32 pixels a side"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
