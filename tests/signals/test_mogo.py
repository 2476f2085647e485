"""Mogo: published counts, who sees whom, streaming with caches, the loss and its corruption."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.measure import count_flops, count_parameters
from gentok.signals import mogo
from gentok.signals.mogo.model import PRESETS, Mogo, build, example

TINY = replace(PRESETS["tiny"], dim=32, codebook_size=20, text_dim=8, dropout=0.0)
Q, K = TINY.num_levels, TINY.codebook_size


@pytest.fixture
def model():
    return network_of(TINY)


def network_of(config) -> Mogo:
    """Weights so large that every path matters."""
    torch.manual_seed(0)
    network = build(config).eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return network


def batch_of(n: int = 3, frames: int = 9, seed: int = 1) -> dict:
    torch.manual_seed(seed)
    return {"codes": torch.randint(0, K, (n, frames, Q)), "text": torch.randn(n, 8)}


# --- sizes ----------------------------------------------------------------------------------------

RELEASED = {
    "code-a-512": 577_658_886,
    "code-a-1024": 581_856_262,
    "code-a-8192": 640_619_526,
    "code-b-1024": 718_263_302,
}


@pytest.mark.parametrize("name", RELEASED)
def test_published_parameter_counts(name):
    """Ours is the released network less six times what its levels create and never call."""
    config = PRESETS[name]
    with torch.device("meta"):
        network = build(config)
    unused = (config.codebook_size + 1) * (1024 + 1)
    if config.codebook_size == 1024:
        assert unused == 1_050_625
    count = count_parameters(network)
    assert count == RELEASED[name] - 6 * unused == config.published_params
    assert count_parameters(network.levels[0].blocks[0]) == 13_640_704
    assert len(network.levels[0].blocks) == {"a": 18, "b": 20}[name[5]]


def test_example_runs_on_the_meta_device():
    with torch.device("meta"):
        network = build(TINY)
    total, parts = network.loss(example(TINY, batch_size=2))
    assert total.is_meta and total.shape == () and len(parts) == Q
    assert count_flops(network.loss, example(TINY, 2)) > 0


# --- the hierarchy --------------------------------------------------------------------------------


@given(st.integers(0, Q - 1), st.integers(0, 8))
@settings(max_examples=25, deadline=None)
def test_a_code_acts_on_later_frames_of_its_own_and_finer_levels(level, frame):
    network, batch = network_of(TINY), batch_of()
    before = network(**batch)
    batch["codes"][:, frame, level] = (batch["codes"][:, frame, level] + 1) % K
    changed = (network(**batch) - before).abs().amax((0, 3)) > 1e-5  # (T, Q)
    expected = torch.zeros(9, Q, dtype=torch.bool)
    expected[frame + 1 :, level:] = True
    assert torch.equal(changed, expected)


def test_inputs_are_prefix_sums_of_one_table(model):
    codes = batch_of()["codes"]
    sums = model.prefix_sums(codes)
    for level in range(Q):
        expected = sum(model.embedding.weight[codes[..., q]] for q in range(level + 1))
        torch.testing.assert_close(sums[:, :, level], expected)


def test_levels_share_table_and_output_layer(model):
    assert [n for n, _ in model.named_modules() if "embedding" in n] == ["embedding"]
    assert [n for n, _ in model.named_modules() if n.endswith("head")] == ["head"]
    hidden = torch.randn(2, 5, 32)
    for level in model.levels:
        level.forward = lambda x, caches=None: hidden[: len(x)].expand(len(x), -1, -1)
    codes = torch.zeros(1, 4, Q, dtype=torch.int64)
    logits = model(codes, torch.zeros(1, 8))
    assert all(torch.equal(logits[:, :, 0], logits[:, :, q]) for q in range(Q))


@pytest.mark.parametrize("tokens", [1, 2])
def test_prefix_is_text_and_level_or_their_sum(tokens):
    network = build(replace(TINY, prefix_tokens=tokens))
    text = torch.randn(3, 8)
    sentence = network.text(text)
    for i, prefix in enumerate(network.prefix(text)):
        name = network.level(F.one_hot(torch.tensor(i), Q).float())
        if tokens == 1:
            torch.testing.assert_close(prefix, (sentence + name)[:, None])
        else:
            expected = torch.stack([sentence, name.expand(3, -1)], 1)
            torch.testing.assert_close(prefix, expected)


@pytest.mark.parametrize("tokens", [1, 2])
def test_text_and_level_reach_every_frame(tokens):
    network, batch = network_of(replace(TINY, prefix_tokens=tokens)), batch_of()
    before = network(**batch)
    other = network(batch["codes"], batch["text"].roll(1, 0))
    assert ((other - before).abs().amax((0, 3)) > 1e-5).all()
    network.level.weight.data[:, 2] += 1.0
    moved = (network(**batch) - before).abs().amax((0, 1, 3)) > 1e-5
    assert moved.tolist() == [q == 2 for q in range(Q)]


# --- streaming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("positions", ["relative", "absolute"])
def test_cached_logits_equal_recomputation(tokens, positions):
    network = network_of(replace(TINY, prefix_tokens=tokens, positions=positions))
    batch = batch_of(frames=30)
    caches = [level.start() for level in network.levels]
    inputs, rows = network.prefix(batch["text"]), []
    with torch.no_grad():
        for column in batch["codes"].unbind(1):
            rows.append(network.next_logits(inputs, caches))
            inputs = list(network.prefix_sums(column[:, None]).unbind(2))
        torch.testing.assert_close(torch.stack(rows, 1), network(**batch), rtol=1e-3, atol=1e-4)


def test_greedy_stream_is_the_best_next_column(model):
    """Beyond any length seen: the stream agrees with a full pass over what it wrote."""
    text = torch.randn(2, 8)
    codes = model.sample(2, text, 80, temperature=0)
    assert torch.equal(model(codes, text).argmax(-1), codes)
    assert len(codes.unique()) > 3, "all columns alike would prove little"


def test_stream_is_endless_lazy_and_deterministic(model):
    text = torch.randn(2, 8)
    torch.manual_seed(5)
    first = torch.stack(list(islice(model.stream(text, top_k=5, top_p=0.9), 12)), 1)
    torch.manual_seed(5)
    assert torch.equal(model.sample(2, text, 12, top_k=5, top_p=0.9), first)
    assert first.shape == (2, 12, Q) and first.dtype == torch.int64
    assert int(first.min()) >= 0 and int(first.max()) < K


def test_one_token_a_level_a_frame(model):
    """The cost of a frame does not grow with passes over the past."""
    seen = []
    for level in model.levels:
        level.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    model.sample(1, torch.randn(1, 8), 10)
    assert seen == [2] * Q + [1] * (9 * Q)


def test_temperature_orders_the_entropy(model):
    text = torch.zeros(200, 8)
    spread = []
    for temperature in (0.2, 1.0):
        torch.manual_seed(0)
        codes = model.sample(200, text, 1, temperature=temperature)[:, 0, 0]
        spread.append(len(codes.unique()))
    assert spread[0] < spread[1]


def test_absolute_positions_end(model):
    short = build(replace(TINY, positions="absolute", max_positions=12)).eval()
    assert short.sample(1, torch.zeros(1, 8), 11).shape == (1, 11, Q)
    with pytest.raises(ValueError, match="max_positions = 12"):
        short.sample(1, torch.zeros(1, 8), 12)


# --- training -------------------------------------------------------------------------------------


def test_loss_is_the_mean_cross_entropy_of_clean_codes(model):
    batch = batch_of()
    total, parts = model.loss(batch)
    logits = model(**batch)
    by_level = [F.cross_entropy(logits[:, :, q].flatten(0, 1), batch["codes"][..., q].flatten())
                for q in range(Q)]  # fmt: skip
    torch.testing.assert_close(total, torch.stack(by_level).mean())
    torch.testing.assert_close(torch.stack(list(parts.values())), torch.stack(by_level))
    torch.testing.assert_close(model.nll(**batch).mean((0, 1)), torch.stack(by_level))


def test_padding_counts_for_nothing_and_clips_weigh_the_same(model):
    batch = batch_of(2)
    batch["codes"][1, 4:] = K  # padding after frame 3
    total, _ = model.loss({**batch, "length": torch.tensor([9, 4])})
    alone = [
        model.loss({"codes": batch["codes"][:1], "text": batch["text"][:1]})[0],
        model.loss({"codes": batch["codes"][1:, :4], "text": batch["text"][1:]})[0],
    ]
    torch.testing.assert_close(total, (alone[0] + alone[1]) / 2)


@pytest.mark.parametrize("wrong", [0, 10])
def test_lengths_outside_the_clip_are_refused(model, wrong):
    """A clip of no frames would divide by none, and the loss be NaN."""
    with pytest.raises(ValueError, match=rf"length must lie in \[1, 9\], got {min(wrong, 4)} to"):
        model.loss({**batch_of(2), "length": torch.tensor([4, wrong])})


def test_corruption_replaces_half_of_the_inputs_and_no_target(model):
    seen = {}
    plain = model.forward

    def spy(codes, text):
        seen["codes"] = codes
        return plain(codes, text)

    model.forward = spy
    batch = batch_of(64, 40)
    model.train().loss(batch)
    changed = (seen["codes"] != batch["codes"]).float()
    torch.testing.assert_close(  # a random code is the old one in one of K draws
        changed.mean((0, 1)), torch.full((Q,), 0.5 * (1 - 1 / K)), rtol=0, atol=0.04
    )
    torch.manual_seed(0)
    total, _ = model.loss(batch)
    expected = F.cross_entropy(plain(seen["codes"], batch["text"]).movedim(-1, 1), batch["codes"])
    torch.testing.assert_close(total, expected)
    model.eval().loss(batch)
    assert torch.equal(seen["codes"], batch["codes"]), "evaluation corrupted its input"


def test_padding_is_never_corrupted(model):
    seen = {}
    plain = model.forward
    model.forward = lambda codes, text: seen.update(codes=codes) or plain(codes, text)
    batch = batch_of(8)
    batch["codes"][:, 5:] = K
    model.train().loss({**batch, "length": torch.full((8,), 5)})
    assert (seen["codes"][:, 5:] == K).all()


@pytest.mark.parametrize("positions", ["relative", "absolute"])
def test_every_parameter_learns(positions):
    network = build(replace(TINY, positions=positions, max_positions=10)).train()
    network.loss(batch_of())[0].backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.slow
def test_overfits_one_batch():
    torch.manual_seed(0)
    network = build(replace(TINY, corruption=0.0)).train()
    batch = batch_of(2, 8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        total, _ = network.loss(batch)
        total.backward()
        optimizer.step()
    assert total.item() < 0.2  # from log 20 = 3.0
    codes = network.eval().sample(2, batch["text"], 8, temperature=0)
    assert (codes == batch["codes"]).float().mean() > 0.9


def test_bad_input(model):
    with pytest.raises(ValueError, match="one entry a level"):
        build(replace(TINY, depths=(1, 1)))
    with pytest.raises(ValueError, match="prefix_tokens must be 1 or 2"):
        build(replace(TINY, prefix_tokens=3))
    with pytest.raises(ValueError, match="'relative' and 'absolute'"):
        build(replace(TINY, positions="rotary"))
    batch = batch_of()
    with pytest.raises(ValueError, match=r"codes must be int64 \(B, T, 4\)"):
        model(batch["codes"][..., :3], batch["text"])
    with pytest.raises(ValueError, match=r"text must be \(3, 8\)"):
        model(batch["codes"], batch["text"][:, :7])
    with pytest.raises(ValueError, match=r"codes must lie in \[0, 20\]"):
        model(batch["codes"] - 30, batch["text"])
    with pytest.raises(ValueError, match="need frames >= 1"):
        model.sample(2, torch.zeros(2, 8), 0)
    assert mogo.build is build
