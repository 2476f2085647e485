"""`gentok train mogo` and `gentok sample mogo`, as small as they go, and how real data are read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.data import sample_motions
from gentok.data.motion_features import motion_features
from gentok.signals.mogo import clips as clips_module
from gentok.signals.mogo import motion_rvq, recipe
from gentok.signals.mogo.model import PRESETS, Mogo
from gentok.signals.mogo.motion_text import HashedWords
from gentok.training.profiles import Profile
from gentok.training.schedules import schedule_factor
from gentok.training.stages import stage

SMOKE = Profile("smoke", (0,), "cpu")
SMALL = replace(PRESETS["tiny"], dim=16, depths=(1, 1), num_heads=(2, 2))


@pytest.mark.slow
def test_train_resume_and_sample(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    out = tmp_path / "mogo.safetensors"
    network = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    assert isinstance(network, Mogo) and not network.training
    assert out.is_file() and stage(out, "tokenizer").is_file()
    again = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    pictures = [tmp_path / "a.gif", tmp_path / "b.gif"]
    for path in pictures:
        recipe.sample(out, path, n=2, seed=1)
    with Image.open(pictures[0]) as first:
        assert first.format == "GIF" and first.n_frames > 10
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_published_presets_ask_for_their_data(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="HumanML3D .* not found"):
        recipe.train("code-a-1024", SMOKE, out=None, resume=False, seed=0)


def test_humanml3d_is_read_in_its_public_layout(monkeypatch, tmp_path):
    folder = tmp_path / "humanml3d"
    (folder / "new_joint_vecs").mkdir(parents=True)
    (folder / "texts").mkdir()
    rows = np.random.default_rng(0).normal(size=(260, 263)).astype(np.float32)
    for name, length in {"000001": 45, "000002": 39, "000003": 199, "000004": 200}.items():
        np.save(folder / "new_joint_vecs" / f"{name}.npy", rows[:length])
        lines = f"a man walks.#a/DET man/NOUN#0.0#0.0\nsomeone {name}#x#0.0#0.0\n"
        (folder / "texts" / f"{name}.txt").write_text(lines)
    (folder / "train.txt").write_text("000001\n000002\n000003\n000004\n000005\n")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    clips = clips_module.humanml3d()
    assert [len(c) for c in clips.features] == [45, 199], "40 to 199 frames"
    assert clips.pairs == [
        (0, "a man walks."), (0, "someone 000001"), (1, "a man walks."), (1, "someone 000003")
    ]  # fmt: skip
    torch.testing.assert_close(clips.features[0][:, 0], torch.from_numpy(-2 * rows[:45, 0]))
    torch.testing.assert_close(clips.features[0][:, 1:], torch.from_numpy(rows[:45, 1:]))


def test_a_caption_of_a_span_becomes_a_clip_of_its_own(monkeypatch, tmp_path):
    folder = tmp_path / "humanml3d"
    (folder / "new_joint_vecs").mkdir(parents=True)
    (folder / "texts").mkdir()
    rows = np.random.default_rng(0).normal(size=(150, 263)).astype(np.float32)
    np.save(folder / "new_joint_vecs" / "a.npy", rows)
    lines = ("all of it#x#0.0#0.0", "two to five#x#2.0#5.0", "too short#x#1.0#2.5",
             "no time#x#nan#nan", "bare")  # fmt: skip
    (folder / "texts" / "a.txt").write_text("\n".join(lines))
    (folder / "train.txt").write_text("a\n")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    clips = clips_module.humanml3d()
    assert [len(c) for c in clips.features] == [60, 150]
    assert clips.pairs == [(0, "two to five"), (1, "all of it"), (1, "no time"), (1, "bare")]
    torch.testing.assert_close(clips.features[0], clips.features[1][40:100], rtol=0, atol=0)


def test_a_tokenizer_learns_from_every_motion_once(monkeypatch, tmp_path):
    """As released: a span is no second copy of its clip, and words are not asked for."""
    root = tmp_path / "humanml3d"
    for name in ("new_joint_vecs", "texts"):
        (root / name).mkdir(parents=True)
    lines = {"a": "all of it#x#0.0#0.0\na span#x#1.0#5.0", "b": "a span#x#0.0#3.5", "long": "one"}
    for name, words in lines.items():
        shape = (250 if name == "long" else 110, 263)
        rows = np.random.default_rng(len(words)).normal(size=shape).astype(np.float32)
        np.save(root / "new_joint_vecs" / f"{name}.npy", rows)
        (root / "texts" / f"{name}.txt").write_text(words)
    (root / "train.txt").write_text("a\nb\nlong\n")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    clips = clips_module.humanml3d()
    assert [len(motion) for motion in clips.motions] == [110, 110, 250]
    assert sorted(len(clip) for clip in clips.features) == [70, 80, 110]
    seen = []

    def window_batches(features, *_):
        seen.extend(features)
        return lambda step: {"motion": torch.zeros(1, 64, 263)}

    small = motion_rvq.MotionRVQConfig(width=8, code_dim=4, codebook_size=4, num_levels=1)
    task = replace(
        recipe.plan("code-a-512", SMOKE),
        tokenizer_size=small,
        tokenizer=replace(recipe.plan("tiny", SMOKE).tokenizer, steps=1, warmup=0),
    )
    monkeypatch.setattr(recipe, "window_batches", window_batches)
    recipe.fit_tokenizer(task, clips, "cpu", progress=False)
    assert [len(motion) for motion in seen] == [110, 110, 250]


def humanml3d_folder(home, names=("a", "b"), frames=50):
    folder = home / "humanml3d"
    (folder / "new_joint_vecs").mkdir(parents=True)
    (folder / "texts").mkdir()
    for name in names:
        rows = np.random.default_rng(0).normal(size=(frames, 8)).astype(np.float32)
        np.save(folder / "new_joint_vecs" / f"{name}.npy", rows)
        (folder / "texts" / f"{name}.txt").write_text(f"clip {name}#x#0.0#0.0\n")
    (folder / "train.txt").write_text("\n".join(names))
    return folder


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("new_joint_vecs/b.npy", b""),
        ("new_joint_vecs/b.npy", b"no array"),
        ("new_joint_vecs/b.npy", np.zeros(50)),
        ("new_joint_vecs/b.npy", np.zeros((50, 0))),
        ("new_joint_vecs/b.npy", np.full((50, 8), "a")),
        ("new_joint_vecs/b.npy", np.full((50, 8), None)),
        ("texts/b.txt", b"\xe9t\xe9"),
    ],
)
def test_a_damaged_clip_is_named_and_left_out(monkeypatch, tmp_path, file, content):
    path = humanml3d_folder(tmp_path) / file
    np.save(path, content) if isinstance(content, np.ndarray) else path.write_bytes(content)
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.warns(UserWarning, match=rf"{path.name} .*; the clip is left out"):
        clips = clips_module.humanml3d()
    assert clips.pairs == [(0, "clip a")]


def test_clips_of_two_widths_are_refused(monkeypatch, tmp_path):
    folder = humanml3d_folder(tmp_path)
    np.save(folder / "new_joint_vecs" / "b.npy", np.zeros((50, 9), np.float32))
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"b\.npy holds 9 features a frame, .* before it 8"):
        clips_module.humanml3d()


def test_odd_lines_and_times_of_captions(monkeypatch, tmp_path):
    """As they stand in the public files: a byte order mark, nan, times behind the end or mixed."""
    folder = humanml3d_folder(tmp_path, names=("a",), frames=100)
    lines = ("whole#x#nan#nan", "to the end#x#2.0#99.0", "back#x#4.0#1.0", "#x#0.0#0.0", "",
             "before#x#-3.0#2.5", "never#x#1e300#1e308", "bare")  # fmt: skip
    (folder / "texts" / "a.txt").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    (folder / "train.txt").write_text("\ufeffa\r\n", encoding="utf-8")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    clips = clips_module.humanml3d()
    assert [(len(clips.features[i]), words) for i, words in clips.pairs] == [
        (60, "to the end"), (50, "before"), (100, "whole"), (100, "never"), (100, "bare")
    ]  # fmt: skip


def test_published_plans_are_the_released_ones():
    gpu = Profile("gpu", (0,), "cpu")
    for name in recipe.PUBLISHED:
        task = recipe.plan(name, gpu)
        first, second = task.tokenizer, task.generator
        assert (first.betas, first.clip, first.lr, first.batch_size) == (
            (0.9, 0.99),
            None,
            2e-4,
            256,
        )
        rates = [first.lr * schedule_factor(s, first.steps, 0, first.schedule)
                 for s in (0, 1999, 149_999, 150_000, 250_000)]  # fmt: skip
        assert rates == pytest.approx([1e-7, 2e-4, 2e-4, 2e-5, 2e-6])
        assert (second.betas, second.clip, second.lr) == ((0.9, 0.999), None, 3e-5)
        assert second.weight_decay == 1e-7 and second.warmup == 0 and second.batch_size == 28
        last = second.lr * schedule_factor(799_999, second.steps, 0, second.schedule)
        assert last == pytest.approx(2e-6, rel=1e-5)
        assert task.window == 64


def test_motion_capture_is_cut_at_twenty_frames_a_second():
    clip = sample_motions(1, 200, seed=0)
    long = replace(clip, root=clip.root[0], rotations=clip.rotations[0], fps=40.0)
    clips = clips_module.mocap_clips({"spin": replace(long, captions=("spin kick",))}, stride=8)
    frames = len(range(0, 200, 2)) - 1  # every other frame, less one for velocities
    assert len(clips.features) == (frames - 64) // 8 + 1
    assert {caption for _, caption in clips.pairs} == {"spin kick"}
    assert clips.features[0].shape == (64, 215)
    with pytest.raises(ValueError, match="no clip of motion capture has 64 frames"):
        clips_module.mocap_clips(
            {"short": replace(long, root=long.root[:50], rotations=long.rotations[:50])}
        )


def test_windows_stay_inside_their_clips_and_short_clips_are_left_out():
    clips = [torch.full((70, 3), 1.0), torch.full((63, 3), 3.0), torch.full((64, 3), 2.0)]
    draw = recipe.window_batches(clips, 4, seed=0)
    seen = set()
    for step in range(4):
        motion = draw(step)["motion"]
        assert motion.shape == (4, 64, 3)
        assert (motion == motion[:, :1]).all(), "a window joins two clips"
        seen |= set(motion[:, 0, 0].tolist())
    assert seen == {1.0, 2.0}
    with pytest.raises(ValueError, match="no clip has the 64 frames"):
        recipe.window_batches(clips[1:2], 4, seed=0)


def test_the_margin_is_seen_by_the_encoder_and_not_by_the_transformer():
    torch.manual_seed(0)
    tokenizer = motion_rvq.build(motion_rvq.PRESETS["tiny"]).eval()
    motion = motion_features(sample_motions(3, 81, seed=0))  # 80 frames
    clips = clips_module.Clips(list(motion[:, :56]), [(i, "a") for i in range(3)], margin=16)
    codes = torch.stack(recipe.clip_codes(tokenizer, clips))
    assert codes.shape == (3, 40, 4)
    longer = tokenizer.encode(motion)
    assert torch.equal(codes, longer[:, :40]), "16 frames ahead are all that the encoder sees"
    assert not torch.equal(tokenizer.encode(motion[:, :40]), codes)


@pytest.mark.parametrize("frames", [0, 16])
def test_clips_too_short_for_a_code_are_refused(frames):
    tokenizer = motion_rvq.build(motion_rvq.PRESETS["tiny"]).eval()
    clips = [torch.zeros(40, 263), torch.zeros(frames, 263)]
    clips = clips_module.Clips(clips, [(0, "a"), (1, "b")], margin=16)
    with pytest.raises(ValueError, match=f"clips: clip 1 has {frames} frames, one code needs 17"):
        recipe.clip_codes(tokenizer, clips)


def test_batches_hold_codes_padding_length_and_text():
    torch.manual_seed(0)
    tokenizer = motion_rvq.build(motion_rvq.PRESETS["tiny"]).eval()
    motion = sample_motions(2, 31, seed=0)
    features = list(motion_features(motion))
    clips = clips_module.Clips([features[0], features[1][:20]], [(0, "a b"), (1, "a c"), (1, "d")])
    text = HashedWords(16)
    draw = recipe.code_batches(tokenizer, clips, text, 2, seed=0)
    batch = draw(0)
    assert batch["codes"].shape == (2, 30, 4) and batch["text"].shape == (2, 16)
    assert sorted(batch["length"].tolist()) == [20, 30], "a clip comes as often as any other"
    for codes, sentence, length in zip(batch["codes"], batch["text"], batch["length"], strict=True):
        assert (codes[length:] == 64).all() and (codes[:length] < 64).all()
        clip = clips.features[0 if length == 30 else 1]
        assert torch.equal(codes[:length], tokenizer.encode(clip[None])[0])
        words = ["a b"] if length == 30 else ["a c", "d"]
        assert any(torch.equal(sentence, row) for row in text.encode(words))
    told = torch.cat([draw(step)["text"] for step in range(30)])
    assert len(told.unique(dim=0)) == 3, "each caption of a clip has its turn"
    assert torch.equal(draw(7)["text"], draw(7)["text"])


def test_sampling_without_a_checkpoint_names_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        recipe.sample(tmp_path / "absent.safetensors", tmp_path / "a.gif", n=1, seed=0)
