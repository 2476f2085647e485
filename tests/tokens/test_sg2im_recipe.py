"""The recipe of `gentok train sg2im`: plans, files, readers of annotated sets."""

import json
import math

import pytest
import torch
from PIL import Image

from gentok.data.relations import ABOVE, INSIDE, LEFT, RIGHT, relate
from gentok.tokens.sg2im import recipe
from gentok.tokens.sg2im.annotated import AnnotatedBatches, drawn_triples
from gentok.tokens.sg2im.layout import GraphConfig
from gentok.tokens.sg2im.model import SG2ImConfig, build
from gentok.tokens.sg2im.plans import plan
from gentok.tokens.sg2im.readers import centroid, clevr, coco, visual_genome
from gentok.tokens.sg2im.schedule import OneCycle
from gentok.training.loop import load_model
from gentok.training.profiles import Profile
from gentok.training.stages import stage

SMOKE, GPU = Profile("smoke", (0,), "cpu"), Profile("gpu", (0,), "cpu")
SMALL = GraphConfig(num_labels=4, num_predicates=7, dim=16, num_layers=1, num_heads=2,
                    position_dim=3)  # fmt: skip


# --- plans ----------------------------------------------------------------------------------------


def test_published_plans():
    for name, lr in (("coco", 2e-5), ("visual-genome", 3e-4)):
        task = plan(name, GPU)
        assert (task.layout.lr, task.layout.clip, task.layout.batch_size) == (lr, 1.0, 128)
        assert (task.image.lr, task.image.weight_decay, task.image.betas) == (
            3e-4,
            1e-4,
            (0.9, 0.95),
        )
        assert task.size.layouts == "predicted" and task.tokenizer_size.codebook_size == 8192
        assert task.size.image.num_codes == task.tokenizer_size.grid**2 == 256
    with pytest.raises(ValueError, match="unknown preset"):
        plan("huge", GPU)


def test_one_cycle_is_torch_s():
    steps, peak = 50, 3e-4
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps)
    ours = OneCycle(steps)
    for step in range(steps):
        assert peak * ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6, abs=1e-12)
        optimizer.step()
        theirs.step()


# --- training -------------------------------------------------------------------------------------


def test_trains_keeps_and_draws(tmp_path):
    out = tmp_path / "run.safetensors"
    model = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    tokenizer = stage(out, "tokenizer")
    assert tokenizer.is_file() and stage(out, "layout").is_file()
    again = load_model(out, SG2ImConfig, build, after=tokenizer)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name].cpu(), tensor.cpu()), name
    first = load_model(stage(out, "layout"), GraphConfig, recipe.SGTransformer)
    for name, tensor in first.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(model.layout.state_dict()[name], tensor), name
    recipe.sample(out, tmp_path / "samples.png", n=5, seed=0)
    assert Image.open(tmp_path / "samples.png").size == (5 * 32, 2 * 32)


def test_both_transformers_move_behind_predicted_layouts():
    from dataclasses import replace

    task = plan("tiny", SMOKE)
    task = replace(task, size=replace(task.size, layouts="predicted"))
    scenes = recipe.graph_scenes(16, seed=0)
    tokenizer = recipe.build_tokenizer(task.tokenizer_size).eval()
    layout = recipe.train_layout(task, scenes, SMOKE, 0, progress=False).model
    before = {k: v.clone() for k, v in layout.state_dict().items()}
    done = recipe.train_image(task, scenes, SMOKE, 0, tokenizer, layout, progress=False)
    moved = done.model.layout.state_dict()
    assert not torch.equal(moved["box_head.0.weight"], before["box_head.0.weight"])
    assert {"layout/loss", "image/loss"} <= set(done.history[-1])


def test_the_layout_of_a_constant_edge_has_one_predicate():
    scenes = recipe.muted(recipe.graph_scenes(6, seed=0))
    assert set(scenes.edges[..., 1].flatten().tolist()) == {-1, 0}
    ends = recipe.graph_scenes(6, seed=0).edges[..., ::2]
    assert torch.equal(scenes.edges[..., ::2], ends)


# --- annotated sets -------------------------------------------------------------------------------


def picture(path, width=100, height=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (200, 30, 30)).save(path)


def made_coco(folder):
    boxes = [[0, 0, 40, 40], [5, 5, 20, 20], [60, 10, 30, 30], [90, 45, 2, 2]]
    square = [[0, 0, 40, 0, 40, 40, 0, 40]]
    things = [
        {"image_id": 7, "category_id": k, "bbox": b, "segmentation": square if k == 1 else {}}
        for k, b in zip((1, 2, 3, 1), boxes, strict=True)
    ]
    stuff = [{"image_id": 7, "category_id": 183, "bbox": [0, 0, 99, 50], "segmentation": {}}]
    image = {"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}
    few = {"id": 8, "file_name": "b.jpg", "width": 100, "height": 50}
    names = [{"id": k, "name": n} for k, n in ((1, "cat"), (2, "mat"), (3, "hat"))]
    (folder / "annotations").mkdir(parents=True)
    for kind, entries, words in (
        ("instances", things, names),
        ("stuff", stuff, [{"id": 183, "name": "other"}]),
    ):
        read = {"images": [image, few], "annotations": entries, "categories": words}
        (folder / "annotations" / f"{kind}_train2017.json").write_text(json.dumps(read))
    picture(folder / "train2017" / "a.jpg")


def test_coco(tmp_path):
    made_coco(tmp_path)
    found = coco(tmp_path)
    assert len(found.items) == 1 and found.num_labels == 184 and found.num_predicates == 7
    item = found.items[0]
    assert item.labels == [1, 2, 3]  # too small, and "other", are left out
    assert item.boxes[0] == (0, 0, 0.4, 0.8) and item.centres[0] == pytest.approx((0.2, 0.4))
    assert item.centres[2] == pytest.approx((0.75, 0.5)) and item.triples is None


def test_triples_are_drawn_anew_and_true(tmp_path):
    made_coco(tmp_path)
    item = coco(tmp_path).items[0]
    seen = set()
    for seed in range(20):
        triples = drawn_triples(item, torch.Generator().manual_seed(seed))
        assert len(triples) == 3
        for a, said, b in triples:
            assert a != b
            boxes = [torch.tensor(item.boxes[k]) for k in (a, b)]
            centres = [torch.tensor(item.centres[k]) for k in (a, b)]
            assert relate(*boxes, *centres) == said
        seen |= set(triples)
    assert {(1, INSIDE, 0), (2, RIGHT, 0), (0, LEFT, 2)} <= seen


def test_batches_of_annotated_pictures(tmp_path):
    made_coco(tmp_path)
    config = GraphConfig(num_labels=184, num_predicates=7, dim=16, num_layers=1, num_heads=2,
                         position_dim=3)  # fmt: skip
    draw = AnnotatedBatches(coco(tmp_path), 16, 2, 0, config)
    batch, again = draw(3), draw(3)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert batch["image"].shape == (2, 3, 16, 16) and batch["labels"].tolist() == [[0, 1, 2, 3]] * 2
    assert batch["edges"].shape == (2, 6, 3) and (batch["edges"][:, :3, 1] == 0).all()
    assert batch["positions"].shape == (2, 4, 3)
    loss, _ = recipe.SGTransformer(config).loss(batch)
    assert loss.isfinite()
    with pytest.raises(ValueError, match="the model takes"):
        AnnotatedBatches(coco(tmp_path), 16, 2, 0, SMALL)


def test_centroid_of_polygons():
    square = [0, 0, 2, 0, 2, 2, 0, 2]
    turned = [0, 2, 2, 2, 2, 0, 0, 0]  # the other way around
    far = [10, 10, 12, 10, 12, 12, 10, 12]
    assert centroid([square]) == centroid([turned]) == pytest.approx((1, 1))
    assert centroid([square, far]) == centroid([turned, far]) == pytest.approx((6, 6))
    assert centroid([[0, 0, 3, 0, 0, 3]]) == pytest.approx((1, 1))
    assert centroid([[0, 0, 1, 1]]) is None


def test_visual_genome(tmp_path):
    objects, relationships = [], []
    for number in range(700):
        entries = [
            {"object_id": 10 * number + k, "names": [name], "x": 10 * k, "y": 0, "w": 50, "h": 40}
            for k, name in enumerate(("man", "man", "man", "unicorn" if number else "man"))
        ]
        objects.append({"image_id": number, "objects": entries})
        pairs = [("on", 0, 1)] + ([("near", 1, 2)] if number < 9 else [])
        relationships.append({"image_id": number, "relationships": [
            {"predicate": word, "subject": {"object_id": 10 * number + a},
             "object": {"object_id": 10 * number + b}} for word, a, b in pairs]})  # fmt: skip
    sizes = [{"image_id": n, "width": 250, "height": 150 if n == 5 else 200} for n in range(700)]
    for name, rows in (
        ("objects", objects), ("relationships", relationships), ("image_data", sizes)
    ):  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    found = visual_genome(tmp_path)
    assert len(found.items) == 699 and found.labels == {0: "image", 1: "man"}
    assert found.predicates == {0: "in image", 1: "on"}
    assert found.items[1].triples == [(0, 1, 1)] and found.items[1].labels == [1, 1, 1]
    assert found.items[0].boxes[1] == (10 / 250, 0, 60 / 250, 40 / 200)


def test_clevr(tmp_path):
    objects = [
        {"shape": "cube", "color": "red", "size": "large", "material": "metal",
         "pixel_coords": [120, 160, 10.0]},
        {"shape": "sphere", "color": "blue", "size": "small", "material": "rubber",
         "pixel_coords": [360, 160, 10.0]},
    ]  # fmt: skip
    relations = {"left": [[], [0]], "right": [[1], []], "front": [[], []], "behind": [[], []]}
    scene = {"image_filename": "a.png", "objects": objects, "relationships": relations}
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "CLEVR_train_scenes.json").write_text(json.dumps({"scenes": [scene]}))
    found = clevr(tmp_path)
    item = found.items[0]
    assert item.triples == [(0, 1, 1), (1, 2, 0)]  # what stands left of 1 is 0
    assert found.predicates[1] == "left" and found.num_predicates == 5
    half = 525 * 0.7 / 10 / 480
    assert item.boxes[0][0] == pytest.approx(0.25 - half)
    assert math.isclose(item.centres[0][1], 0.5)


def test_absent_sets_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    for name, words in (("coco", "COCO"), ("visual-genome", "Visual Genome"), ("clevr", "CLEVR")):
        with pytest.raises(FileNotFoundError, match=words):
            recipe.train(name, SMOKE, out=None, resume=False, seed=0)


def test_above_is_a_smaller_y():
    top, bottom = torch.tensor([0.4, 0.0, 0.6, 0.2]), torch.tensor([0.4, 0.7, 0.6, 0.9])
    assert relate(top, bottom) == ABOVE
