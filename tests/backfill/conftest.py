"""The same Airflow on PostgreSQL, as MWAA's is: the scheduler locks rows there, which SQLite cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.airflow_up import Up, running
from tests.postgresql import NoPostgreSQLError, postgresql


@pytest.fixture(scope="package")
def database_url() -> Iterator[str]:
    """An empty database."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(postgresql())
        except NoPostgreSQLError as error:
            pytest.skip(str(error))
        yield url


@pytest.fixture(scope="package")
def up(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("up"), database_url=database_url) as made:
        yield made
