"""Step-Video: a clip through its Video-VAE, and a step of its transformer."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "Above, the encoder: seventeen frames pass four levels with causal convolutions, which leave "
    "five frames at an eighth of the size, and a middle part with causal attention. Two paths then "
    "fold five frames into three at a sixteenth: a convolution, and an average of neighbouring "
    "channels without parameters. The sum, averaged once more, is the latent. The decoder runs the "
    "same way back. Below, the transformer: the noisy latents become tokens, the prompt comes from "
    "two text encoders, and one layer makes six vectors of the time for all blocks. Each block has "
    "attention over space and time, attention to the text, and a feed-forward layer; the last "
    "layer gives the velocity, which a step of the sampler follows."
)


def draw() -> Diagram:
    """The drawing of the Step-Video chapter; depths are those of the published size."""
    d = Diagram("Step-Video: Video-VAE and one step of sampling", DESCRIPTION, 1000, 540)
    clip = d.data("video", (24, 76), (112, 70), ["17 frames", "(3, H, W)"])
    levels = d.box("levels", (184, 66), (150, 90), ["17 to 9 to 5 frames", "to H/8, W/8"])
    middle = d.box("middle", (380, 66), (136, 90), ["res, attention,", "res: causal"])
    fold = d.box("patchify.conv", (580, 46), (156, 56), ["conv, unshuffle"])
    short = d.box("average", (580, 126), (156, 56), ["unshuffle, mean"], new=True)
    latent = d.data("latent", (828, 76), (140, 70), ["(3, z, H/16, W/16)"])
    d.arrow(clip.right(), levels.left())
    d.arrow(levels.right(), middle.left())
    d.arrow(middle.right(0.4), (548, 102), (548, 74), fold.left())
    d.arrow(middle.right(0.6), (548, 120), (548, 154), short.left())
    d.arrow(fold.right(), (782, 74), (782, 104), latent.left(0.4))
    d.arrow(short.right(), (782, 154), (782, 118), latent.left(0.6))
    d.note("+", (800, 98))
    d.note("decoder: the same way back", (466, 204))
    d.arrow(latent.bottom(), (898, 216), (80, 216), clip.bottom(), dashed=True)

    text = d.data("clip, llm", (24, 258), (112, 62), ["two encoders,", "frozen"])
    project = d.box("text", (184, 250), (150, 78), ["Linear; norm, MLP", "CLIP comes first"])
    time = d.data("t", (24, 452), (112, 50), ["in [0, 1]"])
    six = d.box("modulation", (184, 440), (150, 74), ["one for all blocks:", "6 vectors"])
    noisy = d.data("x_t", (24, 356), (112, 62), ["(t, z, h, w)"])
    tokens = d.box("patchify", (184, 350), (150, 74), ["one token a cell", "(B, N, D)"])
    own = d.box("attention", (420, 350), (140, 74), ["space and time,", "RoPE 2 : 1 : 1"])
    cross = d.box("text_attention", (584, 350), (146, 74), ["no norm, no gate"])
    feed = d.box("mlp", (754, 350), (80, 74), ["GELU"])
    out = d.box("proj_out", (872, 350), (104, 74), ["norm, Linear", "velocity"])
    d.arrow(text.right(), project.left())
    d.arrow(noisy.right(), tokens.left())
    d.arrow(time.right(), six.left())
    d.arrow(tokens.right(), own.left())
    d.arrow(own.right(), cross.left())
    d.arrow(cross.right(), feed.left())
    d.arrow(feed.right(), out.left())
    d.arrow(project.right(), (657, 289), cross.top())
    d.arrow(six.right(), (490, 477), own.bottom())
    d.arrow((490, 477), (794, 477), feed.bottom())
    d.note("48 blocks (tiny: 4)", (620, 452))
    d.note("shift, scale, gate", (640, 496))
    d.arrow(out.bottom(), (924, 526), (10, 526), (10, 387), noisy.left(), dashed=True)
    d.note("x + (t' - t) v", (700, 519), mono=True)
    d.legend((420, 266))
    return d
