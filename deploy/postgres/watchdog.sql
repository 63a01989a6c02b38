-- Ends what readers left running: statements older than -v seconds=60, and transactions left open as long; and at once
-- whoever of them holds an advisory lock, which a reader has no use for and a build would wait for. A login can switch
-- its own timeouts off, so run this every minute, by cron or a systemd timer, as the platform's owner:
--
--   psql "$TIDEMARK_DATABASE_URL" -v seconds=60 -f deploy/postgres/watchdog.sql
\set ON_ERROR_STOP on
\if :{?seconds} \else
    \set seconds 60
\endif

select
    activity.pid,
    activity.usename as reader,
    activity.state,
    clock_timestamp() - activity.xact_start as since,
    pg_terminate_backend(activity.pid) as is_ended
from pg_stat_activity as activity
where
    activity.datname = current_database()
    and (
        (activity.state <> 'idle' and activity.xact_start < clock_timestamp() - make_interval(secs => :seconds))
        or exists (select from pg_locks where pid = activity.pid and locktype = 'advisory' and granted)
    )
    and exists (
        select from pg_auth_members
        where
            member = activity.usesysid
            and roleid = 'bi_reader'::regrole
            -- Whoever made the role administers it, without being a reader: the platform itself.
            and not admin_option
    )
order by since desc;
