"""What a step of the job `refresh` hands over to the next, on whatever machine that runs."""

from __future__ import annotations

from typing import Any

import dagster as dg

__all__ = ["Handover", "handover_io_manager"]

VALUE, FOR = "handed over", "for"


class Handover(dg.IOManager):
    """Keeps values in the run's own events, which every worker can reach: no disk or bucket has to be shared.

    Values are JSON, and few: each is looked for among all of its run.
    """

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Put a value on the event that Dagster logs for this output."""
        context.add_output_metadata({FOR: _name(context), VALUE: dg.MetadataValue.json(obj)})

    def load_input(self, context: dg.InputContext) -> Any:
        """Find the value of an output, the latest if its step was retried."""
        output = context.upstream_output
        if output is None:
            raise ValueError("a handover is from one step to another")
        wanted = _name(output)
        logged = context.instance.all_logs(output.run_id, of_type=dg.DagsterEventType.HANDLED_OUTPUT)
        for entry in reversed(logged):
            data: Any = entry.get_dagster_event().event_specific_data
            metadata = data.metadata
            if FOR in metadata and metadata[FOR].value == wanted:
                return metadata[VALUE].value
        raise ValueError(f"run {output.run_id} has no event that hands over {wanted}")


@dg.io_manager
def handover_io_manager() -> Handover:
    """The resource that the job's outputs ask for."""
    return Handover()


def _name(context: dg.OutputContext) -> str:
    return "/".join(filter(None, [context.step_key, context.name, context.mapping_key]))
