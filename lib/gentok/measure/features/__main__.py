"""Train the classifiers whose features the book measures with.

``python -m gentok.measure.features`` makes the two that come with the package anew;
``python -m gentok.measure.features cifar10`` the one in the cache folder.
"""

import argparse
import time

from gentok.measure.features.weights import CLASSIFIERS, make_classifier, weights_path


def main() -> None:
    """Train, store and report each classifier named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m gentok.measure.features")
    committed = [name for name, recipe in CLASSIFIERS.items() if recipe.committed]
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CLASSIFIERS)}")
    for name in parser.parse_args().names or committed:
        path = weights_path(name)
        start = time.monotonic()
        _, result = make_classifier(name)
        seconds, size = time.monotonic() - start, path.stat().st_size / 1000
        print(f"{name}: test accuracy {result:.1%}, {seconds:.0f} s, {size:.0f} kB in {path.name}")


if __name__ == "__main__":
    main()
