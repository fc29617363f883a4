"""A password is named, never kept and never shown, whatever goes wrong."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.definitions import build_definitions
from runtimedb_dagster.domain.errors import ConfigurationError, RuntimeDBError
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.sources.secrets import redactor
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV, Remote
from runtimedb_dagster_tests.support.servers import PASSWORD

LOOKS = {
    PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), PASSWORD.replace("'", "''"), PASSWORD.replace("'", "\\'"),
    PASSWORD.replace("\\", "\\\\"), PASSWORD.replace("\\", "\\\\").replace("'", "\\'"), "canary-7fQ2",
}  # fmt: skip


@pytest.fixture(params=["pg", "maria"])
def remote(request: pytest.FixtureRequest) -> Remote:
    found: Remote = request.getfixturevalue(request.param)
    return found


def message_of(action: Callable[[], object]) -> str:
    """All that an action says when it fails: the exceptions with their causes, and their looks."""
    try:
        action()
    except RuntimeDBError as error:
        chain, each = [], error
        while each is not None:
            chain += [str(each), repr(each), repr(each.args)]
            each = each.__cause__ or each.__context__  # type: ignore[assignment]
        return "\n".join([*chain, "".join(traceback.format_exception(error))])
    return ""


def test_the_password_is_nowhere(
    remote: Remote, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    db, address = remote.db, f"127.0.0.1:{remote.server.port}"
    remote.run("CREATE TABLE stays AS SELECT 1 AS v", "CREATE TABLE gone AS SELECT 1 AS v")
    texts = [
        message_of(remote.connect),
        message_of(lambda: db.connect("x", f"{remote.server.scheme}://nobody@{address}/x", password_env=PASSWORD_ENV)),
        message_of(lambda: db.connect("y", remote.server.url("no_such_database"), password_env=PASSWORD_ENV)),
        message_of(lambda: db.connect("z", f"{remote.server.scheme}://owner@127.0.0.1:1/x", password_env=PASSWORD_ENV)),
        message_of(lambda: db.connect("u", f"{remote.server.scheme}://owner:{quote(PASSWORD, safe='')}@{address}/x")),
        repr(db.connections()),
    ]
    assert "Traceback" in "".join(texts[1:4])
    texts.append(repr(remote.refresh_all()))
    remote.run("DROP TABLE gone")
    texts.append(repr(remote.refresh_all()))
    texts.append(message_of(lambda: remote.refresh("gone")))
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(
        str(tmp_path / "dagster"), overrides={"telemetry": {"enabled": False}}
    ) as instance:
        job = build_definitions(Settings(home=db.settings.home, retry_delay=0)).get_job_def("runtimedb_refresh")
        config = {"ops": {"runtimedb_refresh": {"config": {"connection": remote.name, "data": True}}}}
        run = job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)
        assert not run.success
        texts += [str(entry) for entry in instance.all_logs(run.run_id)]
    texts.append(caplog.text)
    found = [look for look in LOOKS for text in texts if look in text]
    assert not found
    for path in [*db.settings.home.rglob("*"), *(tmp_path / "dagster").rglob("*")]:
        if path.is_file():
            content = path.read_bytes()
            assert not any(look.encode() in content for look in LOOKS), path
    assert db.connection(remote.name).password_env == PASSWORD_ENV


def test_the_password_may_be_in_a_file(
    remote: Remote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, db: RuntimeDB
) -> None:
    remote.run("CREATE TABLE t AS SELECT 1 AS v")
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n", encoding="utf-8")
    monkeypatch.delenv(PASSWORD_ENV)
    db.connect(remote.name, remote.server.url(remote.database), options={"password_file": file})
    remote.refresh("t")
    assert remote.query("t") == [(1,)]
    file.unlink()
    with pytest.raises(ConfigurationError, match=r"its password_file .* No such file"):
        remote.refresh("t")


def test_a_variable_that_is_not_set_is_named(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_ENV)
    with pytest.raises(ConfigurationError, match=f"the environment variable {PASSWORD_ENV} is not set"):
        remote.connect()
    remote.run("CREATE TABLE t AS SELECT 1 AS v")
    monkeypatch.setenv("ANOTHER", PASSWORD)
    remote.db.configure(remote.name, password_env="ANOTHER")
    assert remote.db.discover(remote.name).tables_added == 1
    remote.db.configure(remote.name, options={"discovery_interval": 60})
    assert remote.db.connection(remote.name).password_env == "ANOTHER"


@pytest.mark.parametrize("url", ["postgresql://me:hunter2@host/db", "mysql://host/db?password=hunter2"])
def test_a_url_with_a_password_is_refused_with_what_to_do(db: RuntimeDB, url: str) -> None:
    with pytest.raises(ConfigurationError, match="--password-env") as caught:
        db.connect("x", url)
    assert "hunter2" not in str(caught.value)
    assert db.connections() == []


def test_a_secret_is_taken_out_of_whatever_is_said() -> None:
    hide = redactor("it's \\ a secret")
    message = "connecting to \"password='it\\'s \\\\ a secret'\" with 'it''s \\ a secret', it's \\ a secret"
    assert "secret" not in hide(message)
    assert redactor(None)("nothing to hide") == "nothing to hide"
