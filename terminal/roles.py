"""The commands of `onecard terminal`, by argparse: Typer would cost memory and start time.

Exit codes: 0 done, 1 a check failed, 2 bad input or usage, 3 not reachable.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from firmware.base.errors import ConfigError
from protocols.errors import OnecardError
from protocols.texts import TEXTS


def main(argv: Sequence[str]) -> int:
    """Run one command; typed errors end as a line on standard error and exit code 2."""
    arguments = _parser().parse_args(list(argv))
    try:
        return int(arguments.act(arguments))
    except ConfigError as fault:
        _say_config(fault)
        return 2
    except OnecardError as fault:
        zh, en = TEXTS.get(fault.code, ("", ""))
        sys.stderr.write(f"{fault}\n{zh} / {en}\n")
        return 3 if fault.code == "ENROL_UNREACHABLE" else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="onecard terminal", description="the device side")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    canteen = _command(commands, "canteen", "the canteen till", _canteen)
    canteen.add_argument("--demo", action="store_true", help="allow software SAM and test keys")
    config = _command(commands, "config", "every option with its range", _config)
    config.add_argument("--explain", action="store_true", required=True)
    config.add_argument("--json", action="store_true")
    selftest = _command(commands, "selftest", "devices, keys, SAM, journal", _selftest)
    selftest.add_argument("--json", action="store_true")
    enrol = _command(commands, "enrol", "key, certificate and epoch by the office's code", _enrol)
    enrol.add_argument("code", help="one-time code of the office")
    enrol.add_argument("--url", help="the centre, https://host:port; else centre.url")
    enrol.add_argument("--fingerprint", help="SHA-256 of its CA, printed with the code")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    act: object,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text)
    parser.add_argument("--config", type=Path, required=True, help="configuration (TOML)")
    parser.set_defaults(act=act)
    return parser


def _canteen(arguments: argparse.Namespace) -> int:
    from terminal.boot import run

    return run(arguments.config, demo=arguments.demo)


def _config(arguments: argparse.Namespace) -> int:
    from terminal.boot import explain

    options = explain(arguments.config)
    if arguments.json:
        sys.stdout.write(json.dumps({"options": options}, ensure_ascii=False) + "\n")
        return 0
    for option in options:
        sys.stdout.write(
            f"{option['key']} = {option['value']}  (default {option['default']},"
            f" {option['allowed']}) {option['help']}\n"
        )
    return 0


def _selftest(arguments: argparse.Namespace) -> int:
    from terminal.boot import selftest

    checks = selftest(arguments.config)
    passed = all(check["ok"] for check in checks)
    if arguments.json:
        sys.stdout.write(json.dumps({"ok": passed, "checks": checks}, ensure_ascii=False) + "\n")
    else:
        for check in checks:
            shown = " ".join(f"{key}={value}" for key, value in check.items() if key != "check")
            sys.stdout.write(f"{check['check']}: {shown}\n")
    return 0 if passed else 1


def _enrol(arguments: argparse.Namespace) -> int:
    from firmware.enrol import enrol
    from terminal.boot import read_setup

    made, _ = read_setup(arguments.config)
    url = arguments.url or made.centre_url
    fingerprint = arguments.fingerprint or made.centre_fingerprint
    enrolled = enrol(made.folder / "identity", url, fingerprint, arguments.code)
    sys.stdout.write(f"{enrolled}\n")
    return 0


def _say_config(fault: ConfigError) -> None:
    for problem in fault.problems:
        shown = " ".join(f"{key}={value!s}" for key, value in problem.items())
        sys.stderr.write(f"CONFIG {shown}\n")
