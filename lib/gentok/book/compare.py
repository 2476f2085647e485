"""One page a part that puts its tokenizers side by side, from the weights that come with the book.

All of them read the same pictures. What they keep of a picture is counted in numbers and measured
in bits: codes cost their entropy; floats are rounded as coarsely as costs no more than a tenth of
a decibel, and cost the entropy of what is left. JPEG stands beside them.

    python -m gentok.book.compare              # measure, write pages and figures

Shapes: N pictures, S their side.
"""

import io
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image
from torch import Tensor, nn

import gentok
from gentok.base.recipe import pretrained as base
from gentok.book.pairs import find_root
from gentok.data import photographs, plain_shapes
from gentok.data.graph_scenes import graph_scenes
from gentok.data.imageset import to_float
from gentok.measure import band_errors, count_flops, psnr
from gentok.measure.codes import code_usage
from gentok.measure.latency import latencies
from gentok.nn.latents import encode_all
from gentok.show.plot import MARKERS, use_style
from gentok.tokens.atvc import DVAE, draw_orders, paint

HELD_OUT = 99_991  # the seed of pictures that no training draws
COUNT = 512  # pictures
LOSS = 0.1  # dB that rounding may cost
STEPS = [2 ** (k / 2) for k in range(2, -17, -1)]  # of rounding, in standard deviations; down
QUALITIES = (5, 10, 20, 35, 50, 75, 90, 95)  # of JPEG


@dataclass(frozen=True)
class Row:
    """What is measured of a tokenizer.

    Args:
        numbers: floats or codes a picture; ``kind``: which of them.
        bits: measured bits a picture.
        psnr: dB, mean over pictures, of what is decoded from unrounded latents.
        low, high: mean squared error in the low and the three high Haar bands of one level.
        used: share of the codes, or of the channels, that move: see `_used`.
        encode_macs, decode_macs: multiply-accumulates a picture, in millions.
        encode_ms, decode_ms: milliseconds a picture, in batches of 64 on one thread.
    """

    name: str
    kind: str
    numbers: int
    bits: float
    psnr: float
    low: float
    high: float
    used: float
    encode_macs: float
    decode_macs: float
    encode_ms: float
    decode_ms: float


# Part -> title of a set of pictures -> (the pictures, tokenizers by name).
Sets = dict[str, tuple[Callable[[], Tensor], dict[str, Callable[[], nn.Module]]]]


def shapes() -> Tensor:
    """Shapes of the procedural world on plain floors, (N, 3, 32, 32) in [-1, 1]."""
    return plain_shapes(COUNT, seed=HELD_OUT).floats()


def scenes() -> Tensor:
    """Two or three shapes on a grey floor, (N, 3, 32, 32) in [-1, 1]."""
    return to_float(graph_scenes(COUNT, seed=HELD_OUT).images)


def boards() -> Tensor:
    """Objects on the places of a grid, (N, 3, 32, 32) in [-1, 1]."""
    return to_float(paint(draw_orders(COUNT, HELD_OUT, grid=4, colours=3).before, 8))


def patches() -> Tensor:
    """Patches of photographs, (N, 3, 64, 64) in [-1, 1]."""
    return photographs(64, "test", HELD_OUT, COUNT).floats()


def crops() -> Tensor:
    """Crops of photographs, (N, 3, 32, 32) in [-1, 1]."""
    return photographs(32, "test", HELD_OUT, COUNT).floats()


def _cell(name: str) -> Callable[[], nn.Module]:
    return lambda: gentok.pretrained("vitok")[name]


def _resized(tokenizer: DVAE, side: int) -> DVAE:
    """The same weights for pictures of another side: it encodes patch by patch."""
    other = DVAE(replace(tokenizer.config, image_size=side))
    other.load_state_dict(tokenizer.state_dict())
    return other


def _kind(name: str) -> Callable[[], nn.Module]:
    return lambda: gentok.pretrained("fa_vae_photographs")[name]


# Every one of them reads both sets; each was trained on one.
TOKENIZERS: dict[str, Callable[[], nn.Module]] = {
    "VQGAN": lambda: base("vqgan"),
    "sg2im's VQ-VAE": lambda: gentok.pretrained("sg2im").tokenizer,
    "atvc's dVAE": lambda: _resized(gentok.pretrained("atvc").tokenizer, 32),
    "KL-VAE": lambda: base("kl_vae"),
}
PARTS: dict[str, Sets] = {
    "latents": {
        "shapes of 32 pixels": (
            shapes,
            {
                "KL-VAE": lambda: base("kl_vae"),
                "FA-VAE": lambda: gentok.pretrained("fa_vae").tokenizer,
                "RAE": lambda: gentok.pretrained("rae").tokenizer,
            },
        ),
        "photographs of 32 pixels": (
            crops,
            {f"ViTok {cell}": _cell(cell) for cell in ("p16c4", "p8c4", "p8c8", "p4c4")},
        ),
        "photographs of 64 pixels": (
            patches,
            {name: _kind(key) for name, key in (
                ("pixel KL-VAE", "pixel"), ("coupled bands", "coupled"), ("FA-VAE", "decoupled")
            )},
        ),
    },
    "tokens": {
        "shapes of 32 pixels": (shapes, TOKENIZERS),
        "scenes of 32 pixels": (scenes, TOKENIZERS),
        "boards of 32 pixels": (boards, TOKENIZERS),
    },
}  # fmt: skip


@torch.no_grad()
def measured(name: str, tokenizer: nn.Module, x: Tensor) -> Row:
    """All that is known of a tokenizer on pictures (N, 3, S, S)."""
    space, z = tokenizer.latent_space, encode_all(tokenizer, x)
    y = _decoded(tokenizer, z)
    quality, bands = float(psnr(x, y).mean()), band_errors(x, y)
    batch, codes = x[:64], z[:64]
    seconds = latencies(
        {"encode": lambda: tokenizer.encode(batch), "decode": lambda: tokenizer.decode(codes)}, 5, 1
    )
    return Row(
        name=name,
        kind="codes" if space.kind == "discrete" else "floats",
        numbers=space.numbers,
        bits=_code_bits(z, space.codebook_size) if space.codebook_size else rounded(tokenizer, x),
        psnr=quality,
        low=bands["LL"],
        high=bands["high"],
        used=_used(z, space.codebook_size),
        encode_macs=count_flops(tokenizer.encode, x[:1]) / 2e6,
        decode_macs=count_flops(tokenizer.decode, z[:1]) / 2e6,
        encode_ms=1e3 * median(seconds["encode"]) / len(batch),
        decode_ms=1e3 * median(seconds["decode"]) / len(batch),
    )


@torch.no_grad()
def rounded(tokenizer: nn.Module, x: Tensor) -> float:
    """Bits a picture of floats that are rounded as coarsely as `LOSS` allows.

    Every channel is divided by its standard deviation, rounded to multiples of one step, and
    charged the entropy of its own histogram over all pictures and places.
    """
    z = encode_all(tokenizer, x)
    best = float(psnr(x, _decoded(tokenizer, z)).mean())
    axes = [axis for axis in range(z.ndim) if axis != _channel(z)]
    scale = z.std(axes, keepdim=True).clamp_min(1e-6)
    for step in STEPS:
        whole = (z / scale / step).round()
        if best - float(psnr(x, _decoded(tokenizer, whole * step * scale)).mean()) <= LOSS:
            break
    channels = whole.movedim(_channel(z), 0).flatten(1).long()
    shares = [code_usage(c - c.min(), int(c.max() - c.min()) + 1) for c in channels]
    return sum(share["entropy_bits"] for share in shares) * channels.shape[1] / len(x)


def jpeg(x: Tensor) -> list[tuple[float, float]]:
    """(bits a picture, PSNR) of pictures (N, 3, S, S) in [-1, 1] at several qualities."""
    arrays = x.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
    found = []
    for quality in QUALITIES:
        sizes, back = [], []
        for array in arrays:
            file = io.BytesIO()
            Image.fromarray(array).save(file, "JPEG", quality=quality, optimize=True)
            sizes.append(8 * len(file.getvalue()))
            back.append(np.asarray(Image.open(file)))
        y = torch.from_numpy(np.stack(back)).permute(0, 3, 1, 2).float() / 127.5 - 1
        found.append((float(np.mean(sizes)), float(psnr(x, y).mean())))
    return found


@torch.no_grad()
def decoded_quality(tokenizer: nn.Module, x: Tensor) -> float:
    """PSNR (dB, mean over pictures) of what comes back of pictures (N, 3, S, S)."""
    return float(psnr(x, _decoded(tokenizer, encode_all(tokenizer, x))).mean())


def _decoded(tokenizer: nn.Module, z: Tensor) -> Tensor:
    return torch.cat([tokenizer.decode(part) for part in z.split(128)]).clamp(-1, 1)


def _channel(z: Tensor) -> int:
    """The axis of channels: (N, C, h, w), or the last one of tokens (N, L, C) and vectors."""
    return 1 if z.ndim == 4 else z.ndim - 1


def _code_bits(z: Tensor, codebook_size: int) -> float:
    return code_usage(z, codebook_size)["entropy_bits"] * z[0].numel()


def _used(z: Tensor, codebook_size: int | None) -> float:
    """Share of codes that occur; of channels whose spread is a tenth of the largest or more."""
    if codebook_size:
        return code_usage(z, codebook_size)["used_fraction"]
    axes = [axis for axis in range(z.ndim) if axis != _channel(z)]
    spread = z.std(axes)
    return float((spread >= 0.1 * spread.max()).float().mean())


def measure_part(part: str) -> dict[str, dict]:
    """What is measured of a part: title of a set of pictures -> its rows and JPEG's points."""
    found = {}
    for title, (pictures, tokenizers) in PARTS[part].items():
        x = pictures()
        rows = [asdict(measured(name, load().eval(), x)) for name, load in tokenizers.items()]
        found[title] = {"rows": rows, "jpeg": jpeg(x)}
    return found


def table(rows: list[dict]) -> str:
    """Markdown of the rows of one set of pictures."""
    head = (
        "tokenizer", "keeps", "bits", "PSNR, dB", "low band", "high band", "in use",
        "encode", "decode",
    )  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cost = (
            f"{row[f'{way}_macs']:.0f} M, {row[f'{way}_ms']:.1f} ms" for way in ("encode", "decode")
        )
        cells = (
            row["name"],
            f"{row['numbers']:,} {row['kind']}",
            f"{row['bits']:,.0f}",
            f"{row['psnr']:.1f}",
            f"{row['low']:.4f}",
            f"{row['high']:.4f}",
            f"{row['used']:.0%}",
            *cost,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(found: dict[str, dict], path: Path) -> None:
    """Rate against distortion, and where the error lies, a row a set of pictures."""
    sheet, axes = plt.subplots(len(found), 2, figsize=(9.6, 3.5 * len(found)), squeeze=False)
    for (rate, bands), (title, part) in zip(axes, found.items(), strict=True):
        rate.plot(*zip(*part["jpeg"], strict=True), color="#55585c", linestyle="--", label="JPEG")
        for row, marker in zip(part["rows"], MARKERS, strict=False):
            rate.plot(row["bits"], row["psnr"], marker, markersize=9, label=row["name"])
        rate.set(xscale="log", xlabel="bits a picture, measured", ylabel="PSNR (dB)", title=title)
        rate.legend()
        _plain(rate.xaxis)
        names = [row["name"] for row in part["rows"]]
        for i, (band, hatch) in enumerate((("low", ""), ("high", "//"))):
            place = np.arange(len(names)) + 0.38 * (i - 0.5)
            heights = [row[band] for row in part["rows"]]
            bands.bar(place, heights, 0.36, hatch=hatch, label=f"{band} band", edgecolor="white")
        bands.set(xticks=range(len(names)), ylabel="mean squared error", title="where it errs")
        bands.set_xticklabels([name.replace(" ", "\n") for name in names])
        bands.set_yscale("log")
        _plain(bands.yaxis)
        low, high = bands.get_ylim()
        bands.set_ylim(low, high * (high / low) ** 0.25)  # the legend stands above the bars
        bands.legend(ncols=2, loc="upper right")
    sheet.savefig(path, metadata={"Date": None})
    plt.close(sheet)


def _plain(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, written out."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(NullFormatter())


def main() -> int:
    """Measure all parts and write their figures and tables."""
    torch.manual_seed(0)
    use_style()
    root = find_root()
    for part in PARTS:
        found = measure_part(part)
        page = root / "book" / "parts" / f"{part}_compared.md"
        text = page.read_text(encoding="utf-8")
        for title, measures in found.items():
            text = between(text, title, table(measures["rows"]))
        page.write_text(text, encoding="utf-8")
        figure(found, root / "book" / "img" / f"{part}_compared.svg")
        print(f"wrote {page.relative_to(root)}")
    return 0


def between(text: str, title: str, new: str) -> str:
    """The page with what stands between the marks of a set of pictures exchanged.

    Raises:
        ValueError: if the marks are missing.
    """
    begin, end = f"<!-- {title}: made by `python -m gentok.book.compare` -->", "<!-- end -->"
    before, first, rest = text.partition(begin)
    _, last, after = rest.partition(end)
    if not (first and last):
        raise ValueError(f"the page needs a line {begin} and after it a line {end}")
    return f"{before}{begin}\n{new}\n{end}{after}"


if __name__ == "__main__":
    sys.exit(main())
