"""Settings and database addresses: read strictly, shown without secrets."""

import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import TidemarkError, UsageError
from storage.postgres_url import PostgresUrl
from storage.secrets import SecretBox, secret_box
from storage.settings import Settings, load_settings

words = st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=12).filter(
    lambda word: word.strip("/") == word
)


@given(user=words, password=st.one_of(st.just(""), words), database=words, socket=st.booleans())
def test_an_address_survives_being_written_and_read_again(
    user: str, password: str, database: str, socket: bool
) -> None:
    url = PostgresUrl(
        "/run/postgres" if socket else "db.example", 5433, user, password, database, (("sslmode", "require"),)
    )
    assert PostgresUrl.parse(url.libpq()) == url
    assert PostgresUrl.parse(url.sqlalchemy("psycopg2")) == url


def test_a_masked_address_does_not_hold_the_password() -> None:
    for text in (
        "postgresql://ada:s3cret@db/tidemark",
        "postgresql://ada@db/tidemark?password=s3cret",
        "postgresql://ada@db/tidemark?sslpassword=s3cret&sslkey=/k",
    ):
        url = PostgresUrl.parse(text)
        assert "s3cret" in url.libpq()
        assert "s3cret" not in url.masked()


@pytest.mark.parametrize(
    "text",
    ["nonsense", "mysql://a/b", "postgresql://host:notaport/db", "postgresql://host/db?port=x", "postgresql://host"],
)
def test_an_address_that_cannot_be_read_is_explained_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError, match="postgresql://user:password@host:5432/database") as error:
        PostgresUrl.parse(text)
    assert text not in str(error.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TIDEMARK_DAGSTER_PORT", "notaport"),
        ("TIDEMARK_GATEWAY_PORT", "0"),
        ("TIDEMARK_GATEWAY_MAX_IN_FLIGHT_BYTES", "1000"),
        ("TIDEMARK_GATEWAY_RECORDS_A_SECOND", "0"),
        ("TIDEMARK_ADMIN_NETWORKS", "nowhere/8"),
        ("TIDEMARK_WEBHOOK_ALLOWED_NETWORKS", "nowhere/8"),
        ("TIDEMARK_SECRET_KEYS", "tooshort"),
        ("TIDEMARK_LOG_FORMAT", "xml"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=variable):
        load_settings()


def test_a_generated_key_is_kept_private_and_opens_what_it_sealed(settings: Settings) -> None:
    sealed = secret_box(settings).seal("whsec_x", "row-1")
    assert secret_box(settings).open(sealed, "row-1") == "whsec_x"
    assert stat.S_IMODE((settings.home / "secret.key").stat().st_mode) == 0o600


def test_a_secret_does_not_open_in_another_row_nor_with_another_key(tmp_path: Path) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    sealed = SecretBox([old]).seal("whsec_x", "row-1")
    assert SecretBox([new, old]).open(sealed, "row-1") == "whsec_x"
    with pytest.raises(TidemarkError, match="TIDEMARK_SECRET_KEYS"):
        SecretBox([old]).open(sealed, "row-2")
    with pytest.raises(TidemarkError, match="TIDEMARK_SECRET_KEYS"):
        SecretBox([new]).open(sealed, "row-1")
