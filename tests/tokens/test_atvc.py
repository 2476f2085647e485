"""Accountable chat: the rules of orders, the discrete VAE, the stream of words and codes."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gentok.data import to_float
from gentok.measure import count_parameters
from gentok.nn.gumbel_quantize import GumbelQuantizer
from gentok.tokens.atvc import orders as rules
from gentok.tokens.atvc.dvae import DVAE, DVAES, DVAEConfig
from gentok.tokens.atvc.model import PRESETS, build, example
from gentok.tokens.atvc.orders import (
    ANSWER_LENGTH,
    CANNOT,
    FORBIDDEN,
    ORDER_LENGTH,
    UNDER,
    WORDS,
    YES,
    draw_orders,
    name_of,
    twins,
)
from gentok.tokens.atvc.pipeline import UNCLEAR, ChatPipeline, type_of
from gentok.tokens.atvc.readout import (
    bounds,
    measure_answers,
    measure_edits,
    replies,
    swapped,
    table_of,
)
from gentok.tokens.atvc.scenes import UNKNOWN, crowded, paint, read_kinds
from gentok.tokens.atvc.stream import ANSWER_FIRST, PARTS, ChatStream, StreamConfig, layer_scale_of

SMALL = StreamConfig(
    codebook_size=7, grid=2, words=11, order_length=5, answer_length=4, dim=16, num_layers=2,
    num_heads=2,
)  # fmt: skip
CODES = DVAEConfig(16, 2, 9, 6, 8, 1, floor=0.25, anneal=10)


def randomised(module, seed=0):
    """All parameters away from where they start."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    return module.eval()


def some_parts(config=SMALL, n=3, seed=1):
    """Orders and answers with padding behind, codes anywhere."""
    generator = torch.Generator().manual_seed(seed)
    parts = {}
    for name, places in config.sizes.items():
        high = config.codebook_size if name in ("source", "image") else config.words
        parts[name] = torch.randint(1, high, (n, places), generator=generator)
    parts["order"][:, -2:] = 0
    parts["answer"][0, -1] = 0
    return parts


def batch_of(config=SMALL, n=4, seed=1):
    return some_parts(config, n, seed) | {"obeyed": torch.tensor([True, False] * (n // 2))}


# --- orders ---------------------------------------------------------------------------------------


def obeyed_slowly(text, scene):
    """The rule in plain Python: words and a dictionary of places in, a dictionary out."""
    words = text.rstrip(".").split()
    found = [" ".join(words[i : i + 2]) for i in range(len(words)) if words[i] in rules.COLOURS]
    place = {name: next(p for p, x in scene.items() if x == name) for name in found}
    new = dict(scene)
    a = found[0]
    if "remove" in words:
        del new[place[a]]
        return new
    b = found[1]
    if "color" in words:
        (ca, sa), (cb, sb) = a.split(), b.split()
        new[place[a]], new[place[b]] = f"{cb} {sa}", f"{ca} {sb}"
    elif "position" in words:
        new[place[a]], new[place[b]] = b, a
    else:
        row, column = place[b]
        target = (row - 1, column) if "top" in words else (row + 1, column)
        assert target not in scene, "there is no room"
        del new[place[a]]
        new[target] = a
    return new


def as_dictionary(scene):
    return {
        (i, j): name_of(int(scene[i, j]))
        for i, j in itertools.product(range(len(scene)), repeat=2)
        if scene[i, j]
    }


def test_orders_are_obeyed_as_plain_python_would():
    orders = draw_orders(400, 3)
    seen = set()
    for i, text in enumerate(orders.texts()):
        before, after = as_dictionary(orders.before[i]), as_dictionary(orders.after[i])
        if orders.type[i] == YES:
            assert after == obeyed_slowly(text, before), text
            assert after != before
            seen.add(int(orders.template[i]))
        else:
            assert after == before
    assert seen == set(range(5))


def test_the_three_answers_follow_the_rules():
    orders = draw_orders(900, 5)
    texts, answers = orders.texts(), orders.answers()
    for i, (text, said) in enumerate(zip(texts, answers, strict=True)):
        there = set(as_dictionary(orders.before[i]).values())
        words = text.rstrip(".").split()
        named = [" ".join(words[k : k + 2]) for k in range(len(words)) if words[k] in rules.COLOURS]
        missing = [name for name in named if name not in there]
        if "under" in words and named[0].endswith("disc"):
            expected = "this action is forbidden. because you cannot put the "
            expected += f"{named[0]} under an object."
        elif missing:
            assert len(missing) == 1
            expected = f"this action cannot be done. because there is no {missing[0]}."
        else:
            expected = "no problem."
        assert said == expected
    assert torch.bincount(orders.type).min() > 140
    both = (orders.type == FORBIDDEN) & (orders.absent > 0)
    assert both.sum() > 60, "forbidden and impossible at once must occur"


def test_words_do_not_tell_yes_from_cannot():
    can, cannot = twins(2000, 7)
    assert can.texts() == cannot.texts()
    differ = can.before != cannot.before
    assert (differ.flatten(1).sum(1) == 1).all()
    rows = differ.flatten(1).int().argmax(1)
    gone = can.before.flatten(1).gather(1, rows[:, None])[:, 0]
    assert torch.equal(gone, cannot.absent)
    assert ((gone == can.a) | (gone == can.b)).all()
    # No object of a scene comes twice, and neither do names.
    for scene in (*can.before, *cannot.before):
        kinds = scene[scene > 0]
        assert len(kinds.unique()) == len(kinds) in (2, 3, 4)
    # Types and templates are independent where nothing is forbidden.
    orders = draw_orders(6000, 8)
    for template in range(5):
        of = orders.type[orders.template == template]
        share = (of == YES).sum() / (of != FORBIDDEN).sum()
        assert abs(float(share) - 0.5) < 0.06


def test_seeds_and_templates():
    one, again, other = draw_orders(50, 1), draw_orders(50, 1), draw_orders(50, 2)
    assert one.texts() == again.texts() and torch.equal(one.before, again.before)
    assert one.texts() != other.texts()
    few = draw_orders(200, 1, templates=(0, 4))
    assert set(few.template.tolist()) == {0, 4} and set(few.type.tolist()) == {YES, CANNOT}
    two = draw_orders(200, 1, colours=2)
    seen = two.before[two.before > 0]
    assert (rules.colour_of(seen) < 2).all() and len(seen.unique()) == 6
    with pytest.raises(ValueError, match="n >= 1"):
        draw_orders(0)
    with pytest.raises(ValueError, match="colours"):
        draw_orders(3, colours=1)
    with pytest.raises(ValueError, match="templates must be some"):
        draw_orders(3, templates=(9,))
    with pytest.raises(ValueError, match="must hold UNDER"):
        draw_orders(3, 0, torch.tensor([YES, FORBIDDEN, YES]), templates=(0,))


@settings(max_examples=20, deadline=None)
@given(grid=st.integers(3, 6), seed=st.integers(0, 10_000))
def test_every_grid_has_room(grid, seed):
    orders = draw_orders(40, seed, grid=grid)
    assert orders.before.shape == (40, grid, grid)
    assert (orders.changed().flatten(1).any(1) == (orders.type == YES)).all()


def test_lengths_hold_all_texts_and_leave_an_order_some_padding():
    orders = draw_orders(3000, 1)
    order = WORDS.encode(orders.texts(), ORDER_LENGTH, end=True)
    answer = WORDS.encode(orders.answers(), ANSWER_LENGTH, end=True)
    assert (order[:, -1] == 0).all() and (answer != 0).sum(1).max() == ANSWER_LENGTH
    assert WORDS.decode(order) == orders.texts() and WORDS.decode(answer) == orders.answers()


# --- scenes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [8, 16])
def test_what_is_painted_is_read(cell):
    orders = draw_orders(60, 4)
    images = to_float(paint(orders.before, cell))
    assert images.shape == (60, 3, 3 * cell, 3 * cell)
    assert torch.equal(read_kinds(images, cell), orders.before)
    torch.manual_seed(0)
    noisy = images + 0.05 * torch.randn_like(images)
    assert torch.equal(read_kinds(noisy, cell), orders.before)


def test_crowds_hold_all_kinds_alike():
    counts = torch.bincount(crowded(900, 3, 1).flatten(), minlength=13)
    assert counts.min() > 500 and counts.max() < 750
    few = crowded(200, 3, 1, colours=2).unique().tolist()
    assert few == [0, 1, 2, 5, 6, 9, 10]


def test_what_no_tile_shows_is_unknown():
    torch.manual_seed(0)
    assert (read_kinds(torch.rand(2, 3, 32, 32) * 2 - 1) == UNKNOWN).all()
    assert (read_kinds(torch.ones(1, 3, 32, 32)) == UNKNOWN).all()
    with pytest.raises(ValueError, match="multiple of 8"):
        read_kinds(torch.zeros(1, 3, 30, 30))


# --- the discrete VAE -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "encoder", "decoder"),
    [("dvae-128", 5_658_624, 4_721_667), ("dvae-256", 6_707_456, 5_770_499)],
)
def test_published_sizes_of_the_dvae(name, encoder, decoder):
    config = DVAES[name]
    with torch.device("meta"):
        network = DVAE(config)
    assert count_parameters(network) == config.published_params
    assert count_parameters(network.encoder) == encoder
    assert count_parameters(network.decoder) == decoder
    assert count_parameters(network.quantizer) == 4_194_304
    assert config.grid**2 == network.latent_space.numbers == 1024


class Reference(nn.Module):
    """The library's layout written anew, L = 2 and one block."""

    def __init__(self, hidden, codes, dim):
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(3, hidden, 4, 2, 1),
                nn.Conv2d(hidden, hidden, 4, 2, 1),
                nn.Conv2d(hidden, hidden, 3, 1, 1),
                nn.Conv2d(hidden, hidden, 3, 1, 1),
                nn.Conv2d(hidden, hidden, 1),
                nn.Conv2d(hidden, codes, 1),
            ]
        )

    def forward(self, x):
        a, b, c, d, e, f = self.layers
        x = b(a(x).relu()).relu()
        return f(x + e(d(c(x).relu()).relu()))


def test_the_encoder_has_the_librarys_layout():
    network = randomised(DVAE(CODES))
    reference = Reference(8, 9, 6)
    tensors = list(network.encoder.state_dict().values())
    reference.load_state_dict(dict(zip(reference.state_dict(), tensors, strict=True)))
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(network.latents(x), reference(x).permute(0, 2, 3, 1))


def test_gumbel_softmax_by_hand():
    """Code by code: exp of logit plus noise over temperature, divided by the sum."""
    torch.manual_seed(0)
    quantizer, tau = GumbelQuantizer(5, 3).train(), 0.7
    logits = torch.randn(2, 2, 5)
    torch.manual_seed(3)
    found, codes, _ = quantizer(logits, tau)
    torch.manual_seed(3)
    u = torch.rand_like(logits).clamp(1e-20, 1 - 1e-7).double()
    for i, j in itertools.product(range(2), repeat=2):
        weights = [
            ((logits[i, j, k].double() - (-(u[i, j, k].log())).log()) / tau).exp() for k in range(5)
        ]
        slow = sum(w * quantizer.codebook[k].double() for k, w in enumerate(weights)) / sum(weights)
        torch.testing.assert_close(found[i, j].double(), slow, atol=1e-5, rtol=1e-5)
        assert codes[i, j] == max(range(5), key=lambda k: float(logits[i, j, k]))


@pytest.mark.parametrize("kind", ["gumbel", "vq"])
def test_codes_are_hard_and_without_noise(kind):
    network = randomised(DVAE(replace(CODES, quantizer=kind))).train()
    x = torch.randn(2, 3, 16, 16)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    codes = network.encode(x)
    assert codes.shape == (2, 16) and torch.equal(codes, network.encode(x)) and network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    z = network.latents(x).flatten(1, 2)
    table = network.quantizer.codebook
    nearest = z.argmax(-1) if kind == "gumbel" else torch.cdist(z, table[None]).argmin(-1)
    assert torch.equal(codes, nearest)
    vectors = table[codes].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    torch.testing.assert_close(network.decode(codes), network.decoder(vectors))
    loss, parts = network.loss({"image": x}, 3)
    loss.backward()
    assert {"mse", "regulariser"} == set(parts)
    assert all(p.grad is not None for p in network.encoder.parameters())


def test_the_temperature_falls_to_its_floor():
    network = DVAE(CODES)
    taus = [network.temperature(step) for step in range(14)]
    assert taus[0] == 1 and taus[5] == pytest.approx(0.5) and taus[10] == pytest.approx(0.25)
    assert taus[10:] == [pytest.approx(0.25)] * 4 and taus == sorted(taus, reverse=True)


def test_the_kl_goes_as_the_temperature_falls():
    network = DVAE(replace(CODES, kl_weight=0.4))
    assert [network.kl_weight(step) for step in (0, 5, 10, 30)] == [0.4, 0.2, 0, 0]
    x = torch.randn(2, 3, 16, 16)
    losses = []
    for step in (0, 20):
        torch.manual_seed(0)
        loss, parts = network.loss({"image": x}, step)
        losses.append(float(loss.detach() - parts["mse"]) / float(parts["regulariser"]))
    assert losses == pytest.approx([0.4, 0], abs=1e-4)


def test_equal_patches_have_equal_codes():
    network = randomised(DVAE(DVAES["tiny"]))
    x = torch.rand(2, 3, 24, 24) * 2 - 1
    x[1, :, 8:16, 0:8] = x[0, :, 16:24, 8:16]
    z = network.latents(x)
    torch.testing.assert_close(z[1, 1, 0], z[0, 2, 1])
    assert network.decode(network.encode(x)).shape == x.shape


def test_bad_pictures_and_codes():
    network = DVAE(CODES)
    with pytest.raises(ValueError, match="image must be"):
        network.encode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="codes must be"):
        network.decode(torch.zeros(1, 9, dtype=torch.int64))
    with pytest.raises(ValueError, match="codes must lie"):
        network.decode(torch.full((1, 16), 9))
    with pytest.raises(ValueError, match="multiple"):
        DVAEConfig(30, 2)
    with pytest.raises(ValueError, match="quantizer"):
        DVAEConfig(quantizer="fsq")


# --- the stream -----------------------------------------------------------------------------------


def test_places_of_the_parts():
    spans = SMALL.spans
    assert spans == {"order": (1, 6), "source": (6, 10), "image": (10, 14), "answer": (14, 18)}
    assert SMALL.length == 18
    other = replace(SMALL, parts=ANSWER_FIRST).spans
    assert other["answer"] == (10, 14) and other["image"] == (14, 18)
    published = PRESETS["clevr-atvc"]
    assert published.spans["image"] == (1281, 2305) and published.length == 2561
    with torch.device("meta"):
        network = build(published)
    assert network.loss(example(published, 1))[0].shape == ()


@pytest.mark.parametrize("parts", [PARTS, ANSWER_FIRST])
def test_each_place_has_the_vocabulary_of_its_part(parts):
    config = replace(SMALL, parts=parts)
    network = randomised(ChatStream(config))
    text, codes = (0, 11), (11, 18)
    kinds = ["start"] + [name for name in parts for _ in range(config.sizes[name])]
    for place, kind in enumerate(kinds):
        expected = codes if kind in ("source", "image") else text
        assert network.head.range_of(place) == expected, place


@pytest.mark.parametrize("parts", [PARTS, ANSWER_FIRST])
def test_losses_are_softmax_over_the_places_own_words(parts):
    """Brute force over the whole vocabulary: the rest gets minus infinity, the targets one off."""
    config = replace(SMALL, parts=parts)
    network, given = randomised(ChatStream(config)), some_parts(config)
    tokens = network.write(**given)
    nats = network.nats(tokens)
    keys = network.readable(tokens)
    for name in ("image", "answer"):
        first, end = config.spans[name]
        for place in range(first, end):
            state = network.hidden(tokens[:, :place], keys)[:, -1]
            logits = network.head.linear(state)
            barred = torch.ones(18, dtype=torch.bool)
            barred[11:] = name == "answer"
            barred[:11] = name == "image"
            logits = logits.masked_fill(barred, -torch.inf)
            slow = -logits.log_softmax(-1)[torch.arange(3), tokens[:, place]]
            torch.testing.assert_close(nats[name][:, place - first], slow, atol=1e-5, rtol=1e-5)
    whole = network.head(network.hidden(tokens[:, :-1], keys), first=1)
    ranges = [network.head.range_of(place) for place in range(1, 18)]
    assert whole[0].isfinite().sum(-1).tolist() == [high - low for low, high in ranges]


@pytest.mark.parametrize("parts", [PARTS, ANSWER_FIRST])
def test_nothing_foreign_is_drawn_at_any_boundary(parts):
    """The output layer shouts for the wrong modality, and nobody hears it."""
    config = replace(SMALL, parts=parts)
    network = randomised(ChatStream(config))
    given = some_parts(config, 6)
    for shout in (slice(0, 11), slice(11, 18)):
        network.head.linear.bias.data.zero_()
        network.head.linear.bias.data[shout] = 1e4
        codes, words = network.sample(6, given["order"], given["source"])
        assert 0 <= codes.min() <= codes.max() < 7 and 0 <= words.min() <= words.max() < 11


@pytest.mark.parametrize("parts", [PARTS, ANSWER_FIRST])
def test_a_place_sees_what_came_before_it_alone(parts):
    config = replace(SMALL, parts=parts)
    network, given = randomised(ChatStream(config)), some_parts(config)
    given["answer"] = given["answer"].clamp_min(1)
    tokens = network.write(**given)
    keys = network.readable(tokens)
    base = network.hidden(tokens, keys)
    for place in (0, 1, 5, 6, 9, 10, 13, 14, 17):
        other = tokens.clone()
        low, high = network.head.range_of(place)
        other[:, place] = low + 1 + (tokens[:, place] - low) % (high - low - 1)
        moved = (network.hidden(other, keys) - base).abs().amax((0, 2)) > 1e-6
        assert not moved[:place].any(), place
        assert moved[place]
        if keys[:, place].all():
            assert moved[place:][keys[0, place:]].all(), place


def test_nothing_is_learned_at_a_refused_image():
    network = randomised(ChatStream(SMALL))
    refused = batch_of() | {"obeyed": torch.zeros(4, dtype=torch.bool)}
    loss, parts = network.loss(refused)
    loss.backward()
    rows = network.head.linear.weight.grad[SMALL.words :]
    assert torch.equal(rows, torch.zeros_like(rows)) and parts["image"] == 0
    assert (network.head.linear.bias.grad[SMALL.words :] == 0).all()
    # The image of a refused order is not even looked at, in a batch with others as well.
    batch = batch_of()
    other = batch | {"image": torch.where(batch["obeyed"][:, None], batch["image"], 6)}
    assert not torch.equal(batch["image"], other["image"])
    grads = []
    for version in (batch, other):
        network.zero_grad()
        network.loss(version)[0].backward()
        grads.append([p.grad.clone() for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_what_is_learned_of_images_is_that_of_the_obeyed():
    network, batch = randomised(ChatStream(SMALL)), batch_of()
    obeyed = {name: tensor[::2] for name, tensor in batch.items()}
    assert network.loss(batch)[1]["image"] == pytest.approx(
        float(network.loss(obeyed)[1]["image"]), rel=1e-6
    )
    more = ChatStream(replace(SMALL, learn_refused=True))
    more.load_state_dict(network.state_dict())
    copied = network.nats(
        network.write(**{name: batch["source" if name == "image" else name] for name in PARTS})
    )["image"]
    true = network.nats(network.write(**{name: batch[name] for name in PARTS}))["image"]
    expected = torch.where(batch["obeyed"][:, None], true, copied).mean()  # fmt: skip
    assert float(more.loss(batch)[1]["image"]) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_loss_is_a_weighted_mean():
    network = randomised(ChatStream(replace(SMALL, image_weight=3.0)))
    loss, parts = network.loss(batch_of())
    assert float(loss) == pytest.approx(float(parts["answer"] + 3 * parts["image"]) / 4, rel=1e-6)


def test_padding_is_neither_read_nor_learned():
    network = randomised(ChatStream(SMALL))
    batch = batch_of()
    batch["order"][:, 3:] = 0
    batch["answer"][:, 2:] = 0
    loss, _ = network.loss(batch)
    with torch.no_grad():
        network.order_position[4:] = torch.randn(2, 16)  # place 0 is the start's
        network.answer_position[2:] = torch.randn(2, 16)
    again, _ = network.loss(batch)
    torch.testing.assert_close(again, loss, atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        network.order_position[3] = torch.randn(16)
    assert abs(float(network.loss(batch)[0] - loss)) > 1e-4


def test_the_filler_of_a_refused_image():
    network, batch = randomised(ChatStream(SMALL)), batch_of()
    source = batch["source"]
    own = network.own(batch["order"], source, source)
    tokens = network.write(order=batch["order"], source=source, image=source)
    state = network.hidden(tokens, network.readable(tokens))
    for place in range(4):  # the first is told by the source's last place
        logits = network.head.linear(state[:, 9 + place])[:, 11:]
        assert torch.equal(own[:, place], logits.argmax(-1))
    assert not torch.equal(own, source)
    by_source = ChatStream(replace(SMALL, filler="source"))
    by_source.load_state_dict(network.state_dict())
    a, b = (float(m.loss(batch)[1]["answer"]) for m in (network, by_source))
    assert abs(a - b) > 1e-4
    first = randomised(ChatStream(replace(SMALL, parts=ANSWER_FIRST)))
    assert torch.equal(first.own(batch["order"], source, source), source)


@pytest.mark.parametrize("parts", [PARTS, ANSWER_FIRST])
def test_the_cache_changes_nothing(parts):
    config = replace(SMALL, parts=parts)
    network, given = randomised(ChatStream(config)), some_parts(config, 5)
    codes, words = network.sample(5, given["order"], given["source"])
    tokens = network.write(order=given["order"], source=given["source"])
    over = torch.zeros(5, dtype=torch.bool)
    for place in range(tokens.shape[1], config.length):
        state = network.hidden(tokens, network.readable(tokens))[:, -1]
        low, high = network.head.range_of(place)
        token = network.head.linear(state)[:, low:high].argmax(-1) + low
        if low == 0:
            token = torch.where(over, 0, token)
            over |= token == 2
        tokens = torch.cat([tokens, token[:, None]], 1)
    first, end = config.spans["image"]
    assert torch.equal(tokens[:, first:end] - 11, codes)
    first, end = config.spans["answer"]
    assert torch.equal(tokens[:, first:end], words)


def test_given_and_hidden_images():
    network, given = randomised(ChatStream(SMALL)), some_parts(n=6)
    order, source = given["order"], given["source"]

    def answers(image=None, hide=False):
        """Codes, words, and the logits of all words."""
        logits = []

        def draw(row):
            logits.append(row)
            return row.argmax(-1)

        codes, words = network.sample(6, order, source, image, hide, draw)
        return codes, words, torch.stack(logits[-4:])

    own, words, logits = answers()
    codes, again, same = answers(own)
    assert torch.equal(codes, own) and torch.equal(again, words)
    torch.testing.assert_close(same, logits, atol=1e-5, rtol=1e-5)
    other = (own + 3) % 7
    assert (answers(other)[2] - logits).abs().max() > 1e-2
    inner = other.clone()
    inner[:, -1] = own[:, -1]  # its last place, which tells the first word, sees itself
    hidden = [answers(image, hide=True)[2] for image in (own, inner)]
    torch.testing.assert_close(*hidden, atol=1e-6, rtol=1e-6)
    with pytest.raises(ValueError, match="need 5"):
        network.sample(5, order, source)


def test_the_blind_see_words_alone():
    network, batch = randomised(ChatStream(replace(SMALL, blind=True))), batch_of()
    other = batch | {name: (batch[name] + 3) % 7 for name in ("source", "image")}
    assert torch.equal(network.loss(batch)[0], network.loss(other)[0])
    seeing = ChatStream(SMALL)
    seeing.load_state_dict(network.state_dict())
    assert not torch.equal(seeing.loss(batch)[0], seeing.loss(other)[0])
    drawn = [network.sample(4, x["order"], x["source"]) for x in (batch, other)]
    assert torch.equal(drawn[0][1], drawn[1][1]) and (drawn[0][0] == 0).all()


def test_blocks_are_those_of_the_base():
    network = ChatStream(SMALL)
    block = network.trunk.blocks[0]
    assert block.attention.qkv.bias is None and block.attention.proj.bias is not None
    assert block.norm1.eps == network.trunk.norm.eps == 1e-5
    assert (block.scale1.gamma == 0.1).all() and network.head.linear.bias is not None
    assert [layer_scale_of(k) for k in (1, 18, 19, 24, 25)] == [0.1, 0.1, 1e-5, 1e-5, 1e-6]
    x = torch.randn(3, 16)
    value, gate = block.mlp.fc1(x).chunk(2, -1)
    torch.testing.assert_close(block.mlp(x), block.mlp.fc2(value * F.gelu(gate)))
    both = []
    for std in (1.0, 0.1):
        torch.manual_seed(0)
        both.append(ChatStream(replace(SMALL, table_std=std)).state_dict())
    assert 0.85 < float(both[0]["embedding.weight"].std()) < 1.15
    for name, tensor in both[0].items():
        table = name.startswith(("embedding", "order_pos", "answer_pos", "rows", "columns"))
        torch.testing.assert_close(both[1][name], tensor * (0.1 if table else 1))


def test_attention_is_gpt2s_with_the_same_weights():
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

    config = GPT2Config(
        n_embd=16, n_head=2, n_positions=18, attn_pdrop=0.0, resid_pdrop=0.0,
        attn_implementation="eager",
    )  # fmt: skip
    theirs, ours = GPT2Attention(config, layer_idx=0), randomised(ChatStream(SMALL))
    attention = ours.trunk.blocks[0].attention
    with torch.no_grad():
        theirs.c_attn.weight.copy_(attention.qkv.weight.T)
        theirs.c_attn.bias.zero_()
        theirs.c_proj.weight.copy_(attention.proj.weight.T)
        theirs.c_proj.bias.copy_(attention.proj.bias)
    x = torch.randn(3, 18, 16)
    barred = torch.full((18, 18), torch.finfo(torch.float32).min).triu(1)
    expected = theirs.eval()(x, attention_mask=barred[None, None])[0]
    torch.testing.assert_close(attention(x, None, True), expected, atol=1e-5, rtol=1e-5)


def test_the_whole_stream_is_a_plain_loop():
    """Embeddings, positions, blocks with LayerScale and GEGLU, written anew for one stream."""
    network, given = randomised(ChatStream(SMALL)), some_parts(n=1)
    tokens = network.write(**given)
    rows = [network.order_position]
    for name in ("source", "image"):
        grid = network.rows[name].expand(2, 2, 16) + network.columns[name].expand(2, 2, 16)
        rows.append(torch.stack([grid[i, j] for i in range(2) for j in range(2)]))
    x = network.embedding.weight[tokens[0]] + torch.cat([*rows, network.answer_position])
    keys, n = network.readable(tokens)[0], len(x)
    visible = torch.tensor(
        [[j <= i and (bool(keys[j]) or i == j) for j in range(n)] for i in range(n)]
    )
    for block in network.trunk.blocks:
        h = F.layer_norm(x, (16,), block.norm1.weight, block.norm1.bias, 1e-5)
        q, k, v = (h @ block.attention.qkv.weight.T).split(16, -1)
        heads = []
        for part in (slice(0, 8), slice(8, 16)):
            score = (q[:, part] @ k[:, part].T / 8**0.5).masked_fill(~visible, -torch.inf)
            heads.append(score.softmax(-1) @ v[:, part])
        x = x + block.scale1.gamma * block.attention.proj(torch.cat(heads, -1))
        h = F.layer_norm(x, (16,), block.norm2.weight, block.norm2.bias, 1e-5)
        value, gate = block.mlp.fc1(h).split(64, -1)
        x = x + block.scale2.gamma * block.mlp.fc2(value * F.gelu(gate))
    x = F.layer_norm(x, (16,), network.trunk.norm.weight, network.trunk.norm.bias, 1e-5)
    torch.testing.assert_close(network.hidden(tokens, keys[None])[0], x, atol=1e-4, rtol=1e-4)


def test_bad_streams():
    network, given = ChatStream(SMALL), some_parts()
    with pytest.raises(ValueError, match="first of"):
        network.write(order=given["order"], image=given["image"])
    with pytest.raises(ValueError, match="order must be"):
        network.write(order=given["order"][:, 1:])
    with pytest.raises(ValueError, match="source must lie"):
        network.write(order=given["order"], source=given["source"] + 7)
    with pytest.raises(ValueError, match="order must lie"):
        network.write(order=given["order"] + 11)
    with pytest.raises(ValueError, match="parts"):
        replace(SMALL, parts=("image",))
    with pytest.raises(ValueError, match="filler"):
        replace(SMALL, filler="noise")


def test_one_batch_is_learned():
    torch.manual_seed(0)
    network, batch = ChatStream(SMALL), batch_of()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    for step in range(120):
        loss, _ = network.loss(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.05
    codes, words = network.eval().sample(4, batch["order"], batch["source"])
    assert torch.equal(codes[::2], batch["image"][::2])


# --- the whole way --------------------------------------------------------------------------------


def small_system():
    tokenizer = randomised(DVAE(DVAES["tiny"]))
    return ChatPipeline(tokenizer, randomised(build(PRESETS["tiny"])))


def test_the_pipeline_discards_a_refused_picture():
    system, orders = small_system(), draw_orders(12, 1)
    x = to_float(paint(orders.before))
    reply = system.answer(x, orders.texts())
    assert reply.images.shape == x.shape and len(reply.answers) == 12
    assert reply.codes.shape == (12, 9) and reply.type.shape == (12,)
    refused = reply.type != YES
    assert torch.equal(reply.images[refused], x[refused])
    system.generator.head.linear.bias.data[WORDS.ids["no"]] = 1e4
    assert torch.equal(
        system.sample(12, x, orders.texts()), system.answer(x, orders.texts()).images
    )
    with pytest.raises(ValueError, match="an order for each"):
        system.answer(x, orders.texts()[:3])
    with pytest.raises(ValueError, match="unknown word 'fly'"):
        system.answer(x[:1], ["please fly."])
    with pytest.raises(ValueError, match="the generator"):
        ChatPipeline(system.tokenizer, ChatStream(SMALL))


def test_types_of_answers():
    said = [*draw_orders(30, 1).answers(), "", "no problem", "this action is red."]
    assert type_of(said[:30]).tolist() == draw_orders(30, 1).type.tolist()
    assert type_of(said[30:]).tolist() == [UNCLEAR] * 3


def test_measures_of_the_perfect_the_copyist_and_the_deaf():
    orders = draw_orders(300, 2)
    perfect = measure_answers(orders.type, orders.answers(), orders)
    assert set(perfect.values()) == {1.0}
    assert set(measure_edits(orders.after, orders).values()) == {1.0}
    copied = measure_edits(orders.before, orders)
    assert copied["changed"] == 0 and copied["kept"] == 1 and copied["whole"] == 0
    yes = measure_answers(torch.zeros(300, dtype=torch.int64), ["no problem."] * 300, orders)
    assert yes["balanced"] == 0.5 and yes["right"] == pytest.approx(1 / 3)
    can, cannot = twins(50, 3)
    blank = torch.full((50,), UNCLEAR)
    assert measure_answers(blank, [""] * 50, can)["right"] == 0 and cannot.type.unique() == CANNOT


def test_bounds_and_replies():
    system, orders = small_system(), draw_orders(40, 2)
    found = bounds(system.tokenizer, orders)
    assert found["copied"] == 0 and found["codes"] >= 1
    own = replies(system, orders)
    given = table_of(system.tokenizer, orders)
    direct = system.generator.sample(40, given["order"], given["source"])
    assert torch.equal(own[0], direct[0]) and own[2] == WORDS.decode(direct[1])
    assert torch.equal(replies(system, orders, "true")[0], given["image"])
    with pytest.raises(ValueError, match="behind"):
        replies(system, orders, "wrong")
    other = swapped(orders)
    assert (other.template == UNDER).all() and (other.type == FORBIDDEN).all()
    assert not torch.equal(other.before, orders[orders.type == FORBIDDEN].before)
