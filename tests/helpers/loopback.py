"""A local HTTP server that serves a file and misbehaves on request."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behavior = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self.close_connection = True
        with self.server.lock:
            self.server.asked.append((self.path, self.headers.get("Range")))
            waiting = self.server.behaviors.get(self.path, [])
            behave = waiting.pop(0) if len(waiting) > 1 else waiting[0] if waiting else missing
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client closed the connection
            behave(self, self.server.content)

    def say(self, status: int, headers: dict[str, object], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        if "Connection" not in headers:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """`behaviors[path]` is a behavior per request; the last one repeats."""

    daemon_threads = True
    content = bytes(range(256)) * 1200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.behaviors: dict[str, list[Behavior]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.stopping = threading.Event()

    def on(self, path: str, *behaviors: Behavior) -> str:
        """Sets the behavior of a path and returns its URL."""
        self.behaviors[path] = list(behaviors)
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()


def well(handler: Handler, content: bytes) -> None:
    """The complete file, or the requested range."""
    wanted = handler.headers.get("Range")
    if wanted is None:
        handler.say(200, {"Content-Length": len(content)}, content)
        return
    start = int(wanted.removeprefix("bytes=").rstrip("-"))
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    handler.say(206, {"Content-Length": len(content) - start, "Content-Range": span}, content[start:])


def whole(handler: Handler, content: bytes) -> None:
    """Ignores ranges."""
    handler.say(200, {"Content-Length": len(content)}, content)


def chunked(handler: Handler, content: bytes) -> None:
    """States no length."""
    handler.say(200, {"Transfer-Encoding": "chunked"})
    for start in range(0, len(content), 50_000):
        part = content[start : start + 50_000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
    handler.wfile.write(b"0\r\n\r\n")


def until_closed(handler: Handler, content: bytes) -> None:
    """States no length either: the file ends when the connection closes."""
    handler.say(200, {"Connection": "close"}, content)


def truncated(handler: Handler, content: bytes) -> None:
    """Announces the full length, sends two thirds, and closes."""
    handler.say(200, {"Content-Length": len(content)}, content[: len(content) * 2 // 3])


def truncated_without_length(handler: Handler, content: bytes) -> None:
    handler.say(200, {"Connection": "close"}, content[:-1])


def reset(handler: Handler, content: bytes) -> None:
    """Sends a third, then resets the connection."""
    handler.say(200, {"Content-Length": len(content)}, content[: len(content) // 3])
    time.sleep(0.05)
    # Closing with SO_LINGER of zero seconds sends a reset.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def stops(handler: Handler, content: bytes) -> None:
    """Sends a third, then nothing, and keeps the connection open."""
    handler.say(200, {"Content-Length": len(content)}, content[: len(content) // 3])
    handler.server.stopping.wait(20)


def silent(handler: Handler, content: bytes) -> None:
    handler.server.stopping.wait(20)


def drips(handler: Handler, content: bytes) -> None:
    """The complete file, over a second, so that a progress bar is redrawn even on a busy machine."""
    handler.say(200, {"Content-Length": len(content)})
    for start in range(0, len(content), 20_000):
        handler.wfile.write(content[start : start + 20_000])
        time.sleep(0.06)


def drips_for_ever(handler: Handler, content: bytes) -> None:
    """A byte at a time, each before the read timeout."""
    handler.say(200, {"Content-Length": len(content)})
    for index in range(len(content)):
        handler.wfile.write(content[index : index + 1])
        if handler.server.stopping.wait(0.05):
            return


def endless(handler: Handler, content: bytes) -> None:
    """Chunks without end."""
    handler.say(200, {"Transfer-Encoding": "chunked"})
    while not handler.server.stopping.is_set():
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))


def other(handler: Handler, content: bytes) -> None:
    """A different file of the same size."""
    handler.say(200, {"Content-Length": len(content)}, content[::-1])


def shorter(handler: Handler, content: bytes) -> None:
    """A complete but different file."""
    handler.say(200, {"Content-Length": 7}, b"<html/>")


def promises_less(handler: Handler, content: bytes) -> None:
    """Content-Length is too small, so that a client stops early."""
    handler.say(200, {"Content-Length": len(content) - 1000}, content)


def promises_more(handler: Handler, content: bytes) -> None:
    handler.say(200, {"Content-Length": len(content) + 1000}, content)


def no_http(handler: Handler, content: bytes) -> None:
    handler.wfile.write(b"\x00\x01 this is not HTTP\r\n\r\n")


def other_range(handler: Handler, content: bytes) -> None:
    """Answers a range request with the beginning of the file."""
    handler.say(206, {"Content-Length": 100, "Content-Range": f"bytes 0-99/{len(content)}"}, content[:100])


def answers(status: int) -> Behavior:
    return lambda handler, content: handler.say(status, {"Content-Length": 4}, b"busy")


missing = answers(404)


def redirects(to: str) -> Behavior:
    return lambda handler, content: handler.say(302, {"Location": to, "Content-Length": 0})
