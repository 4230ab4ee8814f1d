"""Optimizers of pytorch_optimizer come out as theory says. Skipped where the extra `audit` is not installed."""

from __future__ import annotations

import pytest

pytest.importorskip("pytorch_optimizer")

from symcheck.audit import pytorch_optimizer as adapter
from symcheck.audit.pairs import PAIRS, Pair, below, classify
from symcheck.registry import targets_of
from symcheck.result import Verdict

INFOS = adapter.optimizers()


@pytest.mark.parametrize("name", sorted(INFOS))
def test_every_one_can_be_built(name: str) -> None:
    for target in targets_of(f"pytorch_optimizer:{name}", INFOS[name]):
        assert target.load().make


def test_none_is_forgotten() -> None:
    import pytorch_optimizer

    assert set(pytorch_optimizer.get_supported_optimizers()) == set(INFOS) | set(adapter.NOT_RUNNABLE)


ROTATIONS, SIGNS, PERMUTATIONS = ("O", "O"), ("SPerm", "SPerm"), ("Perm", "Perm")


@pytest.mark.parametrize(
    ("name", "largest"),
    [
        ("muon", ROTATIONS),  # a polynomial in G and its transpose
        ("shampoo", ROTATIONS),  # roots of G G^T and G^T G
        ("lars", ROTATIONS),  # norms of whole matrices
        ("lamb", SIGNS),  # Adam times a norm
        ("lion", SIGNS),  # the sign of a momentum
        ("adafactor", SIGNS),  # factored second moments
        ("sm3", SIGNS),  # maxima over rows and columns
        ("normuon", ("SPerm", "O")),  # Muon with normalised rows
        ("conda", SIGNS),  # Adam within singular vectors of one side
        ("nero", ("SPerm", "Perm")),  # the weights of a row are kept centred and of norm one
        ("yogi", PERMUTATIONS),  # its state starts at 1e-6, which has no sign
    ],
)
def test_the_largest_group_is_what_theory_says(name: str, largest: Pair) -> None:
    (target,) = targets_of(f"pytorch_optimizer:{name}", INFOS[name])
    cells, _ = classify(target.load())
    for cell in cells:
        assert cell.verdict is (Verdict.PROVED if below(cell.pair, largest) else Verdict.REFUTED), cell


def test_soap_has_no_symmetry_where_its_eigenvectors_are_no_functions_of_the_gradient() -> None:
    (target,) = targets_of("pytorch_optimizer:soap", INFOS["soap"])
    cells, _ = classify(target.load())
    assert len(cells) == 3 * len(PAIRS)
    for cell in cells:
        if cell.form == "square":  # a proof needs a law for sorted eigenvectors
            assert cell.verdict in (Verdict.PROVED, Verdict.SUPPORTED)
        else:
            assert cell.verdict is Verdict.REFUTED
            assert "eigenvectors" in cell.reason
