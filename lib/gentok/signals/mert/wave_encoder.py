"""The encoder of HuBERT and MERT: a stack of strided convolutions, then a transformer.

wav2vec 2.0 (Baevski et al. 2020, section 2 and appendix B) and HuBERT (Hsu et al. 2021); MERT's two
sizes and its attention relaxation as in the authors' released code. Two layouts exist: layer norm
after each sub-layer (95M), or before it with one more norm at the end (330M).

Shapes: B batch, L samples, T frames, C convolution channels, D transformer channels, h heads,
d = D / h.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from gentok.nn.attention import SelfAttention, merge_heads
from gentok.nn.blocks import PostNormBlock, PreNormBlock
from gentok.nn.spectrogram import check_wave
from gentok.nn.transformer import Mlp


@dataclass(frozen=True)
class WaveEncoderConfig:
    """Sizes of the encoder; the defaults are those of HuBERT's base model and MERT-95M.

    Args:
        rate: samples a second, Hertz.
        conv_channels: C; ``conv_kernels``, ``conv_strides``: one entry a convolution, in samples of
            its own input.
        dim: D; ``depth`` blocks of ``num_heads`` heads, feed-forward layers ``mlp_ratio`` times as
            wide.
        position_kernel: frames that the positional convolution sees; ``position_groups`` divides D.
        pre_norm: layer norm before each sub-layer and at the end, instead of after each sub-layer.
        dropout: of attention weights, sub-layer outputs and encoder input.
        layer_drop: probability that a training step skips a block.
        feature_gradient: factor on the gradient that reaches the convolutions.
        attention_relaxation: alpha of :func:`relaxed_attention`, or None for the fused kernel.
    """

    rate: int = 24_000
    conv_channels: int = 512
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: int = 4
    position_kernel: int = 128
    position_groups: int = 16
    pre_norm: bool = False
    dropout: float = 0.1
    layer_drop: float = 0.05
    feature_gradient: float = 0.1
    attention_relaxation: float | None = None

    @property
    def stride(self) -> int:
        """Samples between frames."""
        return math.prod(self.conv_strides)

    def num_frames(self, length: int) -> int:
        """Frames T of a clip of ``length`` samples; nothing is padded, so fewer than L / stride."""
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            length = (length - kernel) // stride + 1
        return max(length, 0)


def relaxed_attention(
    q: Tensor, k: Tensor, v: Tensor, alpha: float, dropout: float = 0.0
) -> Tensor:
    """Attention whose logits A are computed as A / alpha: softmax((A/a - max A/a) a) V.

    The softmax is that of A, since it does not change under a shift. In half precision A itself may
    exceed 65,504; A / alpha does not, and after the shift nothing is above 0. With alpha a power of
    two the result is bit for bit that of the plain softmax in float32. PyTorch's fused kernels keep
    their logits in float32 anyway and need none of this.

    Args:
        q, k, v: (B, h, T, d); ``alpha`` above 0, 32 in MERT-330M.

    Returns:
        (B, h, T, d).
    """
    logits = (q * (q.shape[-1] ** -0.5 / alpha)) @ k.mT  # A / alpha
    logits = (logits - logits.amax(-1, keepdim=True)) * alpha  # at most 0
    return F.dropout(logits.softmax(-1), dropout, training=dropout > 0) @ v


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """``x`` itself, bit for bit; on the way back its gradient is multiplied by ``factor``."""
    return x.detach() + factor * (x - x.detach())


class FeatureExtractor(nn.Module):
    """Strided convolutions without bias, GELU after each, one norm per channel after the first."""

    def __init__(self, config: WaveEncoderConfig):
        super().__init__()
        channels = config.conv_channels
        sizes = zip(config.conv_kernels, config.conv_strides, strict=True)
        self.convs = nn.ModuleList(
            nn.Conv1d(channels if i else 1, channels, kernel, stride, bias=False)
            for i, (kernel, stride) in enumerate(sizes)
        )
        # As many groups as channels: each channel is normalised over the whole clip's time.
        self.norm = nn.GroupNorm(channels, channels)
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight)

    def forward(self, wave: Tensor) -> Tensor:
        """(B, L) -> (B, T, C)."""
        x = wave[:, None]
        for i, conv in enumerate(self.convs):
            x = conv(x)
            x = F.gelu(self.norm(x) if i == 0 else x)
        return x.transpose(1, 2)


class PositionalConv(nn.Module):
    """A wide grouped convolution that tells frames where they stand relative to each other."""

    def __init__(self, config: WaveEncoderConfig):
        super().__init__()
        dim, kernel, groups = config.dim, config.position_kernel, config.position_groups
        conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        nn.init.normal_(conv.weight, std=(4 / (kernel * dim)) ** 0.5)
        nn.init.zeros_(conv.bias)
        self.conv = weight_norm(conv, dim=2)  # one norm for each of the kernel's places
        self.extra = 1 - kernel % 2  # frames that an even kernel adds at the end

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        out = self.conv(x.transpose(1, 2))
        return F.gelu(out[..., : out.shape[-1] - self.extra]).transpose(1, 2)


class Attention(SelfAttention):
    """Self-attention over all frames, by the fused kernel or relaxed."""

    def __init__(self, config: WaveEncoderConfig):
        super().__init__(config.dim, config.num_heads)
        self.dropout, self.relaxation = config.dropout, config.attention_relaxation

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        q, k, v = self.heads(x)
        dropout = self.dropout if self.training else 0.0
        if self.relaxation is None:
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        else:
            out = relaxed_attention(q, k, v, self.relaxation, dropout)
        return self.proj(merge_heads(out))


def wave_block(config: WaveEncoderConfig) -> PreNormBlock | PostNormBlock:
    """Attention and feed-forward layer, each with a skip and a layer norm before or after."""
    kind = PreNormBlock if config.pre_norm else PostNormBlock
    attention = Attention(config)
    mlp = Mlp(config.dim, config.mlp_ratio * config.dim, approximate="none")
    return kind(config.dim, attention, mlp, eps=1e-5, dropout=config.dropout)


class WaveEncoder(nn.Module):
    """Waveform -> features of every layer, with masked frames replaced by one learned vector.

    Raises:
        ValueError: if the convolutions' lists differ in length, or heads or groups do not divide D.
    """

    def __init__(self, config: WaveEncoderConfig):
        super().__init__()
        if len(config.conv_kernels) != len(config.conv_strides):
            raise ValueError(
                "conv_kernels and conv_strides must be equally long, got "
                f"{config.conv_kernels} and {config.conv_strides}"
            )
        for name in ("num_heads", "position_groups"):
            if config.dim % getattr(config, name):
                raise ValueError(
                    f"{name} must divide dim {config.dim}, got {name}={getattr(config, name)}"
                )
        self.config = config
        self.extractor = FeatureExtractor(config)
        self.norm_features = nn.LayerNorm(config.conv_channels)
        self.project = nn.Linear(config.conv_channels, config.dim)
        self.mask_vector = nn.Parameter(torch.empty(config.dim).uniform_())
        self.position = PositionalConv(config)
        self.blocks = nn.ModuleList(wave_block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        # BERT's 0.02 at width 768; narrower layers keep the same size of output.
        std = 0.02 * (768 / config.dim) ** 0.5
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=std)
                nn.init.zeros_(layer.bias)

    def convolve(self, wave: Tensor) -> Tensor:
        """Waveforms (B, L) in [-1, 1] -> features of the convolutions, (B, T, C).

        Raises:
            ValueError: if the wave is not float (B, L) or too short for one frame.
        """
        check_wave(wave)
        if self.config.num_frames(wave.shape[1]) < 1:
            raise ValueError(f"{wave.shape[1]} samples are too few for one frame")
        return scale_gradient(self.extractor(wave), self.config.feature_gradient)

    def contextualise(self, features: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Features (B, T, C) -> depth + 1 hidden states (B, T, D): the first block's input, then
        every block's output.

        Args:
            mask: frames to hide, bool (B, T), or None.
        """
        x = self.dropout(self.project(self.norm_features(features)))
        if mask is not None:
            x = torch.where(mask[..., None], self.mask_vector, x)
        x = x + self.position(x)
        x = self.dropout(x if self.config.pre_norm else self.norm(x))
        states = [x]
        for block in self.blocks:
            x = self._drop(block(x), x)
            states.append(x)
        if self.config.pre_norm:
            states[-1] = self.norm(x)
        return states

    def forward(self, wave: Tensor) -> Tensor:
        """Waveforms (B, L) -> all hidden states, (B, depth + 1, T, D)."""
        return torch.stack(self.contextualise(self.convolve(wave)), dim=1)

    def _drop(self, after: Tensor, before: Tensor) -> Tensor:
        """LayerDrop. The block has run: parallel training needs a gradient, if 0, everywhere."""
        if not self.training or self.config.layer_drop == 0:
            return after
        dropped = torch.rand((), device=after.device) < self.config.layer_drop
        return torch.where(dropped, before, after)
