"""deploy/superset: the dashboard names only what the marts have, holds together, and packs to the same bytes."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import yaml

from storage.database import Connection
from storage.settings import PROJECT_ROOT

SUPERSET = PROJECT_ROOT / "deploy" / "superset"
Document = dict[str, Any]


def _read(folder: str) -> dict[str, Document]:
    documents = [yaml.safe_load(path.read_text()) for path in (SUPERSET / "tidemark" / folder).rglob("*.yaml")]
    assert len({document["uuid"] for document in documents}) == len(documents)
    return {document["uuid"]: document for document in documents}


DATABASES, DATASETS, CHARTS = _read("databases"), _read("datasets"), _read("charts")
(DASHBOARD,) = _read("dashboards").values()
FILTERS = DASHBOARD["metadata"]["native_filter_configuration"]


def test_every_dataset_is_a_mart_with_exactly_its_columns(marts: dict[str, Mapping[str, Any]]) -> None:
    for dataset in DATASETS.values():
        assert dataset["schema"] == "marts"
        assert dataset["database_uuid"] in DATABASES
        columns = marts[dataset["table_name"]]["columns"]
        in_dataset = {column["column_name"]: column["type"].lower() for column in dataset["columns"]}
        assert in_dataset == {name: column["data_type"] for name, column in columns.items()}, dataset["table_name"]
        assert dataset["main_dttm_col"] in {*columns, None}


def test_every_metric_can_be_calculated_by_a_reader(reader: Connection) -> None:
    for dataset in DATASETS.values():
        for metric in dataset["metrics"]:
            reader.execute(f"select {metric['expression']} from marts.{dataset['table_name']}")  # type: ignore[arg-type]  # noqa: S608


def test_charts_and_filters_name_columns_and_metrics_that_their_datasets_have() -> None:
    for chart in CHARTS.values():
        dataset = DATASETS[chart["dataset_uuid"]]
        columns = {column["column_name"] for column in dataset["columns"]}
        metrics = {metric["metric_name"] for metric in dataset["metrics"]}
        assert set(_columns_named(chart["params"])) <= columns, chart["slice_name"]
        assert set(_metrics_named(chart["params"])) <= metrics, chart["slice_name"]
    for native in FILTERS:
        for target in filter(None, native["targets"]):
            dataset = DATASETS[target["datasetUuid"]]
            assert target["column"]["name"] in {column["column_name"] for column in dataset["columns"]}
            assert native.get("sortMetric") in {None, *(metric["metric_name"] for metric in dataset["metrics"])}


def _columns_named(params: Document) -> Iterator[str]:
    for name in ("groupby", "groupby_b", "all_columns", "column_config"):
        yield from params.get(name, ())
    yield from filter(None, [params.get("x_axis")])
    yield from (yaml.safe_load(order)[0] for order in params.get("order_by_cols", ()))
    for name in ("adhoc_filters", "adhoc_filters_b"):
        yield from (condition["subject"] for condition in params.get(name, ()))


def _metrics_named(params: Document) -> Iterator[str]:
    for name in ("metric", "timeseries_limit_metric", "timeseries_limit_metric_b"):
        yield from filter(None, [params.get(name)])
    for name in ("metrics", "metrics_b"):
        yield from params.get(name, ())


def test_the_dashboard_shows_every_chart_once_and_its_filters_know_them() -> None:
    position = {name: part for name, part in DASHBOARD["position"].items() if isinstance(part, dict)}
    shown = [part["meta"] for part in position.values() if part["type"] == "CHART"]
    assert sorted(meta["uuid"] for meta in shown) == sorted(CHARTS)
    assert all(CHARTS[meta["uuid"]]["slice_name"] == meta["sliceName"] for meta in shown)
    reached, ahead = set(), ["ROOT_ID"]
    while ahead:
        reached.add(part := ahead.pop())
        ahead += position[part].get("children", [])
    assert reached | {"HEADER_ID"} == set(position)
    for row in (part for part in position.values() if part["type"] == "ROW"):
        assert sum(position[child]["meta"]["width"] for child in row["children"]) <= 12
    numbers = {meta["chartId"] for meta in shown}
    filters = {native["id"] for native in FILTERS}
    for native in FILTERS:
        assert set(native["scope"]["excluded"]) < numbers
        assert set(native["cascadeParentIds"]) <= filters


def _bundle(target: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "TIDEMARK_READER_URL"}
    command = [sys.executable, str(SUPERSET / "bundle.py"), str(target), *options]
    return subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=False)


def test_the_bundle_is_the_same_twice_and_holds_a_password_only_if_told_one(tmp_path: Path) -> None:
    plain, again, private = tmp_path / "plain.zip", tmp_path / "again.zip", tmp_path / "private.zip"
    address = "postgresql://acme_bi:pass%40word@db.example.com:5432/tidemark"
    private.touch(mode=0o644)
    for target, environment in ((plain, {}), (again, {}), (private, {"TIDEMARK_READER_URL": address})):
        assert _bundle(target, **environment).returncode == 0
    assert plain.read_bytes() == again.read_bytes()
    assert private.stat().st_mode & 0o077 == 0
    assert _connection(plain)["sqlalchemy_uri"].startswith("postgresql+psycopg2://acme_bi:XXXXXXXXXX@")
    assert _connection(private)["sqlalchemy_uri"] == address.replace("postgresql:", "postgresql+psycopg2:")


def test_a_bundle_that_renews_says_so_and_wants_the_address(tmp_path: Path) -> None:
    target = tmp_path / "renew.zip"
    refused = _bundle(target, "--renew")
    assert refused.returncode != 0
    assert "TIDEMARK_READER_URL" in refused.stderr
    assert not target.exists()
    assert _bundle(target, "--renew", TIDEMARK_READER_URL="postgresql://a:b@c/d").returncode == 0
    with ZipFile(target) as bundle:
        assert yaml.safe_load(bundle.read("tidemark/metadata.yaml"))["type"] == "assets"


def _connection(target: Path) -> Document:
    with ZipFile(target) as bundle:
        connection: Document = yaml.safe_load(bundle.read("tidemark/databases/Tidemark.yaml"))
    return connection
