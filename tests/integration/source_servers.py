"""Servers on loopback that models come from: a web, one that breaks off, a hub, a bucket."""

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; notes what is asked for."""

    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path, handler: type[Handler] = Handler) -> Iterator[str]:
    handler.asked = []
    made = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), made) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class Broken(Handler):
    """Says that it has more than it sends, and of one file that it cannot."""

    def do_GET(self) -> None:
        if self.path.endswith("model.onnx"):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 1000)
        elif self.path.endswith("500/manifest.json"):
            self.send_error(500)
        else:
            super().do_GET()


class Hub(Handler):
    """The hub's own addresses: /org/name/resolve/revision/file."""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        place, _, file = self.path.partition("/resolve/")
        revision, _, file = file.partition("/")
        if place == "/org/gated":
            self.send_error(403)
        elif (place, revision) in (("/org/mood", "main"), ("/org/mood", "v2")):
            self.path = f"/embedding/1/{file}"
            http.server.SimpleHTTPRequestHandler.do_GET(self)
        else:
            self.send_error(404)


class Bucket(Handler):
    """As much of S3 as reading takes: sizes, and pieces of objects."""

    def _object(self) -> bytes | None:
        path = Path(self.directory) / self.path.partition("?")[0].removeprefix("/bucket/")
        return path.read_bytes() if self.path.startswith("/bucket/") and path.is_file() else None

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        content = self._object()
        if content is None:
            listing = b'<?xml version="1.0"?><ListBucketResult></ListBucketResult>'
            is_listing = "list-type" in self.path
            self.send_response(200 if is_listing else 404)
            self.send_header("Content-Length", str(len(listing)))
            self.end_headers()
            if body:
                self.wfile.write(listing)
            return
        start, end = 0, len(content) - 1
        asked = self.headers.get("Range", "")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or end), end)
        piece = content[start : end + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(piece)))
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Wed, 25 Nov 2026 00:00:00 GMT")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
        self.end_headers()
        if body:
            self.wfile.write(piece)
