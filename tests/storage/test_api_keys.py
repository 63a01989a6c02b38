"""API keys: shown once, kept as a hash, recognized only whole, live and their own."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.api_keys import SCOPES, create_key, list_keys, revoke_key, rotate_key, verify_key
from storage.database import Connection
from storage.errors import UsageError
from storage.key_texts import KeyRefusedError, KeyText
from storage.tenants import create_tenant

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = KeyText.make()


@given(where=st.integers(0, len(KEY.whole) - 1), letter=st.characters(codec="latin-1"))
def test_one_wrong_letter_is_caught_without_a_database(where: int, letter: str) -> None:
    whole = KEY.whole
    changed = whole[:where] + letter + whole[where + 1 :]
    swapped = whole[:where] + whole[where : where + 2][::-1] + whole[where + 2 :]
    for text in (changed, swapped, whole[:where], whole + letter):
        if text != whole:
            with pytest.raises(KeyRefusedError):
                KeyText.parse(text)
    assert KeyText.parse(whole) == KEY


def test_a_key_is_kept_as_a_hash_shown_nowhere_again_and_its_history_audited(
    connection: Connection, tenant: str
) -> None:
    key, text = create_key(connection, tenant, ["read", "ingest"], now=NOW, lifetime=timedelta(days=1))
    secret = KeyText.parse(text).secret
    successor, _, _ = rotate_key(connection, tenant, key.key_id, now=NOW)
    revoke_key(connection, tenant, successor.key_id, now=NOW)

    stored = connection.execute("select secret_sha256 from access.api_keys where key_id = %s", (key.key_id,)).fetchone()
    assert stored == (sha256(secret.encode()).digest(),)
    audit = connection.execute(
        "select action, subject, detail::text from access.audit_log where action like 'key.%' order by entry_id"
    ).fetchall()
    assert [row[:2] for row in audit] == [
        ("key.create", key.key_id),
        ("key.rotate", key.key_id),
        ("key.revoke", successor.key_id),
    ]
    told = f"{audit} {list_keys(connection, tenant)} {key} {KeyText.parse(text)}"
    assert secret not in told
    assert verify_key(connection, text, now=NOW).scopes == ["ingest", "read"]


def test_a_key_opens_until_it_is_revoked_or_expires_and_only_with_its_own_secret(
    connection: Connection, tenant: str
) -> None:
    key, text = create_key(connection, tenant, SCOPES, now=NOW, lifetime=timedelta(hours=1))
    assert verify_key(connection, text, now=NOW).tenant_id == tenant
    foreign = KeyText(key.key_id, KeyText.make().secret).whole
    for presented, now, reason in (
        (foreign, NOW, "not known"),
        (KeyText.make().whole, NOW, "not known"),
        (text, NOW + timedelta(hours=1), "expired"),
    ):
        with pytest.raises(KeyRefusedError, match=reason):
            verify_key(connection, presented, now=now)
    first = revoke_key(connection, tenant, key.key_id, now=NOW)
    again = revoke_key(connection, tenant, key.key_id, now=NOW + timedelta(minutes=5))
    assert first.revoked_at == again.revoked_at == NOW
    with pytest.raises(KeyRefusedError, match="revoked"):
        verify_key(connection, text, now=NOW)


def test_the_use_of_a_key_is_noted_once_a_minute(connection: Connection, tenant: str) -> None:
    _, text = create_key(connection, tenant, ["read"], now=NOW)
    noted = []
    for seconds in (0, 30, 59, 60, 61):
        verify_key(connection, text, now=NOW + timedelta(seconds=seconds))
        noted.append(list_keys(connection, tenant)[0].last_used_at)
    assert noted == [NOW, NOW, NOW, NOW + timedelta(minutes=1), NOW + timedelta(minutes=1)]


def test_a_successor_has_the_same_scopes_and_lifetime_and_the_old_key_never_lives_longer(
    connection: Connection, tenant: str
) -> None:
    old, _ = create_key(connection, tenant, ["ingest"], now=NOW, lifetime=timedelta(days=30))
    later = NOW + timedelta(days=29, hours=12)
    successor, _, old_ends = rotate_key(connection, tenant, old.key_id, now=later)
    assert (successor.scopes, successor.expires_at) == (["ingest"], later + timedelta(days=30))
    assert old_ends == old.expires_at
    _, _, at_once = rotate_key(connection, tenant, successor.key_id, now=later, overlap=timedelta(0))
    assert at_once == later
    with pytest.raises(UsageError, match="expired"):
        rotate_key(connection, tenant, successor.key_id, now=later)


def test_wrong_use_names_the_remedy_and_another_tenants_key_reads_as_unknown(
    connection: Connection, tenant: str
) -> None:
    create_tenant(connection, "globex")
    theirs, text = create_key(connection, "globex", ["admin"], now=NOW)
    for change in (revoke_key, rotate_key):
        with pytest.raises(UsageError, match="key list --tenant acme"):
            change(connection, tenant, theirs.key_id, now=NOW)
    assert verify_key(connection, text, now=NOW).state(NOW) == "live"
    for scopes, reason in (([], "needs a scope"), (["write"], "unknown scope write")):
        with pytest.raises(UsageError, match=f"{reason}. Known: ingest, read, admin"):
            create_key(connection, tenant, scopes, now=NOW)
    with pytest.raises(UsageError, match="tidemark tenant create nobody"):
        create_key(connection, "nobody", ["read"], now=NOW)
