"""The benchmark tool itself: what it measures, says and skips. Times are never tested."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import __main__ as tool
from benchmarks import dvae, networks, readers, vision
from benchmarks.measure import Row, Workload, run
from benchmarks.workloads import WORKLOADS
from torch import nn

from gentok.nn.sae import TopKSAE

ROOT = Path(__file__).resolve().parent.parent


def test_both_sides_take_turns():
    calls = []
    work = Workload("w", "p", 1.0, lambda: (lambda: calls.append("a"), lambda: calls.append("b")))
    row = run(work, rounds=4, round_seconds=1e-5)
    assert calls[:2] == ["a", "b"]
    changes = sum(x != y for x, y in zip(calls[4:], calls[5:], strict=False))
    assert changes == 7, "four rounds of two sides change hands seven times"
    assert row.low <= row.ratio <= row.high


def test_more_work_costs_more():
    def busy(n):
        return lambda: sum(i * i for i in range(n))

    row = run(Workload("w", "p", 1.0, lambda: (busy(2_000), busy(40_000))), 3, 1e-3)
    assert row.ratio > 5


def test_page_shows_every_row_and_says_what_was_skipped():
    row = Row("the work", "the peer", 2.0, 1.0, 1.5, 1.5, 1.4, 1.6)
    text = tool.page([row], ["other work: the peer is not installed (x)"], threads=1)
    assert "| the work | the peer | 1.00 | 1.50 | 1.50 | 1.40 to 1.60 | 2 | no |  |" in text
    assert "other work" in text


def test_training_rows_state_their_share_of_the_peak():
    """A matrix product as the work: its share is that of the peak, whatever the machine."""
    a = torch.randn(512, 512)
    work = Workload("w", "p", 1.0, lambda: (lambda: a @ a, lambda: a @ a), training=True)
    row = run(work, 3, 0.01)
    assert row.share > 0.05
    assert tool.cells(row)[-2:] == [f"{100 * row.share:.0f} %", ""]
    assert run(replace(work, training=False), 1, 0.01).share is None


def test_readers_state_what_they_read_a_second():
    row = run(Workload("w", "p", 1.0, lambda: (lambda: sum(range(9999)),) * 2, items=7), 3, 1e-3)
    assert row.items == pytest.approx(7000 / row.ours_ms)
    assert tool.cells(replace(row, items=1234.0))[-1] == "1,234"


def test_readers_and_their_peers_read_the_same():
    for make in (readers.parquet, readers.pictures):
        ours, peer = (work() for work in make())
        if isinstance(ours, dict):  # in the order that the batch draws
            rows = {row.numpy().tobytes() for row in peer}
            assert all(row.numpy().tobytes() in rows for row in ours["image"])
        else:
            assert torch.equal(ours, peer)
    ours, peer = readers.sounds()
    assert all(torch.equal(a, b) for (a, _), b in zip(ours(), peer(), strict=True))
    for name in ("ball.obj", "ball.off", "ascii.ply", "ball.ply"):
        ours, peer = readers.mesh(name)
        assert len(ours().faces) == 5120 and peer() == pytest.approx(4 * np.pi, rel=0.01)
    assert len(readers.polygons()[0]().faces) == 2048 + 2 * 2048
    ours, peer = readers.pieces()
    assert [len(notes) for notes in ours()] == 5 * [1000]
    assert all(sum(m.type == "note_on" for m in piece) == 1000 for piece in peer())
    ours, peer = readers.motions()
    assert [len(c) for c in ours().features] == [len(rows) for rows, _ in peer()]


def test_the_discrete_vaes_are_the_same_function():
    """Same weights and, with the noise of both sides silenced, the same loss and gradients."""
    torch.manual_seed(0)
    ours, peer, x = dvae.DVAE(), dvae.RestatedDVAE(), torch.rand(4, 3, 32, 32)
    peer.encoder.load_state_dict(ours.encoder.state_dict())
    peer.decoder.load_state_dict(ours.decoder.state_dict())
    with torch.no_grad():
        peer.logits.weight.copy_(ours.logits.weight[..., None, None])
        peer.logits.bias.copy_(ours.logits.bias)
        peer.codebook.weight.copy_(ours.quantizer.codebook)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dvae.F, "gumbel_softmax", lambda logits, tau, dim: logits.softmax(dim))
        silent = lambda self, logits, temperature: logits.softmax(-1)  # noqa: E731
        patch.setattr(dvae.GumbelQuantizer, "_relax", silent)
        a, b = ours(x), peer(x)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    a.backward(), b.backward()
    torch.testing.assert_close(
        ours.quantizer.codebook.grad, peer.codebook.weight.grad, rtol=1e-4, atol=1e-6
    )


def copy_blocks(blocks, layers) -> None:
    """Our blocks' weights into transformers' layers: q, k, v, out, fc1, fc2 and two norms."""
    for block, layer in zip(blocks, layers, strict=True):
        linears = [m for m in layer.modules() if isinstance(m, nn.Linear)]
        norms = [m for m in layer.modules() if isinstance(m, nn.LayerNorm)]
        for theirs, norm in zip(norms, (block.norm1, block.norm2), strict=True):
            theirs.load_state_dict(norm.state_dict())
        qkv = block.attention.qkv
        thirds = zip(qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True)
        ends = [(m.weight, m.bias) for m in (block.attention.proj, block.mlp.fc1, block.mlp.fc2)]
        for theirs, (weight, bias) in zip(linears, [*thirds, *ends], strict=True):
            theirs.weight.data, theirs.bias.data = weight.data, bias.data


def layers_of(model):
    """transformers' layers, under either of the names that its versions use."""
    return model.layers if hasattr(model, "layers") else model.encoder.layer


def test_video_transformers_compute_the_same():
    ours, peer = vision.vivit_pair("gelu")
    embeddings = peer.eval().embeddings
    embeddings.patch_embeddings.projection.load_state_dict(ours.patches.state_dict())
    embeddings.cls_token.data = ours.class_token.data
    table = ours.position.data.flatten(2).transpose(1, 2)
    embeddings.position_embeddings.data = torch.cat([ours.class_position.data, table], dim=1)
    peer.layernorm.load_state_dict(ours.norm.state_dict())
    copy_blocks(ours.blocks, layers_of(peer))
    clip = torch.randn(1, 8, 3, 32, 32)
    theirs = peer(clip).last_hidden_state
    torch.testing.assert_close(ours(clip.transpose(1, 2)), theirs, rtol=1e-4, atol=1e-5)


def test_masked_autoencoders_compute_the_same():
    ours, peer = vision.mae_pair()
    trunk, encoder, decoder = ours.trunk, peer.eval().vit, peer.decoder
    encoder.embeddings.patch_embeddings.projection.load_state_dict(trunk.patches.state_dict())
    encoder.embeddings.cls_token.data = trunk.class_token.data
    table = trunk.position.data.flatten(2).transpose(1, 2)
    encoder.embeddings.position_embeddings.data[:, 1:] = table
    encoder.layernorm.load_state_dict(trunk.norm.state_dict())
    copy_blocks(trunk.blocks, layers_of(encoder))
    decoder.decoder_embed.load_state_dict(ours.embed.state_dict())
    decoder.mask_token.data = ours.mask.data
    decoder.decoder_pos_embed.data = ours.position.data
    copy_blocks(ours.blocks, decoder.decoder_layers)
    decoder.decoder_norm.load_state_dict(ours.norm.state_dict())
    decoder.decoder_pred.load_state_dict(ours.head.state_dict())
    image, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 64)
    theirs = peer(pixel_values=image, noise=noise).loss
    torch.testing.assert_close(ours(image, noise), theirs, rtol=1e-4, atol=1e-5)


def test_axial_layers_compute_the_same():
    ours, peer = vision.axial_pair()
    for mine, theirs in zip(ours.layers, peer.layers, strict=True):
        theirs.in_proj_weight.data = mine.qkv.weight.data
        theirs.in_proj_bias.data = mine.qkv.bias.data
        theirs.out_proj.load_state_dict(mine.proj.state_dict())
    x = torch.randn(1, 4, 6, 192)
    torch.testing.assert_close(ours(x), peer(x), rtol=1e-4, atol=1e-5)


def test_video_autoencoders_have_the_same_shapes():
    ours, peer = networks.video_vae_pair()
    clip = torch.randn(1, 3, 9, 32, 32)
    moments = ours[0](clip)
    assert moments.shape == peer.encode(clip).latent_dist.parameters.shape == (1, 8, 3, 8, 8)
    z = moments[:, :4]
    assert ours[1](z).shape == peer.decode(z).sample.shape == clip.shape


def test_dense_autoencoder_reconstructs_as_the_sparse_one():
    ours, peer = TopKSAE(128, 2048, 32).eval(), vision.DenseTopK(128, 2048, 32)
    peer.encoder.load_state_dict(ours.encoder.state_dict())
    nn.init.normal_(ours.bias)
    ours.threshold.fill_(-1.0)  # no batch seen: the k largest, as in training
    peer.bias.data, peer.decoder.weight.data = ours.bias.data, ours.dictionary.data.T
    x = torch.randn(16, 128)
    error = (ours(x) - x).square().sum(-1).mean()
    torch.testing.assert_close(peer(x), error, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.make.__name__)
def test_both_sides_run(workload):
    try:
        ours, peer = workload.make()
    except ImportError as error:
        pytest.skip(f"peer not installed: {error.name}")
    ours(), peer()


def test_unknown_workload_is_one_clear_line():
    command = [sys.executable, "-m", "benchmarks", "--only", "no such work", "--no-page"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and "no workload contains" in result.stderr
    assert "Traceback" not in result.stderr
