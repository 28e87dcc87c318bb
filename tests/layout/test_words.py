"""The repository speaks only of itself: no path of one machine, no registry host, no word on how it was made."""

from __future__ import annotations

import re

import pytest

from layout.sources import ROOT, repository_files

FORBIDDEN = {  # written so that no pattern matches its own text
    "a path of one machine": r"(?<![\w.~}/])[/](work|root|home|Users)/\w",
    "the host of a package registry": r"pypi[.]org|pythonhosted[.]org|download[.]pytorch|anaconda[.]org|npmjs[.]com",
    "a word on how it was made": r"(?i)\b(chat[g]pt|clau[d]e|anthro[p]ic|open[a]i|copi[l]ot|co-authored[-]by)\b"
    r"|\bA[I]\b|(?i:\bassist[a]nts?\b)|(?<!scope=[\"'])(?i:\bse[s]sions?\b)|(?i:\bissue[ ]#?\d)",
}
EXAMPLES = {
    "a path of one machine": "open('%home%ada%x.csv')".replace("%", "/"),
    "the host of a package registry": "https:%%pypi.%org".replace("%", ""),
    "a word on how it was made": "see iss%ue 7".replace("%", ""),
}


def texts():
    for path in repository_files():
        try:
            yield str(path.relative_to(ROOT)), path.read_text("utf-8")
        except UnicodeDecodeError:  # an image, a compressed file
            continue


def found(pattern, text):
    return [f"{text.count(chr(10), 0, m.start()) + 1}: {m.group()}" for m in re.finditer(pattern, text)]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what):
    bad = {name: hits for name, text in texts() if (hits := found(FORBIDDEN[what], text))}
    assert not bad


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_pattern_finds_its_example(what):
    assert found(FORBIDDEN[what], EXAMPLES[what])
