"""Temporary files that do not outlive their task, killed or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


class TemporaryFolderMixin:
    """Gives a task a folder for what it must not hold in memory: members, contacts. It goes with the task."""

    _folder: TemporaryDirectory[str] | None = None

    @contextmanager
    def temporary_folder(self) -> Iterator[Path]:
        """A folder that is removed at the end of the block, or when Airflow stops the task in it."""
        self._folder = TemporaryDirectory(prefix="cohort-flywheel-", ignore_cleanup_errors=True)
        with self._folder as folder:
            yield Path(folder)

    def on_kill(self) -> None:
        """Airflow calls this as it stops a task, and kills the process soon after, which no `with` survives."""
        if self._folder:
            self._folder.cleanup()
