"""How time is cut: a partition a UTC day, from the earliest day that the record contract admits."""

import dagster as dg

from assets.evaluations.record_fields import EARLIEST

# end_offset: today's partition exists while today is still going on.
DAYS = dg.DailyPartitionsDefinition(start_date=EARLIEST.strftime("%Y-%m-%d"), end_offset=1)
