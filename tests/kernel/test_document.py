"""The strict reader against Python's parser, and against documents made to mislead."""

import json
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symcheck.kernel.document import (
    MAX_DEPTH,
    Maybe,
    Reject,
    anything,
    conform,
    flag,
    load,
    natural,
    one_of,
    rational,
    text,
    upto,
)

LEAVES = (
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text('ab\\u"[{', max_size=4), inner))


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@settings(max_examples=100)
@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_reads_what_python_reads(value: Any, ascii_only: bool, indent: int | None) -> None:
    if ascii_only is False and "\ud800" <= json.dumps(value, ensure_ascii=False) <= "\udfff":
        return
    source = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    if depth(value) > MAX_DEPTH:
        with pytest.raises(Reject, match="nested"):
            load(source)
    else:
        assert load(source) == value
        assert load(source.encode()) == value


@settings(max_examples=200)
@given(st.text('[]{}",:\\u0123456789.eE+-ntfalsr \ud800\u2028\x00', max_size=30))
def test_accepts_no_more_than_python(source: str) -> None:
    try:
        value = load(source)
    except Reject:
        return
    assert value == json.loads(source)
    assert not isinstance(value, float)


@pytest.mark.parametrize(
    "source",
    [
        "", " ", "nul", "[1,]", '{"a": 1,}', "{'a': 1}", "// note\n1", "1 2", "[1", '"',
        '"\\', '"\t"', "+1", "01", "-0", "- 1",
        '{"a": 1, "a": 1}', '[{"b": {"a": 1, "\\u0061": 2}}]',
        "1.0", "1e3", "-1E+2", "0.1", "NaN", "Infinity", "-Infinity", "[NaN]",
        "9007199254740992", "-9007199254740992", "1" + "0" * 5000,
        '"\\ud800"', '"\\udc00\\ud800"', '{"\\ud800": 1}', '"\ud800"', "\ufeff1",
        b"\xef\xbb\xbf1", b"\xff", b'"\xed\xa0\x80"', b"\xc0\xb1",
        "1".encode("utf-16"), "1".encode("utf-32"),
        "[" * 13 + "]" * 13, '{"a":' * 13 + "1" + "}" * 13, "[" * 100_000,
        "[" * 100_000 + "]" * 100_000, '["' + '\\"' * 100_000,
    ],
)  # fmt: skip
def test_rejects(source: str | bytes) -> None:
    with pytest.raises(Reject) as reason:
        load(source)
    assert len(str(reason.value).splitlines()) == 1
    assert len(str(reason.value)) < 300


def test_brackets_in_text_are_no_nesting() -> None:
    assert load('["' + "[{" * 50 + '\\"[[[[[[[[[[[[[[", 1]') == ["[{" * 50 + '"[[[[[[[[[[[[[[', 1]
    assert load('"\\\\"') == "\\"
    assert load('"\\ud83d\\ude00"') == "\U0001f600"


def test_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symcheck.kernel.document.MAX_BYTES", 10)
    assert load(b'"12345678"') == "12345678"
    with pytest.raises(Reject, match="bytes"):
        load(b'"123456789"')


@given(st.fractions())
def test_fractions_have_one_spelling(value: Fraction) -> None:
    assert rational(str(value))
    double = f"{2 * value.numerator}/{2 * value.denominator}"
    for wrong in (
        double,
        f"+{value}",
        f" {value}",
        f"{value}/1",
        f"0{value}",
        str(value).translate({48: 0x660}) + "\u0660",
    ):
        assert not rational(wrong)


@pytest.mark.parametrize(
    "wrong", ["1/0", "0/5", "-0", "1.5", "1e5", "nan", "inf", "", "-", "1_000", "½", "9" * 4001, 1, None, True, ["1"]]
)
def test_no_fractions(wrong: object) -> None:
    assert not rational(wrong)


def test_every_float_is_a_fraction() -> None:
    for number in (math.pi, 5e-324, 1.7976931348623157e308, -0.0):
        assert rational(str(Fraction(number)))


FORM = {"a": [natural], "b?": Maybe((text, flag)), "c?": {"*": one_of("x", 1)}, "d?": anything, "e?": upto(3)}


@pytest.mark.parametrize(
    "data",
    [
        {"a": []},
        {"a": [0, 2**52], "b": None},
        {"a": [3], "b": ["t", False], "c": {}},
        {"a": [1], "c": {"any": "x", "": 1}, "d": {"a": [None]}, "e": 3},
    ],
)
def test_forms(data: Any) -> None:
    conform(data, FORM)


@pytest.mark.parametrize(
    "data",
    [
        None, [], "a", {}, {"b": None}, {"a": [], "f": 0}, {"a": [], "b?": None}, {"a": [], "*": 0},
        {"a": None}, {"a": {}}, {"a": "1"}, {"a": [True]}, {"a": [-1]}, {"a": ["1"]}, {"a": [[]]}, {"a": [None]},
        {"a": [], "b": []}, {"a": [], "b": ["t"]}, {"a": [], "b": ["t", 0]}, {"a": [], "b": ["t", True, True]},
        {"a": [], "b": {}}, {"a": [], "c": []}, {"a": [], "c": {"k": True}}, {"a": [], "c": {"k": "y"}},
        {"a": [], "c": {"k": ["x"]}}, {"a": [], "c": {"k": None}}, {"a": [], "e": 4}, {"a": [], "e": -1},
        {"a": [], "e": True},
    ],
)  # fmt: skip
def test_other_forms(data: Any) -> None:
    with pytest.raises(Reject, match=r"^here") as reason:
        conform(data, FORM, "here")
    assert len(str(reason.value)) < 300


def test_reasons_are_one_line_that_names_the_place() -> None:
    with pytest.raises(Reject, match=r"^document/a/1: -1 ") as reason:
        conform({"a": [0, -1]}, FORM)
    for data in ({"a": [], "c": {"x\ny" * 99: 2}}, {"a": ["x\n"]}, {"a": [], "x\n": 0}):
        with pytest.raises(Reject) as reason:
            conform(data, FORM)
        assert len(str(reason.value).splitlines()) == 1
        assert len(str(reason.value)) < 300


def test_a_key_of_the_form_is_no_key_of_the_document() -> None:
    """``scalars?`` in a form is the key ``scalars``, which may be missing."""
    with pytest.raises(Reject, match="unknown key"):
        conform({"scalars?": []}, {"scalars?": [text]})
