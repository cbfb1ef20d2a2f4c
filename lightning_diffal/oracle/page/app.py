"""The page's server as an ASGI application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lightning_diffal.exceptions import DiffalError
from lightning_diffal.oracle.page.board import Board, RefusedError
from lightning_diffal.oracle.page.guard import Guard

__all__ = ["make_app"]

_STATIC = {
    "app.js": "text/javascript; charset=utf-8",
    "queue.js": "text/javascript; charset=utf-8",
    "item.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_BODY = 16_384  # bytes of a request
_STREAMS = 64  # pages that may listen at once
_TICK = 0.4  # seconds between two looks for news
_QUIET = 15.0  # seconds after which a silent stream says that it is there


class _Guarded:
    """Every request passes the guard, and every answer gets its headers."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self.app, self.guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer = self.guard.welcome(request) or self.guard.refusal(request)
        if answer is not None:
            await self.guard.protect(answer)(scope, receive, send)
            return

        async def protected(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = self.guard.protect(Response()).headers
                names = {name.lower() for name, _ in message["headers"]}
                extra = [
                    (name.encode(), value.encode())
                    for name, value in headers.items()
                    if name.encode() not in names and name != "content-length"
                ]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self.app(scope, receive, protected)


def make_app(board: Board, guard: Guard, is_closing: Callable[[], bool]) -> Starlette:
    """The application.

    Args:
        board: what there is to label.
        guard: who may ask.
        is_closing: whether the server is about to end, so that streams do.
    """
    static = files("lightning_diffal.oracle.page").joinpath("static")
    assets = {name: static.joinpath(name).read_bytes() for name in _STATIC}
    page = static.joinpath("index.html").read_bytes()
    streams = 0

    async def index(request: Request) -> Response:
        return Response(page, media_type="text/html; charset=utf-8")

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in assets:
            return PlainTextResponse("Not found.", 404)
        return Response(assets[name], media_type=_STATIC[name])

    async def state(request: Request) -> Response:
        return _json(await run_in_threadpool(board.state, guard.who(request)))

    async def point(request: Request) -> Response:
        found = await run_in_threadpool(board.card, request.path_params["key"], guard.who(request))
        return _json({"card": found}, 200 if found is not None else 404)

    async def listed(request: Request) -> Response:
        status, start = request.query_params.get("status", ""), request.query_params.get("start", "0")
        if status not in ("open", "labelled", "skipped", "conflict") or not start.isdecimal() or len(start) > 9:
            return _json({"error": "There is no such list."}, 400)
        return _json(await run_in_threadpool(board.listed, status, int(start)))

    async def media(request: Request) -> Response:
        found = await run_in_threadpool(board.media, request.path_params["key"], request.path_params["part"])
        if found is None:
            return PlainTextResponse("Not found.", 404)
        content, kind = found
        headers = {"Cache-Control": "private, max-age=3600"}
        if kind.startswith("audio/"):
            return _ranged(request, content, kind, headers)
        return Response(content, media_type=kind, headers=headers)

    def post(act: Callable[[str, dict[str, Any]], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            given = await _body(request)
            if isinstance(given, Response):
                return given
            try:
                return _json(await run_in_threadpool(act, guard.who(request), given))
            except RefusedError as error:
                return _json({"error": str(error)}, 409)
            except (DiffalError, OSError) as error:
                return _json({"error": f"It could not be written down: {error}", "retry": True}, 503)

        return answer

    def take_next(who: str, given: dict[str, Any]) -> Any:
        avoid = given.get("avoid", [])
        if not isinstance(avoid, list) or not all(isinstance(key, str) for key in avoid):
            raise RefusedError("That is not a list of items.")
        return {"card": board.next(who, frozenset(avoid))}

    def keep(who: str, given: dict[str, Any]) -> Any:
        return {"kept": board.renew(str(given.get("key")), who)}

    def give_back(who: str, given: dict[str, Any]) -> Any:
        board.release(str(given.get("key")), who)
        return {}

    async def events(request: Request) -> Response:
        nonlocal streams
        if streams >= _STREAMS:
            return PlainTextResponse("Too many pages are open.", 503)

        async def news() -> AsyncIterator[str]:
            nonlocal streams
            streams += 1
            try:
                seen, quiet = -1, 0.0
                while not is_closing() and not await request.is_disconnected():
                    await run_in_threadpool(board.refresh)
                    if board.version != seen:
                        seen, quiet = board.version, 0.0
                        told = await run_in_threadpool(board.state, guard.who(request))
                        yield f"data: {json.dumps(told)}\n\n"
                    elif quiet >= _QUIET:
                        quiet = 0.0
                        yield ": here\n\n"
                    await asyncio.sleep(_TICK)
                    quiet += _TICK
            finally:
                streams -= 1

        return StreamingResponse(news(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    return Starlette(
        routes=[
            Route("/", index),
            Route("/static/{name}", asset),
            Route("/api/state", state),
            Route("/api/point/{key}", point),
            Route("/api/list", listed),
            Route("/api/events", events),
            Route("/media/{key}/{part}", media),
            Route("/api/next", post(take_next), methods=["POST"]),
            Route("/api/keep", post(keep), methods=["POST"]),
            Route("/api/release", post(give_back), methods=["POST"]),
            Route("/api/answer", post(board.answer), methods=["POST"]),
            Route("/api/undo", post(lambda who, given: board.undo(who, given.get("uid"))), methods=["POST"]),
            Route(
                "/api/class",
                post(lambda who, given: board.add_class(who, given.get("uid"), given.get("name"))),
                methods=["POST"],
            ),
        ],
        middleware=[Middleware(_Guarded, guard=guard)],
    )


async def _body(request: Request) -> dict[str, Any] | Response:
    """The JSON of a request; never more than a few kilobytes are taken in."""
    content = b""
    try:
        async for part in request.stream():
            content += part
            if len(content) > _BODY:
                return _json({"error": "That is too long."}, 413)
        given = json.loads(content)
    except ClientDisconnect:
        return _json({"error": "Half a request."}, 400)
    except (ValueError, RecursionError):
        return _json({"error": "That is not JSON."}, 400)
    return given if isinstance(given, dict) else _json({"error": "That is not an object."}, 400)


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content, allow_nan=False), status, media_type="application/json")


def _ranged(request: Request, content: bytes, kind: str, headers: dict[str, str]) -> Response:
    """Players ask for parts of a recording, and some play nothing without getting them."""
    headers = {**headers, "Accept-Ranges": "bytes"}
    unit, _, wanted = request.headers.get("range", "").partition("=")
    first, dash, last = wanted.partition("-")
    if unit != "bytes" or not dash or not first.isdecimal() or len(first) > 12:
        return Response(content, media_type=kind, headers=headers)
    start = int(first)
    end = min(int(last), len(content) - 1) if last.isdecimal() and len(last) <= 12 else len(content) - 1
    if start > end:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
    return Response(content[start : end + 1], 206, media_type=kind, headers=headers)
