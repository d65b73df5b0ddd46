"""Every picture of the documentation is described in words."""

import re

import pytest
from test_docs import DOCS, PAGES, fences, named

DRAWS = re.compile(r"\bplt\.subplots\(|\bplot\.(anomaly_maps|overlay|diagnostics|qq|ellipse)\(")
ALT = re.compile(r'^:mystnb: \{.*image: \{alt: "[A-Z][^"]{30,}\."\}\}$', re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_cell_that_draws_says_what_is_seen(page):
    for kind, body, line in fences(page):
        if kind == "{code-cell} python" and "remove-cell" not in body and DRAWS.search(body):
            assert ALT.search(body), f"line {line}: no alt text"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_picture_of_a_page_says_what_is_seen(page):
    for text in re.findall(r"!\[([^\]]*)\]\(", page.read_text(encoding="utf-8")):
        assert len(text) > 30


def test_an_entry_of_the_reference_says_what_is_seen():
    text = (DOCS / "reference" / "plot.rst").read_text(encoding="utf-8")
    _, *entries = text.split(".. autofunction::")
    assert len(entries) == 5
    assert all(re.search(r"\.\. plot::\n( +:.*\n)* +:alt: \S.{30,}", entry) for entry in entries)
