"""What the playground page needs beside its scripts: weights and examples, as scripts of text.

A page that was opened from disk may not fetch files, but it may load scripts. So each tokenizer
becomes a safetensors file of its own, in half precision as in ``weights/``, written in base64 into
a script; the page loads those that it shows.
"""

import base64
import io
import json
import wave
from pathlib import Path

from PIL import Image
from safetensors.torch import save
from torch import Tensor

from gentok.data import photographs, plain_shapes
from gentok.signals.mert.tunes import tunes
from gentok.training.checkpoint import load_checkpoint
from gentok.training.weights import fetch

# Name -> the file of weights, and the part of it.
TOKENIZERS = {
    "kl_vae": ("fa_vae_photographs", "pixel"),
    "fa_vae": ("fa_vae_photographs", "decoupled"),
    "kl_vae_shapes": ("base/kl_vae", "tokenizer"),
    "vqgan_shapes": ("base/vqgan", "tokenizer"),
    "codec": ("mert", "codec"),
}
# What only training needs.
LEFT_OUT = ("num_batches_tracked", ".counts", ".sums")
HELD_OUT = 1_000  # seed of items that no tokenizer has learned from
# Words of the list -> the photograph, and which of its patches.
PICTURES = {
    "space shuttle": ("astronaut", 7),
    "front wheel": ("motorcycle", 1),
    "trees and sky": ("china", 7),
    "coin": ("coins", 8),
    "stained tissue": ("immunohistochemistry", 0),
}
RATE, SAMPLES = 8_000, 12_000  # of the example's sound


def weight_script(name: str) -> str:
    """The script that brings the weights of a tokenizer.

    Args:
        name: of `TOKENIZERS`.

    Raises:
        FileNotFoundError: if the file of weights is absent.
        ValueError: if a weight is not in half precision.
    """
    file, part = TOKENIZERS[name]
    tensors, header = load_checkpoint(fetch(file))
    kept = {
        key.removeprefix(f"{part}."): tensor.contiguous()
        for key, tensor in tensors.items()
        if key.startswith(f"{part}.") and not key.endswith(LEFT_OUT)
    }
    if wrong := {key: str(t.dtype) for key, t in kept.items() if t.element_size() != 2}:
        raise ValueError(f"{file} must be in half precision, got {wrong}")
    data = save(kept, {"config": json.dumps(header["parts"][part])})
    return f'gentok.weightFiles["{name}"] = "{base64.b64encode(data).decode()}";\n'


def examples_script() -> str:
    """The script that brings pictures and a sound which no tokenizer has learned from."""
    patches = photographs(64, "test", HELD_OUT, 256)
    pictures = {}
    for words, (photograph, rank) in PICTURES.items():
        label = patches.class_names.index(photograph)
        pictures[words] = patches.images[patches.labels == label][rank]
    shapes = plain_shapes(2, 32, HELD_OUT)
    for number, picture in enumerate(shapes.images, 1):
        pictures[f"shape {number}"] = picture
    urls = {word: f"data:image/png;base64,{png(picture)}" for word, picture in pictures.items()}
    sound = tunes(1, HELD_OUT, SAMPLES, RATE)[1][0]
    return (
        f"gentok.examples = {json.dumps(urls)};\n"
        f'gentok.exampleSound = "data:audio/wav;base64,{wav(sound)}";\n'
    )


def png(picture: Tensor) -> str:
    """(3, H, W), uint8 -> a PNG file in base64."""
    file = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def wav(sound: Tensor) -> str:
    """(L,) in [-1, 1] -> a WAV file of 16 bits in base64."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((sound.clamp(-1, 1) * 32767).short().numpy().astype("<i2").tobytes())
    return base64.b64encode(file.getvalue()).decode()


def write(folder: Path) -> None:
    """Write all scripts of data into the folder of the page's scripts."""
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    for name in TOKENIZERS:
        (folder / "weights" / f"{name}.js").write_text(weight_script(name), "ascii")
    (folder / "examples.js").write_text(examples_script(), "ascii")
