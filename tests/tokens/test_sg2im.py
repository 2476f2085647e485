"""Scene graphs to images: published sizes, attention along edges, layouts as tokens, the codes."""

import math
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.base import vqgan
from gentok.base.vqgan import VQGANConfig
from gentok.data.graph_scenes import graph_scenes
from gentok.measure import count_parameters
from gentok.tokens.sg2im.attention import EdgeAttention, GraphLayer, MeanAggregation
from gentok.tokens.sg2im.boxes import complete_overlap_loss, overlap
from gentok.tokens.sg2im.generator import SMALL_DRAW, ImageConfig, ImageGPT
from gentok.tokens.sg2im.laplacian import adjacency, laplacian_positions
from gentok.tokens.sg2im.layout import GraphConfig, SGTransformer, graphs_of, with_back_edges
from gentok.tokens.sg2im.model import PRESETS, SG2Im, build, example
from gentok.tokens.sg2im.pipeline import ScenePipeline
from gentok.tokens.sg2im.plans import plan
from gentok.tokens.sg2im.readout import entropy_of, obeyed, stated, turned
from gentok.tokens.sg2im.tokenizer import build_tokenizer
from gentok.tokens.sg2im.tokens import LayoutTokens
from gentok.training.loop import fit
from gentok.training.profiles import Profile

SMALL = GraphConfig(
    num_labels=4, num_predicates=7, dim=16, num_layers=2, num_heads=2, position_dim=3
)
IMAGE = ImageConfig(
    codebook_size=40, num_codes=6, max_objects=4, dim=16, num_layers=2, num_heads=2, dropout=0.0
)


def randomised(module, seed=0):
    """All parameters and running statistics away from zero and one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
    return module.eval()


def scenes_and_graphs(config=SMALL, n=6):
    scenes = graph_scenes(n, seed=3)
    return scenes, graphs_of(scenes, config)


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coco", "visual-genome", "clevr"])
def test_published_sizes(name):
    config = PRESETS[name]
    with torch.device("meta"):
        network = build(config)
    for part, count in ((network.layout, config.graph), (network.image, config.image)):
        if count.published_params is not None:
            assert count_parameters(part) == count.published_params
    if config.published_params is not None:
        assert count_parameters(network) == config.published_params
    assert count_parameters(network.layout.layers[0]) == 8_269_824
    assert network.loss(example(config, 2))[0].shape == ()
    assert config.image.tokens.length == 92 and config.image.gpt.length == 348


def test_the_tokenizer_has_its_published_size():
    size = plan("coco", Profile("gpu", (0,), "cpu")).tokenizer_size
    with torch.device("meta"):
        network = build_tokenizer(size)
    assert count_parameters(network) == size.published_params == 73_976_707
    assert count_parameters(network.encoder) == 29_298_176
    assert count_parameters(network.decoder) == 42_449_795


def test_equal_patches_have_equal_codes():
    torch.manual_seed(0)
    size = plan("tiny", Profile("cpu", (0,), "cpu")).tokenizer_size
    tokenizer = build_tokenizer(size).eval()
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    x[1, :, 8:12, 4:8] = x[0, :, 20:24, 0:4]
    latents = tokenizer.latents(x)  # (2, 8, 8, D)
    assert torch.allclose(latents[1, 2, 1], latents[0, 5, 0], atol=1e-6)
    changed = x.clone()
    changed[:, :, :4, :4] = 0
    moved = (tokenizer.latents(changed) != latents).any(-1)
    assert moved[:, 0, 0].all() and moved.sum() == 2
    assert tokenizer.decode(tokenizer.encode(x)).shape == x.shape


# --- attention ------------------------------------------------------------------------------------


def random_graph(m=7, edges=15, dim=16, seed=0):
    """Nodes, edges between different pairs, and no edge into the last node."""
    rng = np.random.default_rng(seed)
    pairs = [(a, b) for a in range(m) for b in range(m - 1) if a != b]
    chosen = [pairs[i] for i in rng.choice(len(pairs), edges, replace=False)]
    source, target = torch.tensor(chosen).T
    torch.manual_seed(seed)
    return torch.randn(m, dim), torch.randn(edges, dim), source, target


def dense(layer, h, e, source, target):
    """The same attention over all pairs, as a masked softmax-like sum on matrices."""
    m, heads = len(h), layer.num_heads
    q, k, v = (x(h).view(m, heads, -1).transpose(0, 1) for x in layer.maps)  # (heads, M, d)
    says = torch.zeros(heads, m, m, q.shape[-1])  # from row to column
    there = torch.zeros(m, m)
    mapped = (e @ layer.edge.weight.T).view(len(e), heads, -1)
    for i in range(len(e)):
        says[:, source[i], target[i]] = mapped[i]
        there[source[i], target[i]] = 1
    score = k[:, :, None] * q[:, None] / math.sqrt(q.shape[-1]) * says  # (heads, M, M, d)
    weight = score.sum(-1).clamp(-5, 5).exp() * there  # (heads, from, to)
    out = torch.einsum("hjc,hji->hic", v, weight) / (weight.sum(1)[..., None] + 1e-6)
    return out.transpose(0, 1).reshape(m, -1), score[:, source, target].transpose(0, 1).flatten(1)


def test_attention_is_that_of_dense_masked_matrices():
    h, e, source, target = random_graph()
    layer = randomised(EdgeAttention(16, 4))
    found, score = layer(h * 3, e * 3, source, target)
    expected, expected_score = dense(layer, h * 3, e * 3, source, target)
    assert score.unflatten(-1, (4, -1)).sum(-1).abs().max() > 5, "nothing was clipped"
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(score, expected_score, atol=1e-5, rtol=1e-5)


def test_a_node_without_edges_gathers_nothing():
    h, e, source, target = random_graph()
    for kind in (EdgeAttention, MeanAggregation):
        found, _ = randomised(kind(16, 4))(h, e, source, target)
        assert (found[-1] == 0).all() and (found[:-1].abs().sum(1) > 0).all()


def test_the_predicate_of_an_only_edge_is_not_heard():
    """Its weight is divided by itself. A second edge, or the mean of messages, lets it through."""
    torch.manual_seed(0)
    h, e, other = torch.randn(3, 16), torch.randn(1, 16), torch.randn(1, 16)
    layer = randomised(EdgeAttention(16, 4))
    one, two = (torch.tensor([0]), torch.tensor([1])), (torch.tensor([0, 2]), torch.tensor([1, 1]))

    def moved(layer, edge, ends):
        further = torch.ones(len(ends[0]) - 1, 16)
        a = layer(h, torch.cat([edge, further]), *ends)[0]
        b = layer(h, torch.cat([other, further]), *ends)[0]
        return (a - b).abs().max() / a.abs().max()

    assert moved(layer, e, one) < 2e-4  # 1e-6 over the least weight, exp(-5)
    assert moved(layer, e, two) > 0.01
    assert moved(randomised(MeanAggregation(16, 4)), e, one) > 0.01


def test_the_mean_is_that_of_neighbours_and_edges():
    h, e, source, target = random_graph()
    layer = randomised(MeanAggregation(16, 4))
    found, _ = layer(h, e, source, target)
    for node in range(len(h) - 1):
        rows = [layer.value(h[source[i]]) + layer.edge(e[i])
                for i in range(len(e)) if target[i] == node]  # fmt: skip
        torch.testing.assert_close(found[node], torch.stack(rows).mean(0))


def test_a_layer_reaches_neighbours_alone():
    """0 -> 1 -> 2: after one layer node 2 has not heard of node 0, after two it has."""
    torch.manual_seed(0)
    h, e = torch.randn(3, 16), torch.randn(2, 16)
    source, target = torch.tensor([0, 1]), torch.tensor([1, 2])
    first, second = (randomised(GraphLayer(16, 4, 0.0), seed) for seed in (0, 1))
    other = h.clone()
    other[0] += 1
    a, b = (first(x, e, source, target) for x in (h, other))
    assert torch.equal(a[0][2], b[0][2]) and not torch.equal(a[0][1], b[0][1])
    assert torch.equal(a[1][1], b[1][1]) and not torch.equal(a[1][0], b[1][0])
    a, b = (second(*x, source, target) for x in (a, b))
    assert not torch.equal(a[0][2], b[0][2])


# --- the graph transformer ------------------------------------------------------------------------


def test_nodes_may_come_in_any_order():
    model = randomised(SGTransformer(SMALL))
    _, graphs = scenes_and_graphs()
    signs = torch.ones(3)
    boxes, logits = model(graphs, signs)
    order = torch.tensor([2, 0, 3, 1])
    back = order.argsort()
    edges = graphs["edges"]
    moved = torch.where(edges >= 0, back[edges.clamp(0, 3)], -1)
    edges = torch.stack([moved[..., 0], edges[..., 1], moved[..., 2]], -1)
    shuffled = {
        "labels": graphs["labels"][:, order],
        "positions": graphs["positions"][:, order],
        "edges": edges[:, torch.randperm(edges.shape[1])],
    }
    found = model(shuffled, signs)
    torch.testing.assert_close(found[0], boxes[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], logits[:, order], atol=1e-5, rtol=1e-4)


def test_padding_changes_no_other_node():
    model = randomised(SGTransformer(SMALL))
    _, graphs = scenes_and_graphs()
    more = {
        "labels": torch.nn.functional.pad(graphs["labels"], (0, 2)),
        "positions": torch.nn.functional.pad(graphs["positions"], (0, 0, 0, 2)),
        "edges": torch.nn.functional.pad(graphs["edges"], (0, 0, 0, 3), value=-1),
    }
    signs = torch.ones(3)
    boxes, wide = model(graphs, signs)[0], model(more, signs)[0]
    torch.testing.assert_close(wide[:, :4], boxes, atol=1e-5, rtol=1e-4)
    alone = {name: tensor[:1] for name, tensor in graphs.items()}
    torch.testing.assert_close(model(alone, signs)[0], boxes[:1], atol=1e-5, rtol=1e-4)


def test_in_training_padding_moves_the_statistics():
    torch.manual_seed(0)
    model = SGTransformer(replace(SMALL, dropout=0.0)).train()
    _, graphs = scenes_and_graphs()
    more = {
        "labels": torch.nn.functional.pad(graphs["labels"], (0, 2)),
        "positions": torch.nn.functional.pad(graphs["positions"], (0, 0, 0, 2)),
        "edges": graphs["edges"],
    }
    signs = torch.ones(3)
    assert not torch.allclose(model(more, signs)[0][:, :4], model(graphs, signs)[0])


def test_signs_are_drawn_once_a_batch_also_in_evaluation():
    config = replace(SMALL, symmetric=True)
    model = randomised(SGTransformer(config))
    _, graphs = scenes_and_graphs(config)
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        seen.add(float(model(graphs)[0].detach().sum()))
    assert 1 < len(seen) <= 2**3
    plus, minus = model(graphs, torch.ones(3))[0], model(graphs, -torch.ones(3))[0]
    assert not torch.equal(plus, minus)
    flipped = graphs | {"positions": -graphs["positions"]}
    assert torch.equal(model(flipped, torch.ones(3))[0], minus)


def test_back_edges_return_from_the_image():
    edges = torch.tensor([[[1, 0, 0], [2, 0, 0], [1, 3, 2], [-1, -1, -1]]])
    found = with_back_edges(edges)[0]
    assert found[:4].tolist() == edges[0].tolist()
    assert found[4:].tolist() == [[0, 0, 1], [0, 0, 2], [-1, -1, -1], [-1, -1, -1]]


def test_in_a_graph_of_two_the_paper_s_layout_is_deaf_and_back_edges_let_it_hear():
    scenes = graph_scenes(60, seed=3)
    scenes = scenes[scenes.num_objects == 2]
    for back, hears in ((False, False), (True, True)):
        config = replace(SMALL, back_edges=back, symmetric=True)
        model = randomised(SGTransformer(config))
        signs = torch.ones(3)
        said = model(graphs_of(scenes, config), signs)[0]
        other = model(graphs_of(turned(scenes), config), signs)[0]
        objects = scenes.labels > 0
        assert bool((said - other)[objects].abs().max() > 1e-3) == hears


def test_losses_are_the_published_sums():
    torch.manual_seed(0)
    model = randomised(SGTransformer(SMALL))
    _, graphs = scenes_and_graphs()
    torch.manual_seed(1)
    boxes, logits = model(graphs)
    target, labels = graphs["boxes"], graphs["labels"]
    label = torch.nn.functional.cross_entropy(logits.reshape(-1, 4), labels.reshape(-1))
    clipped = boxes.clamp(0, 1)
    squared = ((clipped - target) ** 2).mean()
    torch.manual_seed(1)
    expected = squared + complete_overlap_loss(clipped, target).mean() + label
    torch.testing.assert_close(model.loss(graphs)[0], expected)
    torch.manual_seed(1)
    expected = (
        10 * (boxes - target).abs().mean() + label + complete_overlap_loss(boxes, target).mean()
    )
    torch.testing.assert_close(model.joint_loss(graphs)[0], expected)
    plain = randomised(SGTransformer(replace(SMALL, overlap_weight=0.0)))
    torch.manual_seed(1)
    torch.testing.assert_close(plain.loss(graphs)[0], squared + label)


def test_boxes_start_inside_the_picture_and_labels_are_never_below_the_least_gelu():
    torch.manual_seed(0)
    model = SGTransformer(PRESETS["tiny"].graph)
    _, graphs = scenes_and_graphs(PRESETS["tiny"].graph)
    boxes, logits = model(graphs)
    assert (boxes > 0).flatten(0, 1).any(0).all()  # no coordinate starts without gradient
    assert logits.min() > -0.171 and boxes.min() > -0.279  # of GELU and SiLU


def test_bad_graphs_are_refused():
    model = SGTransformer(SMALL)
    _, graphs = scenes_and_graphs()
    for name, value, message in (
        ("labels", graphs["labels"] + 1, "labels"),
        ("edges", graphs["edges"] + torch.tensor([0, 7, 0]), "predicates"),
        ("edges", graphs["edges"] + torch.tensor([2, 0, 0]), "nodes"),
        ("edges", graphs["edges"][..., :2], "edges"),
    ):
        with pytest.raises(ValueError, match=message):
            model(graphs | {name: value})
    for wrong in ({"dim": 15}, {"dim": 18}, {"aggregation": "sum"}):
        with pytest.raises(ValueError, match="dim|aggregation"):
            replace(SMALL, **wrong)


# --- positions ------------------------------------------------------------------------------------


def test_symmetric_positions_are_eigenvectors_of_networkx_s_laplacian():
    edges = torch.tensor([[[0, 1, 1], [1, 1, 2], [2, 1, 3], [3, 1, 4], [0, 1, 2]]])
    found = laplacian_positions(edges, 5, 4, symmetric=True)[0].double().numpy()
    graph = nx.Graph([(0, 1), (1, 2), (2, 3), (3, 4), (0, 2)])
    matrix = nx.normalized_laplacian_matrix(graph, nodelist=range(5)).toarray()
    values = np.sort(np.linalg.eigvalsh(matrix))[1:]
    np.testing.assert_allclose(matrix @ found, found * values, atol=1e-6)


def test_positions_of_the_paper_s_graph():
    """Directed: without a way back all eigenvalues are 1. Missing columns are zero."""
    edges = torch.tensor([[[1, 0, 0], [2, 0, 0], [1, 3, 2], [-1, -1, -1]]])
    assert adjacency(edges, 3)[0].tolist() == [[0, 0, 0], [1, 0, 1], [1, 0, 0]]
    twice = torch.cat([edges, edges], 1)
    assert adjacency(twice, 3)[0, 1, 2] == 2
    found = laplacian_positions(edges, 3, 5)
    assert found.shape == (1, 3, 5) and (found[..., 2:] == 0).all()
    a = adjacency(edges, 3)[0].double()
    scale = a.sum(0).clamp_min(1).rsqrt()
    laplacian = torch.eye(3).double() - scale[:, None] * a * scale
    assert torch.linalg.eigvals(laplacian).real.sub(1).abs().max() < 1e-6
    torch.testing.assert_close(laplacian @ found[0, :, :2].double(), found[0, :, :2].double(),
                               atol=1e-5, rtol=0)  # fmt: skip


# --- boxes ----------------------------------------------------------------------------------------

box = st.tuples(*[st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.05, 0.5), st.floats(0.05, 0.5)])


@settings(deadline=None, max_examples=50)
@given(box, box)
def test_overlap_and_its_complete_loss_by_counting(one, two):
    """The overlap by cells of a fine grid, the rest of the loss from its formula in numbers."""
    a, b = ((x, y, x + w, y + h) for x, y, w, h in (one, two))
    points = (np.arange(400) + 0.5) / 400
    x, y = np.meshgrid(points, points)
    inside = [(x > c[0]) & (x < c[2]) & (y > c[1]) & (y < c[3]) for c in (a, b)]
    counted = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
    iou = float(overlap(torch.tensor(a), torch.tensor(b)))
    assert abs(iou - counted) < 0.08
    c2 = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    rho2 = ((a[0] + a[2] - b[0] - b[2]) ** 2 + (a[1] + a[3] - b[1] - b[3]) ** 2) / 4
    v = 4 / math.pi**2 * (math.atan(two[2] / two[3]) - math.atan(one[2] / one[3])) ** 2
    expected = 1 - iou + rho2 / c2 + v * v / (1 - iou + v + 1e-7)
    found = complete_overlap_loss(torch.tensor(a).double(), torch.tensor(b).double())
    assert float(found) == pytest.approx(expected, abs=1e-4)


def test_complete_overlap_of_equal_and_of_empty_boxes():
    same = torch.tensor([[0.2, 0.3, 0.5, 0.9]])
    assert complete_overlap_loss(same, same).abs().max() < 1e-5
    empty = torch.zeros(1, 4, requires_grad=True)
    loss = complete_overlap_loss(empty, same).sum()
    loss.backward()
    assert loss.isfinite() and empty.grad.isfinite().all()


def test_the_weight_of_the_aspect_has_no_gradient():
    a = torch.tensor([0.1, 0.1, 0.6, 0.4], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([0.1, 0.2, 0.5, 0.8], dtype=torch.float64)
    complete_overlap_loss(a, b).backward()

    def held(x, weight):
        w, h = x[2] - x[0], x[3] - x[1]
        angle = torch.atan(torch.tensor(0.4 / 0.6).double()) - torch.atan(w / h)
        v = 4 / math.pi**2 * angle**2
        iou = overlap(x, b)
        c2 = (torch.maximum(x[2:], b[2:]) - torch.minimum(x[:2], b[:2])).square().sum() + 1e-7
        rho2 = ((x[:2] + x[2:] - b[:2] - b[2:]) / 2).square().sum()
        alpha = v / (1 - iou + v + 1e-7)
        return 1 - iou + rho2 / c2 + (alpha.detach() if weight else alpha) * v

    for still in (True, False):
        x = a.detach().clone().requires_grad_()
        held(x, still).backward()
        assert torch.allclose(a.grad, x.grad, atol=1e-6) == still


# --- tokens ---------------------------------------------------------------------------------------


def test_published_tokens():
    tokens = LayoutTokens(8192, 30)
    assert (tokens.sections, tokens.padding, tokens.length) == (90, 8191, 92)
    labels = torch.tensor([[5, 0]])
    boxes = torch.tensor([[[0.0, 0.5, 0.25, 1.0], [0.0, 0.0, 1.0, 1.0]]])
    found = tokens.encode(labels, boxes, torch.arange(2))[0].tolist()
    corner = [round(89 * 0.5) * 90 + 0, 89 * 90 + round(89 * 0.25)]
    assert found == [5, *corner, 0, 0, 8099, *[8191] * 84, 0, 8099]


@settings(deadline=None, max_examples=50)
@given(
    st.integers(5, 300),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_tokens_stay_in_the_vocabulary_and_corners_are_no_padding(k, boxes, rng):
    tokens = LayoutTokens(k, 4)
    labels = torch.tensor([[rng.randrange(k - 1) for _ in boxes]])
    order = torch.tensor(rng.sample(range(len(boxes)), len(boxes)))
    found = tokens.encode(labels, torch.tensor([boxes]), order)
    assert found.shape == (1, 14) and int(found.min()) >= 0 and int(found.max()) < k
    assert (found == k - 1).sum() == 3 * (4 - len(boxes))
    back, places = tokens.decode(found)
    assert back[0, : len(boxes)].tolist() == labels[0, order].tolist()
    off = (places[0, : len(boxes)] - torch.tensor(boxes)[order]).abs().max()
    assert off <= 0.5 / (tokens.sections - 1) + 1e-6


def test_layouts_that_do_not_fit_are_refused():
    tokens = LayoutTokens(40, 2)
    with pytest.raises(ValueError, match="at most 2"):
        tokens.encode(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match="labels must lie"):
        tokens.encode(torch.full((1, 1), 40), torch.zeros(1, 1, 4))
    with pytest.raises(ValueError, match="codebook_size"):
        LayoutTokens(4, 2)


# --- the picture's codes --------------------------------------------------------------------------


def streams(n=3):
    torch.manual_seed(1)
    length = IMAGE.tokens.length
    return torch.randint(40, (n, length)), torch.randint(40, (n, IMAGE.num_codes))


def test_codes_are_predicted_as_by_gpt2_of_transformers():
    """The same weights there; a cut at T instead of T - 1 predicts another code."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = randomised(ImageGPT(IMAGE))
    length = IMAGE.gpt.length
    peer = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=40, n_positions=length, n_embd=16, n_layer=2, n_head=2,
            activation_function="gelu", tie_word_embeddings=False,
        )
    ).eval()  # fmt: skip
    ours, theirs = model.gpt, peer.transformer
    theirs.wte.weight.data = ours.embedding.weight.data
    theirs.wpe.weight.data = ours.trunk.position.data
    for mine, block in zip(ours.trunk.blocks, theirs.h, strict=True):
        pairs = [(mine.norm1, block.ln_1), (mine.norm2, block.ln_2)]
        for a, b in pairs:
            b.weight.data, b.bias.data = a.weight.data, a.bias.data
        pairs = [(mine.attention.qkv, block.attn.c_attn), (mine.attention.proj, block.attn.c_proj)]
        pairs += [(mine.mlp.fc1, block.mlp.c_fc), (mine.mlp.fc2, block.mlp.c_proj)]
        for a, b in pairs:
            b.weight.data, b.bias.data = a.weight.data.T.contiguous(), a.bias.data
    theirs.ln_f.weight.data = ours.trunk.norm.weight.data
    theirs.ln_f.bias.data = ours.trunk.norm.bias.data
    peer.lm_head.weight.data = ours.head.linear.weight.data
    layout, codes = streams()
    stream = torch.cat([layout, codes], 1)
    with torch.no_grad():
        logits = peer(stream[:, :-1]).logits
        found = model.nats(layout, codes)
    first = layout.shape[1]
    expected = torch.nn.functional.cross_entropy(
        logits[:, first - 1 :].transpose(1, 2), codes, reduction="none"
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    late = torch.nn.functional.cross_entropy(
        logits[:, first:].transpose(1, 2), codes[:, :-1], reduction="none"
    )
    assert not torch.allclose(found[:, :-1], late, atol=1e-2)


def test_a_code_sees_the_layout_and_what_came_before():
    model = randomised(ImageGPT(IMAGE))
    layout, codes = streams()
    base = model.nats(layout, codes)
    later = codes.clone()
    later[:, 3] = (later[:, 3] + 1) % 40
    found = model.nats(layout, later)
    torch.testing.assert_close(found[:, :3], base[:, :3])
    assert (found[:, 4:] - base[:, 4:]).abs().amax() > 1e-3
    other = layout.clone()
    other[:, 0] = (other[:, 0] + 1) % 40
    assert (model.nats(other, codes) - base).abs().amin(0).max() > 1e-4
    with pytest.raises(ValueError, match="tokens of a layout"):
        model.nats(layout[:, :-1], codes)


def test_sampling_follows_the_predictions():
    """Greedy draws are the most likely codes of the teacher-forced stream."""
    model = randomised(ImageGPT(IMAGE))
    layout, _ = streams()
    drawn = model.sample(3, layout, lambda logits: logits.argmax(-1))
    stream = torch.cat([layout, drawn], 1)
    with torch.no_grad():
        logits = model.gpt(stream[:, :-1])[:, layout.shape[1] - 1 :]
    assert torch.equal(logits.argmax(-1), drawn)


# --- the whole ------------------------------------------------------------------------------------


def whole(layouts="predicted"):
    torch.manual_seed(0)
    config = replace(PRESETS["tiny"], graph=SMALL, image=IMAGE, layouts=layouts)
    scenes, graphs = scenes_and_graphs()
    codes = torch.randint(40, (len(scenes), IMAGE.num_codes))
    return SG2Im(config), graphs | {"codes": codes}


def test_no_gradient_of_a_picture_reaches_the_layout():
    model, batch = whole()
    model.image_loss(batch)[0].backward()
    assert all(p.grad is None for p in model.layout.parameters())
    assert all(p.grad is not None for p in model.image.parameters())
    model, batch = whole()
    model.layout_loss(batch)[0].backward()
    assert all(p.grad is None for p in model.image.parameters())
    reached = [p.grad is not None for p in model.layout.box_head.parameters()]
    assert all(reached)


def test_players():
    assert [p.name for p in whole()[0].players()] == ["layout", "image"]
    assert [p.name for p in whole("true")[0].players()] == ["image"]
    with pytest.raises(ValueError, match="layouts"):
        replace(PRESETS["tiny"], layouts="some")


def test_joint_steps_lower_both_losses():
    """Boxes come nearer, and codes are learned by heart behind layouts that move meanwhile."""
    model, batch = whole()
    done = fit(model, lambda step: batch, steps=120, lr=3e-3, clip=1.0, log_every=1, progress=False)
    first, last = done.history[0], done.history[-1]
    # Codes are random: their nats start near ln 40 and fall by learning this batch by heart.
    assert abs(first["image/loss"] - math.log(40)) < 0.5
    assert last["image/loss"] < first["image/loss"] - 0.5
    assert last["layout/loss"] < 0.6 * first["layout/loss"]
    assert last["layout/absolute"] < 0.5 * first["layout/absolute"]


def test_what_is_written_of_layouts():
    model, batch = whole()
    order = torch.tensor([3, 1, 0, 2])
    true = model.write(batch, "true", order)
    labels, boxes = model.config.image.tokens.decode(true)
    assert torch.equal(labels, batch["labels"][:, order])
    assert (model.write(batch, "none") == 39).all()
    signs = torch.ones(3)
    predicted = model.write(batch, "predicted", order, signs)
    labels, boxes = model.lay_out(batch, signs)
    expected = model.config.image.tokens.encode(labels, boxes, order)
    assert torch.equal(predicted, expected) and not torch.equal(predicted, true)
    torch.manual_seed(0)
    assert len({tuple(model.write(batch, "true")[0].tolist()) for _ in range(9)}) > 1


def test_predicting_a_layout_moves_no_statistics():
    model, batch = whole()
    model.train()
    before = {k: v.clone() for k, v in model.layout.state_dict().items()}
    model.image_loss(batch)
    assert all(torch.equal(v, before[k]) for k, v in model.layout.state_dict().items())
    assert model.layout.training


def test_pictures_of_graphs_repeat_with_the_seed():
    torch.manual_seed(0)
    tokenizer = vqgan.build(
        VQGANConfig(
            image_size=8,
            codebook_size=40,
            code_dim=4,
            channels=8,
            multipliers=(1, 1, 1),
            num_res_blocks=1,
            attention_stages=(),
            groups=4,
        )  # fmt: skip
    ).eval()
    config = replace(PRESETS["tiny"], graph=SMALL, image=replace(IMAGE, num_codes=4))
    system = ScenePipeline(tokenizer, SG2Im(config).eval())
    scenes = graph_scenes(3, size=8, seed=1)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(system.sample(scenes))
    assert drawn[0].shape == (3, 3, 8, 8)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    codes = system.encode(drawn[0])
    assert codes.shape == (3, 4)
    with pytest.raises(ValueError, match="codes"):
        ScenePipeline(tokenizer, SG2Im(replace(config, image=IMAGE)))
    torch.manual_seed(0)
    more = system.generator.sample(3, graphs_of(scenes, SMALL), SMALL_DRAW)
    torch.manual_seed(0)
    assert torch.equal(system.decode(more), system.sample(scenes))


# --- what is read off -----------------------------------------------------------------------------


def test_true_boxes_obey_what_is_stated_and_nothing_of_the_opposite():
    scenes = graph_scenes(80, seed=2)
    asks = stated(scenes.edges)
    holds = obeyed(scenes.edges, scenes.boxes)
    assert holds[asks].float().mean() > 0.99  # a triangle's centre of area is not its box's
    other = turned(scenes)
    assert not obeyed(other.edges, scenes.boxes).any()
    assert torch.equal(stated(other.edges), asks)
    assert torch.equal(turned(other).edges, scenes.edges)
    gone = scenes.labels * 0 > 0
    assert not obeyed(scenes.edges, scenes.boxes, present=gone).any()


def test_entropy_of_colours():
    always = torch.zeros(8, 5, 2, dtype=torch.int64)
    assert entropy_of(always) == 0
    even = torch.arange(4).repeat(2)[:, None, None].expand(8, 5, 2)
    assert entropy_of(even) == pytest.approx(math.log(4))
    mixed = even.clone()
    mixed[:, :, 1] = -1  # never seen: does not count
    assert entropy_of(mixed) == pytest.approx(math.log(4))
