"""The Python client of Tidemark's HTTP door: httpx and the standard library, nothing of the server.

    with Client("https://tidemark.example.com", os.environ["TIDEMARK_API_KEY"]) as tidemark:
        tidemark.push(records)                                    # now, and raise if any is refused
        tidemark.record(template="invoice", drift_score=0.12, …)  # in the background

Belongs here: getting records to the server, once each, whatever happens on the way. Does not belong here: any room of
the house, and any rule of the record contract.
"""

from tidemark_client.client import Client
from tidemark_client.encoding import Record
from tidemark_client.errors import (
    AuthenticationError,
    DeliveryError,
    InvalidRecordError,
    QueueFullError,
    RecordsRejectedError,
    RequestRefusedError,
    SpoolError,
    TidemarkClientError,
)
from tidemark_client.results import Problem, PushResult

__all__ = [
    "AuthenticationError",
    "Client",
    "DeliveryError",
    "InvalidRecordError",
    "Problem",
    "PushResult",
    "QueueFullError",
    "Record",
    "RecordsRejectedError",
    "RequestRefusedError",
    "SpoolError",
    "TidemarkClientError",
]
