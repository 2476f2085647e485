"""Two texts for one video: a CLIP-like encoder and a language model, both frozen.

Step-Video reads a prompt twice (Ma et al. 2025): Hunyuan-CLIP, bidirectional, 1024 channels, always
77 places; and Step-LLM, a decoder-only language model, 6144 channels, up to 320 places. The second
is padded and masked; of the first, the released code attends to all places, padding included.

`PretrainedText` loads any such pair through `transformers`. `WordTables` stands in offline: two
fixed random tables, so that a word is a vector and nothing is understood that the generator does
not learn.

Shapes: B texts, L places, D channels of an encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gentok.data.world import COLOURS, SHAPES, TEXTURES
from gentok.nn.position import sincos_1d

# What prompts of this chapter are made of; id 0 is padding.
WORDS = (
    *("a", "an", "the", "of", "on", "and", "video", "floor", "blob", "small", "large"),
    *("moving", "left", "right", "up", "down"),
    *COLOURS,
    *SHAPES,
    *TEXTURES,
)


@dataclass(frozen=True)
class Text:
    """A batch of encoded texts.

    Attributes:
        clip: last hidden states of the CLIP-like encoder, (B, L_clip, D_clip).
        llm: last hidden states of the language model, (B, L, D_llm).
        mask: True where ``llm`` holds a word, (B, L).
    """

    clip: Tensor
    llm: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.clip)

    def batch(self) -> dict[str, Tensor]:
        """As the keys of a training batch."""
        return {"clip": self.clip, "llm": self.llm, "mask": self.mask}

    def __getitem__(self, index: slice | Tensor) -> "Text":
        return Text(self.clip[index], self.llm[index], self.mask[index])


class WordTables(nn.Module):
    """Fixed random vectors of words, with a sine-cosine code of the place added.

    Args:
        clip_dim, llm_dim: channels; ``clip_length``: places of the CLIP part, always filled up;
            ``llm_length``: most places of the language model's part.
        seed: of the tables.

    Raises (on a call):
        ValueError: if a text has an unknown word or is longer than ``llm_length``.
    """

    def __init__(
        self,
        clip_dim: int = 24,
        llm_dim: int = 48,
        clip_length: int = 8,
        llm_length: int = 16,
        seed: int = 0,
    ):
        super().__init__()
        self.clip_length, self.llm_length = clip_length, llm_length
        rng = torch.Generator().manual_seed(seed)
        self.ids = {word: i for i, word in enumerate(("", *WORDS))}
        for name, dim in (("clip", clip_dim), ("llm", llm_dim)):
            self.register_buffer(name, torch.randn(len(self.ids), dim, generator=rng))

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Text:
        """B texts -> their two codes; ``""`` is the empty prompt."""
        clip_ids = self._ids(texts, self.clip_length, cut=True)
        llm_ids = self._ids(texts, self.llm_length, cut=False)
        mask = llm_ids > 0
        mask[:, 0] = True  # the start of a sequence is always there, even of an empty one
        return Text(self._embed(self.clip, clip_ids), self._embed(self.llm, llm_ids), mask)

    def _ids(self, texts: Sequence[str], length: int, cut: bool) -> Tensor:
        rows = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            words = text.lower().replace(",", " ").split()
            if unknown := [word for word in words if word not in self.ids]:
                raise ValueError(f"texts: unknown word {unknown[0]!r}; accepted: {WORDS}")
            if len(words) > length and not cut:
                raise ValueError(f"texts: at most {length} words, got {len(words)}: {text!r}")
            words = words[:length]
            row[: len(words)] = torch.tensor([self.ids[word] for word in words], dtype=torch.int64)
        return rows.to(self.clip.device)

    @staticmethod
    def _embed(table: Tensor, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        return table[ids] + sincos_1d(places, table.shape[1])


class PretrainedText(nn.Module):
    """A pair of pretrained encoders from `transformers`, frozen.

    Args:
        clip: name or folder of a bidirectional text encoder with its tokenizer (a BERT or a CLIP
            text model: whatever ``AutoModel`` loads and gives last hidden states).
        llm: name or folder of a decoder-only language model with its tokenizer.
        clip_length, llm_length: places; longer prompts are cut.
        download: ask the hub for what is not in the local cache; otherwise nothing is downloaded.

    Raises:
        FileNotFoundError: if a model is not there; says how to get it.
    """

    def __init__(
        self, clip: str, llm: str, clip_length: int = 77, llm_length: int = 320, download=False
    ):
        super().__init__()
        self.clip_length, self.llm_length = clip_length, llm_length
        self.clip_tokenizer, self.clip = _load(clip, download)
        self.llm_tokenizer, self.llm = _load(llm, download)
        if self.llm_tokenizer.pad_token is None:  # language models often have none
            self.llm_tokenizer.pad_token = self.llm_tokenizer.eos_token
        self.llm_tokenizer.padding_side = "right"

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Text:
        """B texts -> last hidden states; the language model's part is as long as the longest."""
        device = next(self.clip.parameters()).device
        settings = {"return_tensors": "pt", "truncation": True}
        fixed = {"padding": "max_length", "max_length": self.clip_length, **settings}
        inputs = self.clip_tokenizer(list(texts), **fixed).to(device)
        clip = self.clip(**inputs).last_hidden_state
        longest = {"padding": "longest", "max_length": self.llm_length, **settings}
        inputs = self.llm_tokenizer(list(texts), **longest).to(device)
        llm = self.llm(**inputs).last_hidden_state
        return Text(clip.float(), llm.float(), inputs["attention_mask"].bool())


def _load(name: str, download: bool) -> tuple:
    """Tokenizer and frozen model of a name or folder."""
    from transformers import AutoModel, AutoTokenizer  # slow to import, and needed only here

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=not download)
        model = AutoModel.from_pretrained(name, local_files_only=not download)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"text encoder {name!r} is neither a folder nor in the local cache of transformers; "
            f"pass download=True or run `hf download {name}` once ({type(error).__name__})"
        ) from error
    model = getattr(model, "text_model", model)  # of a CLIP, the text half alone
    return tokenizer, model.eval().requires_grad_(False)
