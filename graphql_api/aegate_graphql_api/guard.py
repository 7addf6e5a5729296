"""What stands before every operation: parse (kept), limits and validation (kept), authorisation.

Documents are kept by their text and validation by document, so an operation that a page sends again costs neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    parse,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.schema import validate_document

from aegate_graphql_api import limits
from aegate_graphql_api.authorisation import authorise
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.patient_data import reading_of

KEPT_DOCUMENTS = 256


@lru_cache(maxsize=KEPT_DOCUMENTS)
def parsed(text: str) -> DocumentNode:
    """Return the document. Raises RequestRefused when it is too large, GraphQLSyntaxError when it is none."""
    limits.check_nesting(text)
    try:
        return parse(text, max_tokens=limits.MAX_TOKENS)
    except GraphQLSyntaxError as error:
        if "more than" in error.message and "tokens" in error.message:
            raise RequestRefused(
                "TOO_COMPLEX",
                f"the document may have {limits.MAX_TOKENS} tokens, got more: ask in several requests",
            ) from error
        raise


@lru_cache(maxsize=KEPT_DOCUMENTS)
def validated(schema: GraphQLSchema, document: DocumentNode, rules: tuple[type, ...]) -> list[GraphQLError]:
    """Return what is wrong with the document. Limits come first: validation itself can be made slow."""
    return limits.check_document(document) or validate_document(schema, document, rules)


def _operations(document: DocumentNode) -> int:
    return sum(isinstance(d, OperationDefinitionNode) for d in document.definitions)


class Guard(SchemaExtension):
    """Refuse what is too large, wrong or not allowed, before anything runs."""

    def on_parse(self) -> Iterator[None]:
        """Parse, or take the document of the same text."""
        context = self.execution_context
        if context.query:
            context.graphql_document = parsed(context.query)
        yield

    def on_validate(self) -> Iterator[None]:
        """Check limits and validate, or take the earlier result."""
        context = self.execution_context
        assert context.graphql_document is not None, "parsing comes first"
        context.pre_execution_errors = list(
            validated(context.schema._schema, context.graphql_document, context.validation_rules)
        )
        yield

    def on_execute(self) -> Iterator[None]:
        """Check the caller's permissions for the whole operation."""
        context = self.execution_context
        assert context.graphql_document is not None, "parsing comes first"
        schema: GraphQLSchema = context.schema._schema
        # Its `operation_name` is the first one's where none was named.
        if context._provided_operation_name is None and _operations(context.graphql_document) > 1:
            raise RequestRefused(
                "BAD_REQUEST", "the document has several operations: name the one to run in operationName"
            )
        document, name = context.graphql_document, context.operation_name
        authorise(schema, document, name, context.context.caller)
        context.context.reading = reading_of(schema, document, name, context.variables)
        yield
