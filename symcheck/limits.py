"""The largest numbers that a request may hold, for the command line and for Python alike."""

from __future__ import annotations

MAX_SEED = 2**63 - 1
"""Generators take 64 bits, and what is drawn for a seed comes from it and a few seeds above it."""

MAX_SECONDS = 365 * 24 * 3600.0
"""A year: a limit that no machine's clock overflows on."""
