"""The page's server: one a folder, in a thread of its own; the same address after a restart."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import secrets
import socket
import threading
import time
import weakref
import webbrowser
from pathlib import Path
from typing import Any

from lightning_diffal.exceptions import ConfigurationError, ServerError
from lightning_diffal.oracle.page.board import Board
from lightning_diffal.utils.extras import require

__all__ = ["PageServer", "exposure", "is_loopback"]

_EXTRA = "label"
_ADDRESS = "server.json"
_LOCK = "server.lock"
_PATIENCE = 20.0  # seconds until it has to answer


class PageServer:
    """Serves a board. Port and token are kept beside the answers, so that open pages find a restarted server.

    Args:
        board: what there is to label.
        host: to bind.
        port: 0: the one that the folder was served at before, or any free one.

    Raises:
        ConfigurationError: the port is taken, or the host is not one of this machine.
    """

    def __init__(self, board: Board, host: str = "127.0.0.1", port: int = 0) -> None:
        self.board, self.host, self.port = board, host, port
        self.token = ""
        self.owner: str | None = None
        """The address at which another process serves this folder already."""
        self._lock: Any = None
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._bound: socket.socket | None = None

    @property
    def address(self) -> str:
        """What to open, with the token."""
        if self.owner is not None:
            return self.owner
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.host in ("0.0.0.0", "::"):  # noqa: S104  # a name for people
            host = "127.0.0.1"
        return f"http://{host}:{self.port}/?token={self.token}"

    def start(self) -> bool:
        """Serve from now on, in a thread; `False` where another process does so already."""
        uvicorn = require("uvicorn", extra=_EXTRA)
        require("starlette", extra=_EXTRA)
        from lightning_diffal.oracle.page.app import make_app
        from lightning_diffal.oracle.page.guard import Guard, hosts_of

        folder = self.board.folder
        folder.mkdir(parents=True, exist_ok=True)
        kept = _kept(folder)
        self._lock = _locked(folder / _LOCK)
        if self._lock is None:
            self.owner = kept.get("address") or "an address that it printed"
            return False
        self.board.log.repair()
        self.board.refresh()
        self._bound = bound = self._bind(kept.get("port") if kept.get("host") == self.host else None)
        self.port = bound.getsockname()[1]
        self.token = kept.get("token") or secrets.token_urlsafe(24)
        _keep(folder, {"host": self.host, "port": self.port, "token": self.token, "address": self.address})
        guard = Guard(self.token, self.port, hosts_of(self.host))
        app = make_app(self.board, guard, lambda: self._server is None or self._server.should_exit)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # it would hold the token
            server_header=False,
            lifespan="off",
            limit_concurrency=200,
            timeout_keep_alive=20,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=16_384,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [bound]}, name="diffal-label", daemon=True
        )
        self._thread.start()
        _OPEN.add(self)
        deadline = time.monotonic() + _PATIENCE
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise ServerError("The labelling page's server did not start. Nothing is lost.")
            time.sleep(0.02)
        return True

    @property
    def is_alive(self) -> bool:
        """Whether it serves."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Stop serving; what was saved stays, and open pages keep what they could not send."""
        if self._server is not None:
            self._server.should_exit = True
            if self._thread is not None:
                self._thread.join(timeout=5)
        self._server = self._thread = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def open_browser(self) -> None:
        """Open the page where there is a browser; the address is printed anyway."""
        with contextlib.suppress(webbrowser.Error, OSError):
            webbrowser.open(self.address)

    def _bind(self, before: int | None) -> socket.socket:
        wanted = [self.port] if self.port else [port for port in (before, 0) if port is not None]
        problem: OSError | None = None
        for port in wanted:
            try:
                family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
                bound = socket.socket(family, socket.SOCK_STREAM)
                if os.name == "posix":  # elsewhere it would let two servers share a port
                    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind((self.host, port))
                bound.listen(64)
            except OSError as error:  # noqa: PERF203  # two at most
                bound.close()
                problem = error
            else:
                return bound
        raise ConfigurationError(
            f"The labelling page cannot be served at {self.host}:{self.port}: {problem and problem.strerror}. Give "
            "another `port`, or `port=0` for any free one."
        )


_OPEN: weakref.WeakSet[PageServer] = weakref.WeakSet()


def _let_go() -> None:
    """In a forked child, such as a worker of a data loader: it must keep neither the port nor the lock."""
    for server in _OPEN:
        for held in (server._bound, server._lock):
            if held is not None:
                with contextlib.suppress(OSError):
                    held.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound there.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.168.1.4", "lab")]
        [True, True, True, False, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def exposure(host: str) -> str:
    """What to say of a page that other machines reach."""
    everywhere = host in ("0.0.0.0", "::")  # noqa: S104  # a name for people
    how = " On those, open the address with this machine's IP address in place of 127.0.0.1." if everywhere else ""
    return (
        f"The labelling page is served at {host}, where other machines on the network reach it. Whoever has its "
        f"address with the token sees the data and labels; the connection is not encrypted.{how}"
    )


def _kept(folder: Path) -> dict[str, Any]:
    try:
        kept = json.loads((folder / _ADDRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_whole = isinstance(kept, dict) and isinstance(kept.get("token"), str) and isinstance(kept.get("port"), int)
    return kept if is_whole else {}


def _keep(folder: Path, content: dict[str, Any]) -> None:
    """Readable by the owner only: the token lets people in."""
    path = folder / _ADDRESS
    temporary = path.with_name(f".{_ADDRESS}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    temporary.replace(path)


def _locked(path: Path) -> Any:
    """An open file that no other process has locked; `None` where one has. The lock goes with the process."""
    file = path.open("a")
    try:
        import fcntl
    except ImportError:  # not POSIX: two servers are possible there, each line of theirs stays whole
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
