"""The place of include/: inside the dags folder on MWAA, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from cohort_flywheel.errors import Code, FlywheelError


def include_folder(dag_file: str) -> Path:
    """Return the include folder that belongs to a DAG file; raise FlywheelError if it does not exist."""
    beside = Path(dag_file).resolve().parent
    for folder in (beside / "include", beside.parent / "include"):
        if folder.is_dir():
            return folder
    raise FlywheelError(
        f"no include folder in {beside} or in {beside.parent}: put it beside dags/", code=Code.INCLUDE_MISSING
    )
