"""Promises of selection's assets, from landed feedback to a recommendation that a pipeline picks by, on real marts."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import dagster as dg
import psycopg
import pytest
import typer
from mart_records import empty_marts, evaluation, push
from selection_rows import arm, plant_recommendation
from typer.testing import CliRunner, Result

from assets.evaluations.contract import template_id
from assets.selection.assets import definitions
from assets.selection.decided import decided_since_learning
from assets.selection.policies import Extractor, change_policy, rule
from assets.selection.published import read_recommendation
from assets.selection.publishing import publish
from assets.selection.recommend import choose, unit_of
from assets.selection.snapshots import one_learner
from assets.warehouse.build import run_dbt
from orchestration.commands.recommend import recommend
from orchestration.commands.selection import app as selection
from storage.database import Connection, Database
from storage.errors import UsageError
from storage.settings import Settings
from storage.tenants import create_tenant

TENANT = "acme"
ALL = """
select
    (select jsonb_agg(x) from (select * from ml.extractor_priors order by 1, 2, 3, 4) as x),
    (select jsonb_agg(x) from (select * from ml.extractor_recommendations order by 1, 2, 4, 5) as x),
    (select jsonb_agg(x) from (select * from ml.policy_value order by 1, 2, 4, 5, 7) as x)
"""
LEARNING = ["extractor_prior", "extractor_posteriors"]
app = typer.Typer()
app.command()(recommend)


def judged(database: Database) -> None:
    """A month of two extractors that share documents evenly, one that nobody has judged, fields, silence."""
    with database.connect(autocommit=True) as connection:
        create_tenant(connection, TENANT)
        records = []
        for number in range(240):
            model = ("alpha", "beta")[number % 2]
            success = number % 20 not in ((0,) if model == "alpha" else (1, 3, 5, 7))
            at = f"2026-04-{1 + number // 8:02}T08:{number % 8:02}:00Z"
            known = {"propensity": 0.5, "assigned_by": "share", "cost_usd": 0.02 if model == "alpha" else 0.01}
            records.append(_record(f"i{number}", "invoice", model, at, success=success, **known))
        records += [_record(f"u{number}", "invoice", "untried", "2026-04-20T08:00:00Z") for number in range(5)]
        fields = {"fields_total": 10}
        records += [
            _record(f"f{n}", "receipt", "alpha", "2026-04-20T08:00:00Z", fields_correct=9 - n % 3, **fields)
            for n in range(40)
        ]
        records += [_record("s1", "silent", "alpha", "2026-04-30T08:00:00Z")]
        assert push(connection, TENANT, "evaluations", records).accepted == len(records)
        change_policy(connection, TENANT, "receipt", {"objective": "fields"})
    run_dbt(["run", "--select", "+extractor_performance_daily"], database)


pytestmark = pytest.mark.begins(after=judged)


def _record(name: str, template: str, model: str, at: str, **said: Any) -> dict[str, Any]:
    about = {"record_id": name, "template": template, "extractor_vendor": "v", "extractor_model": model}
    return evaluation(**about, created_at=at, **said)


def materialize(database: Database, **arguments: Any) -> tuple[dg.ExecuteInProcessResult, dict[str, dict[str, Any]]]:
    result = dg.materialize(definitions(), resources={"database": database}, **arguments)
    events = [
        event.materialization
        for event in result.get_asset_materialization_events()
        for event in [event.event_specific_data]
    ]
    return result, {
        event.asset_key.to_user_string(): {name: value.value for name, value in event.metadata.items()}
        for event in events
    }


def test_what_is_learnt_and_recommended_is_stored_with_the_metadata_that_explains_it(
    database: Database, connection: Connection
) -> None:
    result, metadata = materialize(database)
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True] * 4
    posteriors, recommended, values = (
        metadata[name] for name in ("extractor_posteriors", "extractor_recommendations", "policy_value")
    )
    expected = {"templates": 2, "extractors": 4, "templates_without_feedback": 1, "feedback_count": 280}
    assert {name: posteriors[name] for name in expected} == expected
    assert str(posteriors["posterior_densities"]).startswith("![posterior densities](data:image/png;base64,iVBORw0KGgo")
    assert metadata["extractor_prior"]["extractors"] == 4
    assert {record.data["template"] for record in metadata["extractor_prior"]["priors"].records} == {
        "invoice",
        "receipt",
    }
    assert (recommended["templates"], recommended["templates_with_a_choice"]) == (2, 1)
    told = [record.data for record in recommended["recommendations"].records]
    assert [(row["template"], row["use"], row["decision"]) for row in told] == [
        ("receipt", "v/alpha", "promote"),
        ("invoice", "v/alpha", "insufficient"),
    ]
    assert "v/untried may be the best" in str(told[1]["reason"])
    rows = connection.execute(
        """select template, extractor_model, objective, feedback_count, is_recommended, is_cheapest
           from ml.extractor_recommendations order by 1, 2"""
    ).fetchall()
    assert rows == [
        ("invoice", "alpha", "success", 120, True, True),
        ("invoice", "beta", "success", 120, False, False),
        ("invoice", "untried", "success", 0, False, False),
        ("receipt", "alpha", "fields", 40, True, False),
    ]
    # Each document was anybody's with a probability of a half: alpha always would have been right 19 times of 20.
    [(estimate, lower, upper, on_policy)] = connection.execute(
        """select estimate, lower, upper, on_policy_value from ml.policy_value
           where template = 'invoice' and extractor_model = 'alpha' and estimator = 'snips'"""
    ).fetchall()
    assert (estimate, on_policy) == (pytest.approx(0.9), pytest.approx(0.75))
    assert lower < estimate < upper
    assert values["extractors_estimated"] == 2
    refused = connection.execute(
        "select extractor_model, refusal from ml.policy_value where estimator = 'dr' and refusal is not null order by 1"
    ).fetchall()
    assert [model for model, _ in refused] == ["alpha", "untried"]
    assert "send propensity with each record" in refused[0][1]


def test_a_second_run_changes_nothing_and_new_evidence_makes_a_new_snapshot_that_leaves_the_old_one(
    database: Database, connection: Connection
) -> None:
    materialize(database)
    before = connection.execute(ALL).fetchall()
    _, metadata = materialize(database)
    assert connection.execute(ALL).fetchall() == before
    assert (metadata["extractor_posteriors"]["templates_changed"], metadata["policy_value"]["rows_changed"]) == (0, 0)
    old = read_recommendation(connection, TENANT, "invoice")
    push(connection, TENANT, "evaluations", [_record("n", "invoice", "untried", "2026-05-01T08:00:00Z", success=True)])
    run_dbt(["run", "--select", "+extractor_performance_daily"], database)
    materialize(database)
    new = read_recommendation(connection, TENANT, "invoice")
    assert new.snapshot_id != old.snapshot_id
    assert new.evidence_to == date(2026, 5, 1)
    kept = "select share_lo, share_hi from ml.extractor_shares where snapshot_id = %s order by share_lo"
    assert connection.execute(kept, (old.snapshot_id,)).fetchall() == sorted((a.share_lo, a.share_hi) for a in old.arms)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute("update ml.extractor_shares set share_lo = 0")


def test_retention_forgets_what_no_evaluation_on_hand_can_have_been_chosen_by(
    database: Database, connection: Connection
) -> None:
    materialize(database, selection=["extractor_prior", "extractor_posteriors", "extractor_recommendations"])
    count = "select count(*) from ml.recommendation_snapshots where superseded_at is not null"
    first = read_recommendation(connection, TENANT, "invoice").snapshot_id
    for floor in (0.1, 0.2, 0.05):
        change_policy(connection, TENANT, "invoice", {"exploration_floor": floor})
        publish(connection, TENANT)
    assert read_recommendation(connection, TENANT, "invoice").snapshot_id == first, "what holds again is the same"
    assert connection.execute(count).fetchone() == (2,)
    assert connection.execute("select ml.drop_superseded_snapshots()").fetchone() == (0,), "nothing has been dropped"
    connection.execute("insert into raw.dropped_months (month, evaluation_count) values ('2030-01-01', 0)")
    assert connection.execute("select ml.drop_superseded_snapshots()").fetchone() == (2,)
    assert read_recommendation(connection, TENANT, "invoice").snapshot_id == first
    assert connection.execute("select count(*) from ml.posterior_snapshots").fetchone() == (2,), "one a template"


def test_a_run_reads_nothing_before_the_run_that_learns_is_done(database: Database, connection: Connection) -> None:
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as threads:
        with database.connect() as other:
            one_learner(other)
            run = threads.submit(materialize, database, selection=LEARNING)
            end = time.monotonic() + 60
            while not run.done() and connection.execute(waiting).fetchone() == (0,):
                assert time.monotonic() < end
                time.sleep(0.02)
            rule(connection, TENANT, Extractor("v", "untried"), predecessor_model="alpha")
        run.result()
    basis = connection.execute("select basis from ml.extractor_priors where extractor_model = 'untried'").fetchall()
    assert basis == [("predecessor",)], "or older knowledge would take the place of newer"


def test_names_with_slashes_are_found_slips_refused_and_who_is_missing_is_told(
    database: Database, connection: Connection, settings: Settings
) -> None:
    slashed = [arm("host/v", "a/b", 90, 10), arm("v", "beta", 40, 60)]
    plant_recommendation(connection, TENANT, "invoice", [*slashed, arm("x/y", "z", 1, 1), arm("x", "y/z", 1, 1)])
    assert decide("set", "--template", "invoice", "--incumbent", "host/v/a/b").exit_code == 0
    assert read_recommendation(connection, TENANT, "invoice").incumbent == Extractor("host/v", "a/b")
    ambiguous = decide("set", "--template", "invoice", "--incumbent", "x/y/z").exception
    assert "may be 'y/z' of 'x' and 'z' of 'x/y'" in str(ambiguous)
    assert "retire v/bet: unknown extractor. Known: host/v/a/b, v/beta" in str(decide("retire", "v/bet").exception)
    plant_recommendation(connection, TENANT, "invoice", slashed[1:])
    found = read_recommendation(connection, TENANT, "invoice")
    assert found.reason.endswith(
        "The incumbent host/v/a/b is left out: it has no evaluations in the days that are learnt from."
    )
    assert decide("retire", "v/beta").exit_code == 0
    assert "selection restore" in str(run("--template", "invoice").exception)
    assert decide("restore", "v/beta").exit_code == 0
    assert str(read_recommendation(connection, TENANT, "invoice").recommended) == "v/beta"


def test_python_and_sql_give_a_key_the_same_extractor_with_its_propensity(
    database: Database, connection: Connection
) -> None:
    materialize(database)
    found = read_recommendation(connection, TENANT, "invoice")
    run_dbt(["run", "--select", "+extractor_recommendations"], database)
    keys = [f"document {number}" for number in range(300)]
    picked = connection.execute(
        """select keys.key, picks.extractor_model, picks.propensity, picks.snapshot_id
           from unnest(%s::text[]) as keys (key)
           inner join marts.extractor_recommendations as picks
               on picks.template = 'invoice'
               and marts.share_of_key(picks.template_id, keys.key) >= picks.share_lo
               and marts.share_of_key(picks.template_id, keys.key) < picks.share_hi""",
        (keys,),
    ).fetchall()
    by_sql = {key: (model, propensity, snapshot) for key, model, propensity, snapshot in picked}
    for key in keys:
        choice = choose(found, "sample", unit_of(found, key))
        assert by_sql[key] == (choice.arm.extractor_model, choice.propensity, found.snapshot_id)
    assert len(picked) == len(keys)
    assert {model for model, _, _ in by_sql.values()} >= {"alpha", "untried"}


def test_what_changes_learning_is_behind_until_it_is_learnt_from_and_what_does_not_is_not(
    database: Database, connection: Connection, settings: Settings
) -> None:
    assert decided_since_learning(connection), "the objective of receipt, before the first refresh"
    materialize(database)
    template = ("--template", "invoice")
    for change in (("set", *template, "--floor", "0.1"), ("retire", "v/untried"), ("restore", "v/untried")):
        assert decide(*change).exit_code == 0
        assert not decided_since_learning(connection)
    for change in (
        ("set", *template, "--objective", "fields"),
        ("succeed", "v/untried", "--predecessor", "v/alpha"),
        ("pool", "--on"),
        ("unset", *template, "objective"),
    ):
        assert decide(*change).exit_code == 0
        assert decided_since_learning(connection), change
        materialize(database, selection=LEARNING)
        assert not decided_since_learning(connection)
    basis = connection.execute("select basis from ml.extractor_priors where extractor_model = 'untried'").fetchall()
    assert basis == [("predecessor",)]


def test_who_pools_is_judged_on_its_own_days_however_long_it_has_been_silent(
    database: Database, connection: Connection
) -> None:
    for tenant, at in (("quiet", "2025-01-10"), ("gone", "2023-01-10")):
        create_tenant(connection, tenant)
        said = [(f"{n}", ("alpha", "beta")[n % 2], {"success": n % 4 > 0}) for n in range(40)]
        records = [_record(name, "note", model, f"{at}T08:00:00Z", **known) for name, model, known in said]
        assert push(connection, tenant, "evaluations", records).accepted == 40
    run_dbt(["run", "--select", "+extractor_performance_daily"], database)
    told = """select tenant_id, evidence_to, extractor_model, effective_count, decision
        from ml.extractor_recommendations where template = 'note' order by 1, 3"""
    found = []
    for pools in (False, True):
        connection.execute("update access.tenants set pools_extractors = %s", (pools,))
        materialize(database)
        found.append(connection.execute(told).fetchall())
    alone, together = found
    assert [row[:4] for row in alone] == [
        ("gone", date(2023, 1, 10), "alpha", 20.0),
        ("gone", date(2023, 1, 10), "beta", 20.0),
        ("quiet", date(2025, 1, 10), "alpha", 20.0),
        ("quiet", date(2025, 1, 10), "beta", 20.0),
    ]
    assert together == alone
    own = "select basis from ml.extractor_priors where tenant_id = %s"
    assert {basis for (basis,) in connection.execute(own, ("gone",))} == {"uniform"}
    assert {basis for (basis,) in connection.execute(own, ("quiet",))} == {"beta"}, "others' cells are donors"


def test_what_an_earlier_version_stored_under_another_identifier_can_still_be_decided_about(
    database: Database, connection: Connection, settings: Settings
) -> None:
    materialize(database)
    before = read_recommendation(connection, TENANT, "invoice")
    connection.execute("""
        with earlier as (
            insert into ml.posterior_snapshots
            select gen_random_uuid(), tenant_id, template_id, template, objective, evidence_to, computed_at
            from ml.posterior_snapshots where template = 'invoice'
            returning posterior_id
        ),
        arms as (
            insert into ml.extractor_posteriors
            select (jsonb_populate_record(arms, to_jsonb(earlier))).*
            from ml.extractor_posteriors as arms
            inner join ml.posterior_snapshots using (posterior_id)
            cross join earlier
            where template = 'invoice'
        )
        update ml.current_posteriors set posterior_id = earlier.posterior_id from earlier
        where template_id = (select template_id from access.templates where template = 'invoice')
    """)
    assert decide("set", "--template", "invoice", "--incumbent", "v/alpha").exit_code == 0
    found = read_recommendation(connection, TENANT, "invoice")
    assert (str(found.incumbent), found.arms[0].mean) == ("v/alpha", before.arms[0].mean)
    materialize(database)
    assert connection.execute("select count(distinct posterior_id) from ml.current_posteriors").fetchone() == (2,)
    assert decide("set", "--template", "invoice", "--floor", "0.2").exit_code == 0


def test_a_slip_in_a_model_s_name_gets_little_however_often_it_is_made_and_a_declared_version_what_it_may_be_worth(
    database: Database, connection: Connection, settings: Settings
) -> None:
    known = [arm("v", "alpha", 70, 30), arm("v", "beta", 40, 60)]
    slips = [arm("v", f"alhpa{number}", number % 2, 0) for number in range(5)]
    plant_recommendation(connection, TENANT, "invoice", [*known, *slips])
    found = read_recommendation(connection, TENANT, "invoice")
    dealt = {each.extractor_model: each for each in found.arms}
    assert sum(each.p_best for name, each in dealt.items() if name.startswith("alhpa")) > 0.7, "who knows"
    got = sum(each.share for name, each in dealt.items() if name.startswith("alhpa"))
    assert got == pytest.approx(0.95 * 0.1 + 0.05 * 5 / 7)
    assert min(each.share for each in found.arms) >= 0.05 / 7 - 1e-12
    assert "Of v/alhpa0 and v/alhpa1" in found.reason
    assert "tidemark selection retire" in found.reason
    plant_recommendation(connection, TENANT, "silent", [arm("v", "alpha", 20, 9), *slips])
    new = read_recommendation(connection, TENANT, "silent")
    assert [each.share for each in new.arms] == pytest.approx([0.05 / 6 + 0.95 * each.p_best for each in new.arms])
    # Heard of on another template, or declared, it is a candidate, with all that it may be worth.
    plant_recommendation(connection, TENANT, "receipt", [arm("v", "alhpa1", 2, 0)])
    assert decide("succeed", "v/alhpa2", "--predecessor", "v/beta").exit_code == 0
    assert decide("set", "--template", "invoice", "--incumbent", "v/alhpa4").exit_code == 0
    heard = read_recommendation(connection, TENANT, "invoice")
    share = {each.extractor_model: each.share - 0.05 / 7 for each in heard.arms}
    p_best = {each.extractor_model: each.p_best for each in heard.arms}
    for name in ("alhpa1", "alhpa2", "alhpa4"):
        assert share[name] / share["alpha"] == pytest.approx(p_best[name] / p_best["alpha"])
    assert share["alhpa0"] + share["alhpa3"] == pytest.approx(0.95 * 0.1)
    for number in (0, 1, 2, 3):
        decide("retire", f"v/alhpa{number}")
    decide("unset", "incumbent", "--template", "invoice")
    assert decide("retire", "v/alhpa4").exit_code == 0
    rest = read_recommendation(connection, TENANT, "invoice")
    assert [each.share for each in rest.arms] == pytest.approx([0.025 + 0.95 * each.p_best for each in rest.arms])


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--tenant", TENANT])


def decide(*arguments: str) -> Result:
    return CliRunner().invoke(selection, [*arguments, "--tenant", TENANT])


def test_recommend_says_whom_to_use_why_and_with_what_probability(database: Database, settings: Settings) -> None:
    materialize(database)
    plain = run("--template", "invoice")
    assert plain.exit_code == 0
    assert "Use v/alpha for invoice" in plain.stdout
    assert "insufficient: Feedback is too unequal to compare: v/untried" in plain.stdout
    assert "add --mode sample" in str(run("--template", "invoice", "--key", "document 7").exception)
    best = json.loads(run("--template", "invoice", "--json").stdout)
    assert (best["extractor_model"], best["propensity"], best["assigned_by"]) == ("alpha", 1.0, "override")
    assert sum(arm["p_best"] for arm in best["extractors"]) == pytest.approx(1)
    drawn = ("--template", "invoice", "--mode", "sample", "--json")
    assert run(*drawn, "--seed", "3").stdout == run(*drawn, "--seed", "3").stdout
    keyed = json.loads(run(*drawn, "--key", "document 7").stdout)
    assert keyed == json.loads(run(*drawn, "--key", "document 7").stdout)
    [share] = [arm["share"] for arm in keyed["extractors"] if arm["extractor_model"] == keyed["extractor_model"]]
    assert (keyed["propensity"], keyed["assigned_by"]) == (share, "share")


def test_what_people_decide_holds_at_once_and_is_on_record(
    database: Database, connection: Connection, settings: Settings
) -> None:
    materialize(database)
    assert decide("retire", "v/untried").exit_code == 0
    assert decide("set", "--template", "invoice", "--incumbent", "v/beta").exit_code == 0
    found = read_recommendation(connection, TENANT, "invoice")
    assert (found.decision, str(found.recommended), str(found.incumbent)) == ("promote", "v/alpha", "v/beta")
    [worse] = [arm.p_worse_than_incumbent for arm in found.arms if arm.extractor_model == "alpha"]
    assert worse is not None
    assert worse < 0.05
    assert decide("set", "--template", "invoice", "--override", "v/beta", "--reason", "contract").exit_code == 0
    found = read_recommendation(connection, TENANT, "invoice")
    assert (str(found.recommended), found.is_overridden, "An override sets v/beta" in found.reason) == (
        "v/beta",
        True,
        True,
    )
    assert [arm.share for arm in found.arms if arm.extractor_model == "beta"] == [1.0]
    assert choose(found, "sample", 0.999).arm.extractor_model == "beta"
    assert "tidemark selection unset override --template invoice" in str(decide("retire", "v/beta").exception)
    assert decide("unset", "override", "--template", "invoice").exit_code == 0
    found = read_recommendation(connection, TENANT, "invoice")
    assert [arm.extractor_model for arm in found.arms] == ["alpha", "beta"]
    assert sum(arm.p_best for arm in found.arms) == pytest.approx(1, abs=1e-9)
    assert decide("restore", "v/beta").exit_code == 0
    assert decide("pool", "--on").exit_code == 0
    listed = json.loads(decide("list", "--json").stdout)
    assert listed["pools"]
    assert [(row["template"], row["incumbent"], row["override"]) for row in listed["templates"]] == [
        ("invoice", "v/beta", None),
        ("receipt", None, None),
    ]
    assert listed["extractors"] == [{"extractor": "v/untried", "predecessor": None, "is_retired": True}]
    actions = connection.execute(
        "select action, subject from access.audit_log where action like 'selection.%' order by entry_id"
    ).fetchall()
    assert actions == [
        ("selection.set", "receipt"),
        ("selection.extractor", "v/untried"),
        *[("selection.set", "invoice")] * 3,
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("set", "--template", "invoice", "--incumbent", "v/gamma"),
            "unknown extractor. Known on this template: v/alpha",
        ),
        (("set", "--template", "invoice", "--override", "v/beta"), "needs a reason: --reason"),
        (("set", "--template", "invoice", "--incumbent", "beta"), "give vendor/model"),
        (("set", "--template", "invoice", "--floor", "1.5"), "exploration floor 1.5"),
        (("set", "--template", "nothing", "--floor", "0.1"), "unknown template 'nothing'"),
        (("retire", "v/never"), "retire v/never: unknown extractor. Known: v/alpha"),
        (("restore", "v/never"), "restore v/never: unknown extractor. Known: v/alpha"),
        (("succeed", "v/beta", "--predecessor", "v/beta"), "comes after itself"),
        (("succeed", "v/beta", "--predecessor", "beta"), "name a model of the same vendor, v/MODEL"),
        (("succeed", "v/beta", "--predecessor", "w/alpha"), "name a model of the same vendor, v/MODEL"),
    ],
)
def test_a_decision_that_can_t_be_is_refused_with_the_remedy(
    database: Database, settings: Settings, arguments: tuple[str, ...], message: str
) -> None:
    materialize(database, selection=["extractor_prior", "extractor_posteriors", "extractor_recommendations"])
    result = decide(*arguments)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


@pytest.mark.parametrize(
    ("tenant", "template", "message"),
    [
        ("nobody", "invoice", "unknown tenant 'nobody'"),
        (TENANT, "invoic", "unknown template 'invoic' of tenant 'acme': known are invoice, receipt, silent"),
        (TENANT, "silent", "no feedback on this template"),
    ],
)
def test_recommend_says_what_is_missing(
    database: Database, settings: Settings, tenant: str, template: str, message: str
) -> None:
    materialize(database, selection=["extractor_prior", "extractor_posteriors", "extractor_recommendations"])
    result = CliRunner().invoke(app, ["--tenant", tenant, "--template", template])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_an_empty_platform_has_nothing_to_recommend_and_no_failure(database: Database, connection: Connection) -> None:
    materialize(database)
    connection.execute("truncate marts.extractor_performance_daily")
    result, metadata = materialize(database)
    assert result.success
    assert (metadata["extractor_posteriors"]["templates"], metadata["extractor_recommendations"]["templates"]) == (0, 0)
    assert connection.execute("select count(*) from ml.extractor_recommendations").fetchone() == (0,)


@pytest.mark.begins(after=empty_marts)
def test_without_any_tenant_all_is_done_and_nothing_told(database: Database) -> None:
    result, metadata = materialize(database)
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert {metadata[name]["templates"] for name in ("extractor_posteriors", "extractor_recommendations")} == {0}


def test_the_checks_fail_where_probabilities_or_shares_do_not_add_up(
    database: Database, connection: Connection
) -> None:
    connection.execute("""
        create function ml.spoil() returns trigger language plpgsql as
        $$ begin new.p_best := new.p_best / 2; new.share_hi := new.share_lo; return new; end $$
    """)
    connection.execute(
        "create trigger spoil before insert on ml.extractor_shares for each row execute function ml.spoil()"
    )
    result, _ = materialize(database, raise_on_error=False)
    failed = {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}
    assert failed == {"p_best_sums_to_one", "shares_tile"}


KEPT = """
select jsonb_agg(known order by known.* ::text)
from (
    select tenant_id, template, 'p' as what, to_jsonb(r) - 'computed_at' as row
    from ml.extractor_recommendations as r
    union all
    select tenant_id, template_id::text, 'q', to_jsonb(r) from ml.extractor_priors as r
    union all
    select tenant_id, template, 'v', to_jsonb(r) from ml.policy_value as r
) as known
where tenant_id = 'acme' and (template = 'invoice' or template = %s)
"""


@pytest.mark.parametrize("pools", [False, True])
def test_a_template_whose_sums_cannot_be_is_named_and_kept_while_all_others_learn(
    database: Database, connection: Connection, pools: bool
) -> None:
    create_tenant(connection, "other")
    connection.execute("update access.tenants set pools_extractors = %s", (pools,))
    push(connection, "other", "evaluations", [_record("o", "note", "alpha", "2026-04-20T08:00:00Z", success=True)])
    run_dbt(["run", "--select", "+extractor_performance_daily"], database)
    materialize(database)
    told = [KEPT, (str(template_id(TENANT, "invoice")),)]
    before = connection.execute(*told).fetchone()
    new = {"receipt": {"fields_correct": 5, "fields_total": 10}, "invoice": {"success": True}}
    for template, said in new.items():
        push(
            connection,
            TENANT,
            "evaluations",
            [_record(f"n {template}", template, "alpha", "2026-05-02T08:00:00Z", **said)],
        )
    push(connection, "other", "evaluations", [_record("n", "note", "beta", "2026-05-02T08:00:00Z", success=True)])
    run_dbt(["run", "--select", "+extractor_performance_daily"], database)
    spoilt = """update marts.extractor_performance_daily
        set success_count = -3, success_weight_sum = 'NaN'
        where template = 'invoice' and extractor_model = 'beta' and date = '2026-04-09'"""
    connection.execute(spoilt)
    result, metadata = materialize(database)
    assert connection.execute(*told).fetchone() == before, "what was known of it stays"
    posteriors = metadata["extractor_posteriors"]
    assert (posteriors["templates"], posteriors["templates_refused"]) == (2, 1)
    learnt = connection.execute(
        "select tenant_id, template, sum(feedback_count) from ml.extractor_recommendations group by 1, 2 order by 1, 2"
    ).fetchall()
    assert learnt == [(TENANT, "invoice", 240), (TENANT, "receipt", 41), ("other", "note", 2)]
    checks = {check.check_name: check for check in result.get_asset_check_evaluations() if not check.passed}
    assert set(checks) == {"daily_sums_can_be", "logged_sums_can_be"}
    assert (checks["daily_sums_can_be"].description or "").startswith(
        "invoice of acme, v/beta on 2026-04-09: success_count -3 is impossible, a day's sums are from 0 to 1e+09. "
    )
    assert "tidemark refresh --full" in (checks["daily_sums_can_be"].description or "")
    assert "invoice of acme, v/beta: weight_sum nan is impossible" in (checks["logged_sums_can_be"].description or "")

    run_dbt(["run", "--select", "+extractor_performance_daily", "--full-refresh"], database)
    result, _ = materialize(database)
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert read_recommendation(connection, TENANT, "invoice").evidence_to == date(2026, 5, 2)
    [found] = connection.execute("select sum(feedback_count) from ml.extractor_recommendations").fetchall()
    assert found == (284,), "nothing was lost"
