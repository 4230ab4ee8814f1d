"""Random numbers are independent of each other, and of all data, as long as generators only go forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from symcheck.trace.sym import NotInVocabulary

_SEED = 8
"""Bytes of a state that hold the seed: of two seeds that agree modulo 2^32, the rest is the same."""


class Draws:
    """The states in which the generators of a run stopped, and those from which they started.

    A program takes what is drawn for new numbers. It is not where a generator is set back, where two start from one
    seed, or where a state was made by hand, from data perhaps, which no operation tells.
    """

    def __init__(self) -> None:
        self._stops: set[bytes] = set()
        self._starts: set[bytes] = set()

    def before(self, arguments: Mapping[str, Any]) -> None:
        """A random operation is about to draw.

        Raises:
            NotInVocabulary: what it draws may not be new.
        """
        generator = _generator(arguments)
        state = _state(generator)
        if state in self._stops:
            self._stops.remove(state)  # whoever goes on from there once more draws the same again
        elif state != _state(torch.Generator().manual_seed(generator.initial_seed())):
            raise NotInVocabulary("random numbers of a generator that was set to a state")
        elif state in self._starts:
            raise NotInVocabulary("random numbers that are drawn again from the same seed")
        else:
            self._starts.add(state)

    def after(self, arguments: Mapping[str, Any]) -> None:
        """The operation has drawn."""
        self._stops.add(_state(_generator(arguments)))


def _generator(arguments: Mapping[str, Any]) -> torch.Generator:
    given = arguments.get("generator")
    return given if isinstance(given, torch.Generator) else torch.default_generator


def _state(generator: torch.Generator) -> bytes:
    return generator.get_state().numpy()[_SEED:].tobytes()
