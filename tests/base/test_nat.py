"""The plain masked transformer and what it shares with ENAT: head, loss, groups, sampler."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.base.masked import nat, unmask
from gentok.base.masked.groups import Groups, State, positions, put, take
from gentok.base.masked.nat import MaskedTokenModel
from gentok.base.masked.unmask import Schedule, generate, mask_schedule
from gentok.measure import count_flops, count_parameters
from gentok.process.masked import gumbel, gumbel_at, random_mask
from gentok.tokens.enat.cost import nat_step_macs

TINY = replace(nat.PRESETS["tiny"], dim=32, depth=2, codebook_size=128)


@pytest.fixture
def model():
    """A small network that is no longer the identity it starts as."""
    torch.manual_seed(0)
    network = nat.build(TINY).eval()
    stir(network)
    return network


def stir(network: torch.nn.Module) -> None:
    """Give the zero-initialised modulations random values."""
    for name, parameter in network.named_parameters():
        if "modulation" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)


def batch_of(n: int = 4, seed: int = 1) -> dict:
    torch.manual_seed(seed)
    codes = torch.randint(0, TINY.codebook_size, (n, TINY.num_tokens))
    return {"codes": codes, "label": torch.randint(0, TINY.num_classes, (n,))}


def half_mask(n: int = 4) -> torch.Tensor:
    mask = torch.zeros(n, TINY.num_tokens, dtype=torch.bool)
    mask[:, ::2] = True
    return mask


def test_parameter_count():
    d, k, n, classes = TINY.dim, TINY.codebook_size, TINY.num_tokens, TINY.num_classes
    block = 18 * d**2 + 15 * d  # q, k, v, out 4; MLP 8; modulation 6
    outside = (k + 1 + n + classes + 1) * d + 2 * d + 2 * d + d**2 + d + 2 * d + k + 1
    assert count_parameters(nat.build(TINY)) == TINY.depth * block + outside


def test_block_equals_torchs_attention():
    """adaLN-Zero around `nn.MultiheadAttention` and `nn.LayerNorm`, written out."""
    torch.manual_seed(2)
    block = nat.NATBlock(32, 4)
    stir(block)
    x, c = torch.randn(3, 9, 32), torch.randn(3, 32)
    attention = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    attention.in_proj_weight.data.copy_(block.attention.qkv.weight)
    attention.in_proj_bias.data.copy_(block.attention.qkv.bias)
    attention.out_proj.load_state_dict(block.attention.proj.state_dict())
    m = block.modulation.linear(F.silu(c))[:, None].split(32, dim=-1)
    h = F.layer_norm(x, (32,), eps=1e-6) * (1 + m[1]) + m[0]
    x1 = x + m[2] * attention(h, h, h)[0]
    h = F.layer_norm(x1, (32,), eps=1e-6) * (1 + m[4]) + m[3]
    h = F.gelu(block.mlp.fc1(h), approximate="tanh")
    expected = x1 + m[5] * block.mlp.fc2(h)
    torch.testing.assert_close(block(x, c), expected, rtol=1e-4, atol=1e-5)


def test_blocks_start_as_identity():
    network = nat.build(TINY).eval()
    batch, mask = batch_of(), half_mask()
    _, state = network(batch["codes"], batch["label"], mask)
    ids = batch["codes"].masked_fill(mask, TINY.codebook_size)
    torch.testing.assert_close(state.features, network.embedding(ids))


def test_shapes_and_hidden_codes_stay_hidden(model):
    batch, mask = batch_of(), half_mask()
    logits, state = model(batch["codes"], batch["label"], mask)
    assert logits.shape == (4, 64, TINY.codebook_size)
    assert state.features.shape == (4, 64, TINY.dim)
    other = torch.where(mask, (batch["codes"] + 1) % TINY.codebook_size, batch["codes"])
    assert torch.equal(model(other, batch["label"], mask)[0], logits)
    other = torch.where(mask, batch["codes"], (batch["codes"] + 1) % TINY.codebook_size)
    assert not torch.allclose(model(other, batch["label"], mask)[0], logits)


def test_head_reads_the_word_embeddings_without_training_them(model):
    features = torch.randn(2, 5, TINY.dim)
    words = model.embedding.word.weight
    logits = model.head(features, words)
    h = F.gelu(model.head.linear(features))
    h = F.layer_norm(h, (TINY.dim,), model.head.norm.weight, model.head.norm.bias, eps=1e-5)
    expected = (h @ words.T + model.head.bias)[..., : TINY.codebook_size]
    torch.testing.assert_close(logits, expected)
    logits.sum().backward()
    assert words.grad is None
    assert model.head.bias.grad[TINY.codebook_size] == 0  # the mask's own logit is cut off


def test_final_norm_and_head_have_the_released_eps(model):
    """1e-5 there, 1e-6 in the blocks and on the embeddings; small features tell them apart."""
    model.double()
    batch, mask = batch_of(), half_mask()
    logits, state = model(batch["codes"], batch["label"], mask)
    ids = batch["codes"].masked_fill(mask, TINY.codebook_size)
    words = model.embedding.word(ids) + model.embedding.position
    scale, shift = model.embedding.norm.weight, model.embedding.norm.bias
    embedded = F.layer_norm(words, (TINY.dim,), scale, shift, eps=1e-6)
    torch.testing.assert_close(model.embedding(ids), embedded)
    head, norm = model.head, model.norm

    def rest(eps: float) -> torch.Tensor:
        h = F.layer_norm(state.features, (TINY.dim,), norm.weight, norm.bias, eps=eps)
        h = F.gelu(head.linear(h))
        h = F.layer_norm(h, (TINY.dim,), head.norm.weight, head.norm.bias, eps=eps)
        return (h @ model.embedding.word.weight.T + head.bias)[..., : TINY.codebook_size]

    torch.testing.assert_close(logits, rest(1e-5), rtol=1e-9, atol=1e-9)
    assert (logits - rest(1e-6)).abs().max() > 1e-6


def test_loss_is_smoothed_cross_entropy_on_masked_tokens_only(model):
    """The same random draws, the loss written out by log-probabilities."""
    batch = batch_of(8)
    model.label.train(False)  # the embedder's own drop would draw from the generator, too
    torch.manual_seed(5)
    total, parts = model.loss(batch)
    torch.manual_seed(5)
    dropped = torch.rand(8) < 0.15
    label = batch["label"].masked_fill(dropped, TINY.num_classes)
    order = torch.rand(8, 64).argsort(-1)
    masked = order[:, : model.draw_num_masked()]
    mask = torch.zeros(8, 64, dtype=torch.bool).scatter(1, masked, True)
    log_p = model(batch["codes"], label, mask)[0].log_softmax(-1)[mask]  # (B M, K)
    target = batch["codes"][mask]
    own = log_p.gather(1, target[:, None])[:, 0]
    expected = -(0.9 * own + 0.1 * log_p.mean(-1)).mean()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(parts["accuracy"], (log_p.argmax(-1) == target).float().mean())


def test_mask_ratio_follows_the_beta_distribution(model):
    torch.manual_seed(0)
    counts = torch.tensor([model.draw_num_masked() for _ in range(4000)]) / 64
    assert abs(counts.mean() - 12 / 15) < 0.01
    assert abs(counts.var() - 12 * 3 / (15**2 * 16)) < 0.001
    assert counts.min() >= 1 / 64 and counts.max() <= 63 / 64


def test_labels_are_dropped_twice():
    torch.manual_seed(0)
    network = nat.build(replace(TINY, depth=1)).train()
    seen = []
    network.label.table.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    for _ in range(40):
        network.loss(batch_of(64))
    share = (torch.cat(seen) == TINY.num_classes).float().mean()
    assert abs(share - (1 - 0.85 * 0.9)) < 0.025


def test_every_parameter_learns(model):
    model.train().loss(batch_of(16))[0].backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_macs_equal_the_counted_operations(model):
    batch, mask = batch_of(1), half_mask(1)
    flops = count_flops(model, batch["codes"], batch["label"], mask)
    assert flops == 2 * nat_step_macs(TINY)


def test_example_runs_on_the_meta_device():
    with torch.device("meta"):
        network = nat.build(TINY)
    total, _ = network.loss(nat.example(TINY, batch_size=2))
    assert total.is_meta and total.shape == ()


@pytest.mark.slow
def test_overfits_one_batch():
    torch.manual_seed(0)
    network = nat.build(replace(TINY, dropout=0.0, label_smoothing=0.0)).train()
    batch = {key: value[:2] for key, value in batch_of().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, fused=True)
    for step in range(250):
        total, _ = network.loss(batch, step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert total < 1.5  # from log 128 = 4.85; most tokens are masked and the label often dropped


# --- groups ---------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_groups_partition_the_tokens(rows, num_new, num_old):
    order = torch.rand(rows, 20).argsort(-1)
    num_masked = 20 - num_new - num_old
    cut = Groups.from_order(order, num_masked, num_new)
    everything = torch.cat([cut.new, cut.old, cut.masked], 1).sort(-1)[0]
    assert torch.equal(everything, torch.arange(20).expand(rows, -1))
    mask = torch.zeros(rows, 20, dtype=torch.bool).scatter(1, cut.masked, True)
    before = mask.scatter(1, cut.new, True)
    sorted_again = Groups.from_masks(mask, before)
    for name in ("new", "old", "masked"):
        assert torch.equal(getattr(sorted_again, name), getattr(cut, name).sort(-1)[0])
    x = torch.randn(rows, 20, 3)
    indices = [cut.new, cut.old, cut.masked]
    assert torch.equal(put([take(x, index) for index in indices], indices), x)


def test_groups_refuse_what_would_go_wrong_silently():
    ragged = torch.tensor([[True, True, False], [True, False, False]])
    with pytest.raises(ValueError, match="equally many"):
        positions(ragged)
    visible, masked = torch.zeros(1, 3, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="visible in the earlier step"):
        Groups.from_masks(masked, visible)


# --- sampler --------------------------------------------------------------------------------------


def test_published_numbers_of_visible_tokens():
    assert [256 - c for c in mask_schedule(256, 8)][1:] == [5, 20, 44, 75, 114, 159, 207, 256]
    assert [64 - c for c in mask_schedule(64, 8)][1:] == [2, 5, 11, 19, 29, 40, 52, 64]


@given(st.integers(1, 80), st.data())
@settings(max_examples=60, deadline=None)
def test_every_step_reveals_a_token_and_the_last_all(num_tokens, data):
    steps = data.draw(st.integers(1, num_tokens))
    counts = mask_schedule(num_tokens, steps)
    assert counts[0] == num_tokens and counts[-1] == 0 and len(counts) == steps + 1
    assert all(a > b for a, b in zip(counts, counts[1:], strict=False))


class Spy(torch.nn.Module):
    """A network that answers with fixed logits and writes down what it is asked."""

    def __init__(self):
        super().__init__()
        self.config = replace(TINY, num_tokens=16, codebook_size=5)
        self.calls = []
        torch.manual_seed(3)
        self.given, self.free = torch.randn(2, 16, 5)

    def guess(self, codes, label, mask, previous=None):
        free = bool((label == self.config.num_classes).all())
        self.calls.append((free, codes.clone(), mask.clone(), previous))
        logits = (self.free if free else self.given).expand(len(codes), -1, -1)
        mark = torch.full((len(codes), 16, 1), float(free))
        hidden = positions(mask)
        return take(logits, hidden), hidden, State(mark + len(self.calls), mask)


def test_a_guess_is_the_answer_at_the_masked_tokens(model):
    codes, label = torch.randint(TINY.codebook_size, (3, 64)), torch.tensor([0, 1, 2])
    mask = random_mask(3, 64, 20)
    logits, state = model(codes, label, mask)
    some, hidden, same = model.guess(codes, label, mask)
    assert torch.equal(hidden, positions(mask)) and torch.equal(same.features, state.features)
    torch.testing.assert_close(some, take(logits, hidden), rtol=1e-5, atol=1e-6)


def test_noise_of_a_token_does_not_depend_on_the_others():
    torch.manual_seed(0)
    whole = gumbel((3, 16, 5))
    hidden = positions(random_mask(3, 16, 7))
    torch.manual_seed(0)
    assert torch.equal(gumbel_at(hidden, 16, 5), take(whole, hidden))


def test_blocks_are_the_subclass_s_own():
    with pytest.raises(TypeError, match="abstract method '?features"):
        MaskedTokenModel(TINY)


def test_sampler_keeps_revealed_tokens_and_follows_the_schedule():
    spy, trace = Spy().eval(), []
    codes = generate(spy, torch.zeros(3, dtype=torch.int64), Schedule(num_steps=4), trace)
    counts = mask_schedule(16, 4)
    assert [int(step.mask[0].sum()) for step in trace] == counts[1:]
    assert all((step.mask.sum(1) == step.mask[0].sum()).all() for step in trace)
    for step in trace:
        assert torch.equal(codes[~step.mask], step.codes[~step.mask])
    masks = [torch.ones_like(trace[0].mask)] + [step.mask for step in trace]
    assert not any((later & ~before).any() for before, later in zip(masks, masks[1:], strict=False))
    assert int(codes.min()) >= 0 and int(codes.max()) < 5


def test_each_branch_gets_its_own_earlier_features():
    spy = Spy().eval()
    label = torch.zeros(2, dtype=torch.int64)
    generate(spy, label, Schedule(num_steps=3))
    assert [free for free, *_ in spy.calls] == [False, True] * 3
    assert spy.calls[0][3] is None and spy.calls[1][3] is None
    for i, (free, _, mask, previous) in enumerate(spy.calls[2:], start=2):
        assert previous.features[0, 0, 0] == (i - 2 + 1) + float(free), "another branch's features"
        assert torch.equal(previous.mask, spy.calls[i - 2][2].expand(2, -1))
        assert (previous.mask & mask).sum() == mask.sum()
    spy.calls.clear()
    generate(spy, label, Schedule(num_steps=3, reuse=False))
    assert all(previous is None for *_, previous in spy.calls)


def test_all_masks_are_looked_at_once_a_class(model):
    """Rows of one class share their first guess, and every row gets that of its own class."""
    label = torch.tensor([4, 1, 4, 4, 1])
    codes, mask = torch.zeros(5, 64, dtype=torch.int64), torch.ones(5, 64, dtype=torch.bool)
    logits, _, state = model.guess(codes, label, mask)
    rows = []
    guess = model.guess
    model.guess = lambda codes, *rest: rows.append(len(codes)) or guess(codes, *rest)
    found, hidden, shared = unmask._first_guess(model, label)
    del model.guess
    assert rows == [2] and torch.equal(hidden, positions(mask)) and torch.equal(shared.mask, mask)
    torch.testing.assert_close(found, logits, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shared.features, state.features, rtol=1e-5, atol=1e-5)


def test_guidance_lags_one_step_and_grows_linearly(monkeypatch):
    scales = []

    def record(conditional, unconditional, scale):
        scales.append(scale)
        return conditional

    monkeypatch.setattr("gentok.base.masked.unmask.guide", record)
    label = torch.zeros(1, dtype=torch.int64)
    generate(Spy().eval(), label, Schedule(num_steps=4, guidance_scale=2.0))
    assert scales == [1.0, 1.5, 2.0, 2.5]  # cond + s (cond - uncond) with s = 0, 0.5, 1, 1.5


def test_one_cold_step_draws_the_most_likely_codes():
    """With one step every temperature is at its floor: the argmax of the unguided logits."""
    spy = Spy().eval()
    codes = generate(spy, torch.zeros(2, dtype=torch.int64), Schedule(num_steps=1))
    assert torch.equal(codes, spy.given.argmax(-1).expand(2, -1))


def test_without_noise_the_most_confident_stay():
    spy, trace = Spy().eval(), []
    cold = Schedule(num_steps=2, guidance_scale=0.0, mask_temperature=0.0, sample_temperature=0.0)
    generate(spy, torch.zeros(1, dtype=torch.int64), cold, trace)
    assert len(spy.calls) == 2, "without guidance there is one branch"
    confidence = spy.given.log_softmax(-1).amax(-1)  # (N,)
    kept = (~trace[0].mask[0]).nonzero()[:, 0]
    best = confidence.topk(16 - math.floor(16 * math.cos(math.pi / 4)))[1].sort()[0]
    assert torch.equal(kept, best)


def test_sampling_is_deterministic_and_conditional(model):
    drawn = []
    for label in (3, 3, 4):
        torch.manual_seed(9)
        drawn.append(model.sample(2, torch.tensor([label, label]), num_steps=4))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert drawn[0].shape == (2, 64)


def test_bad_input(model):
    batch, mask = batch_of(), half_mask()
    with pytest.raises(ValueError, match="num_heads must divide dim"):
        nat.build(replace(TINY, dim=33))
    with pytest.raises(ValueError, match=r"codes must be int64 \(4, 64\)"):
        model.loss({"codes": batch["codes"][:, :9], "label": batch["label"]})
    with pytest.raises(ValueError, match=r"codes must lie in \[0, 128\)"):
        model.loss({"codes": batch["codes"] + 128, "label": batch["label"]})
    with pytest.raises(ValueError, match=r"label must lie in \[0, 10\]"):
        model.loss({"codes": batch["codes"], "label": batch["label"] + 11})
    with pytest.raises(ValueError, match="mask must be bool"):
        model(batch["codes"], batch["label"], mask.float())
    with pytest.raises(ValueError, match=r"label must be an int or \(3,\) classes"):
        model.sample(3, batch["label"])
    with pytest.raises(ValueError, match=r"num_steps must lie in \[1, 64\]"):
        model.sample(1, num_steps=65)
    with pytest.raises(ValueError, match="eval mode"):
        model.train().sample(1)
