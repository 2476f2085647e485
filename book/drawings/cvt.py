"""CvT: three stages in a row, and below them the attention of one block."""

from gentok.show.diagram import Box, Diagram

DESCRIPTION = (
    "Above: a picture passes three stages. Each begins with a convolutional token embedding, whose "
    "strided windows overlap, and goes on with transformer blocks; the grid halves and the width "
    "doubles from stage to stage. The last stage adds a class token, which is normalised and "
    "classified. Below: in the attention of a block the tokens are laid out on their grid and pass "
    "three depth-wise convolutions with batch norm, for queries at stride 1, for keys and values "
    "at stride 2. The class token passes them by. Then come linear maps, attention and a last "
    "linear map."
)
STAGES = (  # grid and width at 32 pixels, blocks of CvT-13
    ("(B, 256, 16)", "1 block"),
    ("(B, 64, 32)", "2 blocks"),
    ("(B, 1 + 16, 64)", "10 blocks"),
)


def draw() -> Diagram:
    """The drawing of the CvT chapter: sizes of `study-32`, depths of CvT-13."""
    d = Diagram("CvT, from picture to class", DESCRIPTION, 1000, 580)
    picture = d.data("picture", (16, 76), (84, 66), ["32 × 32"])
    before = picture
    for i, (shape, depth) in enumerate(STAGES):
        x = 124 + 252 * i
        embed = d.box("ConvEmbed", (x, 68), (102, 82), ["3×3, stride 2", "LayerNorm"], new=True)
        blocks = d.box("blocks", (x + 126, 68), (102, 82), [depth, "in CvT-13"])
        d.arrow(before.right(), embed.left())
        d.arrow(embed.right(), blocks.left())
        d.note(shape, (x + 114, 172), mono=True)
        before = blocks
    head = d.box("head", (880, 68), (104, 82), ["norm, linear"])
    d.arrow(before.right(), head.left())
    d.note("class token", (932, 172))
    token = d.data("class token", (764, 196), (112, 34))
    d.arrow(token.top(), (820, 152))
    _attention(d)
    d.legend((28, 562))
    return d


def _attention(d: Diagram) -> None:
    """The lower half: one block's ConvAttention."""
    d.note("ConvAttention, in every block:", (28, 262), anchor="start")
    tokens = d.data("tokens", (28, 356), (108, 66), ["on their grid"])
    aside = d.data("class token", (28, 504), (112, 34))
    ends: list[Box] = []
    for i, (name, stride) in enumerate((("query", 1), ("key", 2), ("value", 2))):
        y = 276 + 76 * i
        conv = d.box(
            f"{name}_conv", (182, y), (198, 60), [f"depth-wise 3×3, stride {stride}"], new=True
        )
        linear = d.box(name, (488, y), (100, 60), ["linear"])
        d.arrow(tokens.right(), (158, 389), (158, y + 30), conv.left())
        d.arrow(conv.right(), linear.left())
        d.note("(B, N, C)" if stride == 1 else "(B, N/4, C)", (434, y + 22), mono=True)
        ends.append(linear)
    attend = d.box("attention", (640, 330), (170, 104), ["softmax(q k / √C) v", "h heads"])
    for i, end in enumerate(ends):
        d.arrow(
            end.right(), (616, end.right()[1]), (616, 356 + 26 * i), attend.left(0.25 + 0.25 * i)
        )
    proj = d.box("proj", (850, 352), (96, 60), ["linear"])
    d.arrow(attend.right(), proj.left())
    d.arrow(aside.right(), (538, 521), ends[2].bottom())
    d.note("passes the convolutions by, joins q, k and v", (330, 538))
