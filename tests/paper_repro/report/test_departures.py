"""Where the reference code departs from its description: checked here, in the versions that are installed."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("transformers")

from paper_repro.report.build import extras, store_departures
from paper_repro.report.departures import departures, ignored_dtype, second_shift
from paper_repro.report.method_section import departures_section


def test_all_departures_are_there():
    found = departures()["departures"]
    assert [each["title"] for each in found] == [
        "Target offset",
        "Precision",
        "Positions of gpt-oss",
        "Scale of the hybrid rule",
    ]
    for each in found:
        assert each["holds"], each
        assert each["evidence"]


def test_the_check_can_fail(monkeypatch):
    """A loss inside the model that does not shift again is not reported as one that does."""
    from paper_repro.report import departures as module

    tiny = module.tiny

    def unshifted(family):
        model = tiny(family)
        model.loss_function = lambda logits, labels, *_, **__: module._cross_entropy(logits, labels)
        return model

    monkeypatch.setattr(module, "tiny", unshifted)
    found = second_shift()
    assert not found.holds
    text = departures_section({"versions": {}, "departures": [found.__dict__]}).points[0]
    assert "NOT FOUND with these versions" in text


def test_an_auto_class_that_ignores_the_dtype_is_noticed():
    import transformers

    class Library:
        Qwen3ForCausalLM = transformers.Qwen3ForCausalLM

        class AutoModelForCausalLM:
            from_config = transformers.Qwen3ForCausalLM

    assert not ignored_dtype(Library).holds


def test_stored_once(tmp_path, monkeypatch):
    store_departures(tmp_path)
    before = (tmp_path / "departures.json").read_bytes()
    store_departures(tmp_path)
    assert (tmp_path / "departures.json").read_bytes() == before
    assert extras(tmp_path)["departures.json"] == json.loads(before)
    assert departures_section(None).paragraphs[0].startswith("Not checked")
