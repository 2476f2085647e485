"""The trained system: a language model, two dictionaries of one of its layers, and text to look at.

The text is part of the weights. Nothing was trained on it, it is the same on every machine, and
half of it finds names for features while the other half judges them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gentok.base.language_model import LanguageModel, losses
from gentok.interpret.vsae.activations import Activations, collect
from gentok.interpret.vsae.bench import features_of
from gentok.interpret.vsae.corpus import PIECE, Corpus, byte_tokenizer, read_corpus
from gentok.interpret.vsae.model import VSAE
from gentok.interpret.vsae.naming import Name, Places, name_features, named
from gentok.measure import alive_fraction, explained_variance
from gentok.nn.sae import SparseDictionary, TopKSAE

HALVES = ("find", "judge")
LAYER = 1  # of three: the middle of the language model
SHIFT = 5003  # places by which the control's activations stand elsewhere


@dataclass(frozen=True)
class HeldOutConfig:
    """What a `HeldOut` text holds.

    Args:
        sources: names of its texts.
        sizes: characters of each text's first half, then of each one's second half.
    """

    sources: tuple[str, ...]
    sizes: tuple[int, ...]


class HeldOut(nn.Module):
    """Text that no model was trained on, in two halves, kept as bytes.

    Args:
        config: names and sizes.
    """

    def __init__(self, config: HeldOutConfig):
        super().__init__()
        self.config = config
        self.register_buffer("bytes", torch.zeros(sum(config.sizes), dtype=torch.uint8))

    @classmethod
    def of(cls, texts: dict[str, str], piece: int = PIECE) -> "HeldOut":
        """Pieces of each text in turn: one finds names, the next judges them."""
        halves = []
        for half in range(len(HALVES)):
            for string in texts.values():
                pieces = [string[i : i + piece] for i in range(0, len(string), piece)]
                halves.append("".join(pieces[half::2]).encode("ascii", "replace"))
        made = cls(HeldOutConfig(tuple(texts), tuple(len(half) for half in halves)))
        made.bytes.copy_(torch.frombuffer(bytearray(b"".join(halves)), dtype=torch.uint8))
        return made

    def texts(self, half: str) -> dict[str, str]:
        """Source name to text, of the half ``"find"`` or ``"judge"``."""
        parts = self.bytes.cpu().split(list(self.config.sizes))
        first = HALVES.index(half) * len(self.config.sources)
        own = parts[first : first + len(self.config.sources)]
        strings = (bytes(part.tolist()).decode("ascii") for part in own)
        return dict(zip(self.config.sources, strings, strict=True))


class View(NamedTuple):
    """A text seen by a language model: its contexts, the activations, and what holds there."""

    corpus: Corpus
    acts: Activations
    places: Places


def view(model: LanguageModel, texts: dict[str, str], layer: int, scale: float = 1.0) -> View:
    """Look at texts, by name, through a model that reads bytes.

    Args:
        model: the language model.
        texts: ASCII, so that a byte is a character.
        layer: whose residual stream is read; ``scale``: unit of its activations.
    """
    corpus = read_corpus(texts, model.tokenizer, model.config.context)
    acts = collect(model, corpus, layer, scale)
    return View(corpus, acts, _places(texts, corpus, acts))


def names_in(views: Sequence[View], sae: SparseDictionary, shift: int = 0) -> list[Name]:
    """What a dictionary's features stand for, best names first; see `name_features`.

    Args:
        views: the one that finds names, and the one that judges them.
        sae: a dictionary of the stream that was viewed.
        shift: move the activations by so many places first: a control.
    """
    pairs = [(features_of(sae, v.acts).roll(shift, 0), v.places) for v in views]
    return name_features(*pairs)


def _places(texts: dict[str, str], corpus: Corpus, acts: Activations) -> Places:
    """Which concepts hold at each activation."""
    length = corpus.tokens.shape[1]
    parts, first = [], 0
    for string in texts.values():
        contexts = len(string) // length
        mine = (acts.context >= first) & (acts.context < first + contexts)
        at = (acts.context[mine] - first) * length + acts.position[mine]
        parts.append(Places.of(string, at.numpy()))
        first += contexts
    return Places(np.concatenate([part.truth for part in parts]), parts[0].known)


class Microscope(nn.Module):
    """A language model and what its residual stream looks like through two dictionaries.

    The dictionaries work on the model's own activations, not on scaled ones.

    Args:
        language_model: reads bytes.
        vsae, topk: dictionaries of the stream after block `LAYER`.
        held_out: text to look at.
    """

    def __init__(self, language_model: LanguageModel, vsae: VSAE, topk: TopKSAE, held_out: HeldOut):
        super().__init__()
        self.language_model, self.vsae, self.topk = language_model, vsae, topk
        self.held_out, self.layer = held_out, LAYER
        language_model.tokenizer = byte_tokenizer()
        self.look = lru_cache(maxsize=2)(self._look)  # slow, and asked for again and again

    def encode(self, x: Tensor) -> Tensor:
        """The vSAE's features (..., F) of activations (..., D)."""
        return self.vsae.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """Activations (..., D) of the vSAE's features (..., F)."""
        return self.vsae.decode(z)

    def _look(self, half: str, limit: int | None = None) -> View:
        """The view of one half of the held-out text, or of the first characters of each source."""
        texts = {name: text[:limit] for name, text in self.held_out.texts(half).items()}
        return view(self.language_model, texts, self.layer)

    def names(self, sae: SparseDictionary, shift: int = 0, limit: int | None = None) -> list[Name]:
        """As `names_in`, on the held-out text."""
        return names_in([self.look(half, limit) for half in HALVES], sae, shift)

    @torch.no_grad()
    def measure(self, n: int) -> dict[str, float]:
        """What was reached on held-out text.

        Args:
            n: contexts of the text that judges, and as many of the one that finds names; all there
                are if there are fewer. Names need some hundreds.

        Returns:
            ``loss`` of the language model, and with a reconstruction in place of the stream
            ``loss_<dictionary>`` (nats a character); ``explained_variance_<dictionary>``,
            ``alive_<dictionary>``; ``named_<dictionary>``: distinct names that hold, and
            ``named_context_<dictionary>``: those that a character alone does not decide;
            ``named_control``: names with the activations at other places.
        """
        limit = n * self.language_model.config.context // len(self.held_out.config.sources)
        corpus, acts, _ = self.look("judge", limit)
        found = {"loss": float(losses(self.language_model, corpus.tokens, self.layer).mean())}
        for key, sae in (("vsae", self.vsae), ("topk", self.topk)):
            spliced = losses(self.language_model, corpus.tokens, self.layer, sae)
            features, names = features_of(sae, acts), self.names(sae, limit=limit)
            found |= {
                f"loss_{key}": float(spliced.mean()),
                f"explained_variance_{key}": explained_variance(acts.x, sae.decode(features)),
                f"alive_{key}": alive_fraction(features),
                f"named_{key}": float(len(named(names))),
                f"named_context_{key}": float(len(named(names, beyond_characters=True))),
            }
        control = named(self.names(self.topk, SHIFT, limit))
        return found | {"named_control": float(len(control))}
