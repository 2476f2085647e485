"""Show what a student expects where it hears nothing: pictures and, with a codec, sound."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from gentok.show import plot
from gentok.show.media import save_wav
from gentok.signals.mert import codec, spectral_codec
from gentok.signals.mert.codec import Codec, CodecConfig
from gentok.signals.mert.model import MERTConfig, build
from gentok.signals.mert.spectral_codec import SpectralCodec, SpectralCodecConfig
from gentok.signals.mert.tunes import compose, tunes
from gentok.training.checkpoint import read_header
from gentok.training.loop import load_model
from gentok.training.stages import stage


@torch.no_grad()
def sample(checkpoint: str | Path, out: str | Path, *, n: int, seed: int) -> None:
    """Show what the student expects where it hears nothing.

    For ``n`` clips the middle third of the frames is hidden. The picture has a row a clip: the
    constant-Q transform of the clean sound, and the student's guess in its place. Where the small
    codec lies beside the checkpoint, the guessed codes are decoded too: ``<name>.wav`` holds each
    clip and then the clip with its hidden third filled in.

    Args:
        checkpoint: as :func:`train` wrote it.
        out: image file to write (the name's ending says the format).

    Raises:
        FileNotFoundError: if the checkpoint is absent.
    """
    beside = stage(checkpoint, "codec")
    model = load_model(checkpoint, MERTConfig, build, after=beside).eval()
    config = model.config
    teacher = _load_codec(beside) if beside.is_file() else None
    draw = tunes if isinstance(teacher, SpectralCodec) else compose  # what both have learned from
    waves = draw(n, seed, config.clip, config.rate)[1]
    frames = config.num_frames(config.clip)
    mask = torch.zeros(n, frames, dtype=torch.bool)
    mask[:, frames // 3 : 2 * frames // 3] = True
    hidden = model.encoder.contextualise(model.encoder.convolve(waves), mask)[-1]
    clean = model.constant_q(waves)[..., :frames]
    guess = torch.where(mask[:, None], model.cqt_head(hidden).mT, clean)
    _draw(clean, guess, frames / (config.rate / config.stride), Path(out))
    if teacher is not None:
        codes = teacher.encode(waves)
        logits = model.code_head(hidden)[..., config.special_symbols :]
        filled = codes.clone()
        filled[:, :frames][mask] = logits.argmax(-1)[mask]
        pairs = torch.stack([teacher.decode(codes), teacher.decode(filled)], 1)
        save_wav(Path(out).with_suffix(".wav"), pairs.flatten(), config.rate)


def _load_codec(path: Path) -> Codec | SpectralCodec:
    """The codec beside a student, of whichever kind it is."""
    if "window" in (read_header(path)[1].get("config") or {}):
        return load_model(path, SpectralCodecConfig, spectral_codec.build)
    return load_model(path, CodecConfig, codec.build)


def _draw(clean: Tensor, guess: Tensor, seconds: float, out: Path) -> None:
    plot.use_style()
    figure, axes = plt.subplots(len(clean), 2, figsize=(8, 1.6 * len(clean)), squeeze=False)
    for line, pictures in zip(axes, zip(clean, guess, strict=True), strict=True):
        for ax, picture in zip(line, pictures, strict=True):
            ax.imshow(picture, origin="lower", aspect="auto", extent=(0, seconds, 0, len(picture)))
            ax.set(xlabel="time (s)", ylabel="bin")
            ax.grid(False)
    axes[0, 0].set_title("clean sound")
    axes[0, 1].set_title("middle third guessed")
    figure.savefig(out)
    plt.close(figure)
