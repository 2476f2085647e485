"""MicroDiT: a light mixer sees all tokens, a deep backbone a quarter of them."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "A noisy latent of 8 by 8 places is cut into 64 tokens. The patch mixer, two light blocks, "
    "passes all of them. Behind it three quarters are dropped at random, and the backbone, four "
    "blocks that grow wider, works on the 16 that are left. A head gives its answer for these "
    "patches, and the loss is theirs alone. Below, a caption passes a frozen text encoder and a "
    "block of its own; mixer and backbone read it by cross-attention, and its mean, added to the "
    "noise level, scales and gates their blocks. In sampling nothing is dropped."
)
KEPT = {(0, 1), (2, 3), (3, 0), (1, 2)}


def draw() -> Diagram:
    """The drawing of the MicroDiT chapter; shapes are those of ``study-32``."""
    d = Diagram("MicroDiT: mix first, then drop", DESCRIPTION, 1080, 470)
    latent = d.data("noisy latent", (24, 92), (128, 60), ["(B, 4, 8, 8)"])
    cut = d.box("patchify", (186, 90), (112, 64), ["token a place"])
    whole = d.tokens((330, 82), [["old"] * 4] * 4)
    mixer = d.box("mixer", (450, 82), (116, 80), ["2 light blocks,", "all 64 tokens"], new=True)
    rows = [["old" if (r, c) in KEPT else "masked" for c in range(4)] for r in range(4)]
    few = d.tokens((606, 82), rows)
    backbone = d.box(
        "blocks", (726, 82), (156, 80), ["4 blocks, wider with", "depth: 16 tokens"], new=True
    )
    head = d.box("head", (924, 90), (116, 64), ["(B, 16, 4)"])
    loss = d.box("loss", (924, 206), (116, 60), ["kept patches"])
    caption = d.data("caption", (24, 330), (128, 60), ['"a red star ..."'])
    encoder = d.box("text encoder", (182, 328), (142, 64), ["(B, 8, 32)"], frozen=True)
    words = d.box("caption_block", (356, 328), (136, 64), ["(B, 8, 96)"])
    noise = d.data("noise level", (530, 330), (116, 60), ["ln sigma / 4"])
    pooled = d.box("pooled, time", (690, 328), (136, 64), ["c: (B, 96)"])

    d.arrow(latent.right(), cut.left())
    d.arrow(cut.right(), whole.left())
    d.arrow(whole.right(), mixer.left())
    d.arrow(mixer.right(), few.left())
    d.arrow(few.right(), backbone.left())
    d.arrow(backbone.right(), head.left())
    d.arrow(head.bottom(), loss.top())
    d.note("drop 3/4", (646, 72))
    d.arrow(caption.right(), encoder.left())
    d.arrow(encoder.right(), words.left())
    d.arrow(words.top(0.3), (396.8, 244), (489, 244), mixer.bottom(0.34))
    d.arrow(words.top(0.6), (437.6, 268), (773, 268), backbone.bottom(0.3))
    d.note("cross-attention", (606, 260))
    d.arrow(words.bottom(), (424, 420), (758, 420), pooled.bottom())
    d.note("mean over places", (588, 414))
    d.arrow(noise.right(), pooled.left())
    d.arrow(pooled.top(0.3), (731, 296), (530, 296), mixer.bottom(0.69))
    d.arrow(pooled.top(0.7), (785, 240), (830, 240), backbone.bottom(0.67))
    d.note("scales, shifts, gates", (640, 312))
    d.legend((24, 450), tokens=False)
    return d
