"""World errors of the runtime: configuration, SQLite, keys, children."""

from __future__ import annotations

from protocols.errors import Fact, OnecardError


class RuntimeBaseError(OnecardError):
    """Base of the errors of firmware.base."""

    code = "RUNTIME"


class ConfigError(RuntimeBaseError):
    """A configuration that cannot be used; `problems` holds every fault found in one run.

    Facts: file, key, allowed, got of the first problem, and the count of all.
    """

    code = "CONFIG"

    def __init__(self, problems: tuple[dict[str, Fact], ...]) -> None:
        assert problems, "a ConfigError names at least one problem"
        self.problems = problems
        super().__init__(**problems[0], count=len(problems))


class JournalFailError(RuntimeBaseError):
    """SQLite or the disk refused: no sale until a person acts (ledger.md §3.1, terminals.md T10)."""

    code = "JOURNAL_FAIL"


class SqliteOldError(RuntimeBaseError):
    """The SQLite library is older than the journal needs (ledger.md §3.1)."""

    code = "JOURNAL_SQLITE_OLD"


class KeyMissingError(RuntimeBaseError):
    """A key file or a label that does not exist."""

    code = "KEYS_MISSING"


class KeyExistsError(RuntimeBaseError):
    """A key file or label that is already there; keys are never overwritten."""

    code = "KEYS_EXISTS"


class KeySealedError(RuntimeBaseError):
    """A key file that does not open: wrong passphrase, altered or malformed."""

    code = "KEYS_SEALED"


class KeyInsecureError(RuntimeBaseError):
    """A key file readable by others, or an unsealed key store outside development."""

    code = "KEYS_INSECURE"


class ChildDownError(RuntimeBaseError):
    """A supervised child program that cannot be started."""

    code = "CHILD_DOWN"
