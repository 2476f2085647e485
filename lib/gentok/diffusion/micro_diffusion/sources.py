"""Where MicroDiT's latents and captions come from: the drawn world, or pairs of files.

Both give batches of what the network learns from: latents of a frozen autoencoder, one draw from
the posterior each, and states of a frozen text encoder.

Shapes: B batch, C latent channels, L places of a caption, E its channels.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gentok.base import kl_vae
from gentok.base.diffusers_vae import FILE, read_kl_vae
from gentok.base.kl_vae import KLVAE
from gentok.base.recipe import pretrained
from gentok.base.text_states import PretrainedStates, WordStates, text_states
from gentok.data import batches, to_float
from gentok.data.captioned_folder import captioned_batches
from gentok.data.folder import find, missing
from gentok.data.placed_shapes import WORDS, PlacedShapes, placed_shapes
from gentok.data.read_ahead import Mapped
from gentok.diffusion.micro_diffusion.config import MicroDiTConfig
from gentok.diffusion.micro_diffusion.plans import Part, Plan
from gentok.nn.latents import encode_all

Batches = Callable[[int], dict[str, Tensor]]
PAIRS = "captioned"  # of GENTOK_DATA: a.jpg beside a.txt
# Published autoencoders by their latents' channels: folder of GENTOK_DATA and configuration.
AUTOENCODERS = {4: ("sdxl_vae", "kl-f8"), 16: ("vae_16ch", "kl-f8-d16")}
ROWS = 256  # pictures or captions encoded at a time


def autoencoder(config: MicroDiTConfig) -> KLVAE:
    """The frozen autoencoder that a configuration's latents come from.

    The book's own for latents whose scale is measured, a published one for a fixed factor.

    Raises:
        FileNotFoundError: if its weights are absent; says where they are looked for.
        ValueError: if there is no published one of so many channels.
    """
    if config.latent_scale is None:
        return pretrained("kl_vae").eval().requires_grad_(False)
    if config.in_channels not in AUTOENCODERS:
        known = ", ".join(map(str, AUTOENCODERS))
        raise ValueError(f"in_channels must be one of {known}, got {config.in_channels}")
    folder, name = AUTOENCODERS[config.in_channels]
    path = find(f"{folder}/{FILE}")
    if path is None:
        raise missing(f"an autoencoder of {config.in_channels} channels", f"{folder}/{FILE}")
    return read_kl_vae(path, kl_vae.PRESETS[name])


def text_encoder(config: MicroDiTConfig, download: bool = False) -> WordStates | PretrainedStates:
    """The frozen text encoder of a configuration.

    Raises:
        FileNotFoundError, ValueError: as `gentok.base.text_states.text_states`.
    """
    size = config.caption_dim, config.caption_length
    return text_states(config.text, *size, WORDS, download)  # the offline one knows these words


@torch.no_grad()
def encode_texts(encoder: WordStates | PretrainedStates, texts: Sequence[str]) -> Tensor:
    """States of many captions, (n, L, E), some at a time, on the CPU."""
    parts = [texts[i : i + ROWS] for i in range(0, len(texts), ROWS)]
    return torch.cat([encoder(part).cpu() for part in parts])


class World:
    """Latents of the drawn world.

    Args:
        task: the plan; ``device``: where pictures are encoded; ``seed``: of pictures and order.
    """

    def __init__(self, task: Plan, device: str, seed: int):
        size = task.parts[0].size
        self.pictures, self.device, self.seed = task.pictures, device, seed
        self.tokenizer = autoencoder(size).to(device)
        self.encoder = text_encoder(size)

    def scenes(self, image_size: int) -> PlacedShapes:
        """The pictures; the same scenes at every resolution."""
        return placed_shapes(self.pictures, image_size, self.seed)

    def latents(self, image_size: int) -> dict[str, Tensor]:
        """All of them encoded: ``latent`` (n, C, h, w), one draw each, and ``caption``."""
        scenes = self.scenes(image_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            latent = encode_all(_Drawing(self.tokenizer), scenes.images, ROWS)
        return {"latent": latent, "caption": encode_texts(self.encoder, scenes.captions)}

    def batches(self, part: Part) -> Batches:
        """Shuffled batches of a part's resolution."""
        return batches(self.latents(part.image_size), part.training.batch_size, self.seed)


class Folder:
    """Latents of pairs of files, encoded as they are needed.

    Args: as `World`.

    Raises:
        FileNotFoundError: if pairs, autoencoder or text encoder are absent.
    """

    def __init__(self, task: Plan, device: str, seed: int):
        self.folder = find(PAIRS)
        if self.folder is None:
            raise missing("pictures with captions", f"{PAIRS}/<name>.jpg and .txt")
        size = task.parts[0].size
        self.seed, self.device = seed, device
        self.encoder = text_encoder(size).to(device)
        self.tokenizer = autoencoder(size).to(device)

    def batches(self, part: Part) -> Batches:
        """Batches of a part's resolution; each process encodes its own rows."""
        rows = part.training.batch_size
        return Mapped(captioned_batches(self.folder, part.image_size, rows, self.seed), self._rows)

    @torch.no_grad()
    def _rows(self, batch: dict, step: int, index: int, count: int) -> dict[str, Tensor]:
        latent = self.tokenizer.encode(batch["image"].to(self.device), sample=True)
        return {"latent": latent, "caption": self.encoder(batch["text"])}


class _Drawing(torch.nn.Module):
    """An autoencoder whose ``encode`` takes bytes and draws from the posterior."""

    def __init__(self, tokenizer: KLVAE):
        super().__init__()
        self.tokenizer = tokenizer

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, C, h, w)."""
        return self.tokenizer.encode(to_float(images), sample=True)


def source(task: Plan, device: str, seed: int) -> World | Folder:
    """The data of a plan.

    Raises:
        FileNotFoundError: if files that it needs are absent.
    """
    kinds = {"placed": World, "captioned": Folder}
    return kinds[task.data](task, device, seed)
