"""``POST /import/locations`` and ``GET /export/locations``: the table of locations as a CSV file, streamed.

All of a file is imported or nothing: the first wrong line is no half a table. So it is read whole, in bounded memory,
before the database hears of it. The same permissions as in GraphQL: to import those of saveLocation, to export those of
locations.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from aegate_core.database import Database
from aegate_core.errors import AegateError, InvalidInput
from aegate_core.events import MUTATION_DONE, REQUEST_REFUSED, Log
from aegate_core.resources.location_lines import LocationLines, csv_of
from aegate_core.resources.locations import Location
from aegate_core.services.locations import IMPORT, Imported, TableImport, import_table
from aegate_core.stores.index.list_resources import BY_CODE, LOCATIONS
from aegate_core.stores.listing import PageQuery, read_page
from aegate_graphql_api.endpoint import GraphQLEndpoint
from aegate_graphql_api.errors import fault_body, problem_body
from aegate_graphql_api.http_requests import Refusal
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import EITHER, ENTITIES, Caller
from aegate_graphql_api.schema.node import global_id

MOST_BYTES = 64 * 1024 * 1024
LONGEST_S = 120.0
"""How long the file may take to come; then its connection goes to others."""
PAGE = 1000

log = Log("api")


class _DryRun(Exception):
    """Takes back what a dry run did."""

    def __init__(self, done: Imported) -> None:
        super().__init__("dry run")
        self.done = done


class LocationsTable:
    """The two requests, for whom `endpoint` knows."""

    def __init__(self, db: Database, endpoint: GraphQLEndpoint) -> None:
        self._db = db
        self._endpoint = endpoint

    async def import_(self, request: Request) -> Response:
        """Import a file; answer how many lines it has and how many changed something."""
        return await self._answered(request, self._import)

    async def export(self, request: Request) -> Response:
        """Send all locations as a file that `import_` takes."""
        return await self._answered(request, self._export)

    async def _answered(
        self, request: Request, act: Callable[[Request, Caller], Awaitable[Response]]
    ) -> Response:
        caller: Caller | None = None
        try:
            caller = await self._endpoint.caller_of(request)
            return await act(request, caller)
        except Refusal as refusal:
            log(REQUEST_REFUSED, reason=refusal.code, caller=caller.name if caller else None)
            body = problem_body(refusal.code, refusal.message, refusal.details)
            return JSONResponse(body, refusal.status, dict(refusal.headers))
        except InvalidInput as error:
            return JSONResponse(problem_body("INVALID_VALUE", error.message), 422)
        except AegateError as error:
            return JSONResponse(problem_body("UNAVAILABLE", error.message), 503)
        except Exception as fault:  # the outermost place of a request: uvicorn would log it with its values
            return JSONResponse(fault_body(fault), 500)

    async def _import(self, request: Request, caller: Caller) -> Response:
        _must_hold(caller, frozenset(ENTITIES.any_of), everywhere=True)
        dry_run = request.query_params.get("dryRun", "false")
        key = request.headers.get("idempotency-key")
        if dry_run not in ("true", "false"):
            raise Refusal(400, "BAD_REQUEST", "dryRun must be true or false: correct it or leave it out")
        if key is not None and not 1 <= len(key) <= 128:
            raise Refusal(400, "BAD_REQUEST", "Idempotency-Key must have 1 to 128 characters: a UUID will do")
        with self._endpoint.admitted(caller):
            lines = await _read(request)
            if lines.fault_count:
                raise _wrong(lines)
            table = TableImport(caller.name, caller.address, lines.locations, key)
            done = await self._write(table, is_dry=dry_run == "true")
        log(
            MUTATION_DONE,
            mutation=IMPORT,
            caller=caller.name,
            outcome="DONE" if done.is_new else "REPEATED",
        )
        operation = None if dry_run == "true" else global_id("Operation", done.operation_id)
        body = {
            "lines": done.lines,
            "changed": done.changed,
            "dryRun": dry_run == "true",
            "operationId": operation,
        }
        return JSONResponse(body)

    async def _write(self, table: TableImport, *, is_dry: bool) -> Imported:
        async def work(tx: Database) -> Imported:
            done = await import_table(tx, table, now=await tx.time())
            if is_dry:
                raise _DryRun(done)
            return done

        try:
            return await self._db.atomically(work)
        except _DryRun as dry:
            return dry.done

    async def _export(self, request: Request, caller: Caller) -> Response:
        _must_hold(caller, frozenset(EITHER.any_of), everywhere=False)
        headers = {"Content-Disposition": 'attachment; filename="locations.csv"'}
        return StreamingResponse(self._pages(caller), media_type="text/csv; charset=utf-8", headers=headers)

    async def _pages(self, caller: Caller) -> AsyncIterator[str]:
        after: tuple[object, ...] | None = None
        header = True
        while True:
            page = await read_page(self._db, LOCATIONS, PageQuery(BY_CODE, PAGE, after=after), caller.scope)
            found = [Location(str(r["code"]), str(r["display_name"])) for r in page.rows]
            yield csv_of(found, header=header)
            if not page.has_next:
                return
            header, after = False, page.keys[-1]


def _must_hold(caller: Caller, needed: frozenset[Permission], *, everywhere: bool) -> None:
    if not caller.holds_any(needed) or (everywhere and caller.namespaces is not None):
        where = " for all namespaces" if everywhere else ""
        named = " or ".join(sorted(p.value for p in needed))
        raise Refusal(403, "FORBIDDEN", f"{named}{where} is needed: ask your administrator for it")


def _wrong(lines: LocationLines) -> Refusal:
    return Refusal(
        422,
        "INVALID_VALUE",
        f"{lines.fault_count} lines are wrong and nothing was imported: mend them, then send the file again",
        details={
            "wrongLines": lines.fault_count,
            "lines": [{"line": f.line, "message": f.message} for f in lines.faults],
        },
    )


async def _read(request: Request) -> LocationLines:
    """Read the body as it comes. Raises Refusal, InvalidInput."""
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    if media_type.strip().lower() != "text/csv" or (
        "charset" in parameters and "utf-8" not in parameters.lower()
    ):
        raise Refusal(415, "BAD_REQUEST", "the body must be text/csv in UTF-8: send the header Content-Type")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        message = "the body must not be compressed: send it without the header Content-Encoding"
        raise Refusal(415, "BAD_REQUEST", message, headers={"Accept-Encoding": "identity"})
    lines, size = LocationLines(), 0
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MOST_BYTES:
        raise _too_large(int(length))
    try:
        async with asyncio.timeout(LONGEST_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MOST_BYTES:
                    raise _too_large(size)
                lines.feed(chunk)
    except ClientDisconnect:
        raise Refusal(400, "BAD_REQUEST", "the body ended early") from None
    except TimeoutError:
        raise Refusal(
            408,
            "TOO_SLOW",
            f"the body may take {LONGEST_S:g} s, took longer: send it in parts",
            details={"limit": LONGEST_S, "used": LONGEST_S},
            headers={"Connection": "close"},
        ) from None
    lines.feed(b"", final=True)
    return lines


def _too_large(used: int) -> Refusal:
    return Refusal(
        413,
        "TOO_LARGE",
        f"the file may have {MOST_BYTES} bytes, got more: send it in parts",
        details={"limit": MOST_BYTES, "used": used},
        headers={"Connection": "close"},
    )
