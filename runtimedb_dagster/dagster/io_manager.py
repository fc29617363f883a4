"""A connection's tables as an argument of a downstream asset."""

# No `from __future__ import annotations`: Dagster reads the annotations of a resource's fields.

from typing import Any
from weakref import WeakSet

import dagster as dg
from pydantic import Field, PrivateAttr

from runtimedb_dagster.dagster.loading import HeldQuery, Wanted, load, load_held
from runtimedb_dagster.dagster.resource import RuntimeDBResource
from runtimedb_dagster.domain.errors import RequestError
from runtimedb_dagster.domain.names import TableRef

__all__ = ["RuntimeDBIOManager"]


class RuntimeDBIOManager(RuntimeDBResource, dg.ConfigurableIOManager):
    """Loads tables of a connection's asset as the argument that `table_input` describes.

    The argument's annotation says as what:

    - `pyarrow.Table`, `polars.DataFrame`, `pandas.DataFrame` (of Arrow's types, which are exact): read as a whole;
      the lease ends before the asset starts.
    - `pyarrow.RecordBatchReader`: streams. Its lease ends with the last batch, with `close()`, or when it is dropped.
    - `polars.LazyFrame`: reads the columns a query needs, when it is collected; `duckdb.DuckDBPyRelation`: reads
      when it is fetched. Their lease ends when Python has dropped them, which for an argument is after its step.

    Any of these is one table. A `dict[tuple[str, str], …]` of them has any number, also one, by (schema, table).
    All tables of one argument are of one snapshot. At the latest every lease ends with the resource: that is with
    the step or, in the in-process executor, with the run.
    """

    fetch_missing: bool = Field(default=False, description="refresh a table that has no version yet")
    _held: "WeakSet[HeldQuery]" = PrivateAttr(default_factory=WeakSet)

    def load_input(self, context: dg.InputContext) -> Any:
        """The value of an argument.

        Raises:
            RequestError: the annotation, the number of tables or the upstream asset does not fit.
            TableNotFoundError, TableNotCachedError, CatalogError
        """
        refs = self._refs(context)
        wanted = Wanted.of(context.dagster_type.typing_type)
        if not wanted.by_table and len(refs) != 1:
            raise RequestError(
                f"Input '{context.name}' is {len(refs)} tables of '{context.asset_key.to_user_string()}', but its "
                f"annotation is for one; annotate it as dict[tuple[str, str], {wanted.name}], or name one table in its "
                "table_input"
            )
        values = self._load(refs, wanted)
        if wanted.by_table:
            return {(ref.schema_name, ref.table_name): value for ref, value in values.items()}
        return values[refs[0]]

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ARG002 - it is not written
        """Refuse: only a refresh makes a version.

        Raises:
            RequestError
        """
        raise RequestError(
            f"Output '{context.name}' of '{context.step_key}' can't be written: RuntimeDB's tables are copies of a "
            "source's, made by refreshes. Use this IO manager as an input_manager_key, and another one for outputs"
        )

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002 - Dagster's signature
        """End the leases that are left."""
        for held in list(self._held):
            held.close()

    def _load(self, refs: list[TableRef], wanted: Wanted) -> dict[TableRef, Any]:
        block = self.query(fetch_missing=self.fetch_missing)
        if not wanted.read_later:
            return load(block, refs, wanted)
        values, held = load_held(block, refs, wanted)
        self._held.add(held)
        return values

    def _refs(self, context: dg.InputContext) -> list[TableRef]:
        """The tables that the input's partition mapping leads to."""
        prefix = self.settings().asset_prefix
        *before, connection = context.asset_key.path if context.has_asset_key else [""]
        if before != [prefix] or not context.has_asset_partitions:
            raise RequestError(
                f"Input '{context.name}' is not of a connection's asset, '{prefix}/<connection>'; RuntimeDB loads "
                "no other"
            )
        try:
            return [TableRef.from_partition_key(connection, key) for key in sorted(context.asset_partition_keys)]
        except ValueError as error:
            raise RequestError(f"Input '{context.name}': {error}") from error
