"""Step-Video's transformer, its texts, its sampler and what follows pre-training."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import PixArtAlphaTextProjection, get_1d_rotary_pos_embed
from diffusers.models.normalization import AdaLayerNormSingle, RMSNorm
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.data import to_float
from gentok.data.clips import DIRECTIONS
from gentok.data.plain_shapes import EASIEST
from gentok.data.world import COLOURS, SHAPES
from gentok.measure import count_flops, count_parameters
from gentok.process.flow import euler_sample
from gentok.video.step_video import model as step_video
from gentok.video.step_video.blobs import blob_paths, obeys, render, shakiness
from gentok.video.step_video.clips import moving_scenes, moving_shapes
from gentok.video.step_video.dpo import Turbo, VideoDPO, rank_pairs, reflow_pairs, u_shaped_times
from gentok.video.step_video.judging import accuracies, asked
from gentok.video.step_video.text_encoders import PretrainedText, Text, WordTables

TINY = replace(step_video.PRESETS["tiny"], in_channels=8, depth=2, num_heads=2, head_dim=16)
PROMPTS = ["a red star moving left", "a blue disc moving up", "a blob"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = step_video.build(TINY).eval()
    torch.nn.init.normal_(network.proj_out.weight, std=0.1)  # zero at first
    return network


def texts(prompts=PROMPTS):
    return WordTables()(prompts)


def batch_of(n=3, frames=3):
    torch.manual_seed(1)
    return {"latent": torch.randn(n, frames, 8, 2, 2), **texts(PROMPTS[:n]).batch()}


def velocity_of(network, x, t, text):
    return network(x, t, text.clip, text.llm, text.mask)


# --- sizes ----------------------------------------------------------------------------------------


def test_published_size_part_by_part():
    with torch.device("meta"):
        network = step_video.build(config := step_video.PRESETS["step-video-t2v"])
    assert count_parameters(network) == config.published_params == 29_342_478_400
    assert count_parameters(network.blocks[0]) == 604_041_728
    assert count_parameters(network.time) + count_parameters(network.modulation) == 265_863_168
    assert count_parameters(network.text.llm) == 75_509_760
    assert count_parameters(network.text.clip) == 6_297_600
    assert count_parameters(network.patchify) == 399_360
    assert count_parameters(network.proj_out) + network.table.numel() == 405_568
    frames, _, height, width = config.latent_shape
    assert frames * height * width == 75_888, "tokens of 204 frames of 544 x 992"
    assert count_flops(network.loss, step_video.example(config)) > 1e15


# --- parts against diffusers ----------------------------------------------------------------------


def test_time_and_modulation_equal_adaln_single(model):
    theirs = AdaLayerNormSingle(TINY.dim)
    linears = theirs.emb.timestep_embedder
    for mine, other in (
        (model.time.mlp[0], linears.linear_1),
        (model.time.mlp[2], linears.linear_2),
        (model.modulation, theirs.linear),
    ):
        other.load_state_dict(mine.state_dict())
    t = torch.tensor([0.0, 0.3, 1.0])
    six, embedded = theirs(1000 * t, hidden_dtype=torch.float32)
    ours = model.time(1000 * t)
    torch.testing.assert_close(ours, embedded, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.modulation(F.silu(ours)), six, rtol=1e-4, atol=1e-4)


def test_text_projection_equals_pixart_and_clip_comes_first(model):
    text = texts()
    theirs = PixArtAlphaTextProjection(TINY.llm_dim, TINY.dim)
    theirs.linear_1.load_state_dict(model.text.llm[0].state_dict())
    theirs.linear_2.load_state_dict(model.text.llm[2].state_dict())
    out, mask = model.text(text.clip, text.llm, text.mask)
    llm = theirs(F.layer_norm(text.llm, (TINY.llm_dim,), eps=1e-6))
    torch.testing.assert_close(out[:, 8:], llm, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out[:, :8], model.text.clip(text.clip))
    assert mask[:, :8].all(), "all places of the CLIP part are read, padding included"
    assert torch.equal(mask[:, 8:], text.mask)


def test_self_attention_by_hand_with_the_per_head_layout(model):
    """Explicit softmax; RMSNorm and rotation from diffusers; weights read as [q | k | v] a head."""
    layer, d, heads = model.blocks[0].attention, TINY.head_dim, TINY.num_heads
    for norm in (layer.q_norm, layer.k_norm):
        torch.nn.init.normal_(norm.weight, 1.0, 0.3)
    positions = torch.tensor([[f, r, c] for f in range(3) for r in range(2) for c in range(2)])
    x = torch.randn(2, 12, TINY.dim)
    rms_q, rms_k = RMSNorm(d, eps=1e-6), RMSNorm(d, eps=1e-6)
    rms_q.load_state_dict(layer.q_norm.state_dict())
    rms_k.load_state_dict(layer.k_norm.state_dict())

    def turn(part):  # (2, 12, d): a half, a quarter, a quarter of the channels
        out = []
        for axis, piece in enumerate(part.split([d // 2, d // 4, d // 4], -1)):
            cos, sin = get_1d_rotary_pos_embed(
                piece.shape[-1], positions[:, axis], use_real=True, repeat_interleave_real=False
            )
            first, second = piece.chunk(2, -1)
            out.append(piece * cos + torch.cat([-second, first], -1) * sin)
        return torch.cat(out, -1)

    outs = []
    for head in range(heads):
        rows = layer.qkv.weight[3 * d * head : 3 * d * (head + 1)]
        q, k, v = (x @ part.T for part in rows.split(d))
        scores = turn(rms_q(q)) @ turn(rms_k(k)).mT / d**0.5
        outs.append(scores.softmax(-1) @ v)
    expected = torch.cat(outs, -1) @ layer.proj.weight.T
    torch.testing.assert_close(layer(x, positions=positions), expected, rtol=1e-4, atol=1e-5)


def test_block_modulates_on_top_of_affine_norms_and_text_has_neither_norm_nor_gate(model):
    block = model.blocks[0]
    for norm in (block.norm1, block.norm2):
        torch.nn.init.normal_(norm.weight, 1.0, 0.3)
        torch.nn.init.normal_(norm.bias)
    x, time = torch.randn(2, 12, TINY.dim), torch.randn(2, 6, TINY.dim)
    text, mask = model.text(*texts(PROMPTS[:2]).batch().values())
    positions = step_video.grid_positions(3, 2, 2)
    m = (block.table + time).split(1, dim=1)

    def norm(h, layer):
        return F.layer_norm(h, (TINY.dim,), layer.weight, layer.bias, 1e-5)

    h = x + m[2] * block.attention(norm(x, block.norm1) * (1 + m[1]) + m[0], positions=positions)
    h = h + block.text_attention(h, text, mask)
    inner = norm(h, block.norm2) * (1 + m[4]) + m[3]
    hidden = F.gelu(inner @ block.mlp[0].weight.T, approximate="tanh")
    expected = h + m[5] * (hidden @ block.mlp[2].weight.T)
    out = block(x, positions, text, mask, time)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_no_bias_in_attention_and_feed_forward(model):
    biased = {n for n, _ in model.blocks.named_parameters() if n.endswith("bias")}
    assert all("norm" in name for name in biased)


# --- text -----------------------------------------------------------------------------------------


def test_masked_words_are_not_read(model):
    text, x, t = texts(), torch.randn(3, 3, 8, 2, 2), torch.rand(3)
    noisy = Text(text.clip, torch.where(text.mask[..., None], text.llm, 9.0), text.mask)
    same = velocity_of(model, x, t, text)
    torch.testing.assert_close(velocity_of(model, x, t, noisy), same)
    other = Text(text.clip, torch.where(text.mask[..., None], 9.0, text.llm), text.mask)
    assert not torch.allclose(velocity_of(model, x, t, other), same)
    clip = Text(text.clip + 1, text.llm, text.mask)
    assert not torch.allclose(velocity_of(model, x, t, clip), same)


def test_word_tables_pad_mask_and_name_unknown_words():
    text = texts(["a red star", ""])
    assert text.clip.shape == (2, 8, 24) and text.llm.shape == (2, 16, 48)
    assert text.mask.sum(1).tolist() == [3, 1], "an empty prompt still has its first place"
    again = WordTables()(["a red star"])
    assert torch.equal(again.llm[0], text.llm[0]), "the tables are fixed"
    with pytest.raises(ValueError, match="unknown word 'unicorn'"):
        WordTables()(["a unicorn"])
    with pytest.raises(ValueError, match="at most 16 words, got 20"):
        WordTables()(["a " * 20])


def test_pretrained_pair_through_transformers(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import (
        BertConfig,
        BertModel,
        BloomConfig,
        BloomModel,
        PreTrainedTokenizerFast,
    )

    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "a", "red", "star", "moving", "left"])}
    inner = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = Whitespace()
    bert = BertConfig(
        vocab_size=len(words),
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    bloom = BloomConfig(vocab_size=len(words), hidden_size=48, n_layer=1, n_head=2)  # has ALiBi
    kinds = {"clip": (BertModel, bert), "llm": (BloomModel, bloom)}
    for name, (kind, config) in kinds.items():
        kind(config).save_pretrained(tmp_path / name)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]"
        )
        tokenizer.save_pretrained(tmp_path / name)
    pair = PretrainedText(str(tmp_path / "clip"), str(tmp_path / "llm"), clip_length=9)
    text = pair(["a red star moving left", "a star"])
    assert text.clip.shape == (2, 9, 24) and text.llm.shape == (2, 5, 48)
    assert text.mask.tolist() == [[True] * 5, [True, True, False, False, False]]
    assert not any(p.requires_grad for p in pair.parameters())
    alone = pair(["a star"])  # causal and padded behind: the words in front do not change
    torch.testing.assert_close(alone.llm[0], text.llm[1, :2], rtol=1e-4, atol=1e-5)
    with pytest.raises(FileNotFoundError, match="text encoder .*absent"):
        PretrainedText(str(tmp_path / "absent"), str(tmp_path / "llm"))


# --- flow matching --------------------------------------------------------------------------------


def test_gradients_reach_every_parameter(model):
    model.train().loss(batch_of())[0].backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_loss_is_that_of_the_exact_velocity(model, monkeypatch):
    """A model that knows noise and data has no loss; its negative has four times the power."""
    batch = batch_of()
    caught = {}

    def oracle(x_t, t, *text):
        data = batch["latent"]
        spread = t.view(-1, 1, 1, 1, 1)
        noise = (x_t - spread * data) / (1 - spread)
        caught["v"] = data - noise
        return data - noise

    monkeypatch.setattr(model, "forward", oracle)
    assert model.loss(batch)[0].item() < 1e-6
    monkeypatch.setattr(model, "forward", lambda *a: -oracle(*a))
    total = model.loss(batch)[0]
    assert total.item() == pytest.approx(4 * caught["v"].square().mean().item(), rel=1e-3)


def test_one_frame_and_other_grids_are_accepted(model):
    text = texts(PROMPTS[:1])
    for shape in ((1, 1, 8, 2, 2), (1, 6, 8, 4, 2)):
        assert velocity_of(model, torch.randn(shape), torch.rand(1), text).shape == shape


def test_patches_of_two_cells_keep_their_places():
    torch.manual_seed(0)
    network = step_video.build(replace(TINY, patch_size=2, height=4, width=4))
    with torch.no_grad():  # the network reduced to its first and last linear layer
        network.blocks = torch.nn.ModuleList()
        network.norm_out = torch.nn.Identity()
        network.table.zero_()
        network.time.mlp[2].weight.zero_()
        network.patchify.weight.copy_(torch.eye(32))
        network.patchify.bias.zero_()
        network.proj_out.weight.copy_(torch.eye(32))
    x = torch.randn(1, 3, 8, 4, 4)
    torch.testing.assert_close(velocity_of(network, x, torch.rand(1), texts(PROMPTS[:1])), x)


def test_statistics_normalise_each_channel(model):
    latents = torch.randn(50, 3, 8, 2, 2) * torch.arange(1, 9).view(8, 1, 1) + 3
    model.set_statistics(latents)
    normal = model.normalize(latents)
    torch.testing.assert_close(normal.std((0, 1, 3, 4)), torch.ones(8), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.denormalize(normal), latents, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_overfits_one_batch():
    """Two latents, each eight times, so that a step sees eight times of the path of each."""
    torch.manual_seed(0)
    network = step_video.build(TINY).train()
    batch = {key: value[:2].repeat(8, *[1] * (value.ndim - 1)) for key, value in batch_of().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, betas=(0.9, 0.95))
    losses = []
    for _ in range(200):
        loss, _ = network.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-30:]) < 0.5 * sum(losses[:30])


# --- sampling -------------------------------------------------------------------------------------


def test_the_published_grid_of_times():
    grid = step_video.sampling_times(10, 13.0).tolist()
    published = [0, 0.0085, 0.0189, 0.0319, 0.0488, 0.0714, 0.1034, 0.1522, 0.2353, 0.4091, 1]
    assert grid == pytest.approx(published, abs=5e-5)


@settings(deadline=None, max_examples=10)
@given(steps=st.integers(1, 30), shift=st.floats(1.0, 20.0))
def test_the_sampler_walks_the_published_grid_from_noise_to_data(steps, shift):
    seen = []

    def velocity_fn(x, t):
        seen.append(t[0].item())
        return torch.ones_like(x)

    end = euler_sample(velocity_fn, torch.zeros(1, 1), steps, shift=1 / shift)
    grid = step_video.sampling_times(steps, shift)
    torch.testing.assert_close(torch.tensor(seen), grid[:-1], rtol=1e-4, atol=1e-5)
    assert end.item() == pytest.approx(1, abs=1e-5)


def test_sampling_is_deterministic_and_guided(model):
    text, empty = texts(), texts([""] * 3)
    noise = torch.randn(3, 3, 8, 2, 2)
    plain = model.sample(3, text, empty, num_steps=3, guidance_scale=1.0, noise=noise)
    assert plain.shape == (3, 3, 8, 2, 2)
    assert torch.equal(plain, model.sample(3, text, num_steps=3, noise=noise))
    led = model.sample(3, text, empty, num_steps=1, guidance_scale=4.0, shift=1.0, noise=noise)
    t = torch.zeros(3)
    positive, negative = (velocity_of(model, noise, t, part) for part in (text, empty))
    expected = noise + negative + 4.0 * (positive - negative)
    torch.testing.assert_close(led, expected, rtol=1e-4, atol=1e-4)
    torch.manual_seed(3)
    first = model.sample(3, text, num_steps=2)
    torch.manual_seed(3)
    assert torch.equal(first, model.sample(3, text, num_steps=2))


def test_negative_prompts_of_another_length(model):
    text, long = texts(), texts([""] * 3)
    short = Text(text.clip, text.llm[:, :5], text.mask[:, :5])
    noise = torch.randn(3, 3, 8, 2, 2)
    same = model.sample(3, text, long, num_steps=2, guidance_scale=3.0, noise=noise)
    torch.testing.assert_close(
        model.sample(3, short, long, num_steps=2, guidance_scale=3.0, noise=noise), same
    )


# --- preferences and few steps --------------------------------------------------------------------


def pairs_of(n=3):
    torch.manual_seed(2)
    winner, loser = torch.randn(2, n, 3, 8, 2, 2)
    return {"winner": winner, "loser": loser, **texts(PROMPTS[:n]).batch()}


def test_dpo_starts_at_log_two_and_trains_the_policy_alone(model):
    dpo = VideoDPO(model, beta=10.0).train()
    before = {n: p.clone() for n, p in dpo.reference.named_parameters()}
    loss, parts = dpo.loss(pairs_of())
    assert loss.item() == pytest.approx(0.6931, abs=1e-3) and parts["margin"] == 0
    loss.backward()
    assert all(p.grad is None for p in dpo.reference.parameters())
    assert all(p.grad is not None for p in dpo.policy.parameters())
    for n, p in dpo.reference.named_parameters():
        assert torch.equal(p, before[n])


def test_dpo_widens_the_margin_of_its_pairs(model):
    dpo, batch = VideoDPO(model, beta=5.0), pairs_of()
    optimizer = torch.optim.AdamW(dpo.policy.parameters(), lr=1e-3)
    for _ in range(30):
        loss, _ = dpo.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    margins = [dpo.loss(batch)[1]["margin"].item() for _ in range(10)]
    assert sum(margins) / 10 > 0.05


def test_shared_draws_make_quieter_gradients(model):
    """Winner and loser nearly alike: their gradients cancel with one noise, not with two."""
    batch = pairs_of()
    batch["loser"] = batch["winner"] + 0.1 * batch["loser"]
    norms = {}
    for shared in (True, False):
        dpo = VideoDPO(model, beta=1.0, shared=shared)
        torch.manual_seed(4)
        for _ in range(4):
            dpo.loss(batch)[0].backward()
        norms[shared] = sum(p.grad.square().sum().item() for p in dpo.policy.parameters())
        dpo.policy.zero_grad()
    assert norms[True] < 0.2 * norms[False]


def test_rank_pairs_puts_the_better_one_first():
    a, b = torch.zeros(3, 1, 2), torch.ones(3, 1, 2)
    winner, loser = rank_pairs(a, b, torch.tensor([1.0, -1.0, 0.0]))
    assert winner[:, 0, 0].tolist() == [0, 1, 0] and loser[:, 0, 0].tolist() == [1, 0, 1]


def test_training_times_of_turbo_crowd_at_both_ends():
    torch.manual_seed(0)
    t = u_shaped_times(20_000, a=2.0)
    assert t.min() >= 0 and t.max() <= 1
    edges = torch.linspace(0, 1, 6)
    share = torch.histogram(t, edges).hist / len(t)
    mass = torch.sinh(2.0 * (2 * edges - 1))  # integral of exp(as) + exp(-as), s = 2t - 1
    torch.testing.assert_close(share, mass.diff() / (mass[-1] - mass[0]), rtol=0, atol=0.02)
    assert share[0] > 2 * share[2] and share[4] > 2 * share[2]


def test_reflow_learns_from_its_own_pairs(model):
    model.set_statistics(torch.randn(9, 3, 8, 2, 2) * 2 + 1)
    torch.manual_seed(0)
    pairs = reflow_pairs(model, texts(), batch_size=2, num_steps=2)
    again = model.sample(3, texts(), num_steps=2, noise=pairs["noise"])
    torch.testing.assert_close(pairs["sample"], again, rtol=1e-4, atol=1e-5)
    loss, _ = Turbo(model).loss(pairs)
    loss.backward()
    assert loss.item() > 0 and model.proj_out.weight.grad.any()


# --- data -----------------------------------------------------------------------------------------


def test_clips_move_where_the_caption_says_and_stay_inside():
    scenes, direction = moving_scenes(200, seed=3)
    free = 1 - scenes.radius
    end = scenes.position + 16 * scenes.velocity
    assert (scenes.position.abs() <= free[..., None] + 1e-6).all()
    assert (end.abs() <= free[..., None] + 1e-6).all(), "no bounce before the last frame"
    clips = moving_shapes(8, seed=3)
    assert clips.video.shape == (8, 17, 3, 32, 32) and clips.video.dtype == torch.uint8
    for caption, d in zip(clips.captions, clips.direction.tolist(), strict=True):
        assert caption.endswith(f"moving {list(DIRECTIONS)[d]}")
    assert torch.equal(clips.video, moving_shapes(8, seed=3).video)
    WordTables()(clips.captions)  # every word is known


def test_clips_of_some_shapes_show_no_others_and_are_read_right():
    clips = moving_shapes(60, seed=3, shapes=("star", "ring"))
    assert {caption.split()[2] for caption in clips.captions} == {"star", "ring"}
    with pytest.raises(ValueError, match="shapes must be names of"):
        moving_shapes(2, shapes=("blob",))
    with pytest.raises(ValueError, match="shapes must be names of"):
        moving_shapes(2, shapes=())


def test_judging_reads_what_is_drawn_and_not_what_is_asked():
    prompts, looks = asked(160)
    assert len(set(prompts)) == 160, "every shape, colour and direction with every other"
    clips = moving_shapes(24, seed=5, shapes=EASIEST)
    said = [caption.split() for caption in clips.captions]
    looks = torch.tensor(
        [
            [SHAPES.index(c[2]), list(COLOURS).index(c[1]), list(DIRECTIONS).index(c[4])]
            for c in said
        ]
    )
    right = accuracies(to_float(clips.video), looks)
    assert min(right.values()) > 0.9, right
    backward = accuracies(to_float(clips.video.flip(1)), looks)
    assert backward["direction_accuracy"] == 0 and backward["colour_accuracy"] > 0.9
    assert accuracies(torch.zeros(2, 17, 3, 32, 32), looks[:2])["all_accuracy"] == 0


def test_blobs_shakiness_tells_the_two_kinds_apart():
    path, captions, shaky = blob_paths(300, seed=0)
    assert path.shape == (300, 8, 2, 1, 1) and len(captions) == 300
    score = shakiness(path)
    assert score[~shaky].max() < 1e-5 and score[shaky].min() > 0.3
    smooth, said = path[~shaky], [c for c, s in zip(captions, shaky, strict=True) if not s]
    assert obeys(smooth, said).all() and not obeys(smooth.flip(1), said).any()
    assert not obeys(smooth[:, :1].expand_as(smooth), said).any(), "standing still is no motion"


def test_blobs_are_drawn_where_they_are():
    path, _, _ = blob_paths(20, seed=1)
    video = render(path)
    assert video.shape == (20, 8, 1, 16, 16) and video.min() >= -1 and video.max() <= 1
    inside = (path.abs() < 2.5).all(2)[:, :, 0, 0]  # (n, T), all of the light in the frame
    light = (video[:, :, 0] + 1) / 2
    grid = (torch.arange(16) + 0.5) / 2 - 4
    centre = torch.stack([(light.sum(2) * grid).sum(-1), (light.sum(3) * grid).sum(-1)], -1)
    centre = centre / light.sum((2, 3))[..., None]
    torch.testing.assert_close(centre[inside], path[..., 0, 0][inside], rtol=0, atol=0.2)


# --- errors ---------------------------------------------------------------------------------------


def test_bad_input(model):
    with pytest.raises(ValueError, match="head_dim must be a multiple of 8, got 12"):
        replace(TINY, head_dim=12)
    with pytest.raises(ValueError, match="patch_size must divide"):
        replace(TINY, patch_size=3)
    batch = batch_of()
    with pytest.raises(ValueError, match=r"latent must be \(B, T, 8, h, w\)"):
        model.loss({**batch, "latent": batch["latent"][:, :, 0]})
    with pytest.raises(ValueError, match="clip and llm must be"):
        velocity_of(model, batch["latent"], torch.rand(3), texts(PROMPTS[:2]))
    with pytest.raises(ValueError, match="a must be above 0"):
        u_shaped_times(3, 0)
