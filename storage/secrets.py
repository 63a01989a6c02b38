"""Secrets at rest: Fernet keys from the settings, or one generated in `TIDEMARK_HOME` with mode 0600."""

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from storage.errors import TidemarkError
from storage.settings import Settings


class SecretBox:
    """Encrypts small secrets, each bound to the identifier of the row that holds it.

    The binding is a prefix inside the authenticated plaintext: a ciphertext copied to another row does not open there.
    """

    def __init__(self, keys: list[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, secret: str, row_id: object) -> bytes:
        """Encrypt with the first key."""
        return self._fernet.encrypt(f"{row_id}\n{secret}".encode())

    def open(self, sealed: bytes, row_id: object) -> str:
        """Decrypt with whichever key fits.

        Raises:
            TidemarkError: no key opens it, or it was sealed for another row.
        """
        try:
            owner, _, secret = self._fernet.decrypt(sealed).decode().partition("\n")
        except InvalidToken:
            owner, secret = "", ""
        if owner != str(row_id):
            raise TidemarkError(
                "a stored secret can't be opened: TIDEMARK_SECRET_KEYS must still contain the key that sealed it "
                "(generated keys live in TIDEMARK_HOME/secret.key)"
            )
        return secret


def secret_box(settings: Settings) -> SecretBox:
    """The box of this deployment; generates and keeps a key on first use if none is set."""
    if settings.secret_keys is not None:
        return SecretBox([key.strip() for key in settings.secret_keys.get_secret_value().split(",")])
    return SecretBox([_kept_key(settings.home / "secret.key")])


def _kept_key(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_suffix(f".{os.getpid()}")
    if not path.exists():
        with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(Fernet.generate_key())
        try:
            os.link(own, path)  # fails if another process was quicker: its key is the one that counts
        except FileExistsError:
            pass
        finally:
            own.unlink()
    return path.read_text().strip()
