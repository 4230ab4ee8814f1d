"""``python -m paper_repro``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code; without its libraries, one line that names the extra."""
    try:
        import click  # noqa: F401
    except ModuleNotFoundError as error:
        print(f"paper_repro: the command line needs {error.name}: pip install 'symcheck[repro]'", file=sys.stderr)
        sys.exit(2)
    from paper_repro.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
