"""Who may talk to the page's server: only browsers that were given its token, and only from its own page."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

__all__ = ["Guard", "Rate", "hosts_of"]

_PERSON = re.compile(r"[0-9a-f]{16}")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Rate:
    """How many requests one person may make: some at once, and then so many a second.

    Example:
        >>> rate = Rate(burst=2, per_second=1)
        >>> [rate.allows("ann", now=0.0) for _ in range(3)], rate.allows("ann", now=1.0), rate.allows("bob", now=0.0)
        ([True, True, False], True, True)
    """

    def __init__(self, burst: float, per_second: float, people: int = 1000) -> None:
        self.burst, self.per_second, self.people = burst, per_second, people
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, who: str, now: float | None = None) -> bool:
        """Whether one more is allowed now."""
        now = time.monotonic() if now is None else now
        left, then = self._left.pop(who, (self.burst, now))
        left = min(self.burst, left + (now - then) * self.per_second)
        self._left[who] = (left - 1 if left >= 1 else left, now)
        while len(self._left) > self.people:
            self._left.popitem(last=False)
        return left >= 1


class Guard:
    """Checks a request before anything else looks at it.

    Args:
        token: what the address printed at the start carries.
        port: of the server; browsers keep the cookies of all ports of a machine together.
        hosts: by which the server may be called; `None`: any IP address, and none by name but localhost.
    """

    def __init__(self, token: str, port: int, hosts: Iterable[str] | None) -> None:
        self.token, self.port = token, port
        self.hosts = None if hosts is None else frozenset(hosts)
        self.cookie, self.person = f"diffal_token_{port}", f"diffal_person_{port}"
        self.rate = Rate(burst=240, per_second=60)

    def refusal(self, request: Request) -> Response | None:
        """Why a request is refused; `None` where it is not."""
        host = request.headers.get("host", "")
        if not self._is_own(host):
            return PlainTextResponse("This page is not served under that name.", 421)
        origin = request.headers.get("origin")
        if origin is not None and origin != f"{request.url.scheme}://{host}":
            return PlainTextResponse("Requests from other sites are refused.", 403)
        if request.headers.get("sec-fetch-site") in ("cross-site", "same-site") and request.method != "GET":
            return PlainTextResponse("Requests from other sites are refused.", 403)
        if not self.knows(request):
            return PlainTextResponse(
                "This page needs the token that stands in its address. Open the address that was printed where the "
                "labelling was started: http://.../?token=...",
                403,
            )
        if request.method not in ("GET", "HEAD"):
            kind = request.headers.get("content-type", "").split(";")[0].strip()
            if kind != "application/json" or request.headers.get("x-diffal") != "1":
                return PlainTextResponse("That is not a request of this page.", 415)
        if not self.rate.allows(self.who(request)):
            return PlainTextResponse("Too many requests; try again in a moment.", 429, {"Retry-After": "1"})
        return None

    def welcome(self, request: Request) -> Response | None:
        """Takes the token out of the address into a cookie; `None` where the address holds none."""
        given = request.query_params.get("token")
        if given is None or request.url.path != "/" or request.method != "GET":
            return None
        if not self._is_own(request.headers.get("host", "")) or not _same(given, self.token):
            return None
        response = RedirectResponse("/", 303)
        settings = {"httponly": True, "samesite": "strict", "path": "/", "max_age": 30 * 24 * 3600}
        response.set_cookie(self.cookie, self.token, **settings)  # type: ignore[arg-type]
        if not _PERSON.fullmatch(request.cookies.get(self.person, "")):
            response.set_cookie(self.person, secrets.token_hex(8), **settings)  # type: ignore[arg-type]
        return response

    def knows(self, request: Request) -> bool:
        """Whether the browser was given the token."""
        return _same(request.cookies.get(self.cookie, ""), self.token) and bool(
            _PERSON.fullmatch(request.cookies.get(self.person, ""))
        )

    def who(self, request: Request) -> str:
        """Which browser it is."""
        return request.cookies.get(self.person, "")

    def protect(self, response: Response) -> Response:
        """Headers that keep what is shown from doing anything."""
        response.headers.update(_HEADERS)
        return response

    def _is_own(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname, parts.port
        except ValueError:
            return False
        if name is None or (port or 80) != self.port:
            return False
        if self.hosts is not None:
            return name in self.hosts
        return name == "localhost" or _is_address(name)


def hosts_of(host: str) -> frozenset[str] | None:
    """The names under which a server bound to `host` may be called.

    Example:
        >>> sorted(hosts_of("127.0.0.1")), hosts_of("0.0.0.0"), sorted(hosts_of("lab.example.org"))
        (['127.0.0.1', '::1', 'localhost'], None, ['lab.example.org'])
    """
    if host in ("0.0.0.0", "::", ""):  # noqa: S104  # asked about, not bound
        return None
    if host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback):
        return frozenset({"127.0.0.1", "::1", "localhost", host})
    return frozenset({host.lower()})


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
