"""Ground floor: settings, PostgreSQL, migrations, audit, logging.

Belongs here: what every room needs and what knows nothing of evaluations, drift or alerts.
Does not belong here: any rule about records, any Dagster or HTTP code.
"""
