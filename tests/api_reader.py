"""What migration 0002 and the marts' post-hook will do for role api_reader; goes when they are here."""

from gateway.dashboards import DASHBOARDS
from storage.database import Connection

_ROLE = """
do $$ begin create role api_reader nologin; exception when duplicate_object or unique_violation then null; end $$;
grant usage on schema marts to api_reader
"""
_OPEN = """
create policy the_api_sees_its_tenant on marts.{mart} for select to api_reader
    using (tenant_id = (select nullif(current_setting('tidemark.tenant_id', true), '')));
grant select on marts.{mart} to api_reader
"""


def make_role(owner: Connection) -> None:
    owner.execute(_ROLE)


def open_marts(owner: Connection) -> None:
    if owner.execute("select to_regproc('access.api_tenant_id') is null").fetchone() == (True,):
        make_role(owner)
        for dashboard in DASHBOARDS:
            owner.execute(_OPEN.format(mart=dashboard.mart))  # type: ignore[arg-type]
