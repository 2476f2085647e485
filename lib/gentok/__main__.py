"""What the installed command starts, also as ``python -m gentok``.

Nothing here takes long to import, so that a Ctrl-C in the first half second is met, too.
"""

import sys


def main() -> None:
    """Run the command and exit: 0 done, 2 error, 130 stopped."""
    try:
        from gentok import cli
    except KeyboardInterrupt:
        print("gentok: stopped", file=sys.stderr)
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
