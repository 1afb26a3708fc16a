"""`onecard central …`: the centre's process, its founding, and office acts from the command line.

Every act makes its idem key before it acts; acts that admit money records take two persons.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from ssl import PEM_cert_to_DER_cert
from typing import Annotated, Any, TypeVar

import typer

from firmware.base.rng import SystemRng
from protocols.bcd import encode_bcd
from protocols.errors import OnecardError
from protocols.money import parse_yuan
from protocols.texts import TEXTS
from protocols.wire import cbor
from sync.central.acts import Acts
from sync.central.settings import FILE, CentreConfig, load

T = TypeVar("T")
Config = Annotated[Path, typer.Option("--config", help="The centre's configuration file.")]
Actor = Annotated[str, typer.Option("--by", help="Who acts; stands in the operation.")]
Persons = Annotated[tuple[str, str], typer.Option("--by", help="Two different persons.")]
Asn = Annotated[str, typer.Argument(metavar="ASN", help="Card number, up to 20 digits.")]
Json = Annotated[bool, typer.Option("--json", help="Exactly one JSON object.")]
DEFAULT = Path(FILE)


def application() -> typer.Typer:
    """The Typer application of `onecard central`."""
    app = typer.Typer(help="The centre: run it, found it, and act for the office.")
    app.callback(invoke_without_command=True)(serve)
    app.command()(init)
    app.command()(status)
    app.command()(beancount)
    _group(app, "terminal", "Terminals.", add=terminal_add, revoke=terminal_revoke)
    _group(app, "card", "Cards.", issue=card_issue, loss=card_loss, lift=card_lift)
    _group(app, "list", "Published lists.", policy=list_policy, tariff=list_tariff,
           operators=list_operators, cards=list_cards)  # fmt: skip
    _group(app, "fork", "Forked terminals.", resolve=fork_resolve)
    _group(app, "lane", "Lanes.", reopen=lane_reopen, close=lane_close)
    _group(app, "suspense", "Suspense items.", resolve=suspense_resolve)
    return app


def _group(app: typer.Typer, name: str, text: str, **commands: Callable[..., int]) -> None:
    group = typer.Typer(help=text, no_args_is_help=True)
    for word, act in commands.items():
        group.command(word)(act)
    app.add_typer(group, name=name)


def serve(context: typer.Context, config: Config = DEFAULT) -> int:
    """Run the centre: ingest, books, lists, /enrol and /status (without a sub-command)."""
    if context.invoked_subcommand is not None:
        return 0
    from sync.central.service import run

    code = _typed(lambda: run(config))
    raise typer.Exit(code)


def init(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    campus: Annotated[str, typer.Option(help="Name in certificates.")],
    site: Annotated[str, typer.Option(help="Site, [a-z][a-z0-9]{1,7}.")] = "s1",
    development: Annotated[bool, typer.Option(help="Unsealed key store, software SAM.")] = False,
    passphrase_file: Annotated[Path | None, typer.Option(help="Seals the key store.")] = None,
    database: Annotated[str, typer.Option(help="Database URL.")] = "sqlite:///centre.db",
) -> int:
    """Found a centre: keys, authority, certificates, configuration, empty books."""
    from sync.central.founding import init_centre

    def found() -> int:
        made = init_centre(
            folder,
            campus,
            site,
            development,
            SystemRng(),
            database=database,
            passphrase_file=passphrase_file,
        )
        _say({"config": str(made.folder / FILE), "ca_sha256": fingerprint(made)})
        return 0

    return _typed(found)


def status(config: Config = DEFAULT, as_json: Json = False) -> int:
    """Counts and balances, terminal by terminal."""
    from sync.central.summary import summary

    return _act(config, lambda acts: _say(asdict(summary(acts.engine))))


def beancount(config: Config = DEFAULT) -> int:
    """The books as beancount text on standard output."""
    from sync.central.summary import beancount as lines

    def act(acts: Acts) -> None:
        for line in lines(acts.engine):
            typer.echo(line)

    return _act(config, act)


def terminal_add(
    code: Annotated[str, typer.Argument(help="Terminal name, [A-Z][A-Z0-9]{3,11}.")],
    place: Annotated[str, typer.Option(help="Where it hangs.")],
    merchant: Annotated[str, typer.Option(help="Whom its sales belong to.")],
    config: Config = DEFAULT,
    actor: Actor = "office",
) -> int:
    """Create a terminal; prints its one-time enrolment code and the CA fingerprint."""

    def act(acts: Acts) -> None:
        claim = acts.create_terminal(_idem(), actor, code, place=place, merchant=merchant)
        _say({"terminal": code, "code": claim, "fingerprint": fingerprint(load(config))})

    return _act(config, act)


def terminal_revoke(
    code: str,
    reason: Annotated[str, typer.Option(help="Why.")],
    config: Config = DEFAULT,
    actor: Actor = "office",
) -> int:
    """A stolen terminal: keys, lanes and broker user end here."""
    return _act(config, lambda acts: acts.revoke_terminal(_idem(), actor, code, reason))


def card_issue(
    asn: Asn,
    opening: Annotated[str, typer.Option(help="Opening value in yuan, e.g. 50.00.")] = "0",
    config: Config = DEFAULT,
    actor: Actor = "office",
) -> int:
    """A card for a new holder; its opening value is posted from clearing:cash."""

    def act(acts: Acts) -> None:
        card, holder = acts.issue_card(_idem(), actor, _asn(asn), parse_yuan(opening))
        _say({"card": card, "holder": holder})

    return _act(config, act)


def card_loss(asn: Asn, config: Config = DEFAULT, actor: Actor = "office") -> int:
    """挂失: the card goes on the denylist at once."""
    return _act(config, lambda acts: _say({"cards": acts.report_loss(_idem(), actor, _asn(asn))}))


def card_lift(asn: Asn, config: Config = DEFAULT, actor: Actor = "office") -> int:
    """解挂: the card works again."""
    return _act(config, lambda acts: _say({"cards": acts.lift_loss(_idem(), actor, _asn(asn))}))


def list_policy(
    file: Annotated[Path, typer.Argument(help="JSON object of limits.")],
    config: Config = DEFAULT,
    actor: Actor = "office",
) -> int:
    """Publish the `policy` list from a JSON file."""
    return _publish(config, actor, "policy", file)


def list_tariff(
    file: Annotated[Path, typer.Argument(help='JSON {"prices": {key: [name, fen]}}.')],
    config: Config = DEFAULT,
    actor: Actor = "office",
) -> int:
    """Publish the `tariff` list from a JSON file."""
    return _publish(config, actor, "tariff", file)


def list_operators(
    file: Annotated[Path, typer.Argument(help="JSON [[ASN, name, [rights]], …].")],
    config: Config = DEFAULT,
    actor: Actor = "office",
) -> int:
    """Publish the `operators` list: who may open shifts, void and override."""
    rows = [(_asn(asn), name, None, rights) for asn, name, rights in _json(file)]
    return _act(config, lambda acts: _say({"v": acts.publish_operators(_idem(), actor, rows)}))


def list_cards(config: Config = DEFAULT, actor: Actor = "office") -> int:
    """Publish the denylist as the books have it."""
    return _act(config, lambda acts: _say({"cards": acts.publish_cards(_idem(), actor)}))


def fork_resolve(code: str, persons: Persons, config: Config = DEFAULT) -> int:
    """A new epoch for a fenced terminal; both branches stay as evidence."""
    return _act(config, lambda acts: _say({"epoch": acts.fork_resolve(_idem(), persons, code)}))


def lane_reopen(code: str, epoch: int, persons: Persons, config: Config = DEFAULT) -> int:
    """Admit the tail of a lane that was left fenced or closed."""
    return _act(config, lambda acts: acts.lane_reopen(_idem(), persons, code, epoch))


def lane_close(code: str, epoch: int, persons: Persons, config: Config = DEFAULT) -> int:
    """Nothing more will come from this lane."""
    return _act(config, lambda acts: acts.close_lane(_idem(), persons, code, epoch))


def suspense_resolve(
    item: int,
    account: Annotated[str, typer.Argument(help="Account code that the money belongs to.")],
    persons: Annotated[list[str], typer.Option("--by", help="One person, or two.")],
    config: Config = DEFAULT,
) -> int:
    """Clear a suspense item to an account; a second person above the limit."""
    pair = (persons[0], persons[1] if len(persons) > 1 else None)
    return _act(
        config, lambda acts: _say({"fen": acts.resolve_suspense(_idem(), pair, item, account)})
    )


def fingerprint(config: CentreConfig) -> str:
    """SHA-256 of the CA certificate: what an installer types beside the one-time code."""
    return sha256(PEM_cert_to_DER_cert(config.ca_pem.read_text("ascii"))).hexdigest()


def _publish(config: Path, actor: str, name: str, file: Path) -> int:
    content = cbor.dumps(_json(file))
    return _act(config, lambda acts: _say({name: acts.publish_list(_idem(), actor, name, content)}))


def _act(config: Path, act: Callable[[Acts], object]) -> int:
    from sync.central.service import office

    def once() -> int:
        acts = office(load(config))
        try:
            act(acts)
        finally:
            acts.engine.dispose()
        return 0

    return _typed(once)


def _typed(act: Callable[[], int]) -> int:
    try:
        return act()
    except OnecardError as exc:
        zh, en = TEXTS.get(exc.code, ("", ""))
        typer.echo(f"{exc}\n{zh} / {en}", err=True)
        return 3 if exc.code == "CENTRE_DOWN" else 2


def _say(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=list) + "\n")


def _idem() -> bytes:
    return SystemRng().token(16)


def _asn(digits: str) -> bytes:
    if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
        raise typer.BadParameter("ASN: up to 20 digits")
    return encode_bcd(digits.zfill(20))


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise typer.BadParameter(f"{file}: {exc}") from exc
