"""Vector quantization beside vector-quantize-pytorch: same codes, outputs, losses and codebooks.

The package's rotation trick is off (it replaces the straight-through gradient by another one).
Replacement of dead codes is off in both, or made to pick the same latents in both.
"""

import pytest
import torch
from vector_quantize_pytorch import ResidualVQ as TheirResidualVQ
from vector_quantize_pytorch import VectorQuantize

from gentok.nn.quantize import ResidualVQ, VectorQuantizer

SIZE, DIM, STEPS = 16, 6, 8


def their_quantizer(decay: float, threshold: float) -> VectorQuantize:
    return VectorQuantize(
        dim=DIM,
        codebook_size=SIZE,
        decay=decay,
        commitment_weight=0.25,
        threshold_ema_dead_code=threshold,
        rotation_trick=False,
    )


def give_codebook(ours: VectorQuantizer, theirs: VectorQuantize) -> None:
    """Start both from one table whose codes all win some Gaussian latents."""
    table = torch.randn(SIZE, DIM)
    for tensor in (ours.codebook.data, ours.sums):
        tensor.copy_(table)
    for tensor in (theirs._codebook.embed, theirs._codebook.embed_avg):
        tensor.copy_(table[None])


def same_codebook(ours: VectorQuantizer, theirs: VectorQuantize) -> None:
    book = theirs._codebook
    torch.testing.assert_close(ours.codebook.data, book.embed[0])
    torch.testing.assert_close(ours.counts, book.cluster_size[0])
    torch.testing.assert_close(ours.sums, book.embed_avg[0])


@pytest.mark.parametrize("decay", [0.99, 0.8])
def test_vector_quantizer_step_by_step(decay):
    torch.manual_seed(0)
    ours = VectorQuantizer(SIZE, DIM, decay=decay, dead_threshold=0)
    theirs = their_quantizer(decay, threshold=0)
    give_codebook(ours, theirs)
    start = ours.codebook.clone()
    for _ in range(STEPS):
        z = torch.randn(3, 20, DIM)
        mine, other = z.clone().requires_grad_(), z.clone().requires_grad_()
        z_q, codes, loss = ours(mine)
        their_z_q, their_codes, their_loss = theirs(other)
        assert torch.equal(codes, their_codes)
        torch.testing.assert_close(z_q, their_z_q)
        torch.testing.assert_close(loss, their_loss.squeeze())
        weights = torch.randn_like(z)
        ((z_q * weights).sum() + loss).backward()
        ((their_z_q * weights).sum() + their_loss.sum()).backward()
        torch.testing.assert_close(mine.grad, other.grad)
        same_codebook(ours, theirs)
    assert not torch.allclose(ours.codebook, start), "the codebook never moved"


def test_eval_mode_agrees_and_holds_still():
    torch.manual_seed(1)
    ours, theirs = VectorQuantizer(SIZE, DIM), their_quantizer(0.99, threshold=0)
    give_codebook(ours, theirs)
    ours.eval(), theirs.eval()
    z, before = torch.randn(4, 9, DIM), ours.codebook.clone()
    z_q, codes, _ = ours(z)
    their_z_q, their_codes, _ = theirs(z)
    assert torch.equal(codes, their_codes)
    torch.testing.assert_close(z_q, their_z_q)
    assert torch.equal(ours.codebook, before)


def test_revival_agrees_when_both_pick_the_same_latents(monkeypatch):
    """Both replace codes whose averaged count falls below 1 by the first latents of the batch."""
    torch.manual_seed(2)
    ours = VectorQuantizer(SIZE, DIM, decay=0.5, dead_threshold=1.0)
    theirs = their_quantizer(0.5, threshold=1.0)
    give_codebook(ours, theirs)
    monkeypatch.setattr(
        torch, "randint", lambda high, shape, device=None: torch.arange(shape[0]) % high
    )
    theirs._codebook.replace_sample_fn = lambda samples, num: samples[:, :num]
    revived = 0
    for _ in range(STEPS):
        z = torch.randn(2, 10, DIM)
        counts = torch.bincount(ours(z)[1].flatten(), minlength=SIZE)
        theirs(z)
        same_codebook(ours, theirs)
        revived += int(((ours.counts == 1.0) & (counts == 0)).sum())
    assert revived > 0, "no code ever died: the test shows nothing"


def test_residual_quantizer_step_by_step():
    torch.manual_seed(3)
    levels = 4
    ours = ResidualVQ(levels, SIZE, DIM, decay=0.9, dead_threshold=0)
    theirs = TheirResidualVQ(
        dim=DIM,
        num_quantizers=levels,
        codebook_size=SIZE,
        decay=0.9,
        commitment_weight=0.25,
        threshold_ema_dead_code=0,
        rotation_trick=False,
    )
    for mine, other in zip(ours.levels, theirs.layers, strict=True):
        give_codebook(mine, other)
    for _ in range(STEPS):
        z = torch.randn(3, 20, DIM)
        mine, other = z.clone().requires_grad_(), z.clone().requires_grad_()
        z_q, codes, loss = ours(mine)
        their_z_q, their_codes, their_losses = theirs(other)
        assert torch.equal(codes, their_codes)
        torch.testing.assert_close(z_q, their_z_q)
        torch.testing.assert_close(loss, their_losses.mean())
        pull = torch.autograd.grad(loss, mine, retain_graph=True)[0]
        their_pull = torch.autograd.grad(their_losses.mean(), other, retain_graph=True)[0]
        torch.testing.assert_close(pull, their_pull)
        # One straight-through path here; theirs sums one for each level.
        weights = torch.randn_like(z)
        through = torch.autograd.grad((z_q * weights).sum(), mine)[0]
        their_through = torch.autograd.grad((their_z_q * weights).sum(), other)[0]
        torch.testing.assert_close(through, weights)
        torch.testing.assert_close(their_through, levels * weights)
        for level, layer in zip(ours.levels, theirs.layers, strict=True):
            same_codebook(level, layer)
