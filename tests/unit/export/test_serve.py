import threading
import urllib.error
import urllib.request

import pytest

from mouselift.errors import InputError
from mouselift.export.serve import address_of, open_in_browser, page_server


def test_the_page_is_served_and_nothing_else() -> None:
    with page_server("<p>müsli</p>") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with urllib.request.urlopen(address_of(server), timeout=10) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert answer.read().decode() == "<p>müsli</p>"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address_of(server) + "../etc/passwd", timeout=10)
        with pytest.raises(InputError, match="expected a free port"):
            page_server("", server.server_port)
        server.shutdown()


def test_no_browser_is_opened_without_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("webbrowser.open", lambda _: pytest.fail("opened"))
    assert open_in_browser("http://127.0.0.1:1/") is False
