"""The advisory locks of the platform, in one place so that no two mean the same number."""

from enum import IntEnum


class AdvisoryLock(IntEnum):
    """Keys of session-level advisory locks. Any constants will do, as long as every version uses the same ones."""

    MIGRATION = 7_430_113_855_201
    WAREHOUSE_BUILD = 7_430_113_855_202
    REFRESH = 7_430_113_855_203
    SERVING = 7_430_113_855_204
    AUDIT_SEAL = 7_430_113_855_205
    DROPPED_FILE = 7_430_113_855_206
    """The seed of each file's own lock."""
    MONTHLY_LIMIT = 7_430_113_855_207
    """The seed of each tenant's own lock."""
    BROKER = 7_430_113_855_208
    EVENT_BODIES = 7_430_113_855_215
    """Shared by whoever sends a delivery again, alone for alerting.prune_event_bodies, which has the number too."""
    MART_REBUILD = 7_430_113_855_220
    """Taken by dbt's macro rebuild_one_at_a_time, which has the number too."""
