"""Where the CPU time of all threads goes: a profile by sampling, which cProfile cannot give for several threads."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

EVERY_SECONDS = 0.001


class Sampler:
    """Gives the CPU time that a thread used since the last look to the function in which it is met."""

    def __enter__(self) -> Self:
        self._own: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._seen: dict[int, float] = {}
        self._ended = threading.Event()
        self._switch = sys.getswitchinterval()
        sys.setswitchinterval(EVERY_SECONDS / 2)
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        sys.setswitchinterval(self._switch)

    def _look(self) -> None:
        me = threading.get_ident()
        while not self._ended.wait(EVERY_SECONDS):
            alive = {thread.ident for thread in threading.enumerate()}
            for ident, frame in sys._current_frames().items():
                if ident == me or ident not in alive:
                    continue
                try:
                    now = time.clock_gettime(time.pthread_getcpuclockid(ident))
                except OSError:  # it has just ended
                    continue
                code = frame.f_code
                before = self._seen.get(ident, now)
                spent = now - before if now >= before else now  # less than before: another thread has the number now
                self._own[code.co_filename, code.co_qualname] += spent
                self._seen[ident] = now

    def top(self, number: int) -> dict[str, Any]:
        """The functions with most time of their own, C code being its caller's."""
        total = sum(self._own.values()) or 1.0
        rows = [
            {"where": f"{_short(file)} {name}", "share": round(seconds / total, 4)}
            for (file, name), seconds in sorted(self._own.items(), key=lambda item: -item[1])[:number]
        ]
        return {"cpu_s": total, "rows": rows}


def _short(file: str) -> str:
    """`botocore/signers.py`: the end of a path that tells where it is."""
    for mark in ("site-packages/", "plugins/"):
        if mark in file:
            return file.rpartition(mark)[2]
    return "/".join(Path(file).parts[-2:])
