"""MERT in training: two teachers hear the clean clip, the student a noisy one with holes."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "A clean waveform goes three ways. Above, to the acoustic teacher, a trained and frozen codec, "
    "which gives Q codes a frame, and to the musical teacher, a constant-Q transform without "
    "parameters, which gives K magnitudes a frame. Below, pieces of other clips are mixed in; "
    "strided convolutions make frames of it; spans of frames are replaced by one mask vector; a "
    "transformer reads them all. From the hidden frames one head names the codes and another draws "
    "the constant-Q spectrum; both are held against the teachers. Afterwards teachers and heads "
    "are thrown away and the hidden states of all layers are kept."
)
FRAMES = [["old", "masked", "masked", "masked", "old", "old", "masked", "masked"]]


def draw() -> Diagram:
    """The drawing of the MERT chapter."""
    d = Diagram("MERT, one training step", DESCRIPTION, 1000, 500)
    wave = d.data("wave", (28, 214), (104, 66), ["clean clips", "(B, L)"])
    codec = d.box("codec", (230, 64), (168, 72), ["acoustic teacher"], new=True, frozen=True)
    constant_q = d.box(
        "constant_q", (230, 164), (168, 72), ["musical teacher,", "no parameters"], new=True
    )
    codes = d.data("codes", (470, 70), (124, 60), ["(B, T, Q)"])
    magnitudes = d.data("cqt", (470, 170), (124, 60), ["(B, T, J)"])
    mix = d.box("mix_in_batch", (22, 336), (142, 82), ["pieces of", "other clips"], new=True)
    extractor = d.box("extractor", (204, 340), (118, 74), ["strided conv", "(B, T, C)"])
    frames = d.tokens((352, 364.5), FRAMES, side=25)
    d.note("span_mask: ? is hidden, about 58 %", (452, 352))
    blocks = d.box("blocks", (588, 340), (124, 74), ["position conv,", "transformer"])
    code_head = d.box(
        "code_head", (760, 64), (190, 72), ["cos / 0.1, nats,", "summed over Q"], new=True
    )
    cqt_head = d.box("cqt_head", (760, 164), (190, 72), ["squared error"], new=True)
    states = d.data(
        "hidden states", (800, 346), (150, 62), ["(B, layers, T, D)", "kept afterwards"]
    )
    d.arrow(wave.top(), (80, 100), codec.left())
    d.arrow(wave.right(0.25), (180, 230.5), (180, 200), constant_q.left())
    d.arrow(codec.right(), codes.left())
    d.arrow(constant_q.right(), magnitudes.left())
    d.arrow(codes.right(), code_head.left())
    d.arrow(magnitudes.right(), cqt_head.left())
    d.note("targets", (676, 90))
    d.note("targets", (676, 190))
    d.arrow(wave.bottom(), (80, 336))
    d.arrow(mix.right(), extractor.left())
    d.arrow(extractor.right(), frames.left())
    d.arrow(frames.right(), blocks.left())
    d.arrow(blocks.right(), states.left())
    d.arrow(states.top(0.35), (852.5, 236))
    d.note("at hidden frames only", (842, 292), anchor="end")
    d.arrow(states.right(0.5), (974, 377), (974, 100), code_head.right())
    d.legend((28, 484), tokens=False)
    return d
