"""Where include/ is. It lies inside the dags folder on MWAA and beside it in a checkout; this module alone knows."""

from __future__ import annotations

from pathlib import Path

from cohort_flywheel.errors import Code, FlywheelError


def include_folder(dag_file: str) -> Path:
    """Return the include folder that belongs to a DAG file; raise FlywheelError where there is none."""
    beside = Path(dag_file).resolve().parent
    for folder in (beside / "include", beside.parent / "include"):
        if folder.is_dir():
            return folder
    raise FlywheelError(
        f"there is no include folder in {beside} or in {beside.parent}: put it beside dags/", code=Code.INCLUDE_MISSING
    )
