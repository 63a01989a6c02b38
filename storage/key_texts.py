"""The text of an API key: `tm_live_<id>_<secret>_<checksum>`, in letters and digits that survive any form and shell.

Belongs here: making and reading that text. Does not belong here: whether such a key exists (`api_keys`).
"""

import re
import secrets
import string
from dataclasses import dataclass, field
from hashlib import sha256
from zlib import crc32

from storage.errors import TidemarkError

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_DIGITS = string.digits + string.ascii_lowercase
_ID_LENGTH = 12
_SECRET_LENGTH = 43  # 256 bits in 62 digits
_CHECKSUM_LENGTH = 6  # 32 bits in 62 digits
_FORM = re.compile(r"tm_live_([0-9a-z]{12})_([0-9A-Za-z]{43})_([0-9A-Za-z]{6})")


class KeyRefusedError(TidemarkError):
    """The presented key opens nothing; the message says why as far as its bearer may know, and never repeats it."""


@dataclass(frozen=True)
class KeyText:
    """A well-formed key: its public identifier and its secret."""

    key_id: str
    secret: str = field(repr=False)

    @classmethod
    def make(cls) -> "KeyText":
        """A new one, from the system's random source."""
        return cls(_random(_ID_DIGITS, _ID_LENGTH), _random(_DIGITS, _SECRET_LENGTH))

    @classmethod
    def parse(cls, text: str) -> "KeyText":
        """Read a key. The checksum catches what was mistyped or cut off without a question to the database.

        Raises:
            KeyRefusedError: it isn't one.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise KeyRefusedError("that is no key: keys look like tm_live_<id>_<secret>_<checksum>")
        key = cls(found[1], found[2])
        if found[3] != key._checksum():
            raise KeyRefusedError("the key's checksum does not fit: it was mistyped or changed")
        return key

    @property
    def whole(self) -> str:
        """What is shown once and presented ever after."""
        return f"tm_live_{self.key_id}_{self.secret}_{self._checksum()}"

    @property
    def secret_sha256(self) -> bytes:
        """What is kept. Plain SHA-256: of 256 random bits there is no dictionary that a slow hash would hold off."""
        return sha256(self.secret.encode()).digest()

    def _checksum(self) -> str:
        rest, digits = crc32(f"{self.key_id}_{self.secret}".encode()), ""
        for _ in range(_CHECKSUM_LENGTH):
            rest, digit = divmod(rest, len(_DIGITS))
            digits = _DIGITS[digit] + digits
        return digits


def _random(digits: str, length: int) -> str:
    return "".join(secrets.choice(digits) for _ in range(length))
