"""The DAG file of the benchmark of width names what the package has."""

from __future__ import annotations

import ast
import importlib

from tests.benchmarks.width import DAG_FILE


def test_the_dag_file_imports_what_there_is() -> None:
    imports = [node for node in ast.walk(ast.parse(DAG_FILE)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if str(node.module).startswith("cohort_flywheel")]
    assert ours
    for node in ours:
        module = importlib.import_module(str(node.module))
        assert [each.name for each in node.names if not hasattr(module, each.name)] == []
