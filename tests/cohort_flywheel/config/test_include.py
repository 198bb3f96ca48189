"""Where include/ is found: beside dags/ in a checkout, inside it on MWAA."""

from pathlib import Path

import pytest

from cohort_flywheel.config.include import include_folder
from cohort_flywheel.errors import FlywheelError


@pytest.fixture
def dag(tmp_path: Path) -> Path:
    file = tmp_path / "dags" / "a_dag.py"
    file.parent.mkdir()
    file.touch()
    return file


def test_beside_the_dags_folder(dag: Path, tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    assert include_folder(str(dag)) == tmp_path / "include"


def test_inside_the_dags_folder_wins(dag: Path, tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    (dag.parent / "include").mkdir()
    assert include_folder(str(dag)) == dag.parent / "include"


def test_a_missing_include_folder_is_an_error(dag: Path, tmp_path: Path) -> None:
    (tmp_path / "include").touch()  # a file is not a folder
    with pytest.raises(FlywheelError, match="no include folder in .*dags"):
        include_folder(str(dag))
