"""After a restore to another server: batches and the scan's position have numbers that this server has yet to give.

Transactions are followed by their numbers, and each server counts its own. Left as they are, what lands now would lie
before the position, so that no alert fired until the new server had counted as far as the old one.

Belongs here: noticing it, and giving what was restored numbers of this server. Does not belong here: following batches
(`scan`), what dbt and Dagster follow (they look at everything again).
"""

from datetime import datetime

import structlog

from storage.database import Connection

_log = structlog.get_logger()

# What the old server had judged lies before everything, what it had not is as if it landed now.
_RENUMBER = """
update raw.ingest_batches
set xact_id = case when xact_id < %(position)s::text::xid8 then '0' else pg_current_xact_id() end
where xact_id >= %(horizon)s::text::xid8
"""

_RENUMBER_LOG = """
update alerting.notifications set read_from = '0', read_to = '0' where read_to > %(horizon)s::text::xid8
"""

# What has landed here since. Old numbers may lie among theirs: judged again, it comes late and changes nothing.
_FIRST_HERE = """
select coalesce(min(xact_id::text::numeric), %(horizon)s::numeric)::text from raw.ingest_batches
where
    kind = 'evaluations'
    and xact_id > '0'
    and xact_id < %(horizon)s::text::xid8
    and received_at >= coalesce(%(last_read_at)s, '-infinity')
"""


def begin_anew(connection: Connection, position: int, horizon: int, last_read_at: datetime | None) -> int:
    """The position from which to read on a server that has not counted up to the one that was kept.

    Args:
        connection: in the transaction that holds the position.
        position: as it was kept; beyond the horizon.
        horizon: below which every transaction of this server has ended.
        last_read_at: when somebody last read on.
    """
    values = {"position": str(position), "horizon": str(horizon), "last_read_at": last_read_at}
    renumbered = connection.execute(_RENUMBER, values).rowcount
    connection.execute(_RENUMBER_LOG, values)
    [[first]] = connection.execute(_FIRST_HERE, values).fetchall()
    _log.warning("restored from another server: its batches are numbered anew", batches=renumbered, position=first)
    return int(first)
