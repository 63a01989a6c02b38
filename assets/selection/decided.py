"""Whether what people decided is learnt from: objectives, predecessors and pooling hold from the next learning on.

Belongs here: comparing what is decided with what was when it was last learnt. Does not belong here: deciding
(`policies`), learning (`learning`), when it is done (`orchestration`).
"""

from psycopg.types.json import Jsonb

from storage.database import Connection

# All that learning reads of decisions, and no time of a change: what is done and undone leaves nothing to learn.
_DECIDED = """
select jsonb_build_object(
    'fields', (
        select coalesce(jsonb_agg(template_id order by template_id), '[]')
        from ml.selection_policies where objective = 'fields'
    ),
    'predecessors', (
        select coalesce(
            jsonb_agg(
                jsonb_build_array(tenant_id, extractor_vendor, extractor_model, predecessor_model)
                order by tenant_id, extractor_vendor, extractor_model
            ),
            '[]'
        )
        from ml.extractor_rulings where predecessor_model is not null
    ),
    'pooled', (
        select coalesce(jsonb_agg(tenant_id order by tenant_id), '[]') from access.tenants where pools_extractors
    )
)
"""
_SAVE = """
update ml.decisions_learnt set decisions = %(decisions)s, learnt_at = now() where decisions <> %(decisions)s
"""
_LEARNT = "select decisions from ml.decisions_learnt"

Decided = dict[str, list[object]]


def read_decided(connection: Connection) -> Decided:
    """What is decided now, as far as it changes what is learnt: to be read before it is learnt from."""
    return _one(connection, _DECIDED)


def learnt_from(connection: Connection, decided: Decided) -> None:
    """From now on this is what was learnt from."""
    connection.execute(_SAVE, {"decisions": Jsonb(decided)})


def decided_since_learning(connection: Connection) -> bool:
    """Whether something else is decided now than what was last learnt from."""
    return _one(connection, _LEARNT) != read_decided(connection)


def _one(connection: Connection, query: str) -> Decided:
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101 - a migration writes the row, and an aggregate has one
    decided: Decided = row[0]
    return decided
