"""Point-MAE: published counts, the parts of its block, what masking hides, the loss."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.models.vit_mae.modeling_vit_mae import ViTMAEConfig, ViTMAELayer

from gentok.data.clouds import solid_clouds
from gentok.measure import chamfer_distance, count_flops, count_parameters
from gentok.nn.points import distances
from gentok.process.masked import random_mask
from gentok.shapes import point_mae
from gentok.shapes.point_mae.layers import PatchTokenizer, Transformer
from gentok.shapes.point_mae.masking import Split, block_mask, split
from gentok.shapes.point_mae.model import PRESETS

TINY = replace(
    PRESETS["tiny"],
    num_points=64,
    num_patches=16,
    patch_size=8,
    dim=24,
    depth=2,
    decoder_depth=1,
    num_heads=3,
    tokenizer_widths=(8, 12, 16),
    position_width=12,
)
G, M = 16, 9


@pytest.fixture
def model():
    torch.manual_seed(0)
    return point_mae.build(TINY).eval()


@pytest.fixture(scope="module")
def points():
    return solid_clouds(4, 64, seed=2).points


# --- sizes ----------------------------------------------------------------------------------------


def test_published_size_piece_by_piece():
    with torch.device("meta"):
        model = point_mae.build(PRESETS["point-mae"])
    encoder = model.encoder
    pieces = {
        "tokenizer": (encoder.tokenizer, 494_464),
        "position": (encoder.position, 50_048),
        "decoder position": (model.decoder_position, 50_048),
        "blocks": (encoder.transformer.blocks, 21_279_744),
        "norm": (encoder.transformer.norm, 768),
        "decoder": (model.decoder, 7_094_016),
        "head": (model.head, 36_960),
    }
    assert {n: count_parameters(m) for n, (m, _) in pieces.items()} == {
        n: count for n, (_, count) in pieces.items()
    }
    assert count_parameters(encoder) == 21_825_024 and model.mask_token.numel() == 384
    assert count_parameters(model) == PRESETS["point-mae"].published_params == 29_006_432


def test_sixty_percent_of_64_patches_are_38():
    config = PRESETS["point-mae"]
    assert config.num_masked == 38
    assert config.num_patches * config.patch_size == 2 * config.num_points
    tiny = PRESETS["tiny"]
    assert tiny.num_patches * tiny.patch_size == 2 * tiny.num_points, "patches overlap as much"


def test_loss_runs_on_the_meta_device_and_encodes_visible_patches_only():
    """Encoder cost is that of 26 of 64 tokens (claim C5 of the paper)."""
    config = replace(PRESETS["point-mae"], decoder_depth=1)
    with torch.device("meta"):
        model = point_mae.build(config)
        x = torch.empty(1, 26, 384)
        total, _ = model.loss(point_mae.example(config))
        d, v = 384, 26
        macs = 12 * (12 * v * d**2 + 2 * v * v * d)
        assert count_flops(model.encoder.transformer, x, x) == 2 * macs
    assert total.is_meta and total.shape == ()
    sizes = []
    small = point_mae.build(TINY)
    small.encoder.transformer.register_forward_hook(lambda _, args, __: sizes.append(args[0].shape))
    small.loss({"points": torch.rand(2, 64, 3)})
    assert sizes == [(2, G - M, TINY.dim)]


# --- parts of the network -------------------------------------------------------------------------


def test_block_equals_vit_mae_layer():
    torch.manual_seed(0)
    (block,) = Transformer(48, 1, 3, 4, 0.1).eval().blocks
    config = ViTMAEConfig(
        hidden_size=48,
        num_attention_heads=3,
        intermediate_size=192,
        qkv_bias=False,
        layer_norm_eps=1e-5,
        attn_implementation="eager",
    )
    peer = ViTMAELayer(config).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours = block.state_dict()
    parts = zip("qkv", ours.pop("attention.qkv.weight").chunk(3), strict=True)
    theirs = {f"attention.{name}_proj.weight": weight for name, weight in parts}
    names = {"attention.proj": "attention.o_proj", "norm1": "layernorm_before"}
    names |= {"norm2": "layernorm_after", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for name, value in ours.items():
        layer, kind = name.rsplit(".", 1)
        theirs[f"{names[layer]}.{kind}"] = value
    peer.load_state_dict(theirs)
    x = torch.randn(2, 7, 48)
    out = peer(x)
    out = out[0] if isinstance(out, tuple) else out
    torch.testing.assert_close(block(x), out, rtol=1e-4, atol=1e-4)


def released_tokenizer(a: int, b: int, c: int, d: int) -> tuple[nn.Module, nn.Module]:
    """The mini-PointNet as convolutions of width 1."""
    first = nn.Sequential(nn.Conv1d(3, a, 1), nn.BatchNorm1d(a), nn.ReLU(), nn.Conv1d(a, b, 1))
    second = nn.Sequential(nn.Conv1d(2 * b, c, 1), nn.BatchNorm1d(c), nn.ReLU(), nn.Conv1d(c, d, 1))
    return first, second


@pytest.mark.parametrize("training", [True, False])
def test_tokenizer_equals_convolutions(training):
    torch.manual_seed(0)
    ours = PatchTokenizer((8, 12, 16), 24).train(training)
    first, second = (m.train(training) for m in released_tokenizer(8, 12, 16, 24))
    for peer, mine in ((first, ours.first), (second, ours.second)):
        weights = {k: v[..., None] if v.ndim == 2 else v for k, v in mine.state_dict().items()}
        peer.load_state_dict(weights)
    patches = torch.randn(2, 5, 7, 3)
    x = first(patches.flatten(0, 1).mT)  # (10, 12, 7)
    x = torch.cat([x.amax(2, keepdim=True).expand(-1, -1, 7), x], dim=1)
    expected = second(x).amax(2).view(2, 5, 24)
    torch.testing.assert_close(ours(patches), expected, rtol=1e-4, atol=1e-5)


def test_position_is_added_before_every_block(model):
    x, position = torch.randn(2, 5, 24), torch.randn(2, 5, 24)
    h = x
    for block in model.encoder.transformer.blocks:
        h = block(h + position)
    expected = F.layer_norm(h, (24,), *model.encoder.transformer.norm.parameters())
    torch.testing.assert_close(model.encoder.transformer(x, position), expected)


def test_encoder_and_decoder_have_positions_of_their_own(model, points):
    before = model.encode(points)
    with torch.no_grad():
        model.decoder_position[0].weight.add_(1.0)
    assert torch.equal(model.encode(points), before)
    torch.manual_seed(1)
    one = model.reconstruct(points).predicted
    with torch.no_grad():
        model.decoder_position[0].weight.add_(1.0)
    torch.manual_seed(1)
    assert not torch.allclose(model.reconstruct(points).predicted, one)


def test_initial_weights():
    torch.manual_seed(0)
    model = point_mae.build(replace(TINY, dim=192, init_std=0.02))
    qkv = model.encoder.transformer.blocks[0].attention.qkv.weight
    assert float(qkv.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not model.encoder.tokenizer.first[0].bias.any()
    fc1 = model.decoder.blocks[0].mlp.fc1.weight  # xavier: uniform up to sqrt(6 / (D + 4D))
    assert float(fc1.detach().abs().max()) == pytest.approx((6 / (5 * 192)) ** 0.5, rel=0.01)
    blocks = point_mae.build(PRESETS["tiny"]).encoder.transformer.blocks
    rates = [block.drop_path.rate for block in blocks]
    assert rates == pytest.approx([0, 0.05, 0.1])


def test_order_of_points_does_not_matter_beyond_the_first(model, points):
    """Sampling starts at the first point; the others may come in any order."""
    order = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(63)])
    torch.testing.assert_close(model.encode(points[:, order]), model.encode(points))


# --- masking --------------------------------------------------------------------------------------


@given(st.integers(2, 20), st.data())
@settings(max_examples=30, deadline=None)
def test_split_is_a_partition(num_patches, data):
    masked = data.draw(st.integers(1, num_patches - 1))
    mask = torch.rand(3, num_patches).argsort(-1) < masked
    places = split(mask, masked)
    for row, visible, hidden in zip(mask, *places, strict=True):
        assert visible.tolist() == (~row).nonzero().flatten().tolist()
        assert hidden.tolist() == row.nonzero().flatten().tolist()


def test_unequal_masks_are_refused():
    mask = torch.tensor([[True, False, True], [True, False, False]])
    with pytest.raises(ValueError, match=r"needs 2 masked patches, got \[2, 1\]"):
        split(mask, 2)


def test_masks_have_the_configured_count(model, points):
    centres = model.encoder.group(points).centres
    for masking in ("random", "block"):
        model.config = replace(TINY, masking=masking)
        visible, masked = model.mask(centres)
        assert visible.shape == (4, G - M) and masked.shape == (4, M) and int(0.6 * G) == M
    torch.manual_seed(0)
    share = torch.stack([random_mask(50, G, M).float().mean(0) for _ in range(20)])
    assert (share.mean(0) - M / G).abs().max() < 0.08, "every patch is masked equally often"


def test_block_is_the_neighbourhood_of_one_patch():
    torch.manual_seed(0)
    centres = torch.randn(6, G, 3)
    for x, mask in zip(centres, block_mask(centres, 5), strict=True):
        balls = []
        for seed in range(G):
            nearest = (x - x[seed]).norm(dim=-1).argsort()[:5]
            balls.append(set(nearest.tolist()))
        assert set(mask.nonzero().flatten().tolist()) in balls


def moved(patches, places):
    """The same patches with the masked ones moved and their points replaced."""
    centres, points = patches.centres.clone(), patches.points.clone()
    row = torch.arange(len(centres))[:, None]
    centres[row, places.masked] += 1.0
    points[row, places.masked] = torch.randn_like(points[row, places.masked])
    return patches._replace(centres=centres, points=points)


def test_encoder_knows_nothing_of_masked_patches(model, points):
    patches = model.encoder.group(points)
    places = model.mask(patches.centres)
    predicted, z = model.predict(patches, places)
    other, same = model.predict(moved(patches, places), places)
    assert torch.equal(z, same), "centres or points of masked patches reach the encoder"
    assert not torch.allclose(other, predicted), "the decoder must be told where to draw"


def test_ablation_leaks_centres_into_the_encoder(points):
    torch.manual_seed(0)
    model = point_mae.build(replace(TINY, shift_mask_tokens=False, init_std=0.3)).eval()
    assert not hasattr(model, "decoder")
    patches = model.encoder.group(points)
    places = model.mask(patches.centres)
    predicted, z = model.predict(patches, places)
    assert predicted.shape == (4, M, 8, 3) and z.shape == (4, G, 24)
    _, other = model.predict(moved(patches, places), places)
    assert not torch.allclose(other[:, : G - M], z[:, : G - M], atol=1e-3)
    with pytest.raises(ValueError, match="no decoder"):
        model.decode(z, patches.centres, patches.centres)


def test_true_points_of_masked_patches_never_reach_the_prediction(model, points):
    patches = model.encoder.group(points)
    places = model.mask(patches.centres)
    again = moved(patches, places)._replace(centres=patches.centres)
    one, _ = model.predict(patches, places)
    other, _ = model.predict(again, places)
    assert torch.equal(one, other)


def test_decoder_takes_the_last_tokens(model):
    """Order in the decoder: visible first, masked last; the masked may come in any order."""
    z, seen, unseen = torch.randn(2, 7, 24), torch.randn(2, 7, 3), torch.randn(2, 9, 3)
    out = model.decode(z, seen, unseen)
    assert out.shape == (2, 9, 8, 3)
    order = torch.randperm(9)
    swapped = model.decode(z, seen, unseen[:, order])
    torch.testing.assert_close(swapped, out[:, order], rtol=1e-4, atol=1e-5)


# --- loss and reconstruction ----------------------------------------------------------------------


def test_loss_is_patchwise_and_relative(model, points):
    torch.manual_seed(5)
    total, parts = model.loss({"points": points})
    torch.manual_seed(5)
    seen = model.reconstruct(points)
    assert total.item() == pytest.approx(float(seen.chamfer.mean()), rel=1e-5)
    assert float(parts["chamfer"]) == total.item()
    slow = chamfer_distance(seen.predicted.flatten(0, 1), seen.masked.flatten(0, 1)).mean()
    assert total.item() == pytest.approx(float(slow), rel=1e-3)
    whole = chamfer_distance(seen.predicted.flatten(1, 2), seen.masked.flatten(1, 2)).mean()
    assert abs(float(whole.detach()) - total.item()) > 0.1 * total.item(), "that is another loss"


def test_loss_does_not_change_when_clouds_are_moved_with_a_blind_decoder(points):
    """Targets are relative to centres: without positions a shift of the cloud changes nothing."""
    torch.manual_seed(0)
    model = point_mae.build(TINY).eval()
    for mlp in (model.encoder.position, model.decoder_position):
        nn.init.zeros_(mlp[2].weight)
    losses = []
    for shift in (0.0, 2.0):
        torch.manual_seed(3)
        losses.append(float(model.loss({"points": points + shift})[0]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("ratio", [0.3, 0.6, 0.9])
def test_reconstruction_covers_the_cloud_at_any_ratio(model, points, ratio):
    seen = model.reconstruct(points, ratio)
    masked = int(ratio * G)
    assert seen.predicted.shape == seen.masked.shape == (4, masked, 8, 3)
    assert seen.visible.shape == (4, G - masked, 8, 3) and seen.chamfer.shape == (4, masked)
    given = torch.cat([seen.visible, seen.masked], dim=1).flatten(1, 2)
    gaps = distances(given, points).amin(-1)
    assert float(gaps.max()) < 1e-5, "visible and masked patches are pieces of the cloud"


def test_every_parameter_gets_a_gradient(points):
    torch.manual_seed(0)
    model = point_mae.build(TINY).train()
    model.loss({"points": points})[0].backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_batch_norm_sees_masked_patches_too(points):
    torch.manual_seed(0)
    model = point_mae.build(TINY).train()
    patches = model.encoder.group(points)
    model.predict(patches, model.mask(patches.centres))
    first = model.encoder.tokenizer.first[0]
    mean = first(patches.points.reshape(-1, 3)).mean(0)
    torch.testing.assert_close(model.encoder.tokenizer.norm1.running_mean, 0.1 * mean)


def test_same_seed_same_numbers(points):
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        model = point_mae.build(TINY).train()
        values.append(model.loss({"points": points})[0].item())
    assert values[0] == values[1]


@pytest.mark.slow
def test_overfits_one_batch(points):
    torch.manual_seed(0)
    model = point_mae.build(replace(TINY, drop_path=0.0)).train()
    patches = model.encoder.group(points)
    places = model.mask(patches.centres)
    rows = torch.arange(4)[:, None]
    target = patches.points[rows, places.masked].flatten(0, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(250):
        predicted, _ = model.predict(patches, places)
        total = chamfer_distance(predicted.flatten(0, 1), target).mean()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    plain = chamfer_distance(target.mean(0).expand(len(target), -1, -1), target).mean()
    assert losses[-1] < 0.35 * float(plain)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask_ratio": 0.0}, "mask_ratio must mask 1 to 15 of 16 patches, got 0.0"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"decoder_depth": 0}, "depth and decoder_depth"),
        ({"patch_size": 65}, "must not exceed num_points=64"),
        ({"masking": "checkerboard"}, "masking must be 'random' or 'block'"),
        ({"drop_path": 1.0}, "drop_path must lie in"),
        ({"dim": 25}, "num_heads must divide dim"),
    ],
)
def test_bad_configurations(changes, words):
    with pytest.raises(ValueError, match=words):
        point_mae.build(replace(TINY, **changes))


def test_bad_clouds(model):
    with pytest.raises(ValueError, match=r"points must be \(B, P, 3\)"):
        model.loss({"points": torch.rand(2, 64, 2)})
    with pytest.raises(ValueError, match="1 <= n <= 10"):
        model.encode(torch.rand(2, 10, 3))
    assert isinstance(model.mask(torch.rand(1, G, 3)), Split)
