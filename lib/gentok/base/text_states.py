"""Captions as sequences of vectors: the last hidden states of a frozen text encoder.

`PretrainedStates` takes any encoder that `transformers` loads: the text half of a CLIP, a T5's
encoder, a BERT. `WordStates` stands in offline: a fixed random vector a word, so that nothing is
understood which the generator does not learn.

Shapes: B texts, L places, E channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gentok.data.words import Words
from gentok.nn.position import sincos_1d
from gentok.training.configs import may_open

OFFLINE = "words"  # the name of the encoder that needs no file
KNOWN = (  # names that a checkpoint may bring along
    OFFLINE,
    "apple/DFN5B-CLIP-ViT-H-14-378",
    "DeepFloyd/t5-v1_1-xxl",
)
PLACES = 0.5  # size of the code of the place beside a word's vector


class WordStates(nn.Module):
    """Random vectors of words, with sines and cosines of their place added.

    Args:
        words: the vocabulary; ``dim``: E; ``length``: L, always filled up with padding, which has a
            vector too.
        seed: of the vectors.

    Raises (on a call):
        ValueError: if a text has an unknown word or is longer than L.
    """

    def __init__(self, words: Words, dim: int, length: int, seed: int = 0):
        super().__init__()
        self.words, self.length = words, length
        rng = torch.Generator().manual_seed(seed)
        table = torch.randn(len(words), dim, generator=rng)
        places = PLACES * sincos_1d(torch.arange(length), dim)
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("places", places, persistent=False)

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Tensor:
        """B texts -> (B, L, E)."""
        ids = self.words.encode(list(texts), self.length).to(self.table.device)
        return self.table[ids] + self.places


class PretrainedStates(nn.Module):
    """A frozen text encoder from `transformers`.

    A CLIP's text half reads from left to right, so that no word sees the padding behind it, and it
    is given no mask; other encoders are. The states of the padding are returned like all others.

    Args:
        name: name or folder of the encoder with its tokenizer.
        length: L; longer texts are cut.
        download: ask the hub for what is not in the local cache; otherwise nothing is downloaded.

    Raises:
        FileNotFoundError: if it is not there; says how to get it.
        ValueError: if a checkpoint's own text names it, and the book does not know it.
    """

    def __init__(self, name: str, length: int, download: bool = False):
        super().__init__()
        allowed = may_open(name, KNOWN, "text encoder")
        self.length = length
        self.tokenizer, self.encoder = _load(str(name), download and allowed)

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Tensor:
        """B texts -> last hidden states (after the last norm), (B, L, E) float32."""
        settings = {"padding": "max_length", "max_length": self.length, "truncation": True}
        inputs = self.tokenizer(list(texts), return_tensors="pt", **settings)
        device = next(self.encoder.parameters()).device
        given = {"input_ids": inputs["input_ids"].to(device)}
        if not self.reads_forward:
            given["attention_mask"] = inputs["attention_mask"].to(device)
        return self.encoder(**given).last_hidden_state.float()

    @property
    def reads_forward(self) -> bool:
        """Whether no word sees what stands behind it."""
        return "clip" in self.encoder.config.model_type

    @property
    def dim(self) -> int:
        """E."""
        config = self.encoder.config
        return getattr(config, "d_model", None) or config.hidden_size


def text_states(
    name: str, dim: int, length: int, words: Sequence[str], download: bool = False
) -> WordStates | PretrainedStates:
    """The encoder of a configuration.

    Args:
        name: ``"words"`` for the offline one, else as for `PretrainedStates`.
        dim: E that the generator reads; ``length``: L.
        words: the offline encoder's vocabulary.
        download: see `PretrainedStates`.

    Raises:
        FileNotFoundError: as `PretrainedStates`.
        ValueError: if the encoder has another E.
    """
    if name == OFFLINE:
        return WordStates(Words(words), dim, length)
    encoder = PretrainedStates(name, length, download)
    if encoder.dim != dim:
        raise ValueError(f"text encoder {name!r} has {encoder.dim} channels, {dim} are wanted")
    return encoder


def _load(name: str, download: bool) -> tuple:
    """Tokenizer and frozen encoder of a name or folder."""
    from transformers import AutoModel, AutoTokenizer  # slow to import, and needed only here

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=not download)
        model = AutoModel.from_pretrained(name, local_files_only=not download)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"text encoder {name!r} is neither a folder nor in the local cache of transformers; "
            f"pass download=True or run `hf download {name}` once ({type(error).__name__})"
        ) from error
    if getattr(model.config, "is_encoder_decoder", False):  # a T5: its decoder writes, unused here
        model = model.get_encoder()
    model = getattr(model, "text_model", model)  # of a CLIP, the text half alone
    return tokenizer, model.eval().requires_grad_(False)
