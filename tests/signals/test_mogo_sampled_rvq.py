"""Residual codes of motion: an independent library, the moving averages, the draw, the dropout."""

import pytest
import torch
from torch.nn import functional as F
from vector_quantize_pytorch import ResidualVQ as Independent

from gentok.signals.mogo.sampled_rvq import SampledQuantizer, SampledResidualVQ

K, D = 8, 4


def rvq(levels=3, level_dropout=0.0, temperature=0.0, **changes):
    torch.manual_seed(0)
    sizes = {"codebook_size": K, "dim": D, "decay": 0.9, "temperature": temperature, **changes}
    return SampledResidualVQ(levels, level_dropout, **sizes)


def filled(module):
    """Codebooks of random numbers, as if trained."""
    for level in module.levels:
        level.codebook.data.normal_()
        level.sums.copy_(level.codebook * 10)
        level.counts.fill_(10.0)
        level.started.fill_(True)
    return module


def test_codes_and_vectors_equal_those_of_vector_quantize_pytorch():
    ours = filled(rvq()).eval()
    theirs = Independent(dim=D, num_quantizers=3, codebook_size=K).eval()
    for layer, level in zip(theirs.layers, ours.levels, strict=True):
        layer._codebook.embed.data.copy_(level.codebook.data[None])
        layer._codebook.initted.data.fill_(True)
    z = torch.randn(2, 50, D)
    z_q, codes, _ = ours(z)
    their_z_q, their_codes, _ = theirs(z)
    assert torch.equal(codes, their_codes)
    torch.testing.assert_close(z_q, their_z_q, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.lookup(codes), theirs.get_output_from_indices(codes))


def test_first_batch_becomes_the_codebook():
    level = SampledQuantizer(K, D, decay=0.9, temperature=0.0)
    z = torch.randn(40, D)
    _, codes, _ = level.quantize(z)
    assert torch.equal(codes[:K], torch.arange(K)), "the first latents are their own codes"
    level.quantize(torch.randn(40, D) + 9)
    assert float(level.codebook.mean()) < 8, "the codebook started again at the second batch"


def test_few_latents_are_repeated_with_noise():
    torch.manual_seed(0)
    level, z = SampledQuantizer(K, D, decay=0.9, temperature=0.0), torch.randn(3, D)
    level._start(z)
    assert torch.cdist(level.codebook, z).min(-1).values.max() < 0.1
    assert len(level.codebook.unique(dim=0)) == K


def test_moving_averages_without_smoothing():
    torch.manual_seed(0)
    level = filled(rvq(1)).levels[0]
    z, before = torch.randn(200, D), level.codebook.detach().clone()
    _, codes, _ = level.quantize(z)
    counts = torch.stack([(codes == k).sum() for k in range(K)]).float()
    sums = torch.stack([z[codes == k].sum(0) for k in range(K)])
    n, m = 0.9 * 10 + 0.1 * counts, 0.9 * before * 10 + 0.1 * sums
    torch.testing.assert_close(level.counts, n)
    torch.testing.assert_close(level.codebook.detach(), m / n[:, None])


def test_rare_codes_become_the_first_latents_and_stay_rare():
    level = filled(rvq(1)).levels[0]
    level.codebook.data[3] = 100.0
    level.counts[3] = 0.5
    z = torch.randn(64, D)
    level.quantize(z)
    assert torch.equal(level.codebook[3], z[3])
    assert float(level.counts[3]) == pytest.approx(0.45), "an overwritten code was made alive"


def test_training_draws_codes_by_distance():
    """Frequencies of many draws against softmax(-distance / temperature)."""
    torch.manual_seed(0)
    level = filled(rvq(1, temperature=0.5)).levels[0]
    z = torch.randn(1, D)
    wanted = F.softmax(-(z - level.codebook).square().sum(-1) / 0.5, dim=0)
    codes = level._draw(z.expand(20_000, D))
    found = torch.bincount(codes, minlength=K) / 20_000
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02)
    assert level.eval().quantize(z)[1].item() == int(wanted.argmax())


def test_nothing_moves_in_evaluation():
    module = filled(rvq()).eval()
    before = [b.clone() for b in module.state_dict().values()]
    module(torch.randn(50, D))
    for a, b in zip(before, module.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("levels", [1, 3])
def test_gradient_arrives_once_per_level(levels):
    module, z = filled(rvq(levels)), torch.randn(6, D, requires_grad=True)
    g = torch.randn(6, D)
    (module(z)[0] * g).sum().backward()
    torch.testing.assert_close(z.grad, levels * g)


def test_levels_are_dropped_from_the_end_with_their_probability():
    module = filled(rvq(4, level_dropout=0.2))
    kept = []
    for _ in range(700):
        codes = module(torch.randn(1, D))[1][0]
        kept.append(int((codes >= 0).sum()))
        assert (codes[: kept[-1]] >= 0).all(), "levels were not dropped from the end"
    share = torch.bincount(torch.tensor(kept), minlength=5) / 700
    assert share[0] == 0
    # A shortened batch keeps 1 to 4 levels, so 0.05 each; the rest keeps all.
    torch.testing.assert_close(share[1:4], torch.full((3,), 0.05), rtol=0, atol=0.03)
    assert (module.eval()(torch.randn(2, D))[1] >= 0).all()


def test_dropped_levels_add_nothing():
    module = filled(rvq()).eval()
    codes = module(torch.randn(5, D))[1]
    codes[:, 1:] = -1
    torch.testing.assert_close(module.lookup(codes), module.levels[0].codebook[codes[:, 0]])


def test_commitment_is_the_mean_over_levels():
    module, z = filled(rvq()).eval(), torch.randn(6, D)
    _, codes, loss = module(z)
    residual, terms = z, []
    for i, level in enumerate(module.levels):
        e = level.codebook[codes[:, i]]
        terms.append((residual - e).square().mean())
        residual = residual - e
    torch.testing.assert_close(loss, torch.stack(terms).mean())


def test_wrong_width_is_refused():
    with pytest.raises(ValueError, match=r"z must be \(..., 4\)"):
        rvq(1)(torch.zeros(2, 3))


def test_draws_do_not_depend_on_autocast():
    """In bfloat16 the distances to 100, 100.25 and 100.5 would be one."""
    book = torch.tensor([[100.0], [100.25], [100.5]])
    drawn = []
    for enabled in (False, True):
        torch.manual_seed(0)
        vq = SampledQuantizer(3, 1, decay=1.0, temperature=0.01)
        vq(book)  # the first batch becomes the codebook
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            drawn.append(vq(book.repeat(20, 1))[1].tolist())
    assert drawn[0] == drawn[1] and set(drawn[0]) == {0, 1, 2}


def test_latents_that_cannot_be_learned_from_are_refused():
    vq = SampledQuantizer(3, 2, decay=0.9, temperature=0.5)
    for z, words in (
        (torch.zeros(0, 2), "at least one latent"),
        (torch.tensor([[0.0, torch.nan]]), "z must be finite"),
    ):
        with pytest.raises(ValueError, match=words):
            vq(z)
    assert not vq.started
    with pytest.raises(ValueError, match="learns in float32"):
        vq.bfloat16()(torch.randn(5, 2))
