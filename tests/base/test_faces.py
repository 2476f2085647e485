"""One face: any tokenizer with any generator of its kind, by the same names everywhere."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gentok
from gentok.base import kl_vae, lightning_dit, vqgan
from gentok.base.foundation import FrozenNetwork
from gentok.base.masked import nat
from gentok.diffusion import micro_diffusion
from gentok.latents.ard_vae import model as ard_vae
from gentok.latents.fa_vae import model as fa_vae
from gentok.latents.rae import dit as rae_dit
from gentok.latents.rae import model as rae
from gentok.latents.rae.encoder import outline_encoder
from gentok.latents.vitok import dit as vitok_dit
from gentok.latents.vitok import model as vitok
from gentok.measure.features import SmallClassifier
from gentok.nn.gpt import Gpt, GptConfig
from gentok.nn.latents import LatentSpace, NormalizedChannels, evaluating
from gentok.nn.multiscale_quantize import MultiscaleQuantizer
from gentok.nn.next_scale import NextScaleGpt
from gentok.signals.mert import codec, spectral_codec
from gentok.signals.mogo import model as mogo
from gentok.signals.mogo import motion_rvq
from gentok.signals.mogo.flattened import FlattenedTransformer
from gentok.tokens import atvc
from gentok.tokens.axial import model as axial
from gentok.tokens.enat import model as enat
from gentok.video.step_video import model as step_video
from gentok.video.step_video import vae as video_vae
from gentok.video.step_video.text_encoders import WordTables

SOURCES = sorted(Path(gentok.__file__).parent.rglob("*.py"))
OLD_NAMES = {
    "normalise", "denormalise", "standardise", "adversarial_start", "adversarial_weight",
    "num_codes", "guidance", "normalise_by",
}  # fmt: skip


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """RAE looks through networks that others trained; untrained ones of their shape will do."""
    torch.manual_seed(0)
    classifier = SmallClassifier(10).eval().requires_grad_(False)
    encoder = outline_encoder(rae.PRESETS["tiny"].encoder)
    monkeypatch.setattr(rae, "perceptual_network", lambda _: FrozenNetwork(lambda: classifier))
    monkeypatch.setattr(rae, "frozen_encoder", lambda _: FrozenNetwork(lambda: encoder))


def pictures():
    return torch.rand(2, 3, 32, 32) * 2 - 1


# Untrained tokenizers, each with data of its own.
TOKENIZERS = {
    "kl_vae": lambda: (kl_vae.build(kl_vae.PRESETS["tiny"]), pictures()),
    "fa_vae": lambda: (fa_vae.build(fa_vae.PRESETS["tiny"]), pictures()),
    "ard_vae": lambda: (
        ard_vae.build(ard_vae.PRESETS["tiny"]),
        torch.rand(2, 1, 16, 16) * 2 - 1,
    ),
    "rae": lambda: (rae.build(rae.PRESETS["tiny"]), pictures()),
    "vitok": lambda: (vitok.build(vitok.PRESETS["study-32"]), pictures()),
    "vitok_video": lambda: (
        vitok.build(vitok.PRESETS["tiny-video"]),
        torch.rand(2, 8, 3, 32, 32) * 2 - 1,
    ),
    "atvc": lambda: (atvc.build_dvae(atvc.DVAES["tiny"]), torch.rand(2, 3, 24, 24) * 2 - 1),
    "vqgan": lambda: (vqgan.build(vqgan.PRESETS["tiny"]), pictures()),
    "video_vae": lambda: (
        video_vae.build(video_vae.PRESETS["tiny"]),
        torch.rand(2, 17, 3, 32, 32) * 2 - 1,
    ),
    "motion_rvq": lambda: (
        motion_rvq.build(replace(motion_rvq.PRESETS["tiny"], feature_dim=35)),
        torch.randn(2, 16, 35),
    ),
    "codec": lambda: (codec.build(codec.CodecConfig()), torch.rand(2, 4000) - 0.5),
    "spectral_codec": lambda: (
        spectral_codec.build(spectral_codec.SpectralCodecConfig()),
        torch.rand(2, 4000) - 0.5,
    ),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_encode_and_decode_never_change_the_model(name):
    torch.manual_seed(0)
    tokenizer, x = TOKENIZERS[name]()
    tokenizer.train()
    with torch.no_grad():
        # A codebook that starts at its first batch has to have seen one.
        tokenizer.loss({tokenizer.latent_space.batch_key: x}, 0)
    before = {key: value.clone() for key, value in tokenizer.state_dict().items()}
    modes = [module.training for module in tokenizer.modules()]
    first, second = tokenizer.encode(x), tokenizer.encode(x)
    assert torch.equal(first, second), "a second look at the data gives something else"
    tokenizer.decode(first)
    for key, value in tokenizer.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} moved"
    assert [module.training for module in tokenizer.modules()] == modes
    assert torch.equal(tokenizer.eval().encode(x), first), "training encodes differently"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_latents_are_as_described(name):
    tokenizer, x = TOKENIZERS[name]()
    z, space = tokenizer.eval().encode(x), tokenizer.latent_space
    assert z.ndim == 1 + len(space.shape) and len(z) == len(x)
    assert all(want in (None, n) for n, want in zip(z.shape[1:], space.shape, strict=True))
    if space.kind == "discrete":
        assert z.dtype == torch.int64 and z.min() >= 0 and z.max() < space.codebook_size
    else:
        assert z.is_floating_point()
    again = tokenizer.decode(z)
    assert again.shape[:2] == x.shape[:2] and again.ndim == x.ndim


def lightning(space: LatentSpace):
    c, side, _ = space.shape
    config = replace(lightning_dit.PRESETS["tiny"], in_channels=c, input_size=side, depth=1)
    return lightning_dit.build(config)


def dit_dh(space: LatentSpace):
    c, side, _ = space.shape
    tiny = rae_dit.PRESETS["tiny"]
    backbone = replace(tiny.backbone, in_channels=c, input_size=side, num_classes=10)
    return rae_dit.RAEDiT(replace(tiny, backbone=backbone))


def vitok_dit_of(space: LatentSpace):
    return vitok_dit.ViTokDiT(replace(vitok_dit.DITS["tiny"], latent_shape=space.shape))


@pytest.mark.parametrize("generator", [lightning, dit_dh, vitok_dit_of])
@pytest.mark.parametrize("name", ["kl_vae", "fa_vae", "rae", "vitok"])
def test_continuous_pictures(name, generator):
    torch.manual_seed(0)
    tokenizer, x = TOKENIZERS[name]()
    z = tokenizer.eval().encode(x)
    network = generator(tokenizer.latent_space)
    network.set_statistics(z)
    torch.testing.assert_close(network.denormalize(network.normalize(z)), z, rtol=1e-4, atol=1e-4)
    label = torch.tensor([1, 2])
    network.loss({"latent": z, "label": label}, 0)[0].backward()
    images = tokenizer.decode(network.sample(2, label, num_steps=2, guidance_scale=1.5))
    assert images.shape == x.shape and images.isfinite().all()


@pytest.mark.parametrize("name", ["kl_vae", "fa_vae", "rae", "vitok"])
def test_captioned_pictures(name):
    """A generator that reads captions: any states of a text encoder, any grid of latents."""
    torch.manual_seed(0)
    tokenizer, x = TOKENIZERS[name]()
    z = tokenizer.eval().encode(x)
    channels, side, _ = tokenizer.latent_space.shape
    tiny = micro_diffusion.PRESETS["tiny"]
    network = micro_diffusion.build(replace(tiny, in_channels=channels, input_size=side, depth=2))
    network.set_statistics(z)
    torch.testing.assert_close(network.denormalize(network.normalize(z)), z, rtol=1e-4, atol=1e-4)
    caption = torch.randn(2, tiny.caption_length, tiny.caption_dim)
    network.loss({"latent": z, "caption": caption}, 0)[0].backward()
    images = tokenizer.decode(network.sample(2, caption, num_steps=2, guidance_scale=1.5))
    assert images.shape == x.shape and images.isfinite().all()


def test_continuous_clips():
    torch.manual_seed(0)
    tokenizer, x = TOKENIZERS["vitok_video"]()
    z = tokenizer.eval().encode(x)
    network = vitok_dit_of(tokenizer.latent_space)
    network.set_statistics(z)
    network.loss({"latent": z, "label": torch.tensor([1, 2])}, 0)[0].backward()
    assert tokenizer.decode(network.sample(2, 1, num_steps=2)).shape == x.shape


@pytest.mark.parametrize("module", [nat, enat])
def test_discrete_pictures(module):
    torch.manual_seed(0)
    tokenizer, x = TOKENIZERS["vqgan"]()
    codes, space = tokenizer.eval().encode(x), tokenizer.latent_space
    size = replace(
        module.PRESETS["tiny"], codebook_size=space.codebook_size, num_tokens=space.shape[0]
    )
    network = module.build(size)
    label = torch.tensor([1, 2])
    network.loss({"codes": codes, "label": label}, 0)[0].backward()
    drawn = network.eval().sample(2, label, num_steps=3, guidance_scale=1.0)
    assert tokenizer.decode(drawn).shape == x.shape


@pytest.mark.parametrize("frames", ["picture", 8, 17, 20])
def test_continuous_video(frames):
    torch.manual_seed(0)
    tokenizer, _ = TOKENIZERS["video_vae"]()
    x = pictures() if frames == "picture" else torch.rand(2, frames, 3, 32, 32) * 2 - 1
    z = tokenizer.eval().encode(x)
    _, count, channels, height, width = z.shape
    size = replace(
        step_video.PRESETS["tiny"],
        in_channels=channels,
        depth=1,
        frames=count,
        height=height,
        width=width,
    )
    network = step_video.build(size)
    network.set_statistics(z)
    torch.testing.assert_close(network.denormalize(network.normalize(z)), z, rtol=1e-4, atol=1e-4)
    text = WordTables(size.clip_dim, size.llm_dim, size.clip_length, size.llm_length)(
        ["a red star", "a blue disc"]
    )
    network.loss({"latent": z, **text.batch()}, 0)[0].backward()
    drawn = network.sample(2, text, num_steps=2, guidance_scale=1.0)
    if frames == "picture":
        assert tokenizer.decode(drawn)[:, 0].shape == x.shape
    else:
        assert tokenizer.decode(drawn, frames=frames).shape == x.shape
    with pytest.raises(ValueError, match="n=3 prompts, got 2"):
        network.sample(3, text)


@pytest.mark.parametrize("name", ["motion_rvq", "codec", "spectral_codec"])
@pytest.mark.parametrize("generator", [mogo.build, FlattenedTransformer])
def test_discrete_sequences(name, generator):
    torch.manual_seed(0)
    tokenizer, x = TOKENIZERS[name]()
    codes, space = tokenizer.eval().encode(x), tokenizer.latent_space
    tiny = mogo.PRESETS["tiny"]
    levels = space.shape[1]
    size = replace(
        tiny,
        codebook_size=space.codebook_size,
        depths=(1,) * levels,
        num_heads=(2,) * levels,
    )
    network = generator(size)
    text, length = torch.randn(2, size.text_dim), torch.full((2,), codes.shape[1])
    network.loss({"codes": codes, "text": text, "length": length}, 0)[0].backward()
    drawn = network.eval().sample(2, text, codes.shape[1])
    assert tokenizer.decode(drawn).shape == x.shape


@pytest.mark.parametrize("name", ["vqgan", "motion_rvq", "codec", "spectral_codec"])
def test_codes_one_after_the_other(name):
    """The causal transformer takes the codes of any tokenizer as one stream."""
    torch.manual_seed(0)
    tokenizer, x = TOKENIZERS[name]()
    codes, space = tokenizer.eval().encode(x), tokenizer.latent_space
    stream = codes.flatten(1)
    size = GptConfig(space.codebook_size, stream.shape[1], dim=16, num_layers=1, num_heads=2)
    network = Gpt(size)
    network.loss({"tokens": stream}, 0)[0].backward()
    drawn = network.eval().sample(2, given=stream[:, :1])
    assert tokenizer.decode(drawn.view_as(codes)).shape == x.shape


@pytest.mark.parametrize("planes", ["sliced", "stacked"])
def test_codes_as_a_picture(planes):
    """A model of pixels takes codes that lie on a grid as a picture of one channel."""
    torch.manual_seed(0)
    tokenizer, x = TOKENIZERS["vqgan"]()
    codes, space = tokenizer.eval().encode(x), tokenizer.latent_space
    size = replace(
        axial.PRESETS["tiny"], channels=1, num_values=space.codebook_size, dim=16, planes=planes
    )
    network = axial.build(size)
    network.loss({"pixels": codes.view(2, 1, 8, 8)}, 0)[0].backward()
    drawn = network.eval().sample(2)
    assert tokenizer.decode(drawn.flatten(1)).shape == x.shape


@pytest.mark.parametrize("name", ["kl_vae", "fa_vae", "rae", "vitok"])
def test_scales_of_continuous_pictures(name):
    """Quantised scale by scale, any grid of latents is written scale by scale."""
    torch.manual_seed(0)
    tokenizer, x = TOKENIZERS[name]()
    z = tokenizer.eval().encode(x)  # (2, C, h, w)
    rows, side = z.flatten(2).transpose(1, 2), z.shape[-1]  # (2, h w, C)
    quantizer = MultiscaleQuantizer(16, z.shape[1], [(1, 1), (2, 2), (side, side)])
    codes, lengths = quantizer.encode(rows), quantizer.lengths
    size = GptConfig(16, sum(lengths), dim=16, num_layers=1, num_heads=2)
    network = NextScaleGpt(size, lengths, features=z.shape[1])
    batch = {"codes": torch.cat(codes, 1), "features": torch.cat(quantizer.next_inputs(codes), 1)}
    network.loss(batch, 0)[0].backward()

    def following(drawn):
        held = [count for i, count in enumerate(lengths) if sum(lengths[:i]) < drawn.shape[1]]
        return quantizer.next_inputs(list(drawn.split(held, dim=1)))[-1]

    drawn = network.eval().sample(2, following)
    again = quantizer.lookup(drawn.split(lengths, dim=1)).transpose(1, 2).view_as(z)
    assert tokenizer.decode(again).shape == x.shape


# Generators that no tokenizer of the library feeds, and why.
ALONE = {
    "MatLM": "writes characters",
    "ARDVAE": "draws from the prior of its own latents",
    "SG2Im": "draws behind the graphs of scenes",
    "ChatStream": "draws behind orders and pictures",
    "AxialVideoTransformer": "draws clips of pixels behind given frames",
}
JOINED = {
    "LightningDiT", "RAEDiT", "ViTokDiT", "MicroDiT", "MaskedTokenModel",
    "StepVideo", "Mogo", "FlattenedTransformer",
    "Gpt", "NextScaleGpt", "AxialTransformer", "StackedAxialTransformer",
}  # fmt: skip


def test_no_tokenizer_and_no_generator_is_left_out():
    """Who describes latents is a tokenizer; who has a loss and `sample(n, ...)`, a generator."""
    tokenizers, generators = set(), set()
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                methods = {m.name: m for m in node.body if isinstance(m, ast.FunctionDef)}
                if "latent_space" in methods:
                    tokenizers.add(node.name)
                if {"loss", "sample"} <= set(methods):
                    first = methods["sample"].args.args[1:2]
                    if first and first[0].arg == "n":
                        generators.add(node.name)
    tested = {kind.__name__ for make in TOKENIZERS.values() for kind in type(make()[0]).__mro__}
    assert tokenizers <= tested, tokenizers - tested
    assert generators - set(ALONE) == JOINED


def test_pictures_that_are_not_square_come_back_as_they_were():
    tokenizer = vqgan.build(vqgan.PRESETS["tiny"]).eval()
    x = torch.rand(1, 3, 16, 64) * 2 - 1
    codes = tokenizer.encode(x)
    with torch.no_grad():
        whole = tokenizer(x)[0]
        assert torch.allclose(tokenizer.decode(codes, grid=(4, 16)), whole, atol=1e-5)
    with pytest.raises(ValueError, match="grid of 4 x 15"):
        tokenizer.decode(codes, grid=(4, 15))
    with pytest.raises(ValueError, match="grid says how they lie"):
        tokenizer.decode(codes[:, :60])


def test_a_latent_space_counts_what_it_holds():
    codes = LatentSpace("discrete", (8, 4), "image", codebook_size=256)
    assert (codes.numbers, codes.bits) == (32, 256)
    assert LatentSpace("continuous", (None, 4, 2, 2), "video").bits == 16 * 32
    with pytest.raises(ValueError, match="unknown kind 'fuzzy'"):
        LatentSpace("fuzzy", (1,), "image")
    with pytest.raises(ValueError, match="codebook_size goes with discrete latents"):
        LatentSpace("discrete", (1,), "image")


def test_statistics_of_channels_are_those_of_numpy():
    torch.manual_seed(0)
    for axes, shape in (("(B, C, h, w)", (5, 3, 4, 2)), ("(B, T, C, h, w)", (5, 6, 3, 4, 2))):
        model, z = NormalizedChannels(3, axes), torch.randn(shape) * 3 + 1
        model.set_statistics(z)
        flat = np.moveaxis(z.numpy(), -3, 0).reshape(3, -1)
        np.testing.assert_allclose(model.latent_mean, flat.mean(1), rtol=1e-5)
        np.testing.assert_allclose(model.latent_std, flat.std(1, ddof=1), rtol=1e-5)
        x = model.normalize(z)
        np.testing.assert_allclose(
            np.moveaxis(x.numpy(), -3, 0).reshape(3, -1).std(1, ddof=1), 1, rtol=1e-5
        )
        torch.testing.assert_close(model.denormalize(x), z, rtol=1e-5, atol=1e-5)


def test_statistics_of_nothing_are_refused():
    model = NormalizedChannels(3, "(B, C, h, w)")
    with pytest.raises(ValueError, match="two finite values a channel"):
        model.set_statistics(torch.zeros(1, 3, 1, 1))
    with pytest.raises(ValueError, match="finite: False"):
        model.set_statistics(torch.full((2, 3, 2, 2), torch.nan))
    for wrong in ((2, 4, 2, 2), (2, 3, 2)):
        with pytest.raises(ValueError, match=r"latent must be \(B, 3, h, w\)"):
            model.normalize(torch.zeros(wrong))
    network = rae_dit.RAEDiT(rae_dit.PRESETS["tiny"])
    with pytest.raises(ValueError, match="n above 1"):
        network.set_statistics(torch.zeros(1, *network.config.latent_shape))


def test_each_layer_gets_its_own_mode_back():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    model[1].eval()
    with pytest.raises(KeyError), evaluating(model):
        assert not model[0].training
        raise KeyError
    assert model.training and model[0].training and not model[1].training


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_second_name_for_one_idea(path):
    """Arguments, attributes and functions go by the names that the book has fixed."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for key in ("name", "arg", "attr", "id"):
            if isinstance(getattr(node, key, None), str):
                found.add(getattr(node, key))
    modules = {"guidance"} if path.stem == "guidance" else set()
    if "sg2im" in path.parts:  # how many codes a picture has; the old name was that of K
        modules = {"num_codes"}
    assert not (found & OLD_NAMES) - modules
    signatures = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name in ("encode", "decode", "sample")
    ]
    for node in signatures:
        arguments = {a.arg for a in [*node.args.args, *node.args.kwonlyargs]}
        assert not arguments & {"steps", "points", "image", "video", "wave", "motion"}, node.name
