"""Versions in S3 or a compatible store; what this package needs comes with the extra `s3`."""

from runtimedb_dagster.storage.s3.storage import S3Storage

__all__ = ["S3Storage"]
