"""Published autoencoders of `diffusers`, read into this library's KL-VAE."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from gentok.base.diffusers_vae import FILE, OLD, named, read_kl_vae
from gentok.base.kl_vae import PRESETS, build

SMALL = replace(
    PRESETS["kl-f8"], image_size=16, channels=32, multipliers=(1, 2), num_res_blocks=1,
    perceptual_weight=0.0, gan_weight=0.0, published_params=None,
)  # fmt: skip


@pytest.fixture
def peer():
    torch.manual_seed(0)
    model = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=32,
    ).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return model


def test_a_saved_autoencoder_computes_the_same(peer, tmp_path):
    peer.save_pretrained(tmp_path)
    ours, x = read_kl_vae(tmp_path / FILE, SMALL), torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        posterior = peer.encode(x).latent_dist
        torch.testing.assert_close(ours.posterior(x).mean, posterior.mean, rtol=1e-4, atol=1e-4)
        z = posterior.mean
        torch.testing.assert_close(ours.decode(z), peer.decode(z).sample, rtol=1e-4, atol=1e-4)
    assert not ours.training and not any(p.requires_grad for p in ours.parameters())


def test_older_files_have_other_names_and_kernels_for_matrices(peer, tmp_path):
    peer.save_pretrained(tmp_path)
    stored = {}
    for name, tensor in load_file(tmp_path / FILE).items():
        old = name
        for new, word in OLD.items():
            old = old.replace(f".{new}.", f".{word}.")
        stored[old] = (
            tensor[..., None, None].clone() if old != name and tensor.ndim == 2 else tensor
        )
    save_file(stored, tmp_path / "old.safetensors")
    new, old = (read_kl_vae(tmp_path / file, SMALL) for file in (FILE, "old.safetensors"))
    for (name, mine), theirs in zip(
        new.state_dict().items(), old.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs), name


def test_every_weight_has_a_name():
    model = build(SMALL)
    names = named(model)
    assert sum(t.numel() for t in names.values()) == model.tokenizer_parameters()


def test_files_that_do_not_fit(peer, tmp_path):
    peer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="there and .* here"):
        read_kl_vae(tmp_path / FILE, replace(SMALL, multipliers=(1, 2, 2)))
    with pytest.raises(ValueError, match="post_quant_conv.bias has no place"):
        read_kl_vae(tmp_path / FILE, replace(SMALL, quant_conv=False))
    with pytest.raises(FileNotFoundError, match="no autoencoder"):
        read_kl_vae(tmp_path / "none.safetensors", SMALL)
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="not a readable safetensors"):
        read_kl_vae(tmp_path / "bad.safetensors", SMALL)
