"""Connections as code: a component of Dagster's, for `defs.yaml`."""

# No `from __future__ import annotations`: Dagster reads the annotations of a component's fields.

from collections.abc import Mapping
from typing import Annotated, Any

import dagster as dg
from dagster.components.resolved.context import ResolutionContext
from dagster.components.scaffold.scaffold import Scaffolder, ScaffoldRequest
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import BaseModel, ConfigDict, Field, create_model

from runtimedb_dagster.dagster.definitions import build_definitions
from runtimedb_dagster.dagster.process import File
from runtimedb_dagster.dagster.translator import RuntimeDBTranslator
from runtimedb_dagster.domain.declarations import Declaration
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection
from runtimedb_dagster.engine.registration import written_options
from runtimedb_dagster.sources.registry import option_fields

__all__ = ["ConnectionModel", "RuntimeDBComponent"]

Value = str | int | float | bool | list[str] | dict[str, str] | None

SCAFFOLD = """\
type: {type}

attributes:
  connections: {{}}
  # connections:
  #   shop:                                    # query it as shop.schema.table
  #     url: postgresql://reader@db.example.org/shop
  #     password_env: SHOP_PASSWORD            # the variable that holds the password
  #     options:
  #       include: "sales.*"
  #       refresh_cron: "0 * * * *"
"""


class _Options(dg.Model, dg.Resolvable):
    """What a model of options is."""


def _options_model() -> type[_Options]:
    """All options there are, each with what it is for; which of them a source knows is looked at besides."""
    fields: dict[str, Any] = {
        name: (Value, Field(default=None, description=about)) for name, about in option_fields().items()
    }
    return create_model("OptionsModel", __base__=_Options, **fields)


OptionsModel = _options_model()


def _exactly(model: type[BaseModel], **fields: Any) -> type[BaseModel]:
    """A derived schema in which some fields are not text as well.

    Dagster lets every field be text instead, for templates; what is wrong within such a field is then told of the whole
    of it, and not of its line.
    """
    return create_model(model.__name__, __base__=model, **fields)


class ConnectionModel(dg.Model, dg.Resolvable):
    """A remote database."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(description="Such as `postgresql://reader@db.example.org/shop`; never with a password in it.")
    password_env: str | None = Field(default=None, description="The environment variable that holds the password.")
    options: OptionsModel = Field(  # type: ignore[valid-type]  # it is made from the options there are
        default_factory=OptionsModel, description="Of every connection, and of its type of source."
    )

    @classmethod
    def model(cls) -> type[BaseModel]:
        """Its schema; see `_exactly`."""
        return _exactly(super().model(), options=(OptionsModel.model(), {}))


class _Scaffolder(Scaffolder[Any]):
    """A `defs.yaml` that loads, and shows what to write."""

    def scaffold(self, request: ScaffoldRequest[Any]) -> None:
        """Write it."""
        request.target_path.mkdir(parents=True, exist_ok=True)
        (request.target_path / "defs.yaml").write_text(SCAFFOLD.format(type=request.type_name), encoding="utf-8")


def _settings(context: ResolutionContext, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return dict(context.resolve_value(given, as_type=dict) if given else {})


@dg.scaffold_with(_Scaffolder)
class RuntimeDBComponent(dg.Component, dg.Model, dg.Resolvable):
    """Remote databases that can be queried as if they were local: an asset each, with a partition per table.

    What is declared here is registered in the catalog when something first runs, such as the sensor's next tick; to
    load it changes nothing, and needs no catalog.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    connections: dict[str, ConnectionModel] = Field(
        description="By name: letters, digits and _; the first part of its tables' full names."
    )
    settings: Annotated[Mapping[str, Any], dg.Resolver(_settings, model_field_type=dict[str, Value] | None)] = Field(
        default={}, description="What RUNTIMEDB_… variables say otherwise, such as home or storage_url."
    )
    remove_undeclared: bool = Field(
        default=False, description="Forget connections that were declared here and no longer are, with their versions."
    )
    translation: Annotated[
        TranslationFn[Connection] | None,
        TranslationFnResolver(template_vars_for_translation_fn=lambda connection: {"connection": connection}),
    ] = Field(default=None, description="How the assets look: group, tags, owners, description, metadata and so on.")

    @classmethod
    def model(cls) -> type[BaseModel]:
        """Its schema; see `_exactly`."""
        about = cls.model_fields["connections"].description
        return _exactly(super().model(), connections=(dict[str, ConnectionModel.model()], Field(description=about)))  # type: ignore[misc]  # of a type that is made

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """What `dg list components` says of it."""
        return dg.ComponentTypeSpec(
            description="Remote databases, queried as if they were local.", tags=["database", "ingestion", "duckdb"]
        )

    def get_asset_spec(self, connection: Connection) -> dg.AssetSpec:
        """The spec of a connection's asset; see `RuntimeDBTranslator.get_asset_spec`. To be overridden, if need be."""
        spec = RuntimeDBTranslator().get_asset_spec(connection, self.runtimedb_settings)
        return self.translation(spec, connection) if self.translation else spec

    @property
    def runtimedb_settings(self) -> Settings:
        """The settings, by what is given here and by the environment.

        Raises:
            ConfigurationError: a value is of the wrong form, or a name is unknown.
        """
        return Settings(**{name: value for name, value in self.settings.items() if value is not None})

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """An asset and a sensor for each connection, the jobs, and the sweep.

        Raises:
            ConfigurationError: a connection is not declared as it has to be.
        """
        declarations = [_declaration(name, each) for name, each in self.connections.items()]
        file = File(_place(context), declarations, self.remove_undeclared)
        return build_definitions(self.runtimedb_settings, translator=_Translator(self), file=file)


def _place(context: dg.ComponentLoadContext) -> str:
    """Where a component is declared, as users know it: each of those that one file has is a place of its own."""
    root, path, number = context.project_root, context.path, context.component_path.instance_key
    name = str(path.relative_to(root) if path.is_relative_to(root) else path)
    return f"{name}[{number}]" if number else name


class _Translator(RuntimeDBTranslator):
    """What a component, or a subclass of it, says."""

    def __init__(self, component: RuntimeDBComponent) -> None:
        self._component = component

    def get_asset_spec(self, connection: Connection, settings: Settings) -> dg.AssetSpec:  # noqa: ARG002
        return self._component.get_asset_spec(connection)


def _declaration(name: str, model: ConnectionModel) -> Declaration:
    given: dict[str, Any] = model.options.model_dump(exclude_none=True)  # type: ignore[attr-defined]  # it is made
    return Declaration(name, model.url, written_options(given), model.password_env)
