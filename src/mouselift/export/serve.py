"""One page shown by this computer's browser, without a file left behind."""

import os
import sys
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mouselift.errors import InputError

HOST = "127.0.0.1"  # nobody else can see the page; over ssh, a forwarded port can


def page_server(page: str, port: int = 0) -> ThreadingHTTPServer:
    """A server of one page, to this computer alone; `serve_forever` runs it, `server_close` ends it.

    Browsers that are confined (snap, Flatpak) cannot open files of /tmp, hence no file.

    Args:
        page: HTML.
        port: 0 takes a free one.

    Raises:
        InputError: If the port is taken.
    """
    body = page.encode("utf-8")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are nobody's news."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise InputError(f"expected a free port, found {port}: {error}") from None
    server.daemon_threads = True
    return server


def address_of(server: ThreadingHTTPServer) -> str:
    """Where its page is."""
    return f"http://{HOST}:{server.server_port}/"


def open_in_browser(address: str) -> bool:
    """Open a browser's window; False where there is no screen to open it on, or no browser."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False  # a browser for terminals would take over this one
    return webbrowser.open(address)
