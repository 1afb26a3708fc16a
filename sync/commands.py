"""Every `onecard` command but `terminal` and `sync`, as one Typer application.

Sub-commands import their package inside the function; `demo` and `sim` come from the entry-point
group `onecard.commands`, so that nothing here imports the simulator.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protocols.errors import OnecardError
from protocols.texts import TEXTS

if TYPE_CHECKING:
    from terminal.ledger.audit import Check as JournalCheck

COMMAND_GROUP = "onecard.commands"
SUMMARIES = {
    "demo": "The whole system on this machine: a lunch, live, then an audit.",
    "sim": "A deterministic campus with faults; same seed, same digest.",
}
Json = Annotated[bool, typer.Option("--json", help="Exactly one JSON object on standard output.")]


def main(argv: list[str]) -> int:
    """Run a command line; the exit code. A typed error passes through to sync.cli."""
    try:
        typer.main.get_command(application())(argv, prog_name="onecard")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _exit_with(code: int | None) -> None:
    """A command's return value is the exit code."""
    raise typer.Exit(code or 0)


def application() -> typer.Typer:
    """The Typer application with every plug-in listed."""
    app = typer.Typer(
        name="onecard",
        help="Campus one-card: terminals, sync, the centre and the tools around them.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        result_callback=_exit_with,
    )
    app.command()(decode)
    app.command()(kat)
    app.command()(audit)
    app.command()(broker)
    app.add_typer(_central(), name="central")
    app.command("terminal", help="A terminal: canteen, config, enrol, selftest.")(_elsewhere)
    app.command("sync", help="The sync daemon beside a terminal.")(_elsewhere)
    for found in entry_points(group=COMMAND_GROUP):
        _add_plugin(app, found)
    return app


def emit(value: object) -> None:
    """Exactly one JSON object on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def decode(
    kind: Annotated[str, typer.Argument(help="apdu, purse-record, pn532, record, segment, …")],
    hex_text: Annotated[str, typer.Argument(metavar="HEX", help="The bytes as hexadecimal.")],
    as_json: Json = False,
) -> int:
    """Decode any frame, record or message as JSON; bad input: a typed error and exit 2."""
    from protocols.decode import decode as decode_kind

    try:
        emit(decode_kind(kind, _unhex(hex_text)))
    except OnecardError as exc:
        emit({"error": exc.as_json()})
        return _fail(exc)
    return 0


def kat(
    file: Annotated[Path, typer.Argument(help="A file of known answers.", exists=True)],
    as_json: Json = False,
) -> int:
    """Recompute every known answer of FILE; exit 1 on any mismatch."""
    from protocols.kat import run_kat

    try:
        document = json.loads(file.read_text("utf-8"))
    except (ValueError, OSError) as exc:
        raise typer.BadParameter(f"{file}: not JSON: {exc}") from exc
    report = run_kat(document)
    if as_json:
        emit(report.as_json())
    else:
        for line in report.lines():
            typer.echo(line)
    return 0 if report.ok else 1


def audit(
    journal: Annotated[Path | None, typer.Option(help="A terminal's journal folder.")] = None,
    db: Annotated[str | None, typer.Option(help="Database URL of the books.")] = None,
    config: Annotated[Path | None, typer.Option(help="The centre's configuration.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Every record, not a sample.")] = False,
    as_json: Json = False,
) -> int:
    """Check every invariant of a journal or of the books; exit 1 on a violation."""
    if journal is not None:
        from terminal.ledger.audit import audit_journal

        if not journal.is_dir():
            raise typer.BadParameter(f"{journal}: no such folder")
        found = audit_journal(journal)
        return _show_checks([(f"{c.id} {c.name}", c.ok, _told(c)) for c in found], as_json)
    from sync.central.service import audit_command

    try:
        checks = audit_command(db=db, config=config, full=full)
    except OnecardError as exc:
        _fail(exc)
        return 3 if exc.code == "CENTRE_DOWN" else 2
    return _show_checks([(c.name, c.ok, c.detail) for c in checks], as_json)


def _told(check: JournalCheck) -> str:
    return "; ".join(check.problems) or f"{check.checked} checked"


def _show_checks(checks: list[tuple[str, bool, str]], as_json: bool) -> int:
    clean = all(ok for _, ok, _ in checks)
    if as_json:
        rows = [{"invariant": name, "ok": ok, "detail": detail} for name, ok, detail in checks]
        emit({"ok": clean, "checks": rows})
    else:
        for name, ok, detail in checks:
            typer.echo(f"{'ok  ' if ok else 'FAIL'} {name}  {detail}")
        typer.echo(f"audit: {'clean' if clean else 'VIOLATED'} ({len(checks)} invariants)")
    return 0 if clean else 1


def broker(
    config: Annotated[Path, typer.Option(help="The centre's configuration file.", exists=True)],
) -> int:
    """The embedded MQTT broker (nats-server) as a supervised child; reloads the user file."""
    from sync import broker as embedded
    from sync.central.service import broker_settings

    return embedded.run(embedded.BrokerSettings(**broker_settings(config)))


def _central() -> typer.Typer:
    from sync.central.commands import application as central_application

    return central_application()


def _elsewhere() -> int:
    """Started before Typer is imported (sync.cli); listed here for --help."""
    return 2


def _add_plugin(app: typer.Typer, found: EntryPoint) -> None:
    def plugin(context: typer.Context) -> int:
        command: Callable[[list[str]], int] = found.load()
        return command(list(context.args))

    app.command(
        found.name,
        help=SUMMARIES.get(found.name, found.name),
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(plugin)


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex("".join(text.split()))
    except ValueError as exc:
        raise typer.BadParameter("HEX: hexadecimal digits in pairs") from exc


def _fail(exc: OnecardError) -> int:
    zh, en = TEXTS.get(exc.code, ("", ""))
    typer.echo(f"{exc}\n{zh} / {en}", err=True)
    return 2
