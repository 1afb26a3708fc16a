"""The strict CBOR subset: deterministic, bounded, total."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import WireFormError
from protocols.wire import cbor

SCALAR = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**64 - 1),
    st.binary(max_size=40),
    st.text(max_size=20),
)
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=5), max_leaves=12)


@given(VALUE)
def test_round_trip(value: object) -> None:
    """Every value of the subset comes back equal."""
    assert cbor.loads(cbor.dumps(value), depth_max=16) == value


@given(st.binary(max_size=64))
def test_total_on_hostile_bytes(raw: bytes) -> None:
    """Any bytes give a value that re-encodes to them, or WIRE_FORM."""
    try:
        value = cbor.loads(raw)
    except WireFormError:
        return
    assert cbor.dumps(value) == raw


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ("1801", "head"),  # 1 in two bytes
        ("190001", "head"),
        ("1b0000000000000001", "head"),
        ("9f01ff", "head"),  # indefinite length
        ("5f41004100ff", "head"),
        ("f93c00", "type"),  # float 1.0
        ("fb3ff0000000000000", "type"),
        ("f5", "type"),  # true
        ("f7", "type"),  # undefined
        ("c100", "type"),  # tag
        ("d81c80", "type"),  # shared reference
        ("0000", "length"),  # trailing byte
        ("42ff", "length"),  # string past the end
        ("8181818181", "nesting"),
        ("9b00000001ffffffff", "nesting"),  # a length nobody can hold
        ("a2616201616102", "map"),  # keys out of order
        ("a2616101616102", "map"),  # a key twice
        ("", "head"),
        ("1c", "head"),
    ],
)
def test_refused(raw: str, field: str) -> None:
    """Each departure from the subset is refused and named."""
    with pytest.raises(WireFormError) as caught:
        cbor.loads(bytes.fromhex(raw))
    assert caught.value.facts["field"] == field


def test_own_bytes_still_typed() -> None:
    """Bytes of our own journal skip the walk but not the typed error."""
    with pytest.raises(WireFormError):
        cbor.loads_own(b"\x9f")
    assert cbor.loads_own(cbor2.dumps([1, b"x"])) == [1, b"x"]
