import base64
import io
import re
import wave

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.data import sample_motions
from gentok.data.motion import PARENTS
from gentok.show.media import (
    save_gif,
    save_wav,
    show_audio,
    show_skeletons,
    show_video,
    skeleton_frames,
    video_frames,
)


def embedded(html, kind):
    return base64.b64decode(re.search(f'data:{kind};base64,([^"]+)', html.data)[1])


def test_a_gif_holds_every_frame_in_its_colours(tmp_path):
    shades = np.linspace(0, 255, 5).astype(np.uint8)
    frames = np.broadcast_to(shades[:, None, None, None], (5, 8, 9, 3)).copy()
    save_gif(frames, tmp_path / "a.gif", fps=10)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 5 and gif.size == (9, 8) and gif.info["duration"] == 100
        for t, shade in enumerate(shades):
            gif.seek(t)
            assert abs(int(np.asarray(gif.convert("RGB"))[4, 4, 0]) - int(shade)) <= 3


def test_clips_stand_side_by_side_in_order():
    video = torch.stack([torch.full((2, 3, 64, 64), value) for value in (-1.0, 0.0, 1.0)])
    frames = video_frames(video, columns=2)
    assert frames.shape == (2, 2 * 128 + 6, 2 * 128 + 6, 3)
    corners = frames[0, [0, 0, -1], [0, -1, 0], 0]
    assert corners.tolist() == [0, 128, 255]


def test_a_page_plays_without_scripts_and_network():
    html = show_video(torch.zeros(3, 1, 8, 8), title="A <title>", alt='say "this"')
    assert "<script" not in html.data and "http" not in html.data
    assert 'alt="say &quot;this&quot;"' in html.data and "A &lt;title&gt;" in html.data
    with Image.open(io.BytesIO(embedded(html, "image/gif"))) as gif:
        assert gif.n_frames == 1 or gif.n_frames == 3  # equal frames may be merged
    assert Image.open(io.BytesIO(embedded(html, "image/png"))).size[0] > 0
    assert "prefers-reduced-motion" in html.data


def test_what_moves_can_be_paused_and_stands_still_then():
    html = show_video(torch.zeros(3, 1, 8, 8), title="A clip").data
    details = re.search("<details open>.*?</details>", html, re.S)[0]
    assert "<summary>Pause or play</summary>" in details and "data:image/gif" in details
    assert "data:image/png" not in details, "the still picture stands outside, where it stays"
    assert re.search(r"details\[open\] ~ \.still \{ display: none", html)
    assert 'alt="Still frames: A clip"' in html


def test_skeletons_are_drawn_where_they_stand():
    clip = sample_motions(2, frames=4, seed=0).positions
    frames = skeleton_frames(clip, PARENTS, size=100)
    assert frames.shape == (4, 100, 206, 3)
    assert len(embedded(show_skeletons(clip, PARENTS, captions=["a", "b"]), "image/gif")) > 1000
    # The camera follows the root, and the floor's lines repeat every half metre.
    moved = clip + torch.tensor([0.5, 0.0, -1.0])
    assert np.abs(frames.astype(int) - skeleton_frames(moved, PARENTS, size=100)).mean() < 0.5
    # A raised figure is drawn higher up.
    raised = skeleton_frames(clip + torch.tensor([0.0, 0.3, 0.0]), PARENTS, size=100)
    height = [np.nonzero((f[0, :, :100] < 130).any(-1).any(-1))[0].mean() for f in (frames, raised)]
    assert height[1] < height[0] - 5


def test_sound_keeps_its_samples(tmp_path):
    sound = torch.sin(torch.arange(800) / 5) * 0.5
    save_wav(tmp_path / "a.wav", sound, 8000)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8000, 1, 800)
        back = np.frombuffer(file.readframes(800), "<i2") / 32767
    assert np.abs(back - sound.numpy()).max() < 1e-4
    html = show_audio(torch.stack([sound, 4 * sound]), 8000, ["soft", "loud"])
    assert html.data.count("<audio controls") == 2 and "loud" in html.data
    first = np.frombuffer(embedded(html, "audio/wav")[44:], "<i2") / 32767
    assert first.max() == pytest.approx(0.25, abs=0.01)  # one factor for both


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: video_frames(torch.zeros(3, 2, 8, 8)), "video must be"),
        (
            lambda: skeleton_frames(torch.zeros(3, 4, 3), PARENTS),
            r"positions must be \(\[n,\] T, 18",
        ),
        (
            lambda: show_audio(torch.zeros(2, 9), 8000, ["one"]),
            "2 waves need as many titles, got 1",
        ),
        (lambda: save_wav("x.wav", torch.zeros(1, 2, 3), 8), "wave must be"),
        (lambda: save_gif(np.zeros((2, 4, 4, 3), np.uint8), "x.gif", 90), "fps must lie in"),
        (lambda: save_gif(np.zeros((2, 4, 4), np.uint8), "x.gif", 9), "frames must be"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
