"""The shape of the repository: sizes, error codes, purity, texts, no machine in the files."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections import Counter
from pathlib import Path

import pytest

from protocols.errors import OnecardError
from protocols.texts import TEXTS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("protocols", "firmware", "terminal", "sync", "sim")
FILE_LINES_MAX, FUNCTION_LINES_MAX, PARAMETERS_MAX = 400, 70, 11
PURE = ("protocols", "terminal")
PURE_FILES = ("sync/core.py", "sync/central/ingest_core.py", "sync/central/rules.py")
BANNED_IN_CORES = {"time", "socket", "threading", "random", "uuid", "secrets", "asyncio", "paho"}
TERMINAL_EDGES = {"terminal/boot.py", "terminal/roles.py"}  # where the ports are made
OPTIONAL = {"smartcard", "nfc"}


def _sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [path for path in found if path.parent.name != "versions"]  # migrations are tables
    assert found
    return found


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def _error_classes() -> list[type[OnecardError]]:
    for package in PACKAGES:
        found = importlib.import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            if module.name.rsplit(".", 1)[-1] == "errors":
                importlib.import_module(module.name)
    todo: list[type[OnecardError]] = [OnecardError]
    seen: list[type[OnecardError]] = []
    while todo:
        cls = todo.pop()
        seen.append(cls)
        todo.extend(cls.__subclasses__())
    return sorted(set(seen), key=lambda cls: cls.__name__)


@pytest.mark.parametrize("folder", [*PACKAGES, "tests", "bench"])
def test_sizes(folder: str) -> None:
    """No file above 400 lines, no function above 70."""
    for path in _sources(folder):
        text = path.read_text("utf-8")
        assert text.count("\n") <= FILE_LINES_MAX, _name(path)
        for node in _functions(ast.parse(text)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{_name(path)} {node.name}"
            assert len(node.args.args) <= PARAMETERS_MAX, f"{_name(path)} {node.name}"


def test_modules_say_why_they_exist() -> None:
    """Every module of the product begins with its reason."""
    for path in _sources(*PACKAGES):
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), _name(path)


def test_tests_say_what_they_show() -> None:
    """Every test function has a docstring."""
    for path in _sources("tests"):
        for node in _functions(ast.parse(path.read_text("utf-8"))):
            if node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{_name(path)} {node.name}"


def test_cores_are_pure() -> None:
    """No clock, chance, thread or socket inside a core (faults.md §1 rule 5)."""
    paths = [p for p in _sources(*PURE) if _name(p) not in TERMINAL_EDGES]
    for path in [*paths, *(ROOT / name for name in PURE_FILES)]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                assert name.split(".")[0] not in BANNED_IN_CORES, f"{_name(path)} imports {name}"


def test_error_codes_are_unique_and_worded() -> None:
    """Each class has its own code in capitals, a text in both languages, and a docstring."""
    classes = _error_classes()
    twice = [code for code, n in Counter(cls.code for cls in classes).items() if n > 1]
    assert not twice
    for cls in classes:
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", cls.code), cls
        assert cls.__name__.endswith("Error"), cls
        assert inspect.getdoc(cls), cls
        zh, en = TEXTS[cls.code]
        assert zh, cls
        assert en, cls


def test_every_error_is_raised_in_a_test() -> None:
    """Some test names each error class or its code: no code is only a promise."""
    text = "\n".join(path.read_text("utf-8") for path in _sources("tests"))
    bases = {cls for cls in _error_classes() if cls.__subclasses__()}
    for cls in _error_classes():
        if cls not in bases:
            assert cls.__name__ in text or f'"{cls.code}"' in text, cls.code


def test_no_swallowed_exception() -> None:
    """Broad excepts exist only where a supervisor logs and stops or restarts."""
    allowed = {"firmware/base/supervisor.py"}
    for path in _sources(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ExceptHandler) and _name(path) not in allowed:
                broad = node.type is None or (
                    isinstance(node.type, ast.Name)
                    and node.type.id in ("Exception", "BaseException")
                )
                assert not broad, f"{_name(path)}:{node.lineno}"


def test_files_name_no_machine() -> None:
    """No absolute path of a builder's machine, no package index address."""
    bad = re.compile(r"(?<![\w.])/(?:work|farm|root|home)/|index-url|--find-links|://pypi\.|npmjs")
    suffixes = {".py", ".txt", ".md", ".cfg", ".toml", ".sh"}
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(p.startswith(".") or p == "__pycache__" or "egg-info" in p for p in parts)
        if hidden or path == Path(__file__) or path.suffix not in suffixes:
            continue
        found = bad.search(path.read_text("utf-8"))
        assert found is None, f"{_name(path)}: {found}"


def test_pins_are_hashed() -> None:
    """Every pinned requirement carries hashes."""
    for name in ("demo", "test"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
        pinned = re.findall(r"^([a-z0-9.\-_\[\]]+==\S+) ", text, re.M | re.I)
        assert len(pinned) > 10
        blocks = re.split(r"^(?=[a-z0-9.\-_\[\]]+==)", text, flags=re.M | re.I)[1:]
        assert all("--hash=sha256:" in block for block in blocks)


def test_readme_names_files_that_exist() -> None:
    """The life of a tap can be followed file by file."""
    text = (ROOT / "README.md").read_text("utf-8")
    named = re.findall(r"`((?:protocols|firmware|terminal|sync|sim)/[\w/]+\.py)`", text)
    assert len(named) >= 10
    for name in named:
        assert (ROOT / name).is_file(), name
