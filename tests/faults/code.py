"""Which functions of the package a process runs, and digests of them: what the result of a case depends on.

A definition is named ``<file>:<qualified name>``: a function, with all that is defined in it. ``<file>:`` is the rest
of a module: its constants, classes, and the decorators and defaults of functions; ``<file>:*`` is the list of its
functions.
"""

from __future__ import annotations

import ast
import functools
import gc
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from types import CodeType, FunctionType

from local.config import ROOT

PLUGINS = ROOT / "plugins"
PACKAGE = PLUGINS / "cohort_flywheel"
#: What every case depends on, but the package: the DAG and what it reads, the servers, and how a case is run. The
#: modules of local/ are those that tests/faults/ imports, and what these import, with all of a service's folder.
SURROUNDINGS = (
    "dags/cohort_to_segment.py",
    "dags/engagement.py",
    "dags/suppression_removal.py",
    "include/cohorts.yaml",
    "include/email/**/*",
    "local/conf/*",
    "local/jars/*",
    "tests/faults/**/*.py",
    "tests/cohort_flywheel/engagement/*.py",
    "tests/aws_session_cache.py",
    ".env",
)
_TOOL = 4
_ran: set[str] = set()


def watch() -> None:
    """Have this process, and those that it forks, note which functions of the package they run."""
    if sys.monitoring.get_tool(_TOOL) is None:
        sys.monitoring.use_tool_id(_TOOL, "faults")
        sys.monitoring.register_callback(_TOOL, sys.monitoring.events.PY_START, _note)
    gc.unfreeze()  # get_objects does not return what is frozen
    for function in [each for each in gc.get_objects() if type(each) is FunctionType]:  # not of a weak reference
        for code in _nested(function.__code__) if _is_ours(function.__code__) else ():
            sys.monitoring.set_local_events(_TOOL, code, sys.monitoring.events.PY_START)


def begin() -> None:
    """Forget what the process from which this one was forked has run."""
    _ran.clear()
    sys.monitoring.restart_events()


def ran() -> list[str]:
    """What has been run, but for what was imported after `watch`."""
    return sorted(_ran)


def all_of(modules: Iterable[str]) -> set[str]:
    """Every definition of these modules: which of a module that was imported after `watch` have run is not known."""
    files = {name.replace(".", "/") for name in modules if name.startswith(f"{PACKAGE.name}.")}
    return {name for name in definitions() if name.partition(".py:")[0].removesuffix("/__init__") in files}


def _note(code: CodeType, _: int) -> object:
    path = Path(code.co_filename).relative_to(PLUGINS)
    _ran.add(f"{path}:{code.co_qualname.partition('.<locals>')[0]}")
    return sys.monitoring.DISABLE


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(f"{PACKAGE}/")


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


@functools.cache
def definitions() -> Mapping[str, str]:
    """The digest of each definition of the package, as it is now."""
    sources = {str(path.relative_to(PLUGINS)): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    return {f"{file}:{name}": digest for file, source in sources.items() for name, digest in defined(source).items()}


def defined(source: str) -> dict[str, str]:
    """The digest of each definition of a module; its comments, docstrings, annotations of functions are not in them."""
    strip, tree = _Strip(), ast.parse(source)
    _drop_docstring(tree)
    rest = strip.visit(tree)
    return strip.functions | {"": _sha(ast.dump(rest)), "*": _sha(repr(sorted(strip.functions)))}


class _Strip(ast.NodeTransformer):
    """Leaves of a function what is evaluated as its module is imported, and notes a digest of it."""

    def __init__(self) -> None:
        self.functions: dict[str, str] = {}
        self._prefix = ""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        outer, self._prefix = self._prefix, f"{self._prefix}{node.name}."
        _drop_docstring(node)
        self.generic_visit(node)
        self._prefix = outer
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
        _drop_docstring(node)
        name = self._prefix + node.name
        self.functions[name] = _sha(self.functions.get(name, "") + ast.dump(node))  # a property and its setter
        values = [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]
        return [ast.Expr(value) for value in values if value]

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> list[ast.stmt]:
        return self.visit_FunctionDef(node)


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    if ast.get_docstring(node, clean=False) is not None:
        del node.body[0]


def _sha(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


@functools.cache
def _imports() -> Mapping[str, set[str]]:
    """Which files of the package each of them imports, whether at its head or in a function."""
    return _imported({str(path.relative_to(PLUGINS)): path for path in PACKAGE.rglob("*.py")})


def _imported(files: Mapping[str, Path]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file, path in files.items():
        source = path.read_text(encoding="utf-8")
        names = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                folder = Path(file).parents[node.level - 1].parts if node.level else ()
                module = ".".join((*folder, *filter(None, [node.module])))
                names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        stems = {name.replace(".", "/") for name in names}
        found[file] = {each for stem in stems for each in (f"{stem}.py", f"{stem}/__init__.py")} & files.keys()
    return found


def needed(names: Iterable[str]) -> set[str]:
    """The definitions that have been run, and those of modules: of theirs, and of those that these import."""
    names = set(names)
    found = _reached({name.partition(":")[0] for name in names}, _imports())
    return names | {f"{file}:{part}" for file in found for part in ("", "*")}


def _reached(files: set[str], imports: Mapping[str, set[str]]) -> set[str]:
    """These files, and those that they import, directly or not."""
    found: set[str] = set()
    while files:
        found |= files
        files = {each for file in files for each in imports[file]} - found
    return found


def servers() -> set[Path]:
    """The modules of local/ that a case runs."""
    paths = [*(ROOT / "local").rglob("*.py"), *(ROOT / "tests" / "faults").rglob("*.py")]
    files = {str(path.relative_to(ROOT)): path for path in paths if _counts(path)}
    reached = _reached({file for file in files if file.startswith("tests/")}, _imported(files))
    found = {files[file] for file in reached if file.startswith("local/")}
    folders = {path.parent for path in found} - {ROOT / "local"}  # moto imports some of their modules by name
    return found | {path for path in files.values() if path.parent in folders}


def digest(names: Iterable[str]) -> str:
    """A digest of these definitions as they are now; one that has gone counts too."""
    return _sha(repr(sorted((name, definitions().get(name)) for name in names)))


@functools.cache
def surroundings() -> str:
    """A digest of what every case depends on, but for the package: files, and the versions of Python and libraries."""
    found = sorted({path for pattern in SURROUNDINGS for path in ROOT.glob(pattern) if path.is_file()} | servers())
    files = [(str(path.relative_to(ROOT)), _content(path)) for path in found if _counts(path)]
    libraries = sorted(path.name for folder in sys.path for path in Path(folder).glob("*.dist-info"))
    return _sha(repr((sys.version, files, libraries)))


def _content(path: Path) -> str:
    """A digest of a file; of a module, without its comments and docstrings."""
    if path.suffix != ".py":
        return sha256(path.read_bytes()).hexdigest()
    return _sha(repr(sorted(defined(path.read_text(encoding="utf-8")).items())))


def _counts(path: Path) -> bool:
    return "__pycache__" not in path.parts and not path.name.startswith("test_")


def merge_base() -> str:
    """The commit at which this branch left main."""
    return _git("merge-base", "main", "HEAD").strip()


def changed_since(base: str) -> set[str]:
    """The definitions that are not as they were in a commit; a function that has gone has gone from its callers too."""
    listed = _git("diff", "--name-only", base, "--", "plugins").split()
    listed += _git("ls-files", "--others", "--exclude-standard", "--", "plugins").split()
    found = set()
    for path in listed:
        if path.startswith("plugins/cohort_flywheel/") and path.endswith(".py"):
            before = defined(_git("show", f"{base}:{path}", missing=""))
            now = defined((ROOT / path).read_text(encoding="utf-8")) if (ROOT / path).exists() else {}
            names = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
            gone = {name for name in names if name not in now and "." not in name}
            found |= {f"{path.removeprefix('plugins/')}:{name}" for name in names - gone - {"*"}}
    return found


def touched(changed: Iterable[str], ran_by: Mapping[str, Iterable[str]]) -> set[str]:
    """The tasks whose code has changed, by what each of them ran in an undisturbed run.

    A changed definition that no task ran, as only a fault leads there, or as it is no function, is of every task that
    ran one of its module; without any such task, of every task that ran one of a module that imports it.
    """
    of = {task: set(names) for task, names in ran_by.items()}
    files = {task: {name.partition(":")[0] for name in names} for task, names in of.items()}
    found = set()
    for name in changed:
        file = name.partition(":")[0]
        found |= (
            {task for task, names in of.items() if name in names}
            or {task for task, those in files.items() if file in those}
            or {task for task, those in files.items() if any(file in _imports()[each] for each in those)}
        )
    return found


def _git(*arguments: str, missing: str | None = None) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=missing is None)
    return done.stdout if done.returncode == 0 else missing or ""
