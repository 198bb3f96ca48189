"""Temporary files that are removed with their task, also if it is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


class TemporaryFolderMixin:
    """Provide a temporary folder to a task, for data that must not be in memory: members, contacts."""

    _folder: TemporaryDirectory[str] | None = None

    @contextmanager
    def temporary_folder(self) -> Iterator[Path]:
        """Return a folder that is removed at the end of the block, or when Airflow stops the task."""
        self._folder = TemporaryDirectory(prefix="cohort-flywheel-", ignore_cleanup_errors=True)
        with self._folder as folder:
            yield Path(folder)

    def on_kill(self) -> None:
        """Remove the folder: Airflow calls this before it kills the process, which runs no `finally`."""
        if self._folder:
            self._folder.cleanup()
