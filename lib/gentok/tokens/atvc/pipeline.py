"""The whole way from a picture and an order to a picture and an answer.

Shapes: n orders, S pixels a side, N codes of a picture, T words of an order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gentok.nn.latents import evaluating
from gentok.tokens.atvc.dvae import DVAE
from gentok.tokens.atvc.orders import CANNOT, FORBIDDEN, WORDS, YES
from gentok.tokens.atvc.stream import GREEDY, ChatStream, Draw

UNCLEAR = -1
ROWS = 256  # pictures at a time


@dataclass(frozen=True)
class Reply:
    """What comes back.

    Attributes:
        images: re-created pictures, (n, 3, S, S), about [-1, 1]; of a refused order, the source.
        answers: in words, with the reason of a refusal.
        type: YES, CANNOT, FORBIDDEN, or UNCLEAR, (n,).
        codes: what was drawn, (n, N), refused ones included.
    """

    images: Tensor
    answers: list[str]
    type: Tensor
    codes: Tensor


def type_of(answers: Sequence[str]) -> Tensor:
    """The type that answers say, (n,) int64, by their first words; UNCLEAR for any other."""
    starts = {
        "no problem.": YES,
        "this action cannot be done.": CANNOT,
        "this action is forbidden.": FORBIDDEN,
    }
    found = [
        next((type for start, type in starts.items() if text.startswith(start)), UNCLEAR)
        for text in answers
    ]
    return torch.tensor(found)


class ChatPipeline(nn.Module):
    """What a reader of trained weights gets.

    Raises:
        ValueError: if tokenizer and generator differ in the codes.
    """

    def __init__(self, tokenizer: DVAE, generator: ChatStream):
        super().__init__()
        mine, theirs = generator.config, tokenizer.config
        if (mine.codebook_size, mine.grid) != (theirs.codebook_size, theirs.grid):
            raise ValueError(
                f"the tokenizer writes {theirs.grid} x {theirs.grid} of {theirs.codebook_size} "
                f"codes, the generator {mine.grid} x {mine.grid} of {mine.codebook_size}"
            )
        self.tokenizer, self.generator = tokenizer, generator

    def encode(self, x: Tensor) -> Tensor:
        """Pictures (n, 3, S, S) in [-1, 1] -> codes (n, N)."""
        return torch.cat([self.tokenizer.encode(part) for part in x.split(ROWS)])

    def decode(self, z: Tensor) -> Tensor:
        """Codes (n, N) -> pictures (n, 3, S, S), about [-1, 1]."""
        return torch.cat([self.tokenizer.decode(part) for part in z.split(ROWS)])

    def words(self, texts: Sequence[str]) -> Tensor:
        """Orders as numbers, (n, T).

        Raises:
            ValueError: if a word is unknown or an order too long.
        """
        ids = WORDS.encode(texts, self.generator.config.order_length, end=True)
        return ids.to(next(self.generator.parameters()).device)

    @torch.no_grad()
    def answer(self, x: Tensor, texts: Sequence[str], draw: Draw = GREEDY) -> Reply:
        """Obey, or refuse and say why.

        Args:
            x: pictures (n, 3, S, S) in [-1, 1].
            texts: an order for each.
            draw: maps logits to choices; the likeliest by default.

        Raises:
            ValueError: if their numbers differ, or an order cannot be read.
        """
        if len(x) != len(texts):
            raise ValueError(f"need an order for each picture, got {len(texts)} for {len(x)}")
        source, order = self.encode(x), self.words(texts)
        parts = zip(order.split(ROWS), source.split(ROWS), strict=True)
        with evaluating(self.generator):
            drawn = [self.generator.sample(len(a), a, b, draw=draw) for a, b in parts]
        codes = torch.cat([image for image, _ in drawn])
        answers = WORDS.decode(torch.cat([answer for _, answer in drawn]))
        type = type_of(answers)
        obeyed = (type == YES).to(x.device)[:, None, None, None]
        return Reply(torch.where(obeyed, self.decode(codes), x), answers, type, codes)

    def sample(self, n: int, x: Tensor, texts: Sequence[str], draw: Draw = GREEDY) -> Tensor:
        """Pictures after ``n`` orders, (n, 3, S, S); arguments as for `answer`."""
        if len(x) != n:
            raise ValueError(f"need {n} pictures, got {len(x)}")
        return self.answer(x, texts, draw).images
