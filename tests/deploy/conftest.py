"""The marker of what installs a second Airflow."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "bundle_321: the bundle in an Airflow 3.2.1, which is installed into .cache once"
    )
