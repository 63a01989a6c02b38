"""PostgreSQL addresses in the three dialects that Tidemark's libraries want.

libpq (psycopg, psql) takes `postgresql://…`; SQLAlchemy needs the driver named, because from 2.1 on the plain form
means psycopg 3, on which dagster-postgres fails with its first NOTIFY; dbt takes the parts.
"""

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from storage.errors import UsageError


@dataclass(frozen=True)
class PostgresUrl:
    """One database's address. `host` is a name, an address or a socket directory."""

    host: str
    port: int
    user: str
    password: str
    database: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "PostgresUrl":
        """Read a `postgresql://` address.

        Raises:
            UsageError: the text isn't one; the message never repeats it, since it may hold a password.
        """
        example = "postgresql://user:password@host:5432/database"
        try:
            parts = urlsplit(text)
            query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            port = int(query.pop("port", parts.port or 5432))
        except ValueError:
            raise UsageError(f"the database URL can't be read; it should look like {example}") from None
        if parts.scheme.split("+")[0] not in ("postgresql", "postgres") or not parts.path.strip("/"):
            raise UsageError(f"the database URL needs a scheme and a database name: {example}")
        host = query.pop("host", None) or unquote(parts.hostname or "") or "localhost"
        return cls(
            host=host,
            port=port,
            user=query.pop("user", "") or unquote(parts.username or "postgres"),
            password=query.pop("password", "") or unquote(parts.password or ""),
            database=unquote(parts.path.strip("/")),
            options=tuple(sorted(query.items())),
        )

    def with_database(self, database: str) -> "PostgresUrl":
        """The same server, another database."""
        return PostgresUrl(self.host, self.port, self.user, self.password, database, self.options)

    def libpq(self) -> str:
        """For psycopg and psql."""
        return self._render("postgresql")

    def sqlalchemy(self, driver: str) -> str:
        """For SQLAlchemy, with the driver named: `psycopg` (Alembic) or `psycopg2` (Dagster)."""
        return self._render(f"postgresql+{driver}")

    def masked(self) -> str:
        """For people: without the password."""
        shown = "***" if self.password else ""
        options = tuple((name, "***" if "password" in name else value) for name, value in self.options)
        return PostgresUrl(self.host, self.port, self.user, shown, self.database, options).libpq()

    def _render(self, scheme: str) -> str:
        credentials = quote(self.user, safe="") + (f":{quote(self.password, safe='*')}" if self.password else "")
        database = quote(self.database, safe="")
        if self.host.startswith("/"):
            query = urlencode((("host", self.host), ("port", str(self.port)), *self.options), safe="/*")
            return f"{scheme}://{credentials}@/{database}?{query}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = f"?{urlencode(self.options, safe='*')}" if self.options else ""
        return f"{scheme}://{credentials}@{host}:{self.port}/{database}{query}"
