"""The diffusion transformer on ViTok's codes: sizes, blocks, objective, sampler."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from gentok.latents.vitok.dit import DITS, ViTokDiT, ViTokDiTConfig
from gentok.latents.vitok.stack import StackConfig
from gentok.measure import count_parameters
from gentok.nn.blocks import AdaLNBlock

SMALL = ViTokDiTConfig((3, 4, 4), StackConfig(32, 2, 4), num_classes=5)


def made(config=SMALL, seed=0):
    torch.manual_seed(seed)
    network = ViTokDiT(config)
    for p in network.parameters():
        nn.init.normal_(p, std=0.2)
    return network.eval()


@pytest.mark.parametrize(("name", "millions"), [("l", 458.4), ("xl", 675.5)])
def test_published_sizes(name, millions):
    with torch.device("meta"):
        network = ViTokDiT(DITS[name])
    count = count_parameters(network)
    assert count / 1e6 == pytest.approx(millions, abs=0.05)
    assert DITS[name].published_params in (None, count)


def test_a_block_is_diffusers_but_for_its_rotation():
    """Same weights, adaLN-Zero and GEGLU of `diffusers`; its norms have no weights of their own."""
    dim, hidden = 32, int(2.67 * 32)
    network = made(replace(SMALL, rope=None))
    block = network.blocks[0]
    assert isinstance(block, AdaLNBlock)
    for norm in (block.norm1, block.norm2):
        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)
        norm.eps = 1e-6
    theirs = BasicTransformerBlock(
        dim, 4, dim // 4, activation_fn="geglu", num_embeds_ada_norm=5, attention_bias=False,
        norm_type="ada_norm_zero", norm_elementwise_affine=False, norm_eps=1e-6,
        ff_inner_dim=hidden,
    ).eval()  # fmt: skip
    condition, x = torch.randn(2, dim), torch.randn(2, 16, dim)

    class Given(nn.Module):
        def forward(self, *args, **kwargs):
            return condition

    theirs.norm1.emb = Given()
    theirs.norm1.linear.load_state_dict(block.modulation.linear.state_dict())
    q, k, v = block.attention.qkv.weight.chunk(3)
    feed, out = theirs.ff.net[0].proj, theirs.ff.net[2]
    with torch.no_grad():
        theirs.attn1.to_q.weight.copy_(q)
        theirs.attn1.to_k.weight.copy_(k)
        theirs.attn1.to_v.weight.copy_(v)
        theirs.attn1.to_out[0].load_state_dict(block.attention.proj.state_dict())
        # Theirs is value * gelu(gate), the value's rows first.
        feed.weight.copy_(torch.cat([block.mlp.fc2.weight, block.mlp.fc1.weight]))
        feed.bias.copy_(torch.cat([block.mlp.fc2.bias, block.mlp.fc1.bias]))
        out.load_state_dict(block.mlp.fc3.state_dict())
        label = torch.zeros(2, dtype=torch.int64)
        want = theirs(x, timestep=label, class_labels=label)
        mine = block(x, condition)
    torch.testing.assert_close(mine, want, rtol=1e-4, atol=1e-4)


def test_the_start_is_zero_and_the_identity():
    torch.manual_seed(0)
    network = ViTokDiT(SMALL)
    x, t, label = torch.randn(2, 3, 4, 4), torch.tensor([3, 900]), torch.tensor([0, 5])
    assert network(x, t, label).abs().max() == 0 and network(x, t, label).shape == (2, 6, 4, 4)
    tokens, c = torch.randn(2, 16, 32), torch.randn(2, 32)
    turns = network.rope((1, 4, 4))
    assert torch.equal(network.blocks[0](tokens, c, None, None, turns), tokens)
    big = ViTokDiT(ViTokDiTConfig((3, 8, 8), StackConfig(256, 1, 4)))
    assert big.position.std().item() == pytest.approx(64**-0.5, rel=0.02)
    assert big.label.table.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert all(
        layer.elementwise_affine for layer in big.modules() if isinstance(layer, nn.LayerNorm)
    )


def test_the_objective_is_noise_and_bits(monkeypatch):
    """At t > 0: squared error of the noise, and the KL of two Gaussians over log 2."""
    network = made()
    z, label = torch.randn(4, 3, 4, 4), torch.tensor([0, 1, 2, 3])
    t = torch.tensor([5, 100, 500, 999])
    monkeypatch.setattr(network.diffusion, "random_steps", lambda n, device: t)
    torch.manual_seed(1)
    total, parts = network.loss({"latent": z, "label": label})
    torch.manual_seed(1)
    eps = torch.randn_like(z)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bar = (1 - betas).cumprod(0)
    at = bar[t].view(-1, 1, 1, 1)
    x_t = at.sqrt() * z + (1 - at).sqrt() * eps
    guess, v = network(x_t.float(), t, label).double().chunk(2, 1)
    assert parts["noise"].item() == pytest.approx((guess - eps).square().mean().item(), rel=1e-4)
    before, beta = bar[t - 1].view(-1, 1, 1, 1), betas[t].view(-1, 1, 1, 1)
    tilde = (1 - before) / (1 - at) * beta
    x0 = (x_t - (1 - at).sqrt() * guess) / at.sqrt()

    def mean(clean):
        first = before.sqrt() * beta / (1 - at) * clean
        return first + (1 - beta).sqrt() * (1 - before) / (1 - at) * x_t

    log_variance = (v + 1) / 2 * beta.log() + (1 - v) / 2 * tilde.log()
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(
        normal(mean(z.double()), tilde.sqrt()), normal(mean(x0), (log_variance / 2).exp())
    )
    bits = kl.mean() / torch.log(torch.tensor(2.0))
    assert parts["bound"].item() == pytest.approx(bits.item(), rel=1e-3)
    assert total.item() == pytest.approx((parts["noise"] + parts["bound"]).item(), rel=1e-5)


def test_the_bound_trains_the_variance_alone(monkeypatch):
    network = made()
    batch = {"latent": torch.randn(4, 3, 4, 4), "label": torch.zeros(4, dtype=torch.int64)}
    monkeypatch.setattr(
        network.diffusion, "simple_loss", lambda output, *_: 0 * output.flatten(1).mean(1)
    )
    network.loss(batch)[0].backward()
    assert network.head.linear.weight.grad[:3].abs().max() == 0
    assert network.head.linear.weight.grad[3:].abs().max() > 0


def test_the_sampler_is_diffusers_ddim_with_all_of_its_noise(monkeypatch):
    """50 even steps from 999 to 0, eta 1, x_0 not clipped, guidance on all channels."""
    network, label = made(), torch.tensor([1, 4])
    for p in network.parameters():
        p.data.mul_(0.3)
    torch.manual_seed(3)
    mine = network.sample(2, label, num_steps=8, guidance_scale=1.5)
    scheduler = DDIMScheduler(
        1000, beta_start=1e-4, beta_end=0.02, clip_sample=False, set_alpha_to_one=True
    )
    steps = [round(i * 999 / 7) for i in range(8)][::-1]
    bar = scheduler.alphas_cumprod.double()
    torch.manual_seed(3)
    x = torch.randn(2, 3, 1, 4, 4)
    for t, s in zip(steps, [*steps[1:], -1], strict=True):
        with torch.no_grad():
            c = network(x, torch.tensor([t, t]), label)
            u = network(x, torch.tensor([t, t]), torch.tensor([5, 5]))
        eps = (u + 1.5 * (c - u))[:, :3]
        noise = torch.randn_like(x)
        scheduler.num_inference_steps, jump = 1, t - s
        scheduler.config.num_train_timesteps, kept = jump, scheduler.config.num_train_timesteps
        x = scheduler.step(eps, t, x, eta=1.0, variance_noise=noise).prev_sample
        scheduler.config.num_train_timesteps = kept
    assert bar[-1] < 1e-4
    torch.testing.assert_close(mine, x.squeeze(2), rtol=1e-3, atol=1e-3)


def test_codes_of_video_and_statistics():
    config = replace(SMALL, latent_shape=(2, 3, 4, 4), rope="axial", size=StackConfig(64, 1, 4))
    network = made(config)
    z = torch.randn(5, 2, 3, 4, 4) * 3 + 1
    network.set_statistics(z)
    torch.testing.assert_close(network.denormalize(network.normalize(z)), z, rtol=1e-4, atol=1e-4)
    label = torch.zeros(5, dtype=torch.int64)
    assert network.loss({"latent": z, "label": label})[0].isfinite()
    assert network.sample(2, 3, num_steps=2).shape == (2, 2, 3, 4, 4)


def test_sampling_changes_no_weight_and_no_mode():
    network = made().train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    torch.manual_seed(0)
    first = network.sample(2, 1, num_steps=3)
    torch.manual_seed(0)
    assert torch.equal(network.sample(2, torch.tensor([1, 1]), num_steps=3), first)
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert network.sample(3, num_steps=2, eta=0.0).shape == (3, 3, 4, 4)


def test_bad_input():
    network = made()
    with pytest.raises(ValueError, match="label must lie"):
        network.sample(1, 7)
    with pytest.raises(ValueError, match=r"\(2,\) classes"):
        network.sample(2, torch.tensor([1]))
    with pytest.raises(ValueError, match="num_kept"):
        network.sample(1, 1, num_steps=0)
    with pytest.raises(ValueError, match="eta must lie"):
        network.sample(1, 1, num_steps=2, eta=2.0)
    with pytest.raises(ValueError, match="3 or 4 entries"):
        replace(SMALL, latent_shape=(3, 4))
