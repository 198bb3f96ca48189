"""A PostgreSQL of our own, for an Airflow that runs as MWAA's does."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local import config as local_config
from tests.airflow_up import ends_with_us, free_ports


class NoPostgreSQLError(Exception):
    """PostgreSQL is missing or does not run here; the text says what to do."""


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of an empty database, which is gone at the end, whatever happens to this process."""
    programs = local_config.postgresql()
    if not programs:
        raise NoPostgreSQLError("PostgreSQL is missing: apt-get install postgresql")
    # not in a folder of pytest's, which only its owner can enter
    folder = Path(tempfile.mkdtemp(prefix="postgresql-of-tests-"))
    data, (port,) = folder / "data", free_ports(1)
    user = _as_no_root(folder)
    stop = [*user, str(programs / "pg_ctl"), "stop", "--mode=immediate", f"--pgdata={data}"]
    end = ["sh", "-c", 'folder=$1; shift; [ ! -e "$folder/data/postmaster.pid" ] || "$@"; rm -rf "$folder"', "sh"]
    with ends_with_us([*end, str(folder), *stop], dict(os.environ)):
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        init = ("initdb", "--username=airflow", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        for command in (init, ("pg_ctl", "start", "--wait", f"--log={folder / 'log'}", f"--options={options}")):
            program = [str(programs / command[0]), *command[1:], f"--pgdata={data}"]
            output = folder / f"{command[0]}.txt"  # no pipe, which the server would hold open
            with output.open("w") as file:
                done = subprocess.run(
                    [*user, *program], cwd=folder, stdout=file, stderr=subprocess.STDOUT, timeout=120, check=False
                )
            if done.returncode:
                raise NoPostgreSQLError(
                    f"PostgreSQL does not run here, {command[0]}: {output.read_text(encoding='utf-8')[-500:]}"
                )
        yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/postgres"


def _as_no_root(folder: Path) -> list[str]:
    """What to put before a command of PostgreSQL, which refuses to run as root; the folder is its user's then."""
    if os.getuid():
        return []
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    shutil.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
