"""The files of claims and studies: what is in them fits together, and what is wrong is refused in one line."""

from __future__ import annotations

import itertools

import pytest

from paper_repro.planning import claims as claims_module
from paper_repro.planning import study as study_module
from paper_repro.planning.claims import claims
from paper_repro.planning.study import SCALES, load_study
from tests.paper_repro.synthetic import Catalogue


def test_every_claim_is_there():
    assert [claim.id for claim in claims()] == [f"C{number}" for number in range(1, 13)]
    assert {claim.source for claim in claims() if claim.id in ("C11", "C12")} == {"ours"}


def test_the_scaled_study_runs_every_comparison():
    study, catalogue = load_study("scaled"), Catalogue()
    for claim in claims():
        for contrast in claim.comparisons:
            assert any(
                catalogue.family(preset) == contrast.family
                and catalogue.auxiliary(preset) == contrast.auxiliary
                and study.seeds(preset, contrast.treatment, contrast.target_offset) >= 2
                and study.seeds(preset, contrast.baseline, contrast.target_offset) >= 2
                for preset in study.presets
            ), f"{claim.id}: no stage runs {contrast}"


@pytest.mark.parametrize("scale", SCALES)
def test_studies_name_what_exists(scale):
    from paper_repro.planning.catalogue import Presets

    study, catalogue = load_study(scale), Presets()
    for stage in study.stages:
        for preset, optimizer in itertools.product(stage.presets, stage.optimizers):
            assert catalogue.steps(preset) > 0
            assert all(rate > 0 for rate in catalogue.rates(preset, optimizer).values())


def test_smoke_and_paper_tune_nothing_and_scaled_tunes_all_alike():
    assert load_study("smoke").tuning is None
    assert load_study("paper").tuning is None
    tuning = load_study("scaled").tuning
    assert tuning is not None
    assert tuning.seed >= 100, "no verdict uses this seed"


CLAIM = """
[[claim]]
id = "X"
source = "paper"
statement = "it is so"
comparisons = [{ family = "qwen3", treatment = "a", baseline = "b", metric = "final_loss", direction = "lower" }]
"""


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"qwen3"', '"bert"', "claim X: family must be one of"),
        ('"lower"', '"smaller"', "claim X: direction must be one of"),
        ('"final_loss"', '"loss"', "claim X: metric must be one of"),
        ('"b"', '"a"', "compared with itself"),
        ("treatment", "treatmnt", "unknown keys treatmnt"),
        ("statement", "claims", "unknown keys claims"),
        ('"paper"', '"me"', "source must be"),
        ("comparisons = [", "comparisons = []\nunused = [", "unknown keys unused"),
    ],
)
def test_wrong_claims_are_refused(old, new, named):
    assert claims_module.parse(CLAIM)
    with pytest.raises(ValueError, match=named) as caught:
        claims_module.parse(CLAIM.replace(old, new))
    assert "\n" not in str(caught.value)


def test_an_id_is_used_once():
    with pytest.raises(ValueError, match="occurs twice"):
        claims_module.parse(CLAIM + CLAIM)


STUDY = """
scale = "scaled"
[tuning]
factors = [0.5, 1.0]
roles = ["embedding"]
seed = 1000
steps_share = 0.5
[[stage]]
name = "all"
presets = ["scaled/qwen3-s"]
optimizers = ["adamw-muon"]
seeds = 2
"""


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("[0.5, 1.0]", "[1.0, 0.5]", "increasing"),
        ('["embedding"]', '["embeding"]', "unknown embeding"),
        ("0.5\n[[", "0\n[[", "steps_share"),
        ("scaled/qwen3-s", "smoke/qwen3", "is not of scale"),
        ("seeds = 2", "seeds = 0", "seeds >= 1"),
        ("seeds = 2", "seed = 2", "unknown keys seed"),
    ],
)
def test_wrong_studies_are_refused(old, new, named):
    assert study_module.parse(STUDY).seeds("scaled/qwen3-s", "adamw-muon", 2) == 2
    with pytest.raises((ValueError, TypeError), match=named):
        study_module.parse(STUDY.replace(old, new))


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="unknown scale 'huge': use one of smoke, scaled, paper"):
        load_study("huge")
