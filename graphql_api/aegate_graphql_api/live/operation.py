"""One operation of a stream: what it answers, message by message, in the form that both transports carry."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from typing import Any

from graphql import GraphQLError
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from aegate_core.errors import AegateError
from aegate_graphql_api.context import Context
from aegate_graphql_api.door import Door
from aegate_graphql_api.errors import RequestRefused, present, problem_body, without_hint
from aegate_graphql_api.limits import check_variables
from aegate_graphql_api.rules import Rules
from aegate_graphql_api.schema.root import schema
from aegate_graphql_api.tracing import OperationSpan

_NO_SUCH_OPERATION = (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError)


class NotStarted(Exception):
    """The operation cannot be run; ``errors`` go to the caller."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__("not started")
        self.errors = errors


async def answers(
    operation: dict[str, Any],
    context: Context,
    allowed: Collection[OperationType],
    rules: Rules,
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield what the operation answers; that it reads patient data is written before it is told.

    It is charged like any other operation when it begins, and for each message by the rows in it. A caller without
    credit is told later, and what happened meanwhile at once. Raises NotStarted when it may not or cannot be run.
    """
    is_charged = False
    await rules.door.wait_for_turn(context.caller.name)
    span = rules.traces.beginning()
    try:
        check_variables(operation.get("variables") or {})
        results = await _started(operation, context, allowed)
    except RequestRefused as refused:
        _trace(span, operation, context, refused.extensions)
        rules.door.charge_operation(context.caller.name, None, context.guard_s)
        raise NotStarted([_presented(refused, context)]) from refused
    paced = _paced(results, context, rules.door)
    try:
        async for result in paced:
            if not is_charged:
                is_charged = True
                rules.door.charge_operation(context.caller.name, context.cost, context.guard_s)
            else:
                further = max(0, rows_of(getattr(result, "data", None)) - 1)
                rules.door.charge_rows(context.caller.name, further * context.cost_of_row)
            errors = [_presented(error, context) for error in getattr(result, "errors", None) or ()]
            _trace(span, operation, context, errors[0]["extensions"] if errors else None)
            if isinstance(result, PreExecutionError):
                raise NotStarted(errors)
            answer: dict[str, Any] = {"data": getattr(result, "data", None)}
            if context.reading is not None and answer["data"] is not None:
                try:
                    await rules.accesses.note(context.caller, context.reading, now=context.now)
                except AegateError as error:
                    yield problem_body("UNAVAILABLE", error.message)
                    return
            if errors:
                answer["errors"] = errors
            yield answer
    except GraphQLError as refused:  # by the parser, which runs when the first answer is asked for
        presented = _presented(refused, context)
        _trace(span, operation, context, presented["extensions"])
        raise NotStarted([presented]) from refused
    finally:
        if not is_charged:  # ended by the caller before anything came
            rules.door.charge_operation(context.caller.name, context.cost, context.guard_s)
        _trace(span, operation, context, None)
        await paced.aclose()
        await results.aclose()


def _trace(
    span: OperationSpan, operation: Mapping[str, Any], context: Context, said: Mapping[str, Any] | None
) -> None:
    """End the span of a subscription's beginning, with its first answer; safe to repeat."""
    span.asked(context.document, operation.get("operationName"), context.cost)
    span.ended(None if said is None else str(said["code"]))
    span.close()


async def _paced(results: Any, context: Context, door: Door) -> AsyncGenerator[Any, None]:
    """Yield the results; each but the first is made when it is paid for, so it tells all that happened until then."""
    async for result in results:
        yield result
        await door.charge_message(context.caller.name, context.cost_of_row)


def rows_of(data: Mapping[str, Any] | None) -> int:
    """Return how many rows a message tells: those in lists of the subscription's field, at least one."""
    told = next(iter((data or {}).values()), None)
    lists = [value for value in told.values() if isinstance(value, list)] if isinstance(told, dict) else []
    return max(1, sum(len(value) for value in lists))


async def _started(operation: dict[str, Any], context: Context, allowed: Collection[OperationType]) -> Any:
    return await schema.stream(
        operation["query"],
        variable_values=operation.get("variables"),
        operation_name=operation.get("operationName"),
        context_value=context,
        allowed_operation_types=allowed,
    )


def _presented(error: GraphQLError, context: Context) -> dict[str, Any]:
    if isinstance(error.original_error, _NO_SUCH_OPERATION):
        message = "the document must hold a subscription, the one that operationName names: correct it"
        return {"message": message, "extensions": {"code": "BAD_REQUEST"}}
    shown = present(error)
    if not context.introspection:
        shown["message"] = without_hint(shown["message"])
    return shown
