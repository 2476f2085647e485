"""Sentences as vectors for motion generators: CLIP where its weights are, hashed words elsewhere.

Mogo reads one frozen sentence vector of CLIP ViT-B/32 (Radford et al. 2021). Offline its place is
taken by :class:`HashedWords`, named as what it is: it knows which words occur, and nothing of their
order or meaning.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

CLIP = "openai/clip-vit-base-patch32"


class HashedWords:
    """The sum of the words' vectors over the root of their number.

    Each word's vector is random, of length 1 and always the same, so no table is kept. Few words
    in many dimensions are all but orthogonal, and a linear layer can give each its own meaning.

    Args:
        dim: channels.
    """

    def __init__(self, dim: int = 64):
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        self.dim = dim

    def word(self, word: str) -> Tensor:
        """(dim,), of length 1."""
        rng = torch.Generator().manual_seed(zlib.crc32(word.encode()))
        return F.normalize(torch.randn(self.dim, generator=rng), dim=0)

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Sentences -> (n, dim).

        Raises:
            ValueError: if a sentence has no words.
        """
        rows = []
        for caption in captions:
            words = caption.lower().replace(".", " ").replace(",", " ").split()
            if not words:
                raise ValueError(f"a caption needs at least one word, got {caption!r}")
            rows.append(sum(self.word(word) for word in words) / len(words) ** 0.5)
        return torch.stack(rows)


class ClipText:
    """Frozen sentence vectors of a CLIP text model, projected into CLIP's joint space.

    Args:
        source: a repository on the hub, or a folder with the model and its tokenizer.
        device: where to run it.

    Raises:
        FileNotFoundError: if it is neither here nor can be fetched.
    """

    def __init__(self, source: str | Path = CLIP, device: str = "cpu"):
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer  # slow to import

        try:
            self.tokenizer = CLIPTokenizer.from_pretrained(source)
            self.model = CLIPTextModelWithProjection.from_pretrained(source)
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise FileNotFoundError(f"no CLIP text model at {source}: {reason}") from error
        self.model.eval().requires_grad_(False).to(device)
        self.dim = self.model.config.projection_dim

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Tensor:
        """Sentences, cut after the model's longest length -> (n, dim), float32 on the CPU."""
        tokens = self.tokenizer(
            list(captions),
            padding=True,
            truncation=True,
            max_length=self.model.config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.model.device)
        return self.model(**tokens).text_embeds.float().cpu()
