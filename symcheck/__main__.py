"""``symcheck`` and ``python -m symcheck``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code; without its libraries, one line that names the extra."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        print(f"symcheck: the command line needs {error.name}: python -m pip install 'symcheck[cli]'", file=sys.stderr)
        sys.exit(2)
    from symcheck.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
