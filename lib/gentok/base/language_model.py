"""A language model to look into: GPT-NeoX (Black et al. 2022), the architecture of Pythia.

A small one is trained from scratch on text; a published one, such as
``EleutherAI/pythia-70m-deduped``, is loaded by name or from a folder in the hub's format. Both
come as a `LanguageModel`, a `ResidualModel`: it gives access to the residual stream after a layer,
to read it or to put something else in its place. Another one is `gentok.base.gelu_1l`.

Shapes: N contexts, T tokens a context, D width of the residual stream, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedTokenizerFast,
)

from gentok.data.files import check_finite, reason

WEIGHTS_FILES = ("*.safetensors", "*.bin")
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class LanguageModelConfig:
    """Sizes of a GPT-NeoX; the rest is Pythia's: parallel residual, rotary on a quarter of a head.

    Args:
        vocab_size: V.
        dim: width D.
        num_layers: blocks.
        num_heads: attention heads; must divide ``dim``.
        hidden: width of the feed-forward layer.
        context: longest input, tokens.
        published_params: all parameters, both embeddings included, or None.
    """

    vocab_size: int
    dim: int
    num_layers: int
    num_heads: int
    hidden: int
    context: int
    published_params: int | None = None

    def __post_init__(self):
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} must divide dim={self.dim}")


PRESETS: dict[str, LanguageModelConfig] = {
    # Reads bytes: 256 of them, and the end of text.
    "tiny": LanguageModelConfig(257, 128, 3, 4, 512, context=128),
    # Biderman et al. 2023, table 1: 18.9 M without embeddings, 70.4 M with both.
    "pythia-70m": LanguageModelConfig(50304, 512, 6, 8, 2048, 2048, published_params=70_426_624),
}


class ResidualModel(nn.Module):
    """What models with a residual stream share: their loss, and a window into the stream.

    A subclass has ``blocks`` (its layers), ``dim``, ``vocab_size``, ``device``, ``tokenizer``,
    ``forward(tokens)`` (logits) and ``run(tokens)`` (all layers, without the head).
    """

    def next_token_loss(self, tokens: Tensor) -> Tensor:
        """Cross-entropy of each token given those before it, (N, T - 1), nats."""
        logits = self(tokens)[:, :-1]
        return F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean next-token cross-entropy, nats, of ``{"tokens": (N, T)}``."""
        loss = self.next_token_loss(batch["tokens"]).mean()
        return loss, {"cross_entropy": loss.detach()}

    def block(self, layer: int) -> nn.Module:
        """One transformer block; raises ValueError if there is no such layer."""
        if not 0 <= layer < len(self.blocks):
            raise ValueError(f"layer must be in [0, {len(self.blocks)}), got {layer}")
        return self.blocks[layer]

    @contextmanager
    def watching(self, layer: int, see: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
        """Call ``see`` on the residual stream after a block; what it returns takes its place.

        Args:
            layer: block, from 0; layer 3 of Pythia-70m is the vSAE paper's choice.
            see: gets (N, T, D); returns a tensor of that shape, or None to leave it as it is.
        """

        def hook(_module: nn.Module, _inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
            # Some versions of the block return a tuple that opens with the stream.
            stream = output[0] if isinstance(output, tuple) else output
            new = see(stream)
            if new is None:
                return output
            return (new, *output[1:]) if isinstance(output, tuple) else new

        handle = self.block(layer).register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


class LanguageModel(ResidualModel):
    """A GPT-NeoX and its tokenizer.

    Args:
        network: the model of `transformers`.
        tokenizer: turns text into tokens; None where none is needed.

    Raises:
        ValueError: if ``network`` has no GPT-NeoX layers.
    """

    def __init__(
        self, network: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast | None = None
    ):
        super().__init__()
        if not hasattr(network, "gpt_neox"):
            raise ValueError(f"network must be a GPT-NeoX, got {type(network).__name__}")
        self.network, self.tokenizer = network, tokenizer

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        return self.network.gpt_neox.layers

    @property
    def dim(self) -> int:
        """Width D of the residual stream."""
        return self.network.config.hidden_size

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.network.config.vocab_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.device

    def run(self, tokens: Tensor) -> None:
        """Pass tokens (N, T) int64 through all blocks; for `watching`, which needs no logits."""
        self.network.gpt_neox(input_ids=tokens, use_cache=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T) int64 -> logits of the next token, (N, T, V)."""
        return self.network(input_ids=tokens, use_cache=False).logits


def build(config: LanguageModelConfig) -> LanguageModel:
    """A GPT-NeoX with random weights, without a tokenizer."""
    model = LanguageModel(
        GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.dim,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                intermediate_size=config.hidden,
                max_position_embeddings=config.context,
                bos_token_id=0,
                eos_token_id=0,
                use_cache=False,
            )
        )
    )
    model.config = config
    return model


def load(model: str | Path, download: bool = False) -> LanguageModel:
    """Load a published GPT-NeoX with its tokenizer.

    Args:
        model: a name on the Hugging Face hub, such as ``"EleutherAI/pythia-70m-deduped"``, or a
            local folder in the hub's format (`config.json`, weights, tokenizer files).
        download: fetch what is not on this machine yet; a local folder never needs it.

    Returns:
        the model in eval mode, float32.

    Raises:
        FileNotFoundError: if the folder or the cached copy is missing or incomplete.
        ValueError: if a file is damaged, or the weights are of another architecture or sizes.
    """
    name, folder = str(model), Path(model)
    local = folder.is_dir() or not download
    where = "on this machine" if local else "on this machine or the hub"
    absent = FileNotFoundError(
        f"model {name!r} not found {where}; pass a folder with config.json, weights and "
        "tokenizer, or a name on the hub and download=True with the network up"
    )
    weights = [path for pattern in WEIGHTS_FILES for path in folder.glob(pattern)]
    if folder.is_dir() and not (weights and (folder / "config.json").is_file()):
        raise absent
    try:
        return LanguageModel(*_open(name, local)).eval()
    except OSError as error:
        if not folder.is_dir():
            raise absent from error
        raise ValueError(f"model {name!r} cannot be read: {reason(error)}") from error
    except Exception as error:  # JSON, safetensors, pickle and the checks of sizes
        raise ValueError(f"model {name!r} cannot be read: {reason(error)}") from error


def _open(name: str, local: bool) -> tuple[GPTNeoXForCausalLM, PreTrainedTokenizerFast]:
    """Network and tokenizer; ValueError unless the weights are all there, finite and of its kind.

    `transformers` gives random numbers to weights that are absent, with a warning that is easily
    missed.
    """
    # First the small file: the weights of another architecture must not be read as this one's.
    config = AutoConfig.from_pretrained(name, local_files_only=local)
    if config.model_type != "gpt_neox":
        raise ValueError(f"it is a {config.model_type}, not a gpt_neox")
    network, info = GPTNeoXForCausalLM.from_pretrained(
        name, local_files_only=local, dtype=torch.float32, output_loading_info=True
    )
    if lacking := sorted(info["missing_keys"]):
        raise ValueError(f"its weights lack {lacking[:3]}")
    check_finite(name, dict(network.named_parameters()))
    return network, AutoTokenizer.from_pretrained(name, local_files_only=local)


def save(model: LanguageModel, folder: str | Path) -> None:
    """Write model and tokenizer in the hub's format; `load` reads the folder back."""
    model.network.save_pretrained(str(folder))
    if model.tokenizer is not None:
        model.tokenizer.save_pretrained(str(folder))


@torch.no_grad()
def residual_stream(
    model: ResidualModel, tokens: Tensor, layer: int, batch_size: int = 64
) -> Tensor:
    """The residual stream after a block, (N, T) tokens -> (N, T, D), on the CPU."""
    seen: list[Tensor] = []
    with model.watching(layer, lambda stream: seen.append(stream.cpu())):
        for part in tokens.split(batch_size):
            model.run(part.to(model.device))
    return torch.cat(seen)


@torch.no_grad()
def losses(
    model: ResidualModel,
    tokens: Tensor,
    layer: int,
    replace: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Next-token losses while something stands in for the residual stream after a block.

    Args:
        model: the language model.
        tokens: (N, T).
        layer: the block after which to replace.
        replace: maps streams (N, T - 1, D) to the same shape, such as an autoencoder or
            `torch.zeros_like`; None measures the untouched model. The first position of a context
            is never replaced: its activation is an outlier that no autoencoder is trained on.
        batch_size: contexts at a time.

    Returns:
        (N, T - 1), nats, on the CPU: the loss of tokens 1 to T - 1.
    """

    def see(stream: Tensor) -> Tensor | None:
        if replace is None:
            return None
        return torch.cat([stream[:, :1], replace(stream[:, 1:])], dim=1)

    with model.watching(layer, see):
        parts = [part.to(model.device) for part in tokens.split(batch_size)]
        return torch.cat([model.next_token_loss(part).cpu() for part in parts])
