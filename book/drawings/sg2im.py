"""Scene graphs to images: a graph transformer lays out, a GPT draws codes, a tokenizer decodes."""

from gentok.show.diagram import Diagram

DESCRIPTION = (
    "Above, a scene graph passes the graph transformer: labels of nodes with positions from the "
    "graph's Laplacian, and predicates of edges, go through layers of attention along edges, in "
    "which each edge scales the score. Two heads give a box and a label for every node. Layout and "
    "labels are written as tokens, three an object. Below, the tokens of the layout and the codes "
    "drawn so far pass a GPT, which gives the next code. A frozen decoder turns all codes into a "
    "picture. No gradient passes from the GPT to the graph transformer."
)


def draw() -> Diagram:
    """The drawing of the chapter; shapes are those of ``scenes-32``."""
    d = Diagram("From a scene graph to a picture", DESCRIPTION, 1080, 500)
    graph = d.data("scene graph", (24, 92), (146, 76), ["labels (B, 4)", "edges (B, 9, 3)"])
    position = d.box("position", (24, 222), (146, 60), ["(B, 4, 4)"])
    attention = d.box(
        "EdgeAttention", (244, 84), (176, 92), ["x 3, nodes and edges", "(B 4, 64), (L, 64)"],
        new=True,
    )  # fmt: skip
    box = d.box("box_head", (494, 68), (136, 60), ["(B, 4, 4)"])
    label = d.box("label_head", (494, 150), (136, 60), ["(B, 4, 4)"])
    tokens = d.box("LayoutTokens", (716, 92), (158, 84), ["3 an object"], new=True)

    layout = d.data("layout", (24, 346), (146, 62), ["(B, 14) tokens"])
    codes = d.data("codes", (244, 346), (136, 62), ["(B, n) so far"])
    gpt = d.box("ImageGPT", (460, 340), (164, 74), ["causal"])
    code = d.data("next code", (700, 346), (128, 62), ["of 100"])
    decoder = d.box("decoder", (900, 340), (140, 74), ["of all 64"], frozen=True)
    picture = d.data("picture", (900, 222), (140, 62), ["(B, 3, 32, 32)"])

    d.arrow(graph.right(), attention.left())
    d.arrow(position.right(), (208, 252), (208, 150), attention.left(0.72))
    d.arrow(attention.right(0.3), box.left())
    d.arrow(attention.right(0.7), label.left())
    d.arrow(box.right(), tokens.left(0.3))
    d.arrow(label.right(), tokens.left(0.7))
    d.arrow(tokens.bottom(), (795, 306), (97, 306), layout.top(), dashed=True)
    d.note("integers: no gradient returns", (446, 298))
    d.arrow(layout.right(), codes.left())
    d.arrow(codes.right(), gpt.left())
    d.arrow(gpt.right(), code.left())
    d.arrow(code.bottom(), (764, 446), (312, 446), codes.bottom())
    d.note("64 times", (540, 438))
    d.arrow(code.right(), decoder.left())
    d.arrow(decoder.top(), picture.bottom())
    d.legend((24, 482))
    return d
