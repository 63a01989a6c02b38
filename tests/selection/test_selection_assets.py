"""Promises of the asset `extractor_posteriors` and of `tidemark recommend` on a real database."""

import json

import dagster as dg
import pytest
import typer
from typer.testing import CliRunner, Result

from assets.evaluations.contract import template_id
from assets.selection.assets import definitions
from orchestration.commands.recommend import recommend
from storage.database import Connection, Database
from storage.errors import UsageError
from storage.settings import Settings

ALL = "select * from ml.extractor_posteriors order by tenant_id, template, extractor_vendor, extractor_model"
app = typer.Typer()
app.command()(recommend)


@pytest.fixture
def mart(connection: Connection, tenant: str) -> str:
    """The mart as dbt's contract has it; returns the tenant."""
    connection.execute("""
        create table marts.extractor_performance (
            extractor_performance_id text primary key, tenant_id text, template_id uuid, template text,
            extractor_vendor text, extractor_model text, success_count bigint, failure_count bigint,
            feedback_count bigint, fields_correct bigint, fields_total bigint, evaluation_count bigint,
            updated_at timestamptz
        )
    """)
    for template, model, good, bad in (
        ("invoice", "alpha", 90, 10),
        ("invoice", "beta", 60, 40),
        ("invoice", "untried", 0, 0),
        ("receipt", "alpha", 12, 3),
        ("silent", "alpha", 0, 0),
    ):
        connection.execute(
            "insert into access.templates values (%(id)s, %(tenant)s, %(template)s, gen_random_uuid(), now())"
            " on conflict do nothing",
            {"id": template_id(tenant, template), "tenant": tenant, "template": template},
        )
        connection.execute(
            "insert into marts.extractor_performance values (%s, %s, %s, %s, 'v', %s, %s, %s, %s, 0, 0, 200, now())",
            (f"{template}-{model}", tenant, template_id(tenant, template), template, model, good, bad, good + bad),
        )
    return tenant


def materialize(database: Database) -> tuple[dg.ExecuteInProcessResult, dict[str, object]]:
    result = dg.materialize(definitions(), resources={"database": database})
    [event] = result.asset_materializations_for_node("extractor_posteriors")
    return result, {name: value.value for name, value in event.metadata.items()}


def test_posteriors_of_templates_with_feedback_are_stored_with_the_metadata_that_explains_them(
    database: Database, connection: Connection, mart: str
) -> None:
    result, metadata = materialize(database)
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]
    stored = connection.execute(
        "select template, extractor_model, alpha, beta, success_count, failure_count from ml.extractor_posteriors"
        " order by 1, 2"
    ).fetchall()
    assert stored == [
        ("invoice", "alpha", 91.0, 11.0, 90, 10),
        ("invoice", "beta", 61.0, 41.0, 60, 40),
        ("invoice", "untried", 1.0, 1.0, 0, 0),
        ("receipt", "alpha", 13.0, 4.0, 12, 3),
    ]
    expected = {"templates": 2, "templates_with_a_choice": 1, "templates_without_feedback": 1, "feedback_count": 215}
    assert {name: metadata[name] for name in expected} == expected
    records = [record.data for record in metadata["posteriors"].records]  # type: ignore[attr-defined]
    assert [(record["template"], record["extractor"], record["n"]) for record in records] == [
        ("invoice", "v/alpha", 100),
        ("invoice", "v/untried", 0),
        ("invoice", "v/beta", 100),
        ("receipt", "v/alpha", 15),
    ]
    assert str(metadata["posterior_densities"]).startswith("![posterior densities](data:image/png;base64,iVBORw0KGgo")


def test_a_second_run_changes_no_row_and_an_arm_that_is_gone_is_forgotten(
    database: Database, connection: Connection, mart: str
) -> None:
    materialize(database)
    before = connection.execute(ALL).fetchall()
    _, metadata = materialize(database)
    assert connection.execute(ALL).fetchall() == before
    assert metadata["rows_changed"] == 0
    connection.execute("delete from marts.extractor_performance where extractor_model = 'untried'")
    _, metadata = materialize(database)
    assert metadata["rows_changed"] == 3  # one gone, two whose P(best) it had a part in
    assert len(connection.execute(ALL).fetchall()) == len(before) - 1


def test_an_empty_platform_has_no_posteriors_and_no_failure(
    database: Database, connection: Connection, mart: str
) -> None:
    materialize(database)
    connection.execute("truncate marts.extractor_performance")
    result, metadata = materialize(database)
    assert result.success
    assert metadata["templates"] == 0
    assert connection.execute(ALL).fetchall() == []


def test_the_check_fails_where_probabilities_do_not_sum_to_one(
    database: Database, connection: Connection, mart: str
) -> None:
    materialize(database)
    connection.execute("""
        create function ml.spoil() returns trigger language plpgsql as
        $$ begin new.p_best := new.p_best / 2; return new; end $$
    """)
    connection.execute(
        "create trigger spoil before insert on ml.extractor_posteriors for each row execute function ml.spoil()"
    )
    connection.execute("delete from ml.extractor_posteriors")
    result = dg.materialize(definitions(), resources={"database": database}, raise_on_error=False)
    assert [check.passed for check in result.get_asset_check_evaluations()] == [False]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_recommend_names_the_extractor_and_how_sure_that_is(database: Database, settings: Settings, mart: str) -> None:
    materialize(database)
    plain = run("--tenant", mart, "--template", "invoice")
    assert plain.exit_code == 0
    assert "Use v/alpha for invoice" in plain.stdout
    document = json.loads(run("--tenant", mart, "--template", "invoice", "--json").stdout)
    assert (document["extractor_model"], document["propensity"]) == ("alpha", 1.0)
    assert sum(arm["p_best"] for arm in document["extractors"]) == pytest.approx(1)
    assert [arm["feedback_count"] for arm in document["extractors"]] == [100, 0, 100]


def test_a_seeded_sample_is_repeatable_and_states_its_propensity(
    database: Database, settings: Settings, mart: str
) -> None:
    materialize(database)
    options = ("--tenant", mart, "--template", "invoice", "--mode", "sample", "--json")
    outcomes = [run(*options, "--seed", str(seed)).stdout for seed in range(15)]
    assert run(*options, "--seed", "3").stdout == outcomes[3]
    documents = [json.loads(outcome) for outcome in outcomes]
    assert len({document["extractor_model"] for document in documents}) > 1
    for document in documents:
        [chosen] = [arm for arm in document["extractors"] if arm["extractor_model"] == document["extractor_model"]]
        assert document["propensity"] == pytest.approx(chosen["p_best"])


@pytest.mark.parametrize(
    ("tenant_name", "template", "message"),
    [
        ("nobody", "invoice", "unknown tenant 'nobody'"),
        ("acme", "invoic", "unknown template 'invoic' of tenant 'acme': Known: invoice, receipt, silent"),
        ("acme", "silent", "no feedback on this template"),
    ],
)
def test_recommend_says_what_is_missing(
    database: Database, settings: Settings, mart: str, tenant_name: str, template: str, message: str
) -> None:
    materialize(database)
    result = run("--tenant", tenant_name, "--template", template)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
