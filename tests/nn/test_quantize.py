"""Vector and residual quantization: the published equations, restated."""

import multiprocessing

import pytest
import torch
import torch.distributed

from gentok.nn.quantize import ResidualVQ, VectorQuantizer, _near_nought, nearest_code


def brute_force_codes(z, table):
    return [min(range(len(table)), key=lambda k: (v - table[k]).square().sum()) for v in z]


def test_codes_are_the_nearest():
    torch.manual_seed(0)
    z, table = torch.randn(40, 4), torch.randn(7, 4)
    assert nearest_code(z, table).tolist() == brute_force_codes(z, table)


def test_quantized_latents_are_rows_of_the_codebook():
    vq = VectorQuantizer(9, 4).eval()
    z_q, codes, _ = vq(torch.randn(2, 5, 4))
    torch.testing.assert_close(z_q, vq.codebook[codes])
    assert codes.shape == (2, 5) and codes.dtype == torch.int64


def test_gradient_passes_straight_through():
    vq = VectorQuantizer(9, 4)
    z, g = torch.randn(2, 5, 4, requires_grad=True), torch.randn(2, 5, 4)
    (vq(z)[0] * g).sum().backward()
    torch.testing.assert_close(z.grad, g)


def test_commitment_pulls_latents_to_their_codes():
    vq = VectorQuantizer(9, 4, commitment=0.25).eval()
    z = torch.randn(3, 4, requires_grad=True)
    z_q, codes, loss = vq(z)
    expected = 0.25 * (z - vq.codebook[codes]).square().mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    torch.testing.assert_close(z.grad, 0.5 * (z.detach() - vq.codebook[codes]) / z.numel())


def test_one_moving_average_step():
    torch.manual_seed(0)
    vq = VectorQuantizer(5, 3, decay=0.9, dead_threshold=0.0)
    vq.codebook.data.copy_(torch.randn(5, 3))
    vq.sums.copy_(vq.codebook)
    z, before = torch.randn(64, 3), vq.codebook.detach().clone()
    _, codes, _ = vq(z)
    counts = torch.stack([(codes == k).sum() for k in range(5)]).float()
    sums = torch.stack([z[codes == k].sum(0) for k in range(5)])
    n = 0.9 * torch.ones(5) + 0.1 * counts
    m = 0.9 * before + 0.1 * sums
    smoothed = (n + 1e-5) / (n.sum() + 5e-5) * n.sum()
    torch.testing.assert_close(vq.codebook.detach(), m / smoothed[:, None])


def test_no_update_in_evaluation():
    vq = VectorQuantizer(5, 3).eval()
    before = vq.codebook.detach().clone()
    vq(torch.randn(64, 3))
    assert torch.equal(vq.codebook, before)


def test_dead_codes_move_onto_latents():
    torch.manual_seed(0)
    vq = VectorQuantizer(16, 2, dead_threshold=1.0)
    vq.codebook.data.fill_(100.0)
    vq.codebook.data[0] = 0.0
    vq.sums.copy_(vq.codebook)
    z = torch.randn(256, 2)
    vq(z)
    moved = vq.codebook[1:]
    assert torch.cdist(moved, z).min(-1).values.max() == 0, "a dead code is not a latent"


def test_revival_uses_the_whole_codebook():
    torch.manual_seed(0)
    z = torch.randn(2000, 4)
    used = {}
    for threshold in (0.0, 1.0):
        vq = VectorQuantizer(64, 4, dead_threshold=threshold)
        for _ in range(60):
            vq(z[torch.randperm(2000)[:512]])
        used[threshold] = vq.eval()(z)[1].unique().numel()
    assert used[1.0] == 64 and used[0.0] < 48


def test_lookup_refuses_foreign_codes():
    vq = VectorQuantizer(5, 3)
    for bad in (torch.tensor([5]), torch.tensor([-1])):
        with pytest.raises(ValueError, match=r"\[0, 5\)"):
            vq.lookup(bad)


def test_wrong_width_is_refused():
    with pytest.raises(ValueError, match="4"):
        VectorQuantizer(5, 4)(torch.zeros(2, 3))


def test_residual_levels_quantize_what_is_left():
    torch.manual_seed(0)
    rvq = ResidualVQ(3, 8, 4).eval()
    z = torch.randn(6, 4)
    z_q, codes, _ = rvq(z)
    residual = z.clone()
    for level, quantizer in enumerate(rvq.levels):
        expected = brute_force_codes(residual, quantizer.codebook)
        assert codes[:, level].tolist() == expected
        residual = residual - quantizer.codebook[codes[:, level]]
    torch.testing.assert_close(z_q, z - residual)
    torch.testing.assert_close(rvq.lookup(codes), z_q)


def test_error_does_not_grow_with_levels_that_hold_zero():
    torch.manual_seed(0)
    rvq = ResidualVQ(4, 8, 4).eval()
    for quantizer in rvq.levels:
        quantizer.codebook.data.normal_()
        quantizer.codebook.data[0] = 0.0
    z = torch.randn(50, 4)
    codes = rvq(z)[1]
    errors = []
    for keep in range(1, 5):
        prefix = codes.clone()
        prefix[:, keep:] = -1
        errors.append((z - rvq.lookup(prefix)).norm(dim=-1))
    assert all((b <= a + 1e-6).all() for a, b in zip(errors, errors[1:], strict=False))


def test_residual_gradient_passes_straight_through():
    rvq, z = ResidualVQ(3, 8, 4), torch.randn(6, 4, requires_grad=True)
    rvq(z)[0].sum().backward()
    torch.testing.assert_close(z.grad, torch.ones_like(z))


def test_quantize_dropout_keeps_prefixes():
    torch.manual_seed(0)
    rvq = ResidualVQ(4, 8, 4, quantize_dropout=True)
    kept = {int((rvq(torch.randn(2, 4))[1][0] >= 0).sum()) for _ in range(60)}
    assert kept == {1, 2, 3, 4}
    codes = rvq(torch.randn(2, 4))[1][0].tolist()
    assert codes == sorted(codes, key=lambda c: c < 0), "levels were not dropped from the end"
    assert (rvq.eval()(torch.randn(2, 4))[1] >= 0).all()


def test_codes_do_not_depend_on_autocast():
    """bfloat16 has 8 bits: distances to 100, 100.25 and 100.5 would all be one."""
    book = torch.tensor([[100.0], [100.25], [100.5]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nearest_code(book, book).tolist() == [0, 1, 2]
        assert nearest_code(book.bfloat16(), book).tolist() == [
            0,
            0,
            2,
        ]  # the latents' own rounding


def test_training_under_autocast_moves_the_codebook_alike():
    torch.manual_seed(0)
    z, books = 10 + torch.randn(64, 4), []
    for enabled in (False, True):
        torch.manual_seed(1)
        vq = VectorQuantizer(8, 4)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            for _ in range(3):
                vq(z)
        books.append(vq.codebook.detach())
    assert torch.equal(*books)


def test_empty_batches_are_refused():
    for quantizer in (VectorQuantizer(5, 3), VectorQuantizer(5, 3).eval(), ResidualVQ(2, 5, 3)):
        with pytest.raises(ValueError, match="at least one latent"):
            quantizer(torch.zeros(0, 3))


@pytest.mark.parametrize("scale", [1e-25, 1e-9, 1.0, 1e9, 1e25])
@pytest.mark.parametrize("offset", [0.0, 1e3, -3e4])
def test_codes_are_the_nearest_at_any_scale_and_place(scale, offset):
    """Oracle: differences in float64 of the very numbers that float32 holds."""
    torch.manual_seed(0)
    book = (torch.randn(12, 4) + offset) * scale
    z = (torch.randn(60, 4) + offset) * scale
    exact = torch.cdist(z.double(), book.double(), compute_mode="donot_use_mm_for_euclid_dist")
    codes = nearest_code(z, book)
    chosen = exact.gather(1, codes[:, None])[:, 0]
    assert (chosen <= exact.amin(1) * (1 + 1e-3)).all()


def test_codes_of_moderate_numbers_come_from_the_plain_product():
    """Bit for bit, so that codes of earlier runs stay what they were."""
    torch.manual_seed(0)
    for scale in (1e-3, 1.0, 30.0):
        z, book = scale * torch.randn(50, 6) + 2, scale * torch.randn(9, 6)
        assert all(map(torch.equal, _near_nought(z, book), (z, book)))


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("training", [True, False])
def test_one_latent_that_is_not_finite_moves_nothing(value, training):
    vq = VectorQuantizer(5, 3).train(training)
    before = {name: tensor.clone() for name, tensor in vq.state_dict().items()}
    z = torch.randn(8, 3)
    z[2, 1] = value
    with pytest.raises(ValueError, match="z must be finite"):
        vq(z)
    assert all(torch.equal(before[name], tensor) for name, tensor in vq.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_averages_are_kept_in_single_precision(dtype):
    """A moving average in half precision stands still: 1 % of it is below its resolution."""
    vq = VectorQuantizer(5, 3).to(dtype)
    with pytest.raises(ValueError, match="a codebook learns in float32"):
        vq(torch.randn(8, 3))
    z = torch.randn(8, 3)
    assert vq.eval()(z)[1].tolist() == brute_force_codes(z, vq.codebook.float())


def test_constant_and_single_rows_are_quantized():
    for z in (torch.full((6, 3), 2.0), torch.full((1, 3), -1.0)):
        vq = VectorQuantizer(4, 3)
        for _ in range(3):
            z_q, _, loss = vq(z)
        assert z_q.isfinite().all() and loss.isfinite() and vq.codebook.isfinite().all()


def _kept_levels(rank, store, results):
    """One of two processes, each with its own random numbers."""
    torch.set_num_threads(1)  # a forked process may not start the parent's thread pool
    torch.manual_seed(100 + rank)
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    rvq = ResidualVQ(6, 8, 4, quantize_dropout=True)
    kept = [int((rvq(torch.randn(9, 4))[1][0] >= 0).sum()) for _ in range(12)]
    torch.distributed.destroy_process_group()
    results.put(kept)


def test_processes_drop_the_same_levels(tmp_path):
    """Else one process waits for a sum over latents that the other never takes part in."""
    context = multiprocessing.get_context("fork")  # spares the imports; gloo starts afterwards
    results = context.Queue()
    arguments = (tmp_path / "store", results)
    processes = [context.Process(target=_kept_levels, args=(r, *arguments)) for r in (0, 1)]
    try:
        for process in processes:
            process.start()
        first, second = (results.get(timeout=30) for _ in processes)
    finally:
        for process in processes:
            process.kill()
    assert first == second and len(set(first)) > 1
