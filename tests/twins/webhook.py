"""A Slack webhook on this machine, in a thread of its own."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "T0/B0/very-secret"  # part of the webhook's URL, which must not reach a log


class ThreadedWebhook:
    """Keeps the texts that it gets. Answers with `status`, and not before `hold` is set."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.status = 200
        self.hold = threading.Event()
        self.hold.set()
        self.url = ""


@contextmanager
def running_webhook() -> Iterator[ThreadedWebhook]:
    """Run a ThreadedWebhook; yields it."""
    webhook = ThreadedWebhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            webhook.hold.wait()
            webhook.texts.append(body["text"])
            self.send_response(webhook.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    webhook.url = f"http://127.0.0.1:{server.server_port}/services/{SECRET}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield webhook
    finally:
        webhook.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()
