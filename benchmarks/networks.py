"""Whole networks of the chapters beside the packages that have them too."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.measure import Work, Workload, backward
from gentok.backbones import cvt
from gentok.efficient.matformer.model import MatLM, MatLMConfig
from gentok.nn.conv3d import CausalConv3d, VideoGroupNorm
from gentok.process.gaussian import DiagonalGaussian
from gentok.signals.mert.wave_encoder import WaveEncoder, WaveEncoderConfig


def cvt_train() -> tuple[Work, Work]:
    """Loss and gradients of 16 images of 64 pixels, three stages."""
    from transformers import CvtConfig, CvtForImageClassification

    widths, depths, num_heads = (32, 96, 192), (1, 2, 4), (1, 3, 6)
    small = replace(cvt.PRESETS["cvt-13"], widths=widths, depths=depths, num_heads=num_heads)
    ours = cvt.build(replace(small, num_classes=10, activation="gelu"))
    peer = CvtForImageClassification(
        CvtConfig(embed_dim=widths, depth=depths, num_heads=num_heads, num_labels=10)
    ).train()
    image, label = torch.randn(16, 3, 64, 64), torch.randint(10, (16,))
    batch = {"image": image, "label": label}
    return (
        backward(lambda: ours.loss(batch)[0], ours),
        backward(lambda: peer(image, labels=label).loss, peer),
    )


def wave_encoder() -> tuple[Work, Work]:
    """Hidden states and gradients of four clips of one second."""
    from transformers import HubertConfig, HubertModel

    sizes = {"dim": 192, "depth": 4, "num_heads": 6, "conv_channels": 64, "dropout": 0.0}
    ours = WaveEncoder(WaveEncoderConfig(**sizes, layer_drop=0.0, feature_gradient=1.0))
    peer = HubertModel(
        HubertConfig(
            hidden_size=192, num_hidden_layers=4, num_attention_heads=6, intermediate_size=768,
            conv_dim=(64,) * 7, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
            feat_proj_dropout=0.0, layerdrop=0.0, apply_spec_augment=False,
        )
    ).train()  # fmt: skip
    wave = torch.randn(4, 24_000)
    return (
        backward(lambda: ours(wave)[:, -1].square().mean(), ours),
        backward(lambda: peer(wave).last_hidden_state.square().mean(), peer),
    )


def _language_models() -> tuple[MatLM, nn.Module]:
    from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

    ours = MatLM(
        MatLMConfig(
            dim=192, depth=6, num_heads=6, hidden=768, divisors=(1,), vocab_size=512, context=65
        )
    )
    body = Decoder(
        dim=192, depth=6, heads=6, attn_dim_head=32, attn_flash=True, rotary_pos_emb=True
    )
    net = TransformerWrapper(num_tokens=512, max_seq_len=65, attn_layers=body)
    return ours, AutoregressiveWrapper(net)


def language_model_train() -> tuple[Work, Work]:
    """Cross-entropy of the next of 64 tokens, 64 texts."""
    ours, peer = _language_models()
    tokens = torch.randint(512, (64, 65))
    return (
        backward(lambda: ours.loss({"tokens": tokens})[0], ours),
        backward(lambda: peer(tokens), peer),
    )


def _unfiltered(logits: torch.Tensor, **_: float) -> torch.Tensor:
    return logits


def language_model_sample(n: int = 16) -> tuple[Work, Work]:
    """64 tokens for n texts from the whole softmax, keys and values cached on both sides."""
    ours, peer = _language_models()
    ours.eval(), peer.eval()
    start = torch.zeros(n, 1, dtype=torch.int64)
    return (
        lambda: ours.sample(n, 64),
        torch.no_grad(lambda: peer.generate(start, 64, filter_logits_fn=_unfiltered)),
    )


def language_model_sample_one() -> tuple[Work, Work]:
    """The same for one text."""
    return language_model_sample(1)


def causal_convolution() -> tuple[Work, Work]:
    """Forward and backward of one causal 3x3x3 convolution, 64 channels, 4 clips of 9x32x32."""
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXCausalConv3d

    ours, peer = CausalConv3d(64, 64), CogVideoXCausalConv3d(64, 64, 3)
    x = torch.randn(4, 64, 9, 32, 32)
    ours_x = x.contiguous(memory_format=torch.channels_last_3d)
    return (
        backward(lambda: ours(ours_x).square().mean(), ours),
        backward(lambda: peer(x)[0].square().mean(), peer),
    )


class Block3d(nn.Module):
    """Norm, SiLU, causal convolution, twice, around a skip: as in CogVideoX's VAE."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm1 = VideoGroupNorm(in_channels, 8, per_frame=False, eps=1e-6)
        self.conv1 = CausalConv3d(in_channels, out_channels)
        self.norm2 = VideoGroupNorm(out_channels, 8, per_frame=False, eps=1e-6)
        self.conv2 = CausalConv3d(out_channels, out_channels)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else CausalConv3d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C_in, T, H, W) -> (B, C_out, T, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


def head3d(in_channels: int, out_channels: int) -> nn.Sequential:
    """Norm, SiLU and a causal convolution: the end of an encoder or decoder."""
    norm = VideoGroupNorm(in_channels, 8, per_frame=False, eps=1e-6)
    return nn.Sequential(norm, nn.SiLU(), CausalConv3d(in_channels, out_channels))


class Grow(nn.Module):
    """Twice the sides, and twice the frames but for the first: 3 -> 5 -> 9; then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = CausalConv3d(channels, channels, (1, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, T, H, W) -> (B, C, 2 T - 1, 2 H, 2 W)."""
        return self.conv(F.interpolate(x, scale_factor=2)[:, :, 1:])


def small_video_vae() -> nn.ModuleList:
    """Encoder and decoder of layers that the library has; stages 32, 64, 64, time and space / 4."""
    widths = (32, 64, 64)
    down = [CausalConv3d(3, 32)]
    up = [CausalConv3d(4, 64), Block3d(64, 64), Block3d(64, 64)]
    for i, (before, width) in enumerate(zip((32, 32, 64), widths, strict=True)):
        down.append(Block3d(before, width))
        if i < 2:
            down.append(CausalConv3d(width, width, 3, 2))
    for i, (before, width) in enumerate(zip((64, 64, 64), widths[::-1], strict=True)):
        up += [Block3d(before, width), Block3d(width, width)]
        if i < 2:
            up.append(Grow(width))
    down += [Block3d(64, 64), Block3d(64, 64), head3d(64, 8)]
    return nn.ModuleList([nn.Sequential(*down), nn.Sequential(*up, head3d(32, 3))])


def video_vae_pair() -> tuple[nn.ModuleList, nn.Module]:
    """Ours and diffusers' VAE of CogVideoX, four times smaller in time and on each side."""
    from diffusers import AutoencoderKLCogVideoX

    stages = ("CogVideoXDownBlock3D",) * 3, ("CogVideoXUpBlock3D",) * 3
    peer = AutoencoderKLCogVideoX(
        block_out_channels=(32, 64, 64), down_block_types=stages[0], up_block_types=stages[1],
        layers_per_block=1, norm_num_groups=8, latent_channels=4, temporal_compression_ratio=4,
    )  # fmt: skip
    return small_video_vae(), peer


def video_vae() -> tuple[Work, Work]:
    """Encode, sample, decode, back-propagate."""
    ours, peer = video_vae_pair()
    clip = torch.randn(4, 3, 9, 32, 32)

    def forward() -> torch.Tensor:
        posterior = DiagonalGaussian.from_moments(ours[0](clip))
        return ours[1](posterior.sample()).sub(clip).square().mean() + posterior.kl().mean()

    def peer_forward() -> torch.Tensor:
        posterior = peer.encode(clip).latent_dist
        back = peer.decode(posterior.sample()).sample
        return back.sub(clip).square().mean() + posterior.kl().mean()

    return backward(forward, ours), backward(peer_forward, peer)


NETWORKS = [
    Workload("CvT, training, 16 images 64x64", "transformers CvtForImageClassification", 1.0,
             cvt_train, training=True),
    Workload("waveform encoder, training, 4 s of sound", "transformers HubertModel", 0.95,
             wave_encoder, training=True),
    Workload("language model, training, 64 texts of 64", "x-transformers Decoder", 0.9,
             language_model_train, training=True),
    Workload("language model, sampling with a cache, 16 texts of 64", "x-transformers generate",
             1.5, language_model_sample),
    Workload("language model, sampling with a cache, one text of 64", "x-transformers generate",
             1.6, language_model_sample_one),
    Workload("video VAE, training, 4 clips 9x32x32", "diffusers AutoencoderKLCogVideoX", 1.0,
             video_vae, training=True),
    Workload("causal 3-D convolution, training, 4 clips 9x32x32", "diffusers CogVideoXCausalConv3d",
             1.0, causal_convolution, training=True),
]  # fmt: skip
