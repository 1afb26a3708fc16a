import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card.card_profile import CardProfile, PsamProfile, RecordBase
from protocols.card.files import InfoLayout
from protocols.card.purse import Purse
from protocols.errors import ProfileKeyError, ProfileValueError

WHOLE = """
aid = "A00000000386980702"
purse = "ED"
info_layout = "mohurd"
asn_from = "file"
sfi_info = 21
sfi_record = 24
sfi_load_record = 26
record_depth = 20
record_len = 23
record_pin_free = false
prove_seq_offset = 0
keyidx_purchase = 0
keyidx_load = 2
suite = "pboc-3des"
alg_ids = [1]
ctr_warn = 100
ctr_max = 200
purse_cap_fen = 300
load_target_fen_max = 400
init_zero_ok = true
grey_lock = true
capp = true
test_keys = true
[record_ctr_base]
purchase = 1
load = 1
[psam]
levels = 2
tid_file = 21
tid_offset = 3
keyidx = 4
"""


def test_empty_profile_is_the_default() -> None:
    """No key at all gives the defaults of card.md §4."""
    profile = CardProfile.parse("")
    assert profile == CardProfile()
    assert profile.aid.hex() == "a00000000386980701"
    assert (profile.prove_seq_offset, profile.record_depth, profile.ctr_max) == (1, 10, 65535)
    assert (profile.sfi_info, profile.sfi_record) == (0x15, 0x18)
    assert profile.record_pin_free
    assert not profile.test_keys


def test_every_key_is_read() -> None:
    """Each key reaches its field: no field of the whole profile keeps its default."""
    profile = CardProfile.parse(WHOLE)
    same = [name for name in CardProfile.__slots__ if _same(profile, name)]
    assert same == ["sfi_info", "sfi_record", "record_len", "suite"]
    assert profile.purse is Purse.ED
    assert profile.info_layout is InfoLayout.MOHURD
    assert profile.record_ctr_base == RecordBase(1, 1)
    assert profile.psam == PsamProfile(2, 21, 3, 4)
    assert profile.alg_ids == (1,)


def _same(profile: CardProfile, name: str) -> bool:
    return getattr(profile, name) == getattr(CardProfile(), name)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("prove_offset = 1", "prove_offset"),
        ("[psam]\nlevel = 1", "psam.level"),
        ("[record_ctr_base]\npurchases = 1", "record_ctr_base.purchases"),
        ("[other]", "other"),
    ],
)
def test_unknown_key(text: str, key: str) -> None:
    """A typo is PROFILE_UNKNOWN_KEY naming the key, never a silent default."""
    with pytest.raises(ProfileKeyError) as caught:
        CardProfile.parse(text)
    assert caught.value.code == "PROFILE_UNKNOWN_KEY"
    assert caught.value.facts["key"] == key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("aid = ", ""),
        ('aid = "XY"', "aid"),
        ('aid = "A000"', "aid"),
        ("aid = 1", "aid"),
        ('purse = "EX"', "purse"),
        ("purse = 1", "purse"),
        ("sfi_record = 0", "sfi_record"),
        ("sfi_record = 32", "sfi_record"),
        ("sfi_record = true", "sfi_record"),
        ("sfi_record = 1.0", "sfi_record"),
        ("record_len = 24", "record_len"),
        ("prove_seq_offset = 2", "prove_seq_offset"),
        ("capp = 1", "capp"),
        ("alg_ids = []", "alg_ids"),
        ("alg_ids = [256]", "alg_ids"),
        ("alg_ids = 0", "alg_ids"),
        ("psam = 1", "psam"),
        ("[psam]\nlevels = 3", "psam.levels"),
        ("[record_ctr_base]\npurchase = 2", "record_ctr_base.purchase"),
        ("sfi_info = 2020-01-01", "sfi_info"),
    ],
)
def test_wrong_value(text: str, key: str) -> None:
    """A wrong type or a value out of range is PROFILE_VALUE naming key and allowed values."""
    with pytest.raises(ProfileValueError) as caught:
        CardProfile.parse(text)
    assert caught.value.facts["key"] == key
    assert caught.value.facts["allowed"]


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.floats()


@given(
    st.dictionaries(
        st.sampled_from((*CardProfile.__slots__, "typo")),
        scalars | st.lists(scalars) | st.dictionaries(st.text(max_size=8), scalars),
        max_size=3,
    )
)
def test_tables_are_total(table: dict[str, object]) -> None:
    """Any table gives a profile or one of the two typed errors."""
    got: CardProfile | ProfileKeyError | ProfileValueError
    try:
        got = CardProfile.from_table(table)
    except (ProfileKeyError, ProfileValueError) as error:
        got = error
    if not isinstance(got, CardProfile):
        assert str(got.facts["key"]).split(".")[0] in table
