"""The upload of one version: begun before its first byte, finished only if nobody ended it meanwhile."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError, ConnectionClosedError

from runtimedb_dagster.common.failpoints import hit
from runtimedb_dagster.domain.errors import StorageError
from runtimedb_dagster.storage.s3.store import Store, code_of

__all__ = ["Upload"]

# A part is in memory while it is sent, so these two bound what an upload holds.
PART_BYTES = 8 << 20
PARALLEL_PARTS = 4
MOST_PARTS = 10_000
COMPARED_BYTES = 64 << 10
MARK = "runtimedb-upload"


@dataclass(frozen=True)
class Upload:
    """A multipart upload of a local file; also of a small one, for only an upload can be aborted by a sweep.

    Attributes:
        mark: by which the object is known as this upload's.
    """

    store: Store
    path: str
    id: str
    mark: str
    local: Path

    @classmethod
    def begin(cls, store: Store, path: str, local: Path) -> Upload:
        """Begin one; nothing is at the path yet."""
        url, mark = store.url, uuid.uuid4().hex
        encryption = {"ServerSideEncryption": url.sse, "SSEKMSKeyId": url.sse_kms_key_id}
        begun = store.client.create_multipart_upload(
            Bucket=url.bucket,
            Key=url.key(path),
            ChecksumAlgorithm="CRC32",
            ContentType="application/vnd.apache.parquet",
            Metadata={MARK: mark},
            **{name: value for name, value in encryption.items() if value is not None},
        )
        upload = cls(store, path, begun["UploadId"], mark, local)
        if begun["ResponseMetadata"].get("RetryAttempts"):
            upload._abort_others()
        return upload

    def finish(self) -> None:
        """Send the file, and have the object appear, whole and as the first of its key.

        Raises:
            StorageError: what is there now is not what was sent.
            ClientError: the upload was aborted, or something was there already.
        """
        parts = self._send()
        try:
            self.store.client.complete_multipart_upload(
                Bucket=self.store.url.bucket,
                Key=self._key,
                UploadId=self.id,
                MultipartUpload={"Parts": parts},
                IfNoneMatch="*",
            )
        except ClientError as error:
            # When the answer to an earlier try was lost, what is there now is this upload.
            if code_of(error) not in ("PreconditionFailed", "NoSuchUpload") or not self._is_there():
                raise
        hit("after_complete", self._lost)
        self._compare()

    def abort(self) -> None:
        """End it without a trace."""
        self.store.abort(self._key, self.id)

    def _abort_others(self) -> None:
        """End what was begun by a try whose answer was lost; the sweep would with the version, years later maybe."""
        for key, upload_id in self.store.unfinished(self._key):
            if key == self._key and upload_id != self.id:
                self.store.abort(key, upload_id)

    @property
    def _key(self) -> str:
        return self.store.url.key(self.path)

    def _send(self) -> list[dict[str, Any]]:
        size = self.local.stat().st_size
        length = max(PART_BYTES, -(-size // MOST_PARTS))
        numbers = range(1, max(-(-size // length), 1) + 1)
        if len(numbers) == 1:
            return [self._send_part(1, length)]
        with ThreadPoolExecutor(PARALLEL_PARTS, thread_name_prefix="runtimedb-upload") as pool:
            return list(pool.map(lambda number: self._send_part(number, length), numbers))

    def _send_part(self, number: int, length: int) -> dict[str, Any]:
        with self.local.open("rb") as file:
            file.seek((number - 1) * length)
            content = file.read(length)
        sent = self.store.client.upload_part(
            Bucket=self.store.url.bucket,
            Key=self._key,
            UploadId=self.id,
            PartNumber=number,
            Body=content,
            ChecksumAlgorithm="CRC32",
        )
        hit("after_upload_part", self._lost)
        return {"PartNumber": number, **{name: sent[name] for name in ("ETag", "ChecksumCRC32") if name in sent}}

    def _lost(self) -> ConnectionClosedError:
        return ConnectionClosedError(endpoint_url=self.store.client.meta.endpoint_url)

    def _is_there(self) -> bool:
        head = self.store.head(self._key)
        return head is not None and head.get("Metadata", {}).get(MARK) == self.mark

    def _compare(self) -> None:
        """Read back the size and the end, which is where a Parquet file says what is in it."""
        size = self.local.stat().st_size
        with self.local.open("rb") as file:
            file.seek(max(size - COMPARED_BYTES, 0))
            end = file.read()
        if self.store.range(self._key, f"bytes=-{COMPARED_BYTES}") != (end, size):
            location = self.store.url.location(self.path)
            raise StorageError(f"{location} holds something else than the {size} bytes that were uploaded")
