"""Why there is no proof."""

from __future__ import annotations


class NoProof(Exception):
    """No certificate was found. One line: the step that has no law, and where in the candidate's code it is."""
