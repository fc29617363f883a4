"""Versions in a real object store: from the source to the query, and what a store can do to them."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from botocore.exceptions import ClientError

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.common.scratch import Scratch
from runtimedb_dagster.domain.errors import (
    ConfigurationError,
    QueryError,
    StorageError,
    StorageUnavailableError,
    SupersededError,
)
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.query.sandbox import Sandbox
from runtimedb_dagster.storage import open_storage
from runtimedb_dagster.storage.s3 import S3Storage
from runtimedb_dagster.storage.s3 import upload as s3_upload
from runtimedb_dagster_tests.storage.test_storage import PATH
from runtimedb_dagster_tests.support.parts import (
    SourceFile,
    current,
    long_after,
    output_of,
    path_of,
    python,
    refresh_all,
    refresh_one,
    rows,
    said_to_have,
)
from runtimedb_dagster_tests.support.s3 import BUCKET, ENVIRONMENT, KEY_ID, Bucket
from runtimedb_dagster_tests.support.servers import PASSWORD, Server


@pytest.fixture
def db(make_db: Callable[..., RuntimeDB], bucket: Bucket) -> RuntimeDB:
    """A database whose versions are in the store."""
    return make_db(grace_period=0, storage_url=bucket.url())


@pytest.fixture
def storage(bucket: Bucket, tmp_path: Path) -> S3Storage:
    return opened(bucket.url(), tmp_path)


def opened(url: str, tmp_path: Path) -> S3Storage:
    storage = open_storage(url, tmp_path / "staging")
    assert isinstance(storage, S3Storage)
    return storage


def kept(db: RuntimeDB) -> set[str]:
    """The paths that tables point at."""
    return {path_of(table.version) for table in db.tables() if table.version}


def staged(home: Path) -> list[Path]:
    """What lies in the staging directory."""
    return [path for path in (home / "staging").rglob("*") if path.is_file()]


def test_from_the_source_to_the_query(db: RuntimeDB, shop: SourceFile, bucket: Bucket, tmp_path: Path) -> None:
    assert refresh_all(db).tables_refreshed == 2
    assert rows(db, "SELECT count(*), sum(amount) FROM shop.main.orders") == [(100, 7425)]
    assert rows(db, "SELECT max(name) FROM shop.main.orders JOIN shop.main.customers USING (id)") == [("customer 9",)]
    first = kept(db)
    assert bucket.keys() == first

    shop.run("INSERT INTO orders VALUES (1000, 0.5)")
    refresh_all(db)
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(101,)]
    assert len(first & kept(db)) == 1  # customers did not change
    db.sweep()

    assert bucket.keys() == kept(db)
    assert bucket.uploads() == set()
    assert db.pending_deletions() == []
    assert db.verify() == []
    assert staged(tmp_path / "home") == []


def test_a_reader_keeps_its_version(db: RuntimeDB, shop: SourceFile, bucket: Bucket) -> None:
    refresh_all(db)
    old = path_of(current(db, "orders"))
    with db.query() as query:
        assert query.sql("SELECT count(*) FROM shop.main.orders").fetchall() == [(100,)]
        shop.run("INSERT INTO orders VALUES (1000, 0.5)")
        refresh_one(db, "orders")
        db.sweep()
        assert query.sql("SELECT count(*), min(amount) FROM shop.main.orders").fetchall() == [(100, 0)]
        assert {old} < bucket.keys()
    db.sweep()
    assert bucket.keys() == kept(db)


@pytest.mark.usefixtures("shop")
def test_purging_and_removing_leaves_nothing(db: RuntimeDB, bucket: Bucket) -> None:
    refresh_all(db)
    beside = Bucket(bucket.store, f"{bucket.prefix}0")
    beside.put("file", b"not ours")
    db.purge("shop", "main", "orders")
    db.remove("shop")
    db.sweep()
    assert (bucket.keys(), beside.keys()) == (set(), {"file"})


@pytest.mark.usefixtures("shop")
def test_a_failed_table_leaves_nothing(db: RuntimeDB, shop: SourceFile, bucket: Bucket, tmp_path: Path) -> None:
    shop.run("CREATE VIEW broken AS SELECT error('it broke') AS e")
    db.discover("shop")
    result = refresh_all(db)
    assert (result.tables_refreshed, result.tables_failed) == (2, 1)
    assert (bucket.keys(), bucket.uploads(), staged(tmp_path / "home")) == (kept(db), set(), [])


KILLED = """
import os, sys
from runtimedb_dagster import RuntimeDB, Settings, RefreshRequest
from runtimedb_dagster.storage.s3 import S3Storage
home, url, when = sys.argv[1:]
def after(step):
    def act(self, path):
        found = step(self, path)
        print("there", flush=True)
        os.kill(os.getpid(), 9)
    return act
setattr(S3Storage, when, after(getattr(S3Storage, when)))
with RuntimeDB(Settings(home=home, storage_url=url)) as db:
    db.refresh(RefreshRequest("shop", "main", "orders", data=True))
"""


@pytest.mark.parametrize("when", ["prepare", "finalize"])
def test_what_a_killed_process_leaves_is_swept(
    db: RuntimeDB, shop: SourceFile, bucket: Bucket, tmp_path: Path, when: str
) -> None:
    refresh_all(db)
    shop.run("INSERT INTO orders VALUES (1000, 0.5)")
    process = python(KILLED, tmp_path / "home", bucket.url(), when)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (-9, "there\n"), err
    assert len(bucket.keys() | bucket.uploads()) == 3
    assert db.verify() == []
    assert len(staged(tmp_path / "home")) == (when == "prepare")

    db.engine.sweeper.sweep(long_after(db.settings))

    assert (bucket.keys(), bucket.uploads(), staged(tmp_path / "home")) == (kept(db), set(), [])
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(100,)]
    assert db.verify() == []


@pytest.mark.usefixtures("shop")
def test_verify_finds_what_is_lost_torn_or_left_over(db: RuntimeDB, bucket: Bucket) -> None:
    refresh_all(db)
    client = bucket.store.client()
    client.delete_object(Bucket=BUCKET, Key=f"{bucket.prefix}/{path_of(current(db, 'orders'))}")
    bucket.put(path_of(current(db, "customers")), b"PAR1 torn")
    bucket.put("orphan", b"whose?")
    client.create_multipart_upload(Bucket=BUCKET, Key=f"{bucket.prefix}/begun")
    assert [(finding.invariant, finding.subject) for finding in db.verify()] == [
        ("I1", "shop.main.customers"),
        ("I1", "shop.main.orders"),
        ("I2", "begun"),
        ("I2", "orphan"),
    ]


@pytest.mark.usefixtures("shop")
def test_a_deep_look_reads_the_versions(db: RuntimeDB, bucket: Bucket, tmp_path: Path) -> None:
    refresh_all(db)
    assert db.verify(deep=True) == []
    with duckdb.connect() as duck:
        duck.execute(f"COPY (SELECT range AS id, 0.5 AS amount FROM range(100)) TO '{tmp_path}/x' (FORMAT parquet)")
    bucket.put(path_of(current(db, "orders")), (tmp_path / "x").read_bytes())
    said_to_have(db, "orders", (tmp_path / "x").stat().st_size)
    assert db.verify() == []
    (finding,) = db.verify(deep=True)
    assert (finding.invariant, finding.subject) == ("I1", "shop.main.orders")
    assert "holds other values or columns" in finding.message


def test_many_refreshers_of_one_table_leave_one_version(
    db: RuntimeDB, make_db: Callable[..., RuntimeDB], shop: SourceFile, bucket: Bucket, tmp_path: Path
) -> None:
    refresh_all(db)
    shop.run("INSERT INTO orders VALUES (1000, 0.5)")
    others = [make_db(grace_period=0, storage_url=bucket.url()) for _ in range(8)]

    def refresh(other: RuntimeDB) -> None:
        with contextlib.suppress(SupersededError):
            refresh_one(other, "orders")
        other.sweep()

    with ThreadPoolExecutor(len(others)) as pool:
        list(pool.map(refresh, others))
    db.engine.sweeper.sweep(long_after(db.settings))
    assert (bucket.keys(), bucket.uploads(), staged(tmp_path / "home")) == (kept(db), set(), [])
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(101,)]


# Uploads


@pytest.mark.parametrize("size", [1, 100_000, (8 << 20) - 1, 8 << 20, (16 << 20) + 1])
def test_a_file_of_any_size_arrives(storage: S3Storage, bucket: Bucket, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    storage.prepare(PATH).write_bytes(content[:size])
    storage.finalize(PATH)
    answer = bucket.store.client().get_object(Bucket=BUCKET, Key=f"{bucket.prefix}/{PATH}")
    assert answer["Body"].read() == content[:size]


def test_the_store_is_asked_to_encrypt(bucket: Bucket, tmp_path: Path) -> None:
    storage = opened(bucket.url(sse="AES256"), tmp_path)
    storage.prepare(PATH).write_bytes(b"content")
    storage.finalize(PATH)
    head = bucket.store.client().head_object(Bucket=BUCKET, Key=f"{bucket.prefix}/{PATH}")
    assert head["ServerSideEncryption"] == "AES256"


def fail(*_: Any, **__: Any) -> Any:
    raise ClientError({"Error": {"Code": "InternalError", "Message": "it broke"}}, "UploadPart")


def test_an_upload_that_fails_is_aborted(
    storage: S3Storage, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.prepare(PATH).write_bytes(b"content")
    monkeypatch.setattr(s3_upload.Upload, "_send_part", fail)
    with pytest.raises(StorageError, match=r"orders_v1\.parquet can't be written: .*it broke"):
        storage.finalize(PATH)
    assert (bucket.keys(), bucket.uploads(), staged(tmp_path)) == (set(), set(), [])


def test_a_lost_answer_is_no_failure(storage: S3Storage, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    client = storage._store.client
    complete = client.complete_multipart_upload

    def twice(**given: Any) -> Any:
        complete(**given)
        return complete(**given)

    monkeypatch.setattr(client, "complete_multipart_upload", twice)
    storage.prepare(PATH).write_bytes(b"content")
    storage.finalize(PATH)
    assert bucket.keys() == {PATH}


def test_what_arrived_is_compared(storage: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    send = s3_upload.Upload._send

    def torn(self: s3_upload.Upload) -> Any:
        content = self.local.read_bytes()
        self.local.write_bytes(content[:-1])
        parts = send(self)
        self.local.write_bytes(content)
        return parts

    monkeypatch.setattr(s3_upload.Upload, "_send", torn)
    storage.prepare(PATH).write_bytes(b"content")
    with pytest.raises(StorageError, match="holds something else than the 7 bytes"):
        storage.finalize(PATH)


def test_a_deletion_that_is_refused_is_put_off_and_shown(
    db: RuntimeDB, shop: SourceFile, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_all(db)
    shop.run("INSERT INTO orders VALUES (1000, 0.5)")
    refresh_one(db, "orders")
    with monkeypatch.context() as patched:
        patched.setattr(storage_of(db)._store.client, "delete_object", fail)
        (error,) = db.sweep().errors
    assert "it broke" in error["error"]
    (pending,) = db.pending_deletions()
    assert pending.attempts == 1
    db.engine.sweeper.sweep(utc_now() + timedelta(hours=2))
    assert bucket.keys() == kept(db)


def storage_of(db: RuntimeDB) -> S3Storage:
    assert isinstance(db.engine.storage, S3Storage)
    return db.engine.storage


# Stores that are not there, and keys that don't fit


def wrong(bucket: Bucket, fault: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a storage that has a fault."""
    if fault == "secret":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-wrong")
    elif fault == "key":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary-nobody")
    elif fault == "no key":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return {
        "bucket": bucket.url(bucket="missing-bucket"),
        "server": bucket.url(endpoint="http://127.0.0.1:1"),
        "profile": bucket.url(profile="nobody"),
    }.get(fault, bucket.url())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("secret", "check the secret key"),
        ("key", "check the access key"),
        ("no key", "set AWS_ACCESS_KEY_ID"),
        ("bucket", "The bucket 'missing-bucket' does not exist"),
        ("server", "is the server up"),
        ("profile", "nobody"),
    ],
)
def test_a_store_that_can_not_be_used_is_one_clear_error(
    make_db: Callable[..., RuntimeDB],
    make_source: Callable[..., SourceFile],
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    message: str,
) -> None:
    source = make_source("shop", "CREATE TABLE orders AS SELECT 1 AS id")
    make_db().connect("shop", source.url)
    with monkeypatch.context() as patched:
        db = make_db(storage_url=wrong(bucket, fault, patched))
        with pytest.raises(StorageError, match=message) as caught:
            refresh_one(db, "orders")
    assert isinstance(caught.value, StorageUnavailableError) == (fault == "server")
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(caught.value.__cause__)
    # Nothing is lost, for nothing was begun.
    right = make_db(storage_url=bucket.url())
    assert right.pending_deletions() == []
    assert bucket.uploads() == set()


def test_the_old_version_serves_while_the_store_can_not_be_written(
    db: RuntimeDB, shop: SourceFile, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_all(db)
    shop.run("INSERT INTO orders VALUES (1000, 0.5)")
    monkeypatch.setattr(storage_of(db)._store.client, "create_multipart_upload", fail)
    with pytest.raises(StorageError, match="it broke"):
        refresh_one(db, "orders")
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(100,)]
    assert bucket.keys() == kept(db)


# What a query can see


@pytest.fixture
def sandbox(db: RuntimeDB, shop: SourceFile, tmp_path: Path) -> Iterator[Sandbox]:
    """The sandbox of a query of `orders`, without the check of its statement."""
    refresh_all(db)
    versions, storage = {TableRef("shop", "main", "orders"): current(db, "orders")}, db.engine.storage
    made = Sandbox(versions, storage.location, {"threads": 1}, storage.make_readable, tmp_path / "spill")
    yield made
    made.close()


@pytest.mark.parametrize(
    "reaching",
    [
        "FROM read_parquet('{other}')",
        "FROM read_blob('{other}')",
        "FROM read_parquet('{orders}?s3_region=x')",
        "FROM read_parquet('{orders}/../../customers/x')",
        "FROM glob('s3://plain/**')",
        "FROM glob('{prefix}/*')",
        "FROM read_parquet('{prefix}/**/*.parquet')",
        "FROM read_blob('s3://other-bucket/x')",
        "FROM read_blob('s3a://plain/x')",
        "FROM read_blob('{endpoint}/plain/x')",
        "FROM read_blob('http://127.0.0.1:1/x')",
        "FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '{prefix}/new.parquet'",
        "COPY (SELECT 1) TO '/tmp/new.parquet'",
        "FROM duckdb_secrets(redact = false)",
        "ATTACH '{other}' AS x",
        "SET s3_endpoint = 'localhost:1'",
        "RESET s3_secret_access_key",
        "INSTALL spatial",
    ],
)
def test_the_sandbox_reaches_its_own_versions_alone(
    db: RuntimeDB, sandbox: Sandbox, bucket: Bucket, reaching: str
) -> None:
    names = {
        "orders": db.engine.storage.location(path_of(current(db, "orders"))),
        "other": db.engine.storage.location(path_of(current(db, "customers"))),
        "prefix": f"s3://{BUCKET}/{bucket.prefix}",
        "endpoint": bucket.store.endpoint,
    }
    before = bucket.keys()
    assert sandbox._duck.execute("SELECT count(*) FROM shop.main.orders").fetchone() == (100,)
    with pytest.raises(duckdb.Error, match=r"disabled by configuration|locked|is disabled"):
        sandbox._duck.execute(reaching.format(**names))
    assert bucket.keys() == before


@pytest.mark.usefixtures("shop")
def test_no_query_sees_the_key(db: RuntimeDB) -> None:
    refresh_all(db)
    seen = rows(
        db,
        "SELECT current_setting('s3_access_key_id'), current_setting('s3_secret_access_key'), "
        "current_setting('s3_session_token') FROM shop.main.orders LIMIT 1",
    )
    assert seen == [("", "", "")]
    seen = rows(db, "SELECT name, setting FROM pg_settings, shop.main.orders")
    assert PASSWORD not in str(seen)
    assert KEY_ID not in str(seen)
    for function in ("duckdb_secrets()", "duckdb_settings()", "which_secret('s3://plain/x', 's3')"):
        with pytest.raises(QueryError, match="can't be used in a query"):
            rows(db, f"SELECT * FROM {function}, shop.main.orders")


def test_the_sandbox_tells_no_secret(sandbox: Sandbox) -> None:
    for table in ("duckdb_secrets()", "duckdb_settings()"):
        message = str(sandbox._duck.execute(f"FROM {table}").fetchall())
        assert PASSWORD not in message
        assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in message


@pytest.mark.usefixtures("shop")
def test_a_query_of_what_is_gone_says_so(db: RuntimeDB, bucket: Bucket) -> None:
    refresh_all(db)
    bucket.store.client().delete_object(Bucket=BUCKET, Key=f"{bucket.prefix}/{path_of(current(db, 'orders'))}")
    with pytest.raises(QueryError, match="404") as caught:
        rows(db, "SELECT * FROM shop.main.orders")
    assert "canary" not in str(caught.value)


# Keys


def test_a_profile_wins_over_the_environment(
    make_db: Callable[..., RuntimeDB],
    make_source: Callable[..., SourceFile],
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profile = f"[keeper]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {PASSWORD}\n"
    (tmp_path / "credentials").write_text(profile)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    # What httpfs would take for what the profile lacks.
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.setenv(name, "another")
    db = make_db(storage_url=bucket.url(profile="keeper"))
    db.connect("shop", make_source("shop", "CREATE TABLE orders AS SELECT 1 AS id").url)
    refresh_all(db)
    assert rows(db, "SELECT * FROM shop.main.orders") == [(1,)]


# URLs


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://", "is not s3://bucket/prefix"),
        ("s3://Upper/x", "is not s3://bucket/prefix"),
        ("s3://bucket/a/../b", "is not s3://bucket/prefix"),
        ("s3://bucket/a//b", "is not s3://bucket/prefix"),
        ("s3://bucket/a*", "is not s3://bucket/prefix"),
        ("s3://bucket/a#b", "is not s3://bucket/prefix"),
        ("s3://key:canary@bucket/a", "leave them out"),
        ("s3://bucket/a?secret=canary", "option 'secret' is wrong: .*endpoint, region, profile"),
        ("s3://bucket/a?endpoint=canary", "option 'endpoint' is wrong"),
        ("s3://bucket/a?endpoint=http://u:canary@host", "option 'endpoint' is wrong"),
        ("s3://bucket/a?region=a'b", "option 'region' is wrong"),
        ("s3://bucket/a?sse=rot13", "option 'sse' is wrong"),
        ("s3://bucket/a?sse", "name=value"),
    ],
)
def test_a_wrong_url_is_refused(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        open_storage(url, tmp_path)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3://bucket/a/b/", "s3://my.bucket/a_b~c"])
def test_a_right_url_is_a_storage(url: str, tmp_path: Path) -> None:
    bucket = url.removeprefix("s3://").partition("/")[0]
    prefix = url.removeprefix(f"s3://{bucket}").strip("/")
    assert opened(url, tmp_path).location(PATH) == f"s3://{bucket}/{prefix}/{PATH}".replace(f"{bucket}//", f"{bucket}/")


def test_without_boto3_it_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['boto3'] = None\n"
        "from pathlib import Path\n"
        "from runtimedb_dagster.storage import open_storage\n"
        "try: open_storage('s3://bucket/x', Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    assert "pip install 'runtimedb-dagster[s3]'" in output_of(program, tmp_path)


# Staging


def test_staging_is_private_and_only_leftovers_go(tmp_path: Path) -> None:
    root = tmp_path / "staging"
    mine, leftover = Scratch(root), root / "0123"
    file = mine.create()
    leftover.mkdir()
    (leftover / "x.parquet").write_bytes(b"half")
    other = Scratch(root)
    assert other.create().exists()
    assert file.exists()
    assert not leftover.exists()
    assert [path.stat().st_mode & 0o777 for path in (root, file.parent, file)] == [0o700, 0o700, 0o600]


def test_nothing_is_left_of_a_staging_that_ended(tmp_path: Path) -> None:
    staging = Scratch(tmp_path / "staging")
    staging.create().unlink()
    del staging
    gc.collect()
    assert list((tmp_path / "staging").iterdir()) == []


def test_staging_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("precious")
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / "link").symlink_to(tmp_path / "outside")
    Scratch(tmp_path / "staging").create()
    assert (tmp_path / "outside" / "file").read_text() == "precious"


def test_a_disk_that_is_full_is_named(storage: S3Storage, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StorageError, match=r"staging, which RuntimeDB needs .*: No space left on device"):
        storage.prepare(PATH)
    assert bucket.uploads() == set()


def test_a_home_moves_to_a_server_and_a_bucket_by_copying_its_files(
    make_db: Callable[..., RuntimeDB], shop: SourceFile, bucket: Bucket, postgres_server: Server, tmp_path: Path
) -> None:
    old = make_db()
    refresh_all(old)
    shop.run("INSERT INTO orders VALUES (1000, 1)")
    refresh_all(old)
    storage = old.settings.home / "storage"
    files = [path for path in storage.rglob("*") if path.is_file()]
    assert len(files) == 4, "a replaced version is taken along, and the marker"
    for path in files:
        bucket.put(str(path.relative_to(storage)), path.read_bytes())
    database = f"moved_{os.urandom(4).hex()}"
    postgres_server.run(None, f"CREATE DATABASE {database}")
    settings = {"catalog_url": postgres_server.catalog_url(database), "storage_url": bucket.url()}
    with RuntimeDB(Settings(home=tmp_path / "elsewhere", grace_period=0, **settings)) as new:
        new.copy_catalog(old.settings.catalog_url)
        assert new.verify() == []
        assert rows(new, "SELECT count(*) FROM shop.main.orders") == [(101,)]
        shop.run("INSERT INTO orders VALUES (1001, 1)")
        refresh_all(new)
        new.sweep(long_after(new.settings))
        assert bucket.keys() == kept(new)
        assert new.verify() == []


def test_another_bucket_than_the_one_of_the_catalog_is_left_alone(
    db: RuntimeDB, shop: SourceFile, bucket: Bucket, make_db: Callable[..., RuntimeDB]
) -> None:
    refresh_all(db)
    other = Bucket(bucket.store, f"{bucket.prefix}-other")
    wrong = make_db(grace_period=0, storage_url=other.url())
    for act in (lambda: refresh_all(wrong), wrong.sweep):
        with pytest.raises(StorageUnavailableError, match="the right one"):
            act()
    assert other.keys() == set()
    assert db.verify() == []
