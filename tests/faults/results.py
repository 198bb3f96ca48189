"""The cases that were survived, kept in a file, each with the code that it ran: a later command need not try them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from local.config import RUN_DIR
from tests.faults import code

FILE = RUN_DIR / "faults" / "survived.jsonl"


class Survived(NamedTuple):
    """A result that holds for the code as it is now."""

    #: whether all was as undisturbed once the task had ended
    rejoined: bool
    #: whether the run was stopped there, or at a later task
    stopped: bool


class Results:
    """Each line is a set of definitions, or a case with the number of its set, and a digest of all it depends on."""

    def __init__(self, path: Path = FILE) -> None:
        self._path = path
        self._sets: dict[tuple[str, ...], int] = {}
        self._found: dict[str, Survived] = {}
        digests: list[str] = []
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for line in text.splitlines():
            try:
                kept = json.loads(line)
            except ValueError:  # it was being written as a command was stopped
                continue
            if "names" in kept:
                names = tuple(kept["names"])
                self._sets[names] = len(digests)
                digests.append(_digest(names))
            elif digests[kept["set"]] == kept["digest"]:
                self._found[kept["case"]] = Survived(kept["rejoined"], kept["stopped"])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        if text and not text.endswith("\n"):
            self._file.write("\n")
        self._number = len(digests)

    def get(self, case: str) -> Survived | None:
        """What came of a case, if that still holds."""
        return self._found.get(case)

    def add(self, case: str, ran: Iterable[str], survived: Survived) -> None:
        """Keep that a case, which ran these definitions, was survived."""
        names = tuple(sorted(code.needed(ran)))
        if names not in self._sets:
            self._sets[names] = self._number
            self._number += 1
            self._write({"names": names})
        self._write({"case": case, "set": self._sets[names], "digest": _digest(names)} | survived._asdict())
        self._found[case] = survived

    def forget(self) -> None:
        """Begin again."""
        self._file.truncate(0)
        self._sets, self._found, self._number = {}, {}, 0

    def close(self) -> None:
        self._file.close()

    def _write(self, what: dict[str, object]) -> None:
        self._file.write(json.dumps(what) + "\n")
        self._file.flush()


def _digest(names: Iterable[str]) -> str:
    return code.digest(names) + code.surroundings()
