"""One stream of words and codes: order T, picture V, re-created picture M, answer A.

Zhang and Liu 2024; blocks, positions, logits and padding as in DALLE-pytorch 0.8.2, the base of the
system's code. Sizes are ours, as the published ones could not be read.

    0   1 ... T   ... N   ... N   ... A      places
    start, order, source, image, answer      parts; each place has the vocabulary of its part

The start is the padding word, as in the base. Padding may be read by nobody and is never learned.
Of a refused order no re-created picture exists. Its places stay in the stream, so that the answer
stands where it always stands, but nothing is learned there; ``filler`` says what they hold.

Shapes: B streams, T words of an order, N = h w codes of a picture, A words of an answer, L places
in all, W words and K codes in the vocabulary, D channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.causal_transformer import CausalTransformer
from gentok.nn.gpt_block import GptConfig
from gentok.nn.place_head import PlaceHead
from gentok.process.autoregressive import sample_next
from gentok.tokens.atvc.orders import ANSWER_LENGTH, ORDER_LENGTH, WORDS

PAD, END = 0, 2
PARTS = ("order", "source", "image", "answer")
ANSWER_FIRST = ("order", "source", "answer", "image")
PICTURES = ("source", "image")
FILLERS = ("own", "source")
Draw = Callable[[Tensor], Tensor]
GREEDY: Draw = partial(sample_next, temperature=0)


@dataclass(frozen=True)
class StreamConfig:
    """Sizes and choices.

    Args:
        codebook_size: K; ``grid``: h = w.
        words: W; ``order_length``: T; ``answer_length``: A; both padded.
        dim, num_layers, num_heads: of the transformer.
        parts: the order of the parts: PARTS, or ANSWER_FIRST.
        filler: what stands at the image's places of a refused order while learning: ``"own"``, what
            the network itself would draw there, as when it is used; or ``"source"``, the source's
            codes, which tell the answer that the order was refused.
        learn_refused: learn the source as the re-creation of a refused order, which the paper does
            not: for comparison.
        blind: all codes are blanked, to 0, while learning and after: for comparison, what the
            order's words alone give away.
        table_std: of words, codes and positions at the start. The base's is 1, beside which the
            branches are faint for thousands of steps; small presets start lower.
        image_weight: w in (answer + w image) / (1 + w); the base's is 7, for text and image.
        published_params: none are known.
    """

    codebook_size: int
    grid: int
    words: int = len(WORDS)
    order_length: int = ORDER_LENGTH
    answer_length: int = ANSWER_LENGTH
    dim: int = 512
    num_layers: int = 2
    num_heads: int = 8
    parts: tuple[str, ...] = PARTS
    filler: str = "own"
    learn_refused: bool = False
    blind: bool = False
    table_std: float = 1.0
    image_weight: float = 1.0
    published_params: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "parts", tuple(self.parts))  # a list where it was read from a file
        if self.parts not in (PARTS, ANSWER_FIRST):
            raise ValueError(f"parts must be {PARTS} or {ANSWER_FIRST}, got {self.parts}")
        if self.filler not in FILLERS:
            raise ValueError(f"filler must be one of {FILLERS}, got {self.filler!r}")

    @property
    def sizes(self) -> dict[str, int]:
        """Places of each part."""
        codes = self.grid**2
        return {
            "order": self.order_length,
            "source": codes,
            "image": codes,
            "answer": self.answer_length,
        }

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """First place and end of each part; place 0 is the start's."""
        spans, place = {}, 1
        for name in self.parts:
            spans[name] = (place, place + self.sizes[name])
            place += self.sizes[name]
        return spans

    @property
    def length(self) -> int:
        """L, all places."""
        return 1 + sum(self.sizes.values())

    @property
    def gpt(self) -> GptConfig:
        """Sizes of the transformer and the vocabulary of each place."""
        text = (0, self.words)
        codes = (self.words, self.words + self.codebook_size)
        runs = [(self.sizes[name], *(codes if name in PICTURES else text)) for name in self.parts]
        return GptConfig(
            vocabulary=self.words + self.codebook_size,
            length=self.length,
            dim=self.dim,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            segments=((1, *text), *runs),
            positions="none",
            mlp="geglu",
            qkv_bias=False,
            head_bias=True,
            layer_scale=0.1,
        )


class ChatStream(nn.Module):
    """The transformer over one stream."""

    def __init__(self, config: StreamConfig):
        super().__init__()
        self.config, gpt = config, config.gpt
        self.embedding = nn.Embedding(gpt.vocabulary, config.dim)
        self.trunk = CausalTransformer(gpt)
        self.head = PlaceHead(
            config.dim, gpt.vocabulary, gpt.length, gpt.segments, bias=gpt.head_bias
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()  # the base leaves PyTorch's start
        for number, block in enumerate(self.trunk.blocks, 1):
            for scale in (block.scale1, block.scale2):
                nn.init.constant_(scale.gamma, layer_scale_of(number))
        dim, grid = config.dim, config.grid
        self.order_position = nn.Parameter(torch.randn(1 + config.order_length, dim))
        self.answer_position = nn.Parameter(torch.randn(config.answer_length, dim))
        self.rows = nn.ParameterDict({p: torch.randn(grid, 1, dim) for p in PICTURES})
        self.columns = nn.ParameterDict({p: torch.randn(1, grid, dim) for p in PICTURES})
        tables = [self.embedding.weight, self.order_position, self.answer_position]
        for table in (*tables, *self.rows.values(), *self.columns.values()):
            table.data.mul_(config.table_std)  # N(0, 1) before

    def positions(self) -> Tensor:
        """Of all places, (L, D): learned for words, row plus column for each picture's codes."""
        found = {"order": self.order_position, "answer": self.answer_position}
        for name in PICTURES:
            found[name] = (self.rows[name] + self.columns[name]).flatten(0, 1)
        return torch.cat([found[name] for name in self.config.parts])

    def write(self, **parts: Tensor) -> Tensor:
        """Parts by name, (B, T), (B, N) or (B, A) int64, as one stream of tokens (B, any).

        Codes follow the words in the vocabulary. The parts must be the first ones of the stream.

        Raises:
            ValueError: if a part is missing, too long or too short, or holds a number out of range.
        """
        sizes, words = self.config.sizes, self.config.words
        chosen = list(self.config.parts[: len(parts)])
        if set(parts) != set(chosen):
            raise ValueError(f"parts must be the first of {self.config.parts}, got {list(parts)}")
        for name in chosen:
            if parts[name].ndim != 2 or parts[name].shape[1] != sizes[name]:
                raise ValueError(
                    f"{name} must be (B, {sizes[name]}), got {tuple(parts[name].shape)}"
                )
            room = self.config.codebook_size if name in PICTURES else words
            if not parts[name].is_meta and not 0 <= parts[name].min() <= parts[name].max() < room:
                raise ValueError(f"{name} must lie in [0, {room})")
        start = parts["order"].new_full((len(parts["order"]), 1), PAD)
        moved = [parts[name] + (words if name in PICTURES else 0) for name in chosen]
        return torch.cat([start, *moved], 1)

    def readable(self, tokens: Tensor) -> Tensor:
        """Places that others may read, (B, any) bool: all but padding."""
        keys = torch.ones_like(tokens, dtype=torch.bool)
        for name, (first, end) in self.config.spans.items():
            if name not in PICTURES:
                keys[:, first:end] = tokens[:, first:end] != PAD
        return keys

    def hidden(self, tokens: Tensor, keys: Tensor, cache: list | None = None) -> Tensor:
        """States of new tokens (B, n), (B, n, D); the one at place i predicts place i + 1."""
        start = len(cache[0]) if cache else 0
        x = self.embedding(tokens) + self.positions()[start : start + tokens.shape[1]]
        return self.trunk(x, cache, keys)

    def nats(self, tokens: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of image (B, N) and answer (B, A), over the vocabulary of their places."""
        hidden = self.hidden(tokens[:, :-1], self.readable(tokens))
        found = {}
        for name in ("image", "answer"):
            first, end = self.config.spans[name]
            # The place before predicts: the first code of a part comes from the last of the one
            # before, so both cuts are one place further left than the part.
            low, high = self.head.range_of(first)
            logits = self.head.part(hidden[:, first - 1 : end - 1], low, high)
            target = tokens[:, first:end] - low
            found[name] = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
        return found

    def loss(self, batch: dict[str, Tensor], step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy of the re-created pictures and of the answers, weighted.

        Args:
            batch: ``order`` (B, T), ``source`` (B, N), ``image`` (B, N), ``answer`` (B, A) int64;
                ``obeyed`` (B,) bool. Where it is False the image is not looked at.
            step: not used.
        """
        obeyed, source, image = (batch[name] for name in ("obeyed", "source", "image"))
        if self.config.blind:
            source, image = torch.zeros_like(source), torch.zeros_like(image)
        image = torch.where(obeyed[:, None], image, source)
        learned = torch.ones_like(obeyed) if self.config.learn_refused else obeyed
        if self.config.filler == "own" and not self.config.learn_refused:
            image = torch.where(obeyed[:, None], image, self.own(batch["order"], source, image))
        tokens = self.write(
            order=batch["order"], source=source, image=image, answer=batch["answer"]
        )
        nats, said = self.nats(tokens), batch["answer"] != PAD
        of_image = (nats["image"].mean(1) * learned).sum() / learned.sum().clamp_min(1)
        of_answer = (nats["answer"] * said).sum() / said.sum()
        w = self.config.image_weight
        total = (of_answer + w * of_image) / (1 + w)
        return total, {"image": of_image.detach(), "answer": of_answer.detach()}

    @torch.no_grad()
    def own(self, order: Tensor, source: Tensor, image: Tensor) -> Tensor:
        """What the network would draw, all places at once, behind the codes of ``image``: (B, N).

        One pass in the place of N: what stands behind is nearly right, as an edit changes little.
        """
        first, end = self.config.spans["image"]
        parts = {"order": order, "source": source, "image": image}
        if self.config.parts == ANSWER_FIRST:
            return image  # no answer stands behind the image
        tokens = self.write(**parts)
        hidden = self.hidden(tokens[:, :-1], self.readable(tokens))[:, first - 1 :]
        low, high = self.head.range_of(first)
        return self.head.part(hidden, low, high).argmax(-1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        order: Tensor,
        source: Tensor,
        given: Tensor | None = None,
        hide: bool = False,
        draw: Draw = GREEDY,
    ) -> tuple[Tensor, Tensor]:
        """Draw the re-created picture's codes and the answer, place by place.

        Args:
            n: how many; ``order`` (n, T) and ``source`` (n, N) come first.
            given: codes (n, N) to put into the image's places instead of drawing them.
            hide: let the answer read nothing of the image.
            draw: maps logits (n, any) to choices (n,).

        Returns:
            codes (n, N) in [0, K) and words (n, A), padded behind the end.

        Raises:
            ValueError: if ``n`` is not the number of orders.
        """
        if len(order) != n or len(source) != n:
            raise ValueError(f"need {n} orders and sources, got {len(order)} and {len(source)}")
        if self.config.blind:
            source, given = torch.zeros_like(source), torch.zeros_like(source)
        known = self.write(order=order, source=source)
        tokens = known.new_zeros(n, self.config.length)
        tokens[:, : known.shape[1]] = known
        keys = torch.ones_like(tokens, dtype=torch.bool)
        keys[:, : known.shape[1]] = self.readable(known)
        cache = self.trunk.new_cache()
        hidden = self.hidden(known, keys, cache)[:, -1]
        for name in self.config.parts[2:]:
            first, end = self.config.spans[name]
            if name == "image" and hide:
                keys[:, first:end] = False
            if name == "image" and given is not None:
                tokens[:, first:end] = given + self.config.words
                if end < self.config.length:
                    hidden = self.hidden(tokens[:, first:end], keys, cache)[:, -1]
                continue
            hidden = self._draw(name, tokens, keys, cache, hidden, draw)
        first, end = self.config.spans["image"]
        codes = tokens[:, first:end] - self.config.words
        first, end = self.config.spans["answer"]
        return codes, tokens[:, first:end]

    def _draw(
        self, name: str, tokens: Tensor, keys: Tensor, cache: list, hidden: Tensor, draw: Draw
    ) -> Tensor:
        """Fill one part of the stream in place; the state behind it, (n, D)."""
        first, end = self.config.spans[name]
        over = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        for place in range(first, end):
            low, high = self.head.range_of(place)
            token = draw(self.head.part(hidden, low, high)) + low  # (n,)
            if name == "answer":
                token = torch.where(over, PAD, token)
                over = over | (token == END)
                keys[:, place] = token != PAD
            tokens[:, place] = token
            if place + 1 < self.config.length:
                hidden = self.hidden(token[:, None], keys, cache)[:, 0]
        return hidden


def layer_scale_of(number: int) -> float:
    """Start of the factor on both branches of a block, counted from 1 (DALLE-pytorch 0.8.2)."""
    if number <= 18:
        return 0.1
    return 1e-5 if number <= 24 else 1e-6
