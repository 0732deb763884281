"""A small Hugging Face hub on this machine: one model, and what it was asked."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "org/model"


@dataclass
class Hub:
    """What the hub has and has seen. Each field may be changed while it runs."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    delivered: dict[str, bytes] = field(default_factory=dict)  # instead of what the list says
    status: int = 200
    trickles: threading.Event | None = None  # set: answers go on; None: they come at once
    asked: list[tuple[str, str]] = field(default_factory=list)  # path, authorization

    def listing(self) -> bytes:
        """The answer of the hub's API for the model."""
        siblings: list[dict[str, object]] = []
        for name, content in self.files.items():
            size = len(content)
            entry: dict[str, object] = {"rfilename": name, "size": size}
            if name.endswith(".safetensors"):
                entry |= {
                    "blobId": "of the pointer",
                    "lfs": {"size": size, "sha256": sha256(content)},
                }
            else:
                entry["blobId"] = hashlib.sha1(b"blob %d\0" % size + content).hexdigest()
            siblings.append(entry)
        return json.dumps({"id": MODEL, "sha": COMMIT, "siblings": siblings}).encode()

    def answer(self, path: str) -> bytes | None:
        """The body for a path, None if there is none."""
        if path == f"/api/models/{MODEL}/revision/{COMMIT}?blobs=true":
            return self.listing()
        name = path.removeprefix(f"/{MODEL}/resolve/{COMMIT}/")
        return self.delivered.get(name, self.files.get(name))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serve the hub, and set its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.asked.append((self.path, self.headers.get("authorization", "")))
            body = hub.answer(self.path) if hub.status == 200 else b""
            self.send_response(404 if body is None else hub.status)
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            if hub.trickles is not None:
                self.wfile.write((body or b"")[:1])
                hub.trickles.wait(30)
                return
            self.wfile.write(body or b"")

        def log_message(self, *words: object) -> None:
            """Print nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        if hub.trickles is not None:
            hub.trickles.set()
        server.shutdown()
        thread.join()
        server.server_close()
