"""Cleaning removes what no reader would miss, and changes no words."""

from hypothesis import given
from hypothesis import strategies as st

from paper_repro.data.cleaning import clean, clean_html, clean_rfc, normalise

RFC = """\
Network Working Group                                         S. Bradner
Request for Comments: 2119                            Harvard University

1. MUST   This word, or the terms "REQUIRED" or "SHALL", mean that the
   definition is an absolute requirement of the



Bradner                  Best Current Practice                  [Page 1]
\f
RFC 2119                     RFC Key Words                    March 1997


   specification.

2. MUST NOT   This phrase means absolute prohibition.
"""


def test_pages_of_an_rfc_are_joined():
    text = clean_rfc(RFC)
    assert "[Page" not in text
    assert "March 1997" not in text
    assert "\f" not in text
    assert "requirement of the\n\n   specification." in text
    assert text.count("MUST") == 2


def test_html_keeps_what_is_read():
    page = "<html><head><title>T</title></head><body><script>x()</script><p>One &amp; two</p><pre>a\n  b</pre></body>"
    assert clean_html(page) == "One & two\n\na\n  b\n"


@given(st.text())
def test_normalising_twice_is_normalising_once(text):
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(st.sampled_from("ab \n\t\r\f\x00é"), max_size=30))
def test_letters_survive_in_order(text):
    letters = [each for each in text if each.isalpha()]
    assert [each for each in normalise(text) if each.isalpha()] == letters


def test_the_name_decides():
    assert clean("a/page.html", "<b>x</b>") == "x\n"
    assert clean("a/page.txt", "<b>x</b>") == "<b>x</b>\n"
    assert "[Page" not in clean("doc/RFC/rfc2119.txt", RFC)
