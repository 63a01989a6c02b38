"""Logins of the platform's processes, made by the file that users run."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from storage.database import Database
from storage.embedded import client_program
from storage.postgres_url import PostgresUrl
from storage.settings import PROJECT_ROOT


@contextmanager
def process_logins(database: Database, roles: Sequence[str]) -> Iterator[dict[str, PostgresUrl]]:
    """A role's login and its address, each; they are gone after the block."""
    addresses = {role: replace(database.platform, user=f"login_of_{role}") for role in roles}
    psql = [str(client_program("psql")), "-X", "-q", database.platform.libpq()]
    file = str(PROJECT_ROOT / "deploy" / "postgres" / "login.sql")
    for role, address in addresses.items():
        for password in ("first", "it's another"):
            subprocess.run(
                [*psql, "-v", f"login={address.user}", "-v", f"as={role}", "-f", file],
                env=os.environ | {"TIDEMARK_LOGIN_PASSWORD": password},
                check=True,
                capture_output=True,
            )
    yield addresses
    with database.connect(autocommit=True) as owner:
        for address in addresses.values():
            owner.execute(f"drop owned by {address.user}; drop role {address.user}")  # type: ignore[arg-type]
