"""What stands before every operation: parse, limits and validation, authorisation.

Good documents are kept by their text with what was found of them: an operation that a page sends again costs neither.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    parse,
    validate,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from aegate_graphql_api import limits
from aegate_graphql_api.authorisation import authorise
from aegate_graphql_api.context import Context
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.limits import Weight
from aegate_graphql_api.patient_data import reading_of

if TYPE_CHECKING:
    from aegate_graphql_api.plain_pages import Pages

KEPT_DOCUMENTS = 256
KEPT_CHARACTERS = 262_144
"""Of all documents that are kept: parsed, each takes 90 bytes."""
MAX_ERRORS = 4
"""Mistakes that are told at once: telling one costs up to 3 ms."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a document, or how much each of its operations is."""

    errors: list[GraphQLError]
    weights: Mapping[str | None, Weight] = field(default_factory=dict)
    pages: dict[str | None, Pages | None] = field(default_factory=dict)
    """What its operations ask for, by the name that is given, as far as that was looked at; see plain_pages."""


class KeptDocuments:
    """Good documents and what was found of them, by text. What is wrong is not kept: rubbish would drive them out."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, bool], tuple[DocumentNode, Verdict]] = OrderedDict()
        self._characters = 0
        self.hits = self.misses = 0

    def get(self, text: str, introspection: bool) -> tuple[DocumentNode, Verdict] | None:
        """Return what is kept of ``text``."""
        found = self._kept.get((text, introspection))
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._kept.move_to_end((text, introspection))
        return found

    def known(self, text: str, introspection: bool) -> tuple[DocumentNode, Verdict] | None:
        """Return what is kept of ``text``; that there is nothing does not count as asked in vain."""
        return self.get(text, introspection) if (text, introspection) in self._kept else None

    def keep(self, text: str, introspection: bool, document: DocumentNode, verdict: Verdict) -> None:
        """Keep a good document, and drop those that were not asked for longest where there are too many."""
        if (text, introspection) in self._kept:
            return
        self._kept[text, introspection] = document, verdict
        self._characters += len(text)
        while self._characters > KEPT_CHARACTERS or len(self._kept) > KEPT_DOCUMENTS:
            (dropped, _), _ = self._kept.popitem(last=False)
            self._characters -= len(dropped)


KEPT = KeptDocuments()


def parsed(text: str) -> DocumentNode:
    """Return the document. Raises RequestRefused when it is too large, GraphQLSyntaxError when it is none."""
    limits.check_text(text)
    try:
        return parse(text, max_tokens=limits.MAX_TOKENS)
    except GraphQLSyntaxError as error:
        if "more than" in error.message and "tokens" in error.message:
            raise limits.too_many_tokens() from error
        raise


def validated(
    schema: GraphQLSchema, document: DocumentNode, rules: tuple[type, ...], introspection: bool
) -> Verdict:
    """Judge the document. Limits come first: validation itself can be made slow."""
    try:
        weights = limits.weigh(document)
    except RequestRefused as refused:
        return Verdict([refused])
    if not introspection and any(weight.introspects for weight in weights.values()):
        return Verdict([_closed()])
    rules = (*rules, MaybeNullValidationRule, OneOfInputValidationRule)
    errors = validate(schema, document, rules, MAX_ERRORS, hide_suggestions=not introspection)
    return Verdict(errors, weights)


def weigh_in(context: Context, verdict: Verdict, name: str | None) -> None:
    """Say in the context what the operation costs; one that was not named properly costs what the largest does."""
    if verdict.weights and not verdict.errors:
        largest = max(verdict.weights.values(), key=lambda weight: weight.cost)
        weight = verdict.weights.get(name, largest)
        context.cost, context.cost_of_row = weight.cost, weight.each


def admit(
    schema: GraphQLSchema,
    document: DocumentNode,
    name: str | None,
    context: Context,
    variables: Mapping[str, object] | None,
) -> None:
    """Check the caller's permissions for the whole operation, and say in the context what it reads of patients.

    Raises RequestRefused FORBIDDEN.
    """
    authorise(schema, document, name, context.caller)
    context.reading = reading_of(schema, document, name, variables)


def _closed() -> RequestRefused:
    return RequestRefused(
        "INTROSPECTION_OFF",
        "this server does not tell its schema: read schema.graphql of its release, or ask your administrator",
    )


def _operations(document: DocumentNode) -> int:
    return sum(isinstance(d, OperationDefinitionNode) for d in document.definitions)


class Guard(SchemaExtension):
    """Refuse what is too large, wrong or not allowed, before anything runs."""

    _began = 0.0
    _kept: tuple[DocumentNode, Verdict] | None = None

    def on_parse(self) -> Iterator[None]:
        """Parse, or take the document of the same text."""
        context = self.execution_context
        self._began = time.thread_time()
        try:
            if context.query:
                self._kept = KEPT.get(context.query, context.context.introspection)
                context.graphql_document = self._kept[0] if self._kept else parsed(context.query)
                context.context.document = context.graphql_document
        finally:
            self._count_time()
        yield

    def on_validate(self) -> Iterator[None]:
        """Check limits and validate, or take the earlier result."""
        context = self.execution_context
        assert context.graphql_document is not None, "parsing comes first"
        self._began = time.thread_time()
        verdict = self._kept[1] if self._kept else self._judged()
        context.pre_execution_errors = list(verdict.errors)
        weigh_in(context.context, verdict, context._provided_operation_name)
        self._count_time()
        yield

    def _judged(self) -> Verdict:
        context = self.execution_context
        document, introspection = context.graphql_document, context.context.introspection
        assert document is not None, "parsing comes first"
        verdict = validated(context.schema._schema, document, context.validation_rules, introspection)
        if not verdict.errors:
            KEPT.keep(str(context.query), introspection, document, verdict)
        return verdict

    def _count_time(self) -> None:
        now = time.thread_time()
        self.execution_context.context.note_judging(now - self._began)
        self._began = now

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
        admit(schema, document, name, context.context, context.variables)
        yield
