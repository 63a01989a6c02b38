"""A clock that tests set, a box for secrets, endpoints."""

from collections.abc import Iterator

import pytest
from delivering import SetClock
from receiver import Receiver, receiving

from storage.secrets import SecretBox


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def box() -> SecretBox:
    return SecretBox(["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver
