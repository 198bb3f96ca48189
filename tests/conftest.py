"""The local servers, started once for all tests that ask for them, on free ports of the loopback address."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import pytest

from local import config as local_config
from local import seed
from local.config import Config
from local.seed import Seeded
from local.servers import Servers, running

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def config() -> Config:
    """What the repository's `.env` says."""
    return local_config.load(environ={})


@pytest.fixture(scope="session")
def servers(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Gremlin Server, DynamoDB Local and the AWS endpoint; empty."""
    with running(run_dir=tmp_path_factory.mktemp("servers"), config=config) as started:
        yield started


@pytest.fixture(scope="session")
def seeded(servers: Servers, config: Config) -> Seeded:
    """The sample players in the graph, their contacts, and all that a run needs; not to be changed by a test."""
    return seed.seed(servers, config)


@pytest.fixture
def fresh_config(servers: Servers, config: Config) -> Iterator[Config]:
    """Three buckets, a contacts table, an application and a role that no other test knows, all empty."""
    suffix = f"-{next(_numbers)}"
    names = ("export_bucket", "import_bucket", "state_bucket", "contacts_table", "application_name", "import_role_name")
    fresh = dataclasses.replace(config, **{name: getattr(config, name) + suffix for name in names})
    seed.make_buckets(servers, fresh)
    seed.make_contacts_table(servers, fresh)
    yield fresh
    s3 = seed.client("s3", servers, fresh)
    for bucket in (fresh.export_bucket, fresh.import_bucket, fresh.state_bucket):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                s3.delete_object(Bucket=bucket, Key=item["Key"])
        s3.delete_bucket(Bucket=bucket)
    seed.client("dynamodb", servers, fresh).delete_table(TableName=fresh.contacts_table)


@pytest.fixture
def fresh_seeded(servers: Servers, fresh_config: Config) -> Seeded:
    """The application and the role of `fresh_config`."""
    application_id = seed.make_application(servers, fresh_config)
    return Seeded(application_id, seed.make_import_role(servers, fresh_config, application_id))
