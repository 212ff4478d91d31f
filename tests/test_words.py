"""The text of the project avoids words that only its first authors understood."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("ddpm_lightning", "conf", "docs", "experiments", "tests")
FILES = [
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".md", ".yaml")
]
FILES += ROOT.glob("*.md")
#: What to look for, and what to write instead; only words that have no other meaning here.
WORDS = {
    r"\b(go|goes|went) on\b": "resume, continue",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\babroad\b": "on other data sets",
    r"\b(take|takes|took) away\b": "remove",
    r"\bopposite (draws|samples)\b": "antithetic samples",
    r"\bsees? (the|an) image turned\b": "test-time augmentation",
    r"\b(OnePass|MeanLearner)\b": "a name that says what it is",
}


@pytest.mark.parametrize("word", WORDS)
def test_words_of_the_field_are_used(word):
    pattern = re.compile(word.replace(" ", r"[\s#]+"), re.IGNORECASE)
    found = {
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}"
        for path in FILES
        if path != Path(__file__)
        for text in [path.read_text("utf-8")]
        for match in pattern.finditer(text)
    }
    assert not found, f"say {WORDS[word]} instead"
