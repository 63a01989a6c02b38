"""How often everything is brought up to date at the least, and what that makes of something older.

Belongs here: spans that several groups of assets share. Does not belong here: schedules (`orchestration.jobs`).
"""

from datetime import timedelta

# The nightly run materializes every asset: what is older than a day and two hours has missed it.
OVERDUE_AFTER = timedelta(hours=26)
STALE_AFTER = timedelta(days=3)

# The tag of what a refresh leaves to the nightly run: assets that look after the house, tests that read whole tables.
NIGHTLY = "nightly"
# The tag of the tests that every refresh runs all the same.
EACH_BUILD = "each_build"
# Where a check carries its dbt tags: Dagster's checks have metadata and no tags of their own.
CHECK_TAGS = "tidemark/tags"
