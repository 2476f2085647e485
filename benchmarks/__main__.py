"""Run every workload, print the table and write the book's page: ``python -m benchmarks``."""

import argparse
import datetime
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measure import Row, run
from benchmarks.workloads import WORKLOADS

PAGE = Path(__file__).resolve().parent.parent / "book" / "benchmarks.md"
PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "vector-quantize-pytorch",
    "x-transformers",
    "ptwt",
    "trimesh",
    "mido",
    "dictionary-learning",
)
HEAD = (
    "workload",
    "peer",
    "ours, ms",
    "peer, ms",
    "ratio",
    "rounds from to",
    "bar",
    "met",
    "of peak",
    "items a second",
)


def cells(row: Row) -> list[str]:
    """One row of the table as text."""
    return [
        row.name,
        row.peer,
        f"{row.ours_ms:.2f}",
        f"{row.peer_ms:.2f}",
        f"{row.ratio:.2f}",
        f"{row.low:.2f} to {row.high:.2f}",
        f"{row.bar:g}",
        "yes" if row.ratio >= row.bar else "no",
        "" if row.share is None else f"{100 * row.share:.0f} %",
        "" if row.items is None else f"{row.items:,.0f}",
    ]


def installed(package: str) -> str:
    """'name version', or a note that it is absent."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} absent"


def page(rows: list[Row], skipped: list[str], threads: int) -> str:
    """The book's page, MyST."""
    lines = [
        "(benchmarks)=",
        "# How fast is it?",
        "",
        "Each row does the same work twice: once with `gentok`, once with a well-kept package",
        "that offers it. The two take turns in one process, seven rounds each, after a first call",
        "that is not counted. The ratio is the peer's time divided by ours: 2 means that we need",
        "half the time, 1 is a tie. The column *rounds from to* gives the smallest and the largest",
        "ratio of the rounds. The *bar* is the ratio that the project asks of itself.",
        "*Of peak*, for training rows: our floating-point operations a second (matrix products,",
        "convolutions and attention, counted by `gentok.measure.count_flops`) over those of a",
        "matrix product of 1024 x 1024 in the same run. Convolutions are of another library and",
        "may be above 100 % where it knows the processor better. *Items a second*, for readers:",
        "how many files or rows one process reads, from files that the system holds in memory.",
        "",
        "Times are processor time in milliseconds, in float32. They belong to the machine named",
        "below; the ratios travel better. `make bench` measures yours and rewrites this page.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
        *("| " + " | ".join(cells(row)) + " |" for row in rows),
        "",
    ]
    if skipped:
        lines += ["Not measured in this run:", "", *(f"- {note}" for note in skipped), ""]
    made = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines += [
        f"Made {made} on {platform.machine()} with {threads} thread(s), Python "
        f"{platform.python_version()}; " + ", ".join(installed(p) for p in PACKAGES) + ".",
        "",
        "Rows near 1 are bound by the same matrix and convolution kernels on both sides. The large",
        "ratios come from doing less work: nearest codes by one matrix product, codebook sums by",
        "`index_add_`, the Haar transform by sums of strided slices. The diffusion transformers",
        "are not the same model: LightningDiT has rotary positions, RMSNorm and SwiGLU where DiT",
        "has a table, LayerNorm and GELU, and pays for them with small operations that a CPU does",
        "not fuse.",
        "",
        "Three rows have a plain peer, since no package that offers the work can be installed",
        "beside the others: axial attention is torch's own layer along rows and columns, the dense",
        "TopK autoencoder is written in `benchmarks/vision.py`, and the discrete VAE is that of",
        "dalle-pytorch, restated in `benchmarks/dvae.py`: the package asks for torchvision and for",
        "versions of its helpers that are not made any more.",
        "The video transformers differ in their GELU, which the peer computes in single operations",
        "(with the exact one on both sides it is a tie), the video VAEs, as published, in how they",
        "grow smaller: convolutions of stride 2 here, means over pairs of frames and",
        "two-dimensional convolutions there.",
        "",
        "Our readers hold every file against its limits (finite, in range, whole) and name it if",
        "it is damaged; the loops beside them take what they are given. trimesh cuts all polygons",
        "as fans, which is wrong where they are concave; mido's messages are not yet notes.",
        "",
        "`dictionary-learning` is not installed with the tests: it asks for old versions of large",
        "packages that its trainer does not need. `pip install --no-deps dictionary-learning` is",
        "enough for its row; without it `make bench` leaves the row out.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Parse arguments, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side (default 7)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--only", default="", help="run the workloads whose name contains this")
    parser.add_argument("--no-page", action="store_true", help="print only, leave the book's page")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console, rows, skipped = Console(), [], []
    chosen = [w for w in WORKLOADS if args.only.lower() in w.name.lower()]
    if not chosen:
        parser.error(
            f"no workload contains {args.only!r}; there are: "
            + "; ".join(w.name for w in WORKLOADS)
        )
    for workload in track(chosen, description="benchmarks", console=console):
        try:
            rows.append(run(workload, args.rounds))
        except ImportError as error:
            skipped.append(f"{workload.name}: the peer is not installed ({error.name})")
    table = Table(*HEAD)
    for row in rows:
        table.add_row(*cells(row))
    console.print(table)
    for note in skipped:
        console.print("skipped: " + note)
    if not args.no_page and not args.only:
        PAGE.write_text(page(rows, skipped, args.threads), encoding="utf-8")
        console.print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
