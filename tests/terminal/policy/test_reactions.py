"""Every stable code has its reaction and its text; every code the till shows is one of them."""

import ast
import importlib
import pkgutil
from pathlib import Path

import terminal
from protocols.errors import OnecardError
from protocols.texts import TEXTS
from terminal.policy.reactions import REACTIONS, Reaction

ROOT = Path(__file__).parents[3]
PACKAGES = ("protocols", "firmware", "terminal")


def _error_codes() -> set[str]:
    for package in PACKAGES:
        found = importlib.import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            if module.name.rsplit(".", 1)[-1] == "errors":
                importlib.import_module(module.name)
    todo, seen = [OnecardError], set()
    while todo:
        cls = todo.pop()
        if cls.__module__.split(".")[0] in PACKAGES:
            seen.add(cls.code)
        todo.extend(cls.__subclasses__())
    return seen


def _said_codes() -> set[str]:
    """String constants in the till's code that are texts of the product."""
    found = set()
    for path in (ROOT / "terminal").rglob("*.py"):
        if path.name == "reactions.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found & set(TEXTS)


def test_every_error_has_a_reaction() -> None:
    """No error class of a terminal without a line in the table."""
    assert _error_codes() - set(REACTIONS) == set()


def test_every_code_the_till_says_has_a_reaction() -> None:
    """No refusal, block or fault without a line in the table."""
    assert len(_said_codes()) > 30
    assert _said_codes() - set(REACTIONS) == set()


def test_every_reaction_has_a_text() -> None:
    """The table names no code without a text, and none twice."""
    assert set(REACTIONS) - set(TEXTS) == set()
    source = (ROOT / "terminal" / "policy" / "reactions.py").read_text("utf-8")
    words = source.split('_NOTHING = """')[1].split("REACTIONS")[0].replace('"', " ").split()
    codes = [word for word in words if word in TEXTS]
    assert len(codes) == len(set(codes)) == len(REACTIONS)


def test_journal_faults_are_final() -> None:
    """No journal code is anything but a stop until a person acts."""
    for code, reaction in REACTIONS.items():
        if code.startswith("JOURNAL_"):
            assert reaction is Reaction.FATAL, code


def test_package_is_described() -> None:
    """The package says what lives in it."""
    assert terminal.__doc__
