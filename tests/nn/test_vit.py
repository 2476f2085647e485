"""The trunk of a vision transformer: on images and clips, against transformers and formulas."""

import pytest
import torch
from torch import nn

from gentok.nn.position import sincos_2d
from gentok.nn.vit import VisionTransformer


def small(size=(8, 8), patch=(4, 4), **changes) -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(size, patch, 3, 16, 2, 2, **changes).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    return model


def test_tubelets_equal_vivit():
    """Layer by layer the video transformer of `transformers`, same weights."""
    from transformers import VivitConfig, VivitModel

    config = VivitConfig(
        image_size=16, num_frames=4, tubelet_size=[2, 8, 8], hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=64, hidden_act="gelu", layer_norm_eps=1e-6,
        attn_implementation="eager",
    )  # fmt: skip
    peer = VivitModel(config, add_pooling_layer=False).eval()
    ours = small((4, 16, 16), (2, 8, 8))
    copy_to_vivit(ours, peer)
    clip = torch.randn(2, 3, 4, 16, 16)
    theirs = peer(clip.transpose(1, 2)).last_hidden_state
    torch.testing.assert_close(ours(clip), theirs, rtol=1e-4, atol=1e-5)


def copy_to_vivit(ours: VisionTransformer, peer: nn.Module) -> None:
    """Our weights into transformers' ViViT."""
    embeddings = peer.embeddings
    embeddings.patch_embeddings.projection.load_state_dict(ours.patches.state_dict())
    embeddings.cls_token.data = ours.class_token.data
    table = ours.position.data.flatten(2).transpose(1, 2)
    embeddings.position_embeddings.data = torch.cat([ours.class_position.data, table], dim=1)
    peer.layernorm.load_state_dict(ours.norm.state_dict())
    layers = peer.layers if hasattr(peer, "layers") else peer.encoder.layer
    for block, layer in zip(ours.blocks, layers, strict=True):
        linears = [m for m in layer.modules() if isinstance(m, nn.Linear)]
        norms = [m for m in layer.modules() if isinstance(m, nn.LayerNorm)]
        for theirs, norm in zip(norms, (block.norm1, block.norm2), strict=True):
            theirs.load_state_dict(norm.state_dict())
        thirds = zip(
            block.attention.qkv.weight.chunk(3), block.attention.qkv.bias.chunk(3), strict=True
        )
        ends = [(m.weight, m.bias) for m in (block.attention.proj, block.mlp.fc1, block.mlp.fc2)]
        for theirs, (weight, bias) in zip(linears, [*thirds, *ends], strict=True):
            theirs.weight.data, theirs.bias.data = weight.data, bias.data


def test_tokens_by_hand():
    model, x = small(), torch.randn(2, 3, 8, 8)
    tokens, grid = model.tokens(x)
    assert grid == (2, 2) and tokens.shape == (2, 5, 16)
    patch = x[:, :, 4:, :4].flatten(1)  # row 1, column 0: token 2, after the class token 3
    expected = patch @ model.patches.weight.flatten(1).T + model.patches.bias
    expected = expected + model.position[0, :, 1, 0]
    torch.testing.assert_close(tokens[:, 3], expected, rtol=1e-4, atol=1e-5)
    first = (model.class_token + model.class_position)[0, 0]
    torch.testing.assert_close(tokens[:, 0], first.expand(2, -1))


def test_without_class_token_or_positions():
    model = small(class_token=False, position=None)
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"patches", "blocks", "norm"}
    x = torch.randn(1, 3, 8, 8)
    out = model(x)
    assert out.shape == (1, 4, 16)
    moved = x.roll(4, dims=3)  # two columns of patches change places
    torch.testing.assert_close(model(moved), out[:, [1, 0, 3, 2]], rtol=1e-4, atol=1e-5)


def test_fixed_table_is_the_sine_cosine_one_and_stays():
    model = VisionTransformer((8, 12), (4, 4), 3, 16, 1, 2, position="sincos")
    torch.testing.assert_close(model.position.flatten(2)[0].T, sincos_2d(2, 3, 16))
    assert not model.position.requires_grad and model.class_position is None


def test_learned_table_is_resized_for_another_grid():
    model = small()
    tokens, grid = model.tokens(torch.zeros(1, 3, 16, 8))
    assert grid == (4, 2) and tokens.shape == (1, 9, 16)
    table = nn.functional.interpolate(model.position, (4, 2), mode="bicubic")
    expected = table.flatten(2).transpose(1, 2) + model.patches.bias
    torch.testing.assert_close(tokens[:, 1:], expected)


def test_bad_input():
    def build(**changes):
        sizes = {"size": (8, 8), "patch": (4, 4)} | changes
        return VisionTransformer(sizes.pop("size"), sizes.pop("patch"), 3, 16, 1, 2, **sizes)

    with pytest.raises(ValueError, match=r"patch must divide size, got \(3, 4\), \(8, 8\)"):
        build(patch=(3, 4))
    with pytest.raises(ValueError, match="1 to 3 equal axes"):
        build(patch=(4,))
    with pytest.raises(ValueError, match="unknown position 'rope'"):
        build(position="rope")
    with pytest.raises(ValueError, match="needs two axes"):
        build(size=(4, 8, 8), patch=(2, 4, 4), position="sincos")
    with pytest.raises(ValueError, match=r"input must be \(B, 3, ...\)"):
        build()(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match=r"positions are for a grid of \(2, 2, 2\)"):
        build(size=(4, 8, 8), patch=(2, 4, 4))(torch.zeros(1, 3, 6, 8, 8))
