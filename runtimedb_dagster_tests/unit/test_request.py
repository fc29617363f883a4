"""The refresh contract in its own words."""

from __future__ import annotations

from typing import Any

import pytest

from runtimedb_dagster import RefreshRequest
from runtimedb_dagster.domain.errors import RequestError
from runtimedb_dagster.domain.requests import (
    CheckResult,
    ConnectionRefreshResult,
    DiscoveryResult,
    PurgeResult,
    RemoveResult,
    SweepResult,
    TableRefreshResult,
)

C, S, T = {"connection": "c"}, {"schema_name": "s"}, {"table_name": "t"}
DATA = {"data": True}
KEYS = {"partition_keys": ["s.t"]}

REFUSED: list[tuple[dict[str, Any], str]] = [
    (S, "schema_name requires connection_id"),
    (S | T, "schema_name requires connection_id"),
    (S | T | DATA, "schema_name requires connection_id"),
    (C | T, "table_name requires schema_name"),
    (C | T | DATA, "table_name requires schema_name"),
    (T, "table_name requires schema_name"),
    (DATA, "data refresh requires connection_id"),
    (C | S, "schema-level refresh not supported; omit schema_name to refresh entire connection"),
    (C | S | DATA, "data refresh with schema_name requires table_name"),
    (C | S | T, "schema refresh cannot target specific table; use data: true for table data refresh"),
    (C | KEYS, "partition_keys requires connection_id and data: true, without schema_name"),
    (C | S | T | DATA | KEYS, "partition_keys requires connection_id and data: true, without schema_name"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_a_meaningless_request_is_refused_in_the_contracts_words(fields: dict[str, Any], message: str) -> None:
    request = RefreshRequest(**fields)
    with pytest.raises(RequestError) as caught:
        request.validate()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"partition_keys": "main.t"}, "partition_keys is a list of keys"),
        ({"partition_keys": [1]}, "a name or key is a text, not of type int"),
        ({"connection": 7}, "a name or key is a text, not of type int"),
    ],
)
def test_what_is_no_name_is_refused_at_once(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        RefreshRequest(**fields)


def test_keys_may_come_from_a_generator() -> None:
    keys: Any = (key for key in ("s.t", "s.u"))
    assert RefreshRequest("c", data=True, partition_keys=keys).partition_keys == ("s.t", "s.u")


@pytest.mark.parametrize(
    "fields", [{}, C, C | S | T | DATA, C | DATA, C | DATA | KEYS, C | DATA | {"include_uncached": False}]
)
def test_the_contracts_rows_are_accepted(fields: dict[str, Any]) -> None:
    RefreshRequest(**fields).validate()


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_an_empty_text_is_as_good_as_none(fields: dict[str, Any], message: str) -> None:
    empty = {"connection": "", "schema_name": "", "table_name": ""}
    with pytest.raises(RequestError, match=message):
        RefreshRequest(**(empty | fields)).validate()


def test_connection_id_is_the_same_field() -> None:
    assert RefreshRequest(connection_id="c", data=True) == RefreshRequest("c", data=True)
    assert RefreshRequest("c", connection_id="c") == RefreshRequest("c")
    with pytest.raises(RequestError, match="same field"):
        RefreshRequest("c", connection_id="d")


def test_a_discovery_leaves_out_errors_while_there_are_none() -> None:
    counts = {
        "connections_refreshed": 1,
        "connections_failed": 0,
        "tables_discovered": 2,
        "tables_added": 3,
        "tables_removed": 4,
        "tables_modified": 5,
    }
    assert DiscoveryResult(1, 0, 2, 3, 4, 5).to_dict() == counts
    errors = [{"connection_id": "c", "error": "no"}]
    assert DiscoveryResult(1, 0, 2, 3, 4, 5, errors).to_dict() == counts | {"errors": errors}


def test_a_table_leaves_out_warnings_and_a_reason_while_there_are_none() -> None:
    fields = {"connection_id": "c", "schema_name": "s", "table_name": "t", "rows_synced": 0, "duration_ms": 0}
    fields |= {"mode": "full", "rows_read": 0, "rows_inserted": None, "rows_updated": None, "rows_deleted": None}
    assert TableRefreshResult("c", "s", "t", 0, 0).to_dict() == fields
    found = {"reason": "why", "warnings": ["hm"]}
    assert TableRefreshResult("c", "s", "t", 0, 0, reason="why", warnings=["hm"]).to_dict() == fields | found


def test_a_connection_keeps_its_empty_errors() -> None:
    fields = {
        "connection_id": "c",
        "tables_refreshed": 0,
        "tables_failed": 0,
        "total_rows": 0,
        "duration_ms": 0,
        "tables_unchanged": 0,
        "rows_read": 0,
        "errors": [],
    }
    assert ConnectionRefreshResult("c", 0, 0, 0, 0).to_dict() == fields
    warnings = [{"message": "hm"}]
    assert ConnectionRefreshResult("c", 0, 0, 0, 0, warnings=warnings).to_dict() == fields | {"warnings": warnings}


def test_the_other_results() -> None:
    assert CheckResult("c", True, 1).to_dict() == {"connection_id": "c", "healthy": True, "latency_ms": 1}
    assert CheckResult("c", False, 0, "no").to_dict()["error"] == "no"
    assert CheckResult("c", False, 0, "no").to_dict()["healthy"] is False
    assert PurgeResult("c", 0).to_dict() == {"connection_id": "c", "tables_purged": 0}
    assert RemoveResult("c", 0).to_dict() == {"connection_id": "c", "tables_removed": 0}
    assert SweepResult().to_dict() == {"files_deleted": 0, "files_failed": 0}
