"""What is compared with what. Sizes follow the small models that the chapters train."""

import importlib.util
import sys
from collections.abc import Callable
from itertools import accumulate
from types import ModuleType

import torch
from torch import nn

from benchmarks.dvae import DISCRETE
from benchmarks.measure import Work, Workload, backward
from benchmarks.networks import NETWORKS
from benchmarks.readers import READERS
from benchmarks.vision import VISION, DenseTopK
from gentok.base.lightning_dit import LightningDiT, LightningDiTConfig
from gentok.base.masked.nat import NAT, NATConfig
from gentok.nn.conv import ConvDecoder, ConvEncoder
from gentok.nn.quantize import ResidualVQ, VectorQuantizer
from gentok.nn.sae import TopKSAE
from gentok.nn.wavelet import haar2d, inverse_haar2d
from gentok.process.flow import euler_sample
from gentok.process.gaussian import DiagonalGaussian

CODES, DIM, GRID = 512, 64, 64


def _quantizer_train(ours: nn.Module, peer: nn.Module) -> tuple[Work, Work]:
    z = torch.randn(64, GRID, DIM, requires_grad=True)

    def forward(module: nn.Module) -> torch.Tensor:
        z_q, _, loss = module(z)
        return z_q.sum() + loss.sum()

    return backward(lambda: forward(ours), ours), backward(lambda: forward(peer), peer)


PEER_VQ = {"decay": 0.99, "threshold_ema_dead_code": 2, "commitment_weight": 1.0}
OUR_VQ = {"decay": 0.99, "dead_threshold": 2.0, "commitment": 1.0}


def vq_train() -> tuple[Work, Work]:
    """Quantize 4096 latents, update the codebook, back-propagate."""
    from vector_quantize_pytorch import VectorQuantize

    peer = VectorQuantize(DIM, CODES, rotation_trick=False, **PEER_VQ)
    return _quantizer_train(VectorQuantizer(CODES, DIM, **OUR_VQ), peer)


def vq_codes() -> tuple[Work, Work]:
    """Codes only, evaluation mode."""
    from vector_quantize_pytorch import VectorQuantize

    ours = VectorQuantizer(CODES, DIM).eval()
    peer = VectorQuantize(DIM, CODES).eval()
    z = torch.randn(64, GRID, DIM)
    no_grad = torch.no_grad()
    return no_grad(lambda: ours(z)[1]), no_grad(lambda: peer(z)[1])


def rvq_train() -> tuple[Work, Work]:
    """Eight residual levels."""
    from vector_quantize_pytorch import ResidualVQ as Peer

    peer = Peer(dim=DIM, codebook_size=CODES, num_quantizers=8, rotation_trick=False, **PEER_VQ)
    return _quantizer_train(ResidualVQ(8, CODES, DIM, **OUR_VQ), peer)


SMALL = {"channels": 32, "multipliers": (1, 2, 2), "num_res_blocks": 1, "groups": 8}
PEER_SMALL = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
STAGES = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
}


def kl_vae() -> tuple[Work, Work]:
    """Encode, sample, decode, back-propagate 64 images."""
    from diffusers import AutoencoderKL

    ours = nn.ModuleList([ConvEncoder(3, 8, **SMALL), ConvDecoder(4, 3, **SMALL)])
    peer = AutoencoderKL(**PEER_SMALL, **STAGES, latent_channels=4)
    x = torch.randn(64, 3, 32, 32)

    def forward() -> torch.Tensor:
        posterior = DiagonalGaussian.from_moments(ours[0](x))
        return ours[1](posterior.sample()).sub(x).square().mean() + posterior.kl().mean()

    def peer_forward() -> torch.Tensor:
        posterior = peer.encode(x).latent_dist
        return peer.decode(posterior.sample()).sample.sub(x).square().mean() + posterior.kl().mean()

    return backward(forward, ours), backward(peer_forward, peer)


def vq_vae() -> tuple[Work, Work]:
    """Encode, quantize, decode, back-propagate 64 images."""
    from diffusers import VQModel

    quantizer = VectorQuantizer(CODES, 8)
    ours = nn.ModuleList([ConvEncoder(3, 8, **SMALL), ConvDecoder(8, 3, **SMALL), quantizer])
    peer = VQModel(
        **PEER_SMALL, **STAGES, latent_channels=8, num_vq_embeddings=CODES, vq_embed_dim=8
    )
    x = torch.randn(64, 3, 32, 32)

    def forward() -> torch.Tensor:
        z_q, _, loss = quantizer(ours[0](x).permute(0, 2, 3, 1))
        return ours[1](z_q.permute(0, 3, 1, 2)).sub(x).square().mean() + loss

    def peer_forward() -> torch.Tensor:
        out = peer(x)
        return out.sample.sub(x).square().mean() + out.commit_loss.mean()

    return backward(forward, ours), backward(peer_forward, peer)


def sampler_arithmetic() -> tuple[Work, Work]:
    """25 Euler steps with a network that costs nothing: what the sampler itself takes."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    noise = torch.randn(16, 4, 16, 16)
    scheduler = FlowMatchEulerDiscreteScheduler()

    def peer() -> torch.Tensor:
        scheduler.set_timesteps(25)
        x = noise
        for t in scheduler.timesteps:
            x = scheduler.step(x, t, x, return_dict=False)[0]
        return x

    return (lambda: euler_sample(lambda x, t: x, noise, 25)), torch.no_grad(peer)


def haar() -> tuple[Work, Work]:
    """Three levels there and back."""
    import ptwt

    x = torch.randn(64, 3, 64, 64)

    def ours() -> torch.Tensor:
        low, highs = x, []
        for _ in range(3):
            low, high = haar2d(low)
            highs.append(high)
        for high in reversed(highs):
            low = inverse_haar2d(low, high)
        return low

    def peer() -> torch.Tensor:
        return ptwt.waverec2(ptwt.wavedec2(x, "haar", level=3, mode="zero"), "haar")

    return ours, peer


def dit() -> tuple[Work, Work]:
    """Velocity or noise prediction of 64 latents by a transformer of 64 tokens.

    The blocks differ as published: RMSNorm, SwiGLU and RoPE here, LayerNorm and GELU there; their
    products of matrices cost the same.
    """
    from diffusers import DiTTransformer2DModel

    ours = LightningDiT(
        LightningDiTConfig(
            in_channels=4,
            input_size=16,
            patch_size=2,
            dim=192,
            depth=6,
            num_heads=6,
            num_classes=10,
        )
    )
    peer = DiTTransformer2DModel(
        num_attention_heads=6, attention_head_dim=32, in_channels=4, out_channels=4, num_layers=6,
        sample_size=16, patch_size=2, num_embeds_ada_norm=10, norm_num_groups=1, dropout=0.0,
    )  # fmt: skip
    x, t, label = torch.randn(64, 4, 16, 16), torch.rand(64), torch.randint(10, (64,))

    def forward() -> torch.Tensor:
        return ours(x, t, label).sub(x).square().mean()

    def peer_forward() -> torch.Tensor:
        return peer(x, timestep=t, class_labels=label).sample.sub(x).square().mean()

    return backward(forward, ours), backward(peer_forward, peer)


def _masked() -> tuple[nn.Module, nn.Module]:
    from x_transformers import Encoder, TransformerWrapper
    from x_transformers.nonautoregressive_wrapper import NonAutoregressiveWrapper

    ours = NAT(
        NATConfig(
            codebook_size=512, num_tokens=64, num_classes=10, dim=192, num_heads=6, depth=6,
            dropout=0.0,
        )
    )  # fmt: skip
    body = Encoder(dim=192, depth=6, heads=6, attn_dim_head=32, attn_flash=True)
    net = TransformerWrapper(num_tokens=513, max_seq_len=64, attn_layers=body)
    return ours, NonAutoregressiveWrapper(net, mask_id=512, steps=8, schedule="cosine")


def masked_train() -> tuple[Work, Work]:
    """Cross-entropy of masked tokens, 64 grids of 64."""
    ours, peer = _masked()
    codes = torch.randint(512, (64, 64))
    batch = {"codes": codes, "label": torch.randint(10, (64,))}
    return (
        backward(lambda: ours.loss(batch)[0], ours),
        backward(lambda: peer(codes).loss, peer),
    )


def masked_sample() -> tuple[Work, Work]:
    """Eight steps of unmasking, 16 grids of 64; no guidance on either side."""
    ours, peer = _masked()
    ours.eval(), peer.eval()
    return (
        lambda: ours.sample(16, num_steps=8, guidance_scale=0.0),
        torch.no_grad(lambda: peer.generate(batch_size=16)),
    )


def _sae_step(ours: nn.Module, loss: Callable[[], torch.Tensor]) -> Work:
    optimizer = torch.optim.AdamW(ours.parameters(), lr=3e-4, weight_decay=0.0, fused=True)

    def work() -> None:
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
        optimizer.step()

    return work


def sae_dense() -> tuple[Work, Work]:
    """The same step beside a plain dense decoder, for want of a package that can be installed."""
    ours, peer, x = TopKSAE(128, 2048, 32), DenseTopK(128, 2048, 32), torch.randn(1024, 128)
    return _sae_step(ours, lambda: ours.loss({"x": x})[0]), _sae_step(peer, lambda: peer(x))


def _without_package(package: str, name: str) -> ModuleType:
    """A module of a package whose own ``__init__`` asks for much that the module does not need.

    Raises:
        ImportError: if the package is not installed.
    """
    for full in accumulate([package, *name.split(".")[:-1]], "{}.{}".format):
        spec = importlib.util.find_spec(full)
        if spec is None:
            raise ModuleNotFoundError(f"no module {full}", name=full)
        if full not in sys.modules:
            sys.modules[full] = importlib.util.module_from_spec(spec)  # and not executed
    return importlib.import_module(f"{package}.{name}")


def sae_step() -> tuple[Work, Work]:
    """One optimiser step on 1024 activations of 128, 2048 features, 32 kept."""
    TopKTrainer = _without_package("dictionary_learning", "trainers.top_k").TopKTrainer
    ours = TopKSAE(128, 2048, 32)
    peer = TopKTrainer(
        steps=10_000, activation_dim=128, dict_size=2048, k=32, layer=0, lm_name="", device="cpu"
    )
    x = torch.randn(1024, 128)
    return _sae_step(ours, lambda: ours.loss({"x": x})[0]), lambda: peer.update(1, x)


WORKLOADS = [
    Workload(
        "VQ, EMA and revival, training, 4096 latents of 64, 512 codes",
        "vector-quantize-pytorch VectorQuantize",
        5.0,
        vq_train,
        training=True,
    ),
    Workload("VQ codes, evaluation", "vector-quantize-pytorch VectorQuantize", 2.0, vq_codes),
    Workload(
        "residual VQ, 8 levels, training",
        "vector-quantize-pytorch ResidualVQ",
        3.5,
        rvq_train,
        training=True,
    ),
    Workload(
        "KL-VAE, training, 64 images 32x32", "diffusers AutoencoderKL", 0.95, kl_vae, training=True
    ),
    Workload("VQ-VAE, training, 64 images 32x32", "diffusers VQModel", 0.95, vq_vae, training=True),
    Workload(
        "flow sampler arithmetic, 25 steps",
        "diffusers FlowMatchEulerDiscreteScheduler",
        1.0,
        sampler_arithmetic,
    ),
    Workload("Haar 2-D, 3 levels there and back, 64 images 64x64", "ptwt", 2.7, haar),
    Workload(
        "diffusion transformer, training, 64 latents",
        "diffusers DiTTransformer2DModel",
        0.95,
        dit,
        training=True,
    ),
    Workload(
        "masked transformer, training, 64 grids",
        "x-transformers NonAutoregressiveWrapper",
        0.95,
        masked_train,
        training=True,
    ),
    Workload(
        "masked transformer, 8-step sample, 16 grids",
        "x-transformers NonAutoregressiveWrapper",
        1.1,
        masked_sample,
    ),
    Workload(
        "TopK SAE, optimiser step, 1024 activations",
        "dictionary-learning TopKTrainer",
        1.3,
        sae_step,
        training=True,
    ),
    Workload(
        "TopK SAE, optimiser step, beside a dense decoder",
        "plain DenseTopK (benchmarks/vision.py)",
        1.3,
        sae_dense,
        training=True,
    ),
    DISCRETE,
    *NETWORKS,
    *VISION,
    *READERS,
]
