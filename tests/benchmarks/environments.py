"""The peers' own environments, under .cache: what requirements-bench.txt pins."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from local.config import CACHE, ROOT

FOLDER = CACHE / "bench"
REQUIREMENTS = ROOT / "requirements-bench.txt"
WRANGLER, TINKERPOP = "awswrangler", "apache-airflow-providers-apache-tinkerpop"
CELERY = (
    "apache-airflow-providers-celery", "celery", "kombu", "billiard", "vine", "amqp", "click-didyoumean",
    "click-plugins", "click-repl", "prompt_toolkit", "wcwidth", "tzlocal", "redis",
)  # fmt: skip


class CannotInstallError(Exception):
    """A peer's packages cannot be had here; the text says why."""


def requirement(name: str) -> str:
    """Its line of requirements-bench.txt."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith((f"{name}==", f"{name}[")))


def wrangler_python() -> Path:
    """The Python that has AWS SDK for pandas, which pins another gremlinpython than MWAA does."""
    folder = _folder(WRANGLER)
    python = folder / "bin" / "python"
    if not folder.exists():
        _uv("venv", "--python", sys.executable, str(folder))
        _install(folder, "--python", str(python), requirement(WRANGLER))
    return python


def tinkerpop_path() -> Path:
    """A folder for PYTHONPATH that adds Airflow's provider, and nothing else, to what is installed here."""
    folder = _folder(TINKERPOP)
    if not folder.exists():
        _install(folder, "--python", sys.executable, "--no-deps", "--target", str(folder), requirement(TINKERPOP))
    return folder


def celery_path() -> Path:
    """A folder for PYTHONPATH that adds Airflow's CeleryExecutor and its client of Redis."""
    folder = _folder(*CELERY)
    if not folder.exists():
        wanted = map(requirement, CELERY)
        _install(folder, "--python", sys.executable, "--no-deps", "--target", str(folder), *wanted)
    return folder


def _folder(*names: str) -> Path:
    made_from = f"{' '.join(map(requirement, names))} {sys.version}"
    return FOLDER / f"{names[0]}-{hashlib.sha256(made_from.encode()).hexdigest()[:8]}"


def _install(folder: Path, *arguments: str) -> None:
    try:
        _uv("pip", "install", *arguments)
    except CannotInstallError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    try:
        run = subprocess.run([str(uv), *arguments], capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstallError(f"uv {arguments[0]}: {type(error).__name__}") from error
    if run.returncode:
        raise CannotInstallError(f"uv {arguments[0]} failed: {(run.stderr.strip().splitlines() or ['?'])[-1]}")
