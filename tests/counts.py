"""Counts that say how far the code is from plain English and typed data: `make counts`."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "plugins/cohort_flywheel/"
CODE = (PACKAGE, "dags/", "local/", "include/", "docs/", "README.md", "CONTRIBUTING.md", "Makefile")
DOCS = ("docs/", "README.md", "CONTRIBUTING.md")
#: Module stems that each feature folder may have.
SHARED_STEMS = {"__init__", "operators", "sensors", "triggers", "hook", "layout", "destination"}
MAX_LINES = 300

WORDS = re.compile(
    r"\b([Nn]obody|[Ss]omebody|[Ww]hoever|[Ww]hom|[Aa]new|is none|[Ss]hall)\b|\bis no (?!longer)[a-z]+"  # counts: skip
)
IDENTIFIERS = re.compile(r"\b\w*(nobody|somebody|whoever|whom|anew|shall)(?![a-z])\w*\b")  # counts: skip
ONE_PER = re.compile(r"\b[Aa]n? (\w+) an? (\w+)\b")
ANY = re.compile(r"(?<!\*args)(?<!\*kwargs): Any\b")
UNTYPED = re.compile(r"dict\[str, Any\]|Mapping\[str, Any\]|list\[Any\]")


def tracked(*places: str) -> list[Path]:
    """The text files under version control below these places."""
    listed = subprocess.run(["git", "ls-files", *places], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path.suffix not in (".png", ".jar")]


def matching(paths: Iterable[Path], pattern: re.Pattern[str]) -> int:
    """How many lines of these files match."""
    return sum(
        1
        for path in paths
        for line in path.read_text(encoding="utf-8").splitlines()
        if "counts: skip" not in line and pattern.search(line)
    )


def counts() -> dict[str, int]:
    """Every count by what it counts."""
    code, tests = tracked(*CODE), tracked("tests/")
    package = [path for path in tracked(PACKAGE) if path.suffix == ".py"]
    python = [path for path in tracked() if path.suffix == ".py"]
    stems = Counter(path.stem for path in package if path.stem not in SHARED_STEMS)
    docs = [path for path in tracked(*DOCS) if path.suffix == ".md"]
    identifiers = [path for path in code if path.suffix == ".py"]
    return {
        "lines with words to avoid": matching(code, WORDS),
        "lines with words to avoid in tests/": matching(tests, WORDS),
        "lines with such an identifier": matching(identifiers, IDENTIFIERS),
        'lines with "a X a Y"': matching(code, ONE_PER),
        "lines with `: Any` in plugins/": matching(package, ANY),
        "lines with untyped containers in plugins/": matching(package, UNTYPED),
        "module stems that stand twice": sum(1 for number in stems.values() if number > 1),
        f"Python files over {MAX_LINES} lines in plugins/": sum(
            1 for path in package if len(path.read_text(encoding="utf-8").splitlines()) > MAX_LINES
        ),
        f"Python files over {MAX_LINES} lines": sum(
            1 for path in python if len(path.read_text(encoding="utf-8").splitlines()) > MAX_LINES
        ),
        "words of docs, README and CONTRIBUTING": sum(len(path.read_text(encoding="utf-8").split()) for path in docs),
    }


if __name__ == "__main__":
    for name, number in counts().items():
        print(f"{number:>7,}  {name}")
