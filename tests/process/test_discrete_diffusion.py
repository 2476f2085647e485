"""Diffusion on codes: the closed form against explicit matrices and diffusers' scheduler."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import VQDiffusionScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.process.discrete_diffusion import (
    LOG_ZERO,
    DiscreteDiffusion,
    discrete_sample,
    linear_chain,
    released_chain,
    truncate,
)

K, T = 5, 8
CHAINS = {
    "mask and replace": linear_chain(T, 0.1),
    "mask": linear_chain(T, 0.0),
    "uniform": linear_chain(T, 1.0),
    "released": released_chain(T),
}


def matrix(diffusion, t, s=-1):
    """Row: from state i at s; column: to state j at t; (K + 1, K + 1) float64."""
    alpha, beta, gamma = (share.item() for share in diffusion.cumulative(torch.tensor([t]), s))
    size = diffusion.codebook_size
    q = torch.full((size + 1, size + 1), beta, dtype=torch.float64)
    q += alpha * torch.eye(size + 1, dtype=torch.float64)
    q[:, size], q[size], q[size, size] = gamma, 0.0, 1.0
    return q


def product(diffusion, t, s=-1):
    """The jump as a product of single steps, each from its own rate."""
    q = torch.eye(diffusion.codebook_size + 1, dtype=torch.float64)
    for step in range(s + 1, t + 1):
        q = q @ matrix(diffusion, step, step - 1)
    return q


@pytest.mark.parametrize("name", CHAINS)
def test_rows_are_distributions_and_jumps_compose_from_single_steps(name):
    diffusion = DiscreteDiffusion(K, *CHAINS[name])
    for t in range(T):
        for s in range(-1, t):
            jump = matrix(diffusion, t, s)
            torch.testing.assert_close(jump.sum(1), torch.ones(K + 1).double())
            assert (jump >= 0).all()
            torch.testing.assert_close(product(diffusion, t, s), jump, atol=1e-12, rtol=1e-9)


def test_the_chains_are_what_they_are_called():
    ends = {name: matrix(DiscreteDiffusion(K, *chain), T - 1)[0] for name, chain in CHAINS.items()}
    assert ends["mask"][K] > 0.9999 and (ends["mask"][1:K] == 0).all()
    assert ends["uniform"][K] == 0 and ends["uniform"][:K].max() < 1 / K + 1e-4
    assert ends["mask and replace"][K].item() == pytest.approx(0.9, abs=1e-4)
    assert ends["mask and replace"][1:K].sum().item() == pytest.approx(0.1 * 4 / 5, abs=1e-4)


def test_the_released_schedule_hardly_ever_replaces():
    """The papers' text: 0.1 of the tokens; the code: a millionth at each step."""
    kept, masked = released_chain(100)
    torch.testing.assert_close(1 - kept - masked, torch.full((100,), 1e-6).double())
    diffusion = DiscreteDiffusion(K, kept, masked)
    t = torch.arange(100)
    _, beta, _ = diffusion.cumulative(t, t - 1)
    not_masked = torch.cat([torch.ones(1).double(), 1 - masked[:-1]])
    assert (K * beta * not_masked).sum().item() == pytest.approx(6e-6, rel=0.5)


@pytest.mark.parametrize("name", CHAINS)
def test_draws_follow_the_closed_form(name):
    torch.manual_seed(0)
    diffusion, count = DiscreteDiffusion(K, *CHAINS[name]), 40_000
    x0 = torch.full((1, count), 2)
    for t in (0, 4, 7):
        x_t = diffusion.q_sample(x0, torch.tensor([t]))
        share = torch.bincount(x_t[0], minlength=K + 1) / count
        expected = matrix(diffusion, t)[2].float()
        torch.testing.assert_close(share, expected, atol=0.01, rtol=0)
    end = diffusion.prior_sample(1, count)[0]
    share = torch.bincount(end, minlength=K + 1) / count
    expected = matrix(diffusion, T - 1)[:K].mean(0).float()
    torch.testing.assert_close(share, expected, atol=0.01, rtol=0)


def their_posterior(diffusion, p_x0, x_t, t, s):
    """Bayes' rule on explicit matrices, for one token: (K,) -> (K + 1,)."""
    start, jump, before = product(diffusion, t), product(diffusion, t, s), product(diffusion, s)
    out = torch.zeros(K + 1, dtype=torch.float64)
    for x0 in range(K):
        if start[x0, x_t] > 0:
            out += p_x0[x0] * jump[:, x_t] * before[x0] / start[x0, x_t]
    return out / out.sum()


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("t, s", [(5, 4), (7, 2), (6, -1), (0, -1)])
def test_posterior_is_bayes_rule_on_the_matrices(name, t, s):
    torch.manual_seed(0)
    diffusion = DiscreteDiffusion(K, *CHAINS[name])
    states = list(range(K + 1)) if name != "uniform" else list(range(K))  # nothing leads to MASK
    log_x0 = torch.randn(1, len(states), K).log_softmax(-1)
    now, before = torch.tensor([t]), torch.tensor([s])
    ours = diffusion.posterior(log_x0, torch.tensor([states]), now, before).exp()[0]
    for i, x_t in enumerate(states):
        theirs = their_posterior(diffusion, log_x0[0, i].double().exp(), x_t, t, s)
        torch.testing.assert_close(ours[i].double(), theirs, atol=2e-6, rtol=1e-4)


def test_posterior_of_known_codes_is_bayes_rule():
    diffusion = DiscreteDiffusion(K, *CHAINS["mask and replace"])
    x0 = torch.tensor([[1, 1, 1, 3]])
    x_t = torch.tensor([[1, 4, K, K]])
    ours = diffusion.posterior(diffusion._one_hot(x0), x_t, torch.tensor([5]), torch.tensor([4]))
    for i in range(4):
        known = F.one_hot(x0[0, i], K).double()
        theirs = their_posterior(diffusion, known, x_t[0, i], 5, 4)
        torch.testing.assert_close(ours[0, i].exp().double(), theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("t", [1, 50, 99])
def test_posterior_equals_diffusers(t):
    torch.manual_seed(0)
    size = 12
    ours = DiscreteDiffusion(size, *released_chain(100))
    theirs = VQDiffusionScheduler(num_vec_classes=size + 1)
    log_x0 = torch.randn(2, 7, size).log_softmax(-1)
    x_t = torch.randint(size + 1, (2, 7))
    x_t[:, 0] = size  # MASK
    expected = theirs.q_posterior(log_x0.mT, x_t, t).mT
    mine = ours.posterior(log_x0, x_t, torch.full((2,), t), torch.full((2,), t - 1))
    likely = expected > -40  # below, theirs differ by rounding of what stands for log 0
    torch.testing.assert_close(mine[likely], expected[likely], atol=1e-5, rtol=0)
    torch.testing.assert_close(mine.exp(), expected.exp(), atol=1e-5, rtol=0)


def test_their_schedule_is_ours():
    kept, masked = released_chain(100)
    theirs = VQDiffusionScheduler(num_vec_classes=13)
    torch.testing.assert_close(kept.log().float(), theirs.log_cumprod_at[:-1])
    torch.testing.assert_close(masked.log().float(), theirs.log_cumprod_ct[:-1])
    _, beta, gamma = DiscreteDiffusion(12, kept, masked).cumulative(
        torch.arange(100), torch.arange(100) - 1
    )
    torch.testing.assert_close(gamma.log().float(), theirs.log_ct)
    torch.testing.assert_close(beta.log().float(), theirs.log_bt, atol=1e-3, rtol=1e-4)


def test_a_mask_chain_replaces_nothing_whatever_the_rounding():
    kept = torch.linspace(0.97, 0.03, 100, dtype=torch.float64)
    masked = torch.linspace(0.03, 0.97, 100, dtype=torch.float64)
    assert (1 - kept - masked).abs().max() > 0, "no rounding to speak of"
    s, t = torch.triu_indices(101, 101, 1) - 1  # all jumps
    _, beta, gamma = DiscreteDiffusion(K, kept, masked).cumulative(t, s)
    assert (beta == 0).all() and (gamma > 0).all()


def test_a_token_that_is_seen_under_the_mask_chain_stays():
    diffusion = DiscreteDiffusion(K, *CHAINS["mask"])
    x_t = torch.tensor([[0, 1, 2, 3, 4]])
    doubting = torch.full((1, 5, K), 0.0).scatter(-1, x_t[..., None], -60.0)  # certain of others
    for _ in range(20):
        assert torch.equal(diffusion.step(doubting, x_t, torch.tensor([5]), 3), x_t)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, T - 1),
    st.sampled_from(list(CHAINS)),
    st.floats(-80, 80),
    st.integers(0, 2**31),
)
def test_posterior_is_finite_and_normalised(t, name, size, seed):
    torch.manual_seed(seed)
    diffusion = DiscreteDiffusion(K, *CHAINS[name])
    x0 = torch.randint(K, (3, 4))
    now = torch.full((3,), t)
    x_t = diffusion.q_sample(x0, now)
    logits = (size * torch.randn(3, 4, K)).requires_grad_()
    log_p = diffusion.posterior(diffusion._log_x0(logits), x_t, now, now - 1)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(3, 4))
    loss = (diffusion.bound(logits, x0, x_t, now) + diffusion.auxiliary(logits, x0, now)).sum()
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("name", CHAINS)
def test_bound_is_the_kl_of_the_two_posteriors(name):
    torch.manual_seed(0)
    diffusion = DiscreteDiffusion(K, *CHAINS[name])
    x0, t = torch.randint(K, (6, 3)), torch.tensor([0, 1, 3, 5, 6, 7])
    x_t, logits = diffusion.q_sample(x0, t), torch.randn(6, 3, K)
    bound = diffusion.bound(logits, x0, x_t, t)
    p = logits.double().softmax(-1)
    for i, step in enumerate(t.tolist()):
        for j in range(3):
            if step == 0:
                expected = -p[i, j, x0[i, j]].log()
            else:
                known = F.one_hot(x0[i, j], K).double()
                q = their_posterior(diffusion, known, x_t[i, j], step, step - 1)
                model = their_posterior(diffusion, p[i, j], x_t[i, j], step, step - 1)
                expected = (torch.xlogy(q, q) - torch.xlogy(q, model)).sum()
            assert bound[i, j].item() == pytest.approx(expected.item(), abs=1e-4)


def test_bound_estimates_the_log_likelihood():
    """Sum of the expected terms + prior KL >= -log p(x_0); equal for the exact reverse chain."""
    diffusion, p = DiscreteDiffusion(2, *linear_chain(4, 0.3)), torch.tensor([0.2, 0.8]).double()
    total = torch.zeros((), dtype=torch.float64)
    for x0 in range(2):
        for t in range(4):
            forward = product(diffusion, t)
            for x_t in range(3):
                # The true p(x_0 | x_t) is what the best network gives.
                joint = p * forward[:2, x_t]
                logits = (joint / joint.sum()).log().float()[None, None]
                term = diffusion.bound(
                    logits, torch.tensor([[x0]]), torch.tensor([[x_t]]), torch.tensor([t])
                )
                total += p[x0] * forward[x0, x_t] * term.item()
        end = product(diffusion, 3)
        prior = p @ end[:2]
        total += p[x0] * (end[x0] * (end[x0] / prior).log()).sum()
    entropy = -(p * p.log()).sum()
    assert total.item() == pytest.approx(entropy.item(), abs=1e-4)


def test_auxiliary_term_is_a_weighted_cross_entropy():
    diffusion = DiscreteDiffusion(K, *CHAINS["mask"])
    x0, logits, t = torch.randint(K, (2, 3)), torch.randn(2, 3, K), torch.tensor([0, 6])
    nll = F.cross_entropy(logits.flatten(0, 1), x0.flatten(), reduction="none").view(2, 3)
    expected = nll * torch.tensor([2.0, 2 - 6 / T])[:, None]
    torch.testing.assert_close(diffusion.auxiliary(logits, x0, t), expected)


def test_truncation_keeps_the_best_codes_below_the_mass():
    p = torch.tensor([0.05, 0.5, 0.15, 0.3])
    kept = {mass: (truncate(p.log(), mass) > LOG_ZERO).tolist() for mass in (0.3, 0.6, 0.81, 1.0)}
    assert kept[0.3] == [False, True, False, False]  # the first always
    assert kept[0.6] == [False, True, False, True]
    assert kept[0.81] == [False, True, True, True]
    assert kept[1.0] == [True] * 4


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("steps", [list(range(T - 1, -1, -1)), [7, 4, 0], [7]])
def test_few_exact_jumps_draw_the_right_codes(name, steps):
    """One token: with the true p(x_0 | x_t) any set of steps gives the data's distribution."""
    torch.manual_seed(0)
    diffusion = DiscreteDiffusion(K, *CHAINS[name])
    p = torch.tensor([0.1, 0.4, 0.05, 0.25, 0.2]).double()

    def network(x, t):
        reach = matrix(diffusion, t[0].item())[:K].T[x]  # (B, N, K): q(x_t | x_0)
        return (p * reach).log().clamp_min(-60).float()

    x = diffusion.prior_sample(1, 20_000)
    codes = discrete_sample(diffusion, network, x, steps)
    share = torch.bincount(codes[0], minlength=K) / 20_000
    torch.testing.assert_close(share, p.float(), atol=0.015, rtol=0)


def test_known_codes_are_held():
    diffusion = DiscreteDiffusion(K, *CHAINS["mask and replace"])
    known = torch.tensor([[K, 2, K, 4]])

    def network(x, t):
        assert x[0, 1] == 2 and x[0, 3] == 4
        return torch.zeros(1, 4, K)

    codes = discrete_sample(diffusion, network, diffusion.prior_sample(1, 4), [7, 3, 0], 0.9, known)
    assert codes[0, 1] == 2 and codes[0, 3] == 4 and codes.max() < K and codes.dtype == torch.int64


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: linear_chain(0), "num_steps"),
        (lambda: linear_chain(5, 1.5), "replaced"),
        (lambda: released_chain(1), "num_steps"),
        (lambda: DiscreteDiffusion(1, *linear_chain(5)), "codebook_size"),
        (lambda: DiscreteDiffusion(3, torch.tensor([0.5, 0.7]), torch.zeros(2)), "rise"),
        (lambda: DiscreteDiffusion(3, torch.tensor([0.5, 0.0]), torch.zeros(2)), "positive"),
        (lambda: DiscreteDiffusion(3, torch.tensor([0.5]), torch.tensor([0.7])), "sum"),
        (
            lambda: DiscreteDiffusion(3, *linear_chain(5)).bound(
                torch.zeros(1, 1, 4), *[torch.zeros(1, 1).long()] * 2, torch.tensor([1])
            ),
            "logits",
        ),
        (lambda: truncate(torch.zeros(1, 3), 0.0), "mass"),
        (
            lambda: discrete_sample(
                DiscreteDiffusion(3, *linear_chain(5)), None, torch.zeros(1, 1).long(), [1, 1]
            ),
            "fall",
        ),
    ],
)
def test_bad_input_is_refused(call, word):
    with pytest.raises(ValueError, match=word):
        call()
