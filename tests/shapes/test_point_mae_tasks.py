"""Fine-tuning heads of Point-MAE: published counts, what is loaded, scores of parts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from gentok.data.clouds import PARTS_OF, object_clouds
from gentok.measure import count_parameters
from gentok.shapes import point_mae
from gentok.shapes.point_mae import tasks as point_tasks
from gentok.shapes.point_mae.tasks import PRESETS, load_encoder, own_parts, part_iou, vote

BACKBONE = replace(
    point_mae.PRESETS["tiny"],
    num_points=64,
    num_patches=16,
    patch_size=8,
    dim=24,
    depth=3,
    decoder_depth=1,
    tokenizer_widths=(8, 12, 16),
    position_width=12,
)
CLASSIFIER = replace(PRESETS["tiny-classifier"], backbone=BACKBONE, num_classes=4)
SEGMENTER = replace(PRESETS["tiny-segmenter"], backbone=BACKBONE)


@pytest.fixture(scope="module")
def batch():
    return object_clouds(8, 64, seed=0).tensors()


def build(config):
    torch.manual_seed(0)
    return point_tasks.build(config)


@pytest.mark.parametrize("name", ["classifier-modelnet40", "classifier-scanobjectnn"])
def test_published_sizes(name):
    with torch.device("meta"):
        model = point_tasks.build(PRESETS[name])
    assert count_parameters(model) == PRESETS[name].published_params
    assert count_parameters(model.encoder) == 21_825_024


def test_segmenter_has_the_pieces_of_the_code():
    """No total is published; widths are 1155 -> 1536 -> 1024, then 3392 -> 512 -> 256 -> 50."""
    config = PRESETS["segmenter-shapenetpart"]
    assert config.backbone.num_patches == 128
    with torch.device("meta"):
        model = point_tasks.build(config)
        total, _ = model.loss(point_tasks.example(config, 2))

    def layer(i, o):
        return i * o + o + 2 * o  # weights, bias, batch norm

    propagation = layer(1155, 1536) + layer(1536, 1024)
    head = layer(1152 * 2 + 64 + 1024, 512) + layer(512, 256) + 256 * 50 + 50
    assert 1152 * 2 + 64 + 1024 == 3392
    label = 16 * 64 + 2 * 64
    assert count_parameters(model) == 21_825_024 + propagation + head + label == 27_063_730
    assert total.is_meta


@pytest.mark.parametrize("config", [CLASSIFIER, SEGMENTER])
def test_every_parameter_learns(config, batch):
    model = build(config).train()
    total, parts = model.loss(batch)
    total.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == [] and set(parts) == {"accuracy"}


def test_shapes(batch):
    classifier, segmenter = build(CLASSIFIER).eval(), build(SEGMENTER).eval()
    assert classifier(batch["points"]).shape == (8, 4)
    assert segmenter(batch["points"], batch["label"]).shape == (8, 64, 10)


def test_head_reads_class_token_and_maximum(batch):
    model = build(CLASSIFIER).eval()
    caught = []
    model.encoder.transformer.register_forward_hook(lambda _, __, out: caught.append(out))
    features = model.features(batch["points"])
    (tokens,) = caught
    assert tokens.shape == (8, 17, 24)
    assert torch.equal(features, torch.cat([tokens[:, 0], tokens[:, 1:].max(1).values], -1))
    with torch.no_grad():
        model.class_position.add_(1.0)
    assert not torch.allclose(model.features(batch["points"]), features)


def test_segmenter_reads_three_depths_under_one_norm(batch):
    model = build(SEGMENTER).eval()
    caught = []
    model.encoder.transformer.norm.register_forward_hook(lambda _, args, __: caught.append(args[0]))
    levels = []
    for block in model.encoder.transformer.blocks:
        block.register_forward_hook(lambda _, __, out: levels.append(out))
    model(batch["points"], batch["label"])
    assert len(caught) == 3 and all(torch.equal(a, b) for a, b in zip(caught, levels, strict=True))


def test_segmenter_is_told_the_category_and_follows_its_points(batch):
    model = build(SEGMENTER).eval()
    torch.nn.init.normal_(model.category[0].weight)
    points, label = batch["points"], batch["label"]
    out = model(points, label)
    assert not torch.allclose(model(points, (label + 1) % 4), out)
    order = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(63)])
    torch.testing.assert_close(model(points[:, order], label), out[:, order], rtol=1e-4, atol=1e-4)


def test_fine_tuning_starts_from_the_pretrained_encoder(batch):
    torch.manual_seed(1)
    pretrained = point_mae.build(BACKBONE)
    for config in (CLASSIFIER, replace(SEGMENTER, backbone=replace(BACKBONE, num_patches=24))):
        task = build(config)
        before = {n: p.clone() for n, p in task.named_parameters() if not n.startswith("encoder.")}
        assert load_encoder(task, pretrained) is task
        for name, value in pretrained.encoder.state_dict().items():
            assert torch.equal(task.encoder.state_dict()[name], value)
        after = dict(task.named_parameters())
        assert all(torch.equal(after[name], value) for name, value in before.items())
    wide = build(replace(CLASSIFIER, backbone=replace(BACKBONE, dim=48)))
    with pytest.raises(ValueError, match="encoders differ"):
        load_encoder(wide, pretrained)


def test_part_iou_equals_scikit_learn():
    rng = torch.Generator().manual_seed(0)
    label = torch.tensor([1, 2])
    truth = torch.stack([torch.randint(2, 5, (50,), generator=rng), torch.randint(5, 8, (50,))])
    guess = torch.stack([torch.randint(2, 5, (50,), generator=rng), torch.randint(5, 8, (50,))])
    ours = part_iou(guess, truth, label, PARTS_OF)
    for i, kind in enumerate(label.tolist()):
        each = jaccard_score(truth[i], guess[i], labels=list(PARTS_OF[kind]), average=None)
        assert float(ours[i]) == pytest.approx(float(np.mean(each)), rel=1e-6)


def test_absent_parts_count_as_right():
    truth = torch.full((1, 10), 2)
    score = part_iou(truth, truth, torch.tensor([1]), PARTS_OF)
    assert float(score) == 1.0
    half = part_iou(torch.tensor([[2] * 5 + [3] * 5]), truth, torch.tensor([1]), PARTS_OF)
    assert float(half) == pytest.approx((0.5 + 0 + 1) / 3)


def test_parts_are_those_of_the_category():
    logits = torch.zeros(2, 3, 10)
    logits[..., 9] = 5.0
    chosen = own_parts(logits, torch.tensor([0, 3]), PARTS_OF)
    assert set(chosen[0].tolist()) <= {0, 1} and (chosen[1] == 9).all()


def test_votes_are_reproducible_means(batch):
    model = build(CLASSIFIER).eval()
    draws = [vote(model, batch["points"], torch.Generator().manual_seed(0), 3) for _ in range(2)]
    assert torch.equal(*draws) and draws[0].shape == (8, 4)
    assert not torch.allclose(draws[0], model(batch["points"]))


@pytest.mark.slow
@pytest.mark.parametrize("config", [CLASSIFIER, SEGMENTER])
def test_overfits_one_batch(config, batch):
    still = replace(BACKBONE, drop_path=0.0)
    model = build(replace(config, backbone=still, dropout=0.0)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        total, parts = model.loss(batch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert float(parts["accuracy"]) > 0.95
