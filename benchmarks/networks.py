"""Whole networks of the chapters beside the packages that have them too."""

from dataclasses import replace

import torch
from torch import nn

from benchmarks.measure import Work, Workload, backward
from gentok.backbones import cvt
from gentok.efficient.matformer.model import MatLM, MatLMConfig
from gentok.nn.conv3d import CausalConv3d
from gentok.signals.mert.wave_encoder import WaveEncoder, WaveEncoderConfig


def cvt_train() -> tuple[Work, Work]:
    """Loss and gradients of 16 images of 64 pixels, three stages."""
    from transformers import CvtConfig, CvtForImageClassification

    widths, depths, heads = (32, 96, 192), (1, 2, 4), (1, 3, 6)
    small = replace(cvt.PRESETS["cvt-13"], widths=widths, depths=depths, heads=heads)
    ours = cvt.build(replace(small, num_classes=10, activation="gelu"))
    peer = CvtForImageClassification(
        CvtConfig(embed_dim=widths, depth=depths, num_heads=heads, num_labels=10)
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


def language_model_sample() -> tuple[Work, Work]:
    """64 tokens for 16 texts from the whole softmax, keys and values cached on both sides."""
    ours, peer = _language_models()
    ours.eval(), peer.eval()
    start = torch.zeros(16, 1, dtype=torch.int64)
    return (
        lambda: ours.sample(16, 64),
        torch.no_grad(lambda: peer.generate(start, 64, filter_logits_fn=_unfiltered)),
    )


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


NETWORKS = [
    Workload("CvT, training, 16 images 64x64", "transformers CvtForImageClassification", 1.0,
             cvt_train),
    Workload("waveform encoder, training, 4 s of sound", "transformers HubertModel", 0.95,
             wave_encoder),
    Workload("language model, training, 64 texts of 64", "x-transformers Decoder", 0.9,
             language_model_train),
    Workload("language model, sampling with a cache, 16 texts of 64", "x-transformers generate",
             1.5, language_model_sample),
    Workload("causal 3-D convolution, training, 4 clips 9x32x32", "diffusers CogVideoXCausalConv3d",
             1.0, causal_convolution),
]  # fmt: skip
