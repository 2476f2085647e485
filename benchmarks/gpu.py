"""The share of a GPU's matrix peak that training uses: ``python -m benchmarks.gpu``.

LightningDiT-XL/1 takes optimiser steps in bfloat16; its floating-point operations a second stand
beside those of one large matrix product in the same precision, measured a moment later. About a
minute, and no data.
"""

import argparse
import sys

import torch

from gentok.book.weights import lightning_share


def main(arguments: list[str] | None = None) -> int:
    """Measure and print one line; exit code 2 where there is no GPU or too little of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--batch", type=int, default=64, help="pictures a step (64)")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("error: no GPU that torch can use; nothing is measured", file=sys.stderr)
        return 2
    try:
        line = lightning_share(batch_size=options.batch)
    except torch.cuda.OutOfMemoryError:
        print(f"error: no memory for a batch of {options.batch}; try --batch", file=sys.stderr)
        return 2
    print(f"{line} on {torch.cuda.get_device_name()}, torch {torch.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
