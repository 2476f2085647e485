"""A one-layer language model to look into: gelu-1l, in the checkpoint format of TransformerLens.

``NeelNanda/GELU_1L512W_C4_Code`` holds ``config.json`` and ``model_final.pth``, a state dictionary
whose names and shapes are TransformerLens's: matrices stand right-facing (in, out), and those of
attention one a head. The modules below carry these names, so the file is loaded as it is. Learned
positions, layer norm before each half, exact GELU, a bias on the logits.

Shapes: N contexts, T tokens a context, D width, H heads of d channels, V vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gentok.base.language_model import ResidualModel
from gentok.data.files import check_finite, read_json, read_tensors, reading

HUB = "NeelNanda/GELU_1L512W_C4_Code"
TOKENIZER = "NeelNanda/gpt-neox-tokenizer-digits"
WEIGHTS_FILE = "model_final.pth"
BUFFERS = ("mask", "IGNORE")  # of attention; constants that the file holds too


@dataclass(frozen=True)
class Gelu1LConfig:
    """Sizes, under the names of ``config.json``; the defaults are the published ones.

    Args:
        d_vocab: V; ``d_model``: D; ``n_layers``: blocks.
        n_heads: H; ``d_head``: d.
        d_mlp: width of the feed-forward layer.
        n_ctx: longest input, tokens.
    """

    d_vocab: int = 48_262
    d_model: int = 512
    n_layers: int = 1
    n_heads: int = 8
    d_head: int = 64
    d_mlp: int = 2048
    n_ctx: int = 1024


def _empty(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape))


class Norm(nn.Module):
    """Layer norm over D, with the names ``w`` and ``b``."""

    def __init__(self, dim: int):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return F.layer_norm(x, self.w.shape, self.w, self.b, 1e-5)


class Attention(nn.Module):
    """Causal attention, a matrix of its own for each head."""

    def __init__(self, config: Gelu1LConfig):
        super().__init__()
        heads, dim, width = config.n_heads, config.d_model, config.d_head
        for name in "QKV":
            setattr(self, f"W_{name}", _empty(heads, dim, width))
            setattr(self, f"b_{name}", nn.Parameter(torch.zeros(heads, width)))
        self.W_O, self.b_O = _empty(heads, width, dim), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        q, k, v = (
            torch.einsum("ntd,hde->nhte", x, getattr(self, f"W_{name}"))
            + getattr(self, f"b_{name}")[:, None]
            for name in "QKV"
        )  # (N, H, T, d)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return torch.einsum("nhte,hed->ntd", z, self.W_O) + self.b_O


class MLP(nn.Module):
    """D -> d_mlp -> D with an exact GELU between."""

    def __init__(self, config: Gelu1LConfig):
        super().__init__()
        self.W_in, self.b_in = _empty(config.d_model, config.d_mlp), _empty(config.d_mlp)
        self.W_out, self.b_out = _empty(config.d_mlp, config.d_model), _empty(config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        return F.gelu(x @ self.W_in + self.b_in) @ self.W_out + self.b_out


class Block(nn.Module):
    """Attention, then the MLP, each on the normalised stream and added to it."""

    def __init__(self, config: Gelu1LConfig):
        super().__init__()
        self.ln1, self.attn = Norm(config.d_model), Attention(config)
        self.ln2, self.mlp = Norm(config.d_model), MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D); its output is TransformerLens's ``hook_resid_post``."""
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Gelu1L(ResidualModel):
    """gelu-1l and its tokenizer.

    Args:
        config: its sizes.
        tokenizer: turns text into tokens; None where none is needed.
    """

    def __init__(self, config: Gelu1LConfig, tokenizer: PreTrainedTokenizerFast | None = None):
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.embed, self.pos_embed, self.unembed = nn.Module(), nn.Module(), nn.Module()
        self.embed.W_E = _empty(config.d_vocab, config.d_model)
        self.pos_embed.W_pos = _empty(config.n_ctx, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_final = Norm(config.d_model)
        self.unembed.W_U = _empty(config.d_model, config.d_vocab)
        self.unembed.b_U = _empty(config.d_vocab)
        for name, parameter in self.named_parameters():
            if name.rpartition(".")[2].startswith("W_"):
                nn.init.normal_(parameter, std=0.02)
            elif name.rpartition(".")[2].startswith("b_"):
                nn.init.zeros_(parameter)

    @property
    def dim(self) -> int:
        """Width D of the residual stream."""
        return self.config.d_model

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.config.d_vocab

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embed.W_E.device

    def run(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T) int64 -> the stream after the last block, (N, T, D)."""
        x = self.embed.W_E[tokens] + self.pos_embed.W_pos[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T) int64 -> logits of the next token, (N, T, V)."""
        return self.ln_final(self.run(tokens)) @ self.unembed.W_U + self.unembed.b_U


def load(model: str | Path = HUB, download: bool = False) -> Gelu1L:
    """Load a checkpoint in this format.

    Args:
        model: a folder with ``config.json``, ``model_final.pth`` and, if text is to be read, the
            tokenizer's files; or a name on the Hugging Face hub.
        download: fetch what is not on this machine yet; a local folder never needs it.

    Returns:
        the model in eval mode, float32. Its tokenizer is None where it has no files here.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged, it is another architecture, or the weights do not have
            the sizes stated.
    """
    files = [_find(model, name, download) for name in ("config.json", WEIGHTS_FILE)]
    stated = read_json(files[0])
    kind = stated.get("act_fn"), stated.get("normalization", stated.get("normalization_type"))
    if kind != ("gelu", "LN"):
        raise ValueError(f"model {model!s} has activation and norm {kind}, not ('gelu', 'LN')")
    sizes = {name: stated[name] for name in Gelu1LConfig.__dataclass_fields__ if name in stated}
    if wrong := [name for name, size in sizes.items() if type(size) is not int or size < 1]:
        raise ValueError(f"{files[0]}: {wrong[0]} must be 1 or more, got {sizes[wrong[0]]!r}")
    state = read_tensors(files[1])
    state = {k: v.float() for k, v in state.items() if k.rpartition(".")[2] not in BUFFERS}
    check_finite(files[1], state)
    _check_shapes(Gelu1LConfig(**sizes), state, files)
    network = Gelu1L(Gelu1LConfig(**sizes), _tokenizer(model, stated, download))
    network.load_state_dict(state)
    return network.eval()


def _check_shapes(config: Gelu1LConfig, state: dict[str, Tensor], files: list[Path]) -> None:
    """ValueError unless the weights are those of the configuration; takes no memory for them."""
    found = {name: tensor.shape for name, tensor in state.items()}
    layers = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    if config.n_layers != len(layers):  # before any of them is built
        raise ValueError(
            f"weights {files[1]} do not fit {files[0]}: {len(layers)} layers, "
            f"{config.n_layers} stated"
        )
    with torch.device("meta"), reading(files[0], "configuration"):
        wanted = {name: p.shape for name, p in Gelu1L(config).named_parameters()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            here, there = (tuple(shapes.get(name, ())) for shapes in (found, wanted))
            raise ValueError(
                f"weights {files[1]} do not fit {files[0]}: {name} is {here or 'absent'}, "
                f"{there or 'absent'} stated"
            )


def _find(model: str | Path, name: str, download: bool) -> Path:
    """A file of a checkpoint: of the folder, of the local copy of the hub, or of the hub."""
    if Path(model).is_dir():
        path = Path(model) / name
        if not path.is_file():
            raise FileNotFoundError(f"model {model!s} has no {name}")
        return path
    from huggingface_hub import hf_hub_download  # slow to import, and needed only here
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(str(model), name, local_files_only=not download))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise FileNotFoundError(
            f"model {model!s}: no {name} on this machine; pass a folder with config.json and "
            f"{WEIGHTS_FILE}, or a name on the hub and download=True with the network up"
        ) from error


def _tokenizer(model: str | Path, stated: dict, download: bool) -> PreTrainedTokenizerFast | None:
    """The tokenizer beside the weights, or the one that the configuration names."""
    inside = Path(model).is_dir() and (Path(model) / "tokenizer.json").is_file()
    name = str(model) if inside else str(stated.get("tokenizer_name") or TOKENIZER)
    if inside:
        with reading(Path(model) / "tokenizer.json", "tokenizer"):
            return AutoTokenizer.from_pretrained(name, local_files_only=True)
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=not download)
    except OSError:
        return None
