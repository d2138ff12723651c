"""The commands as a user gives them, inside the tests' process."""

import pytest

from mouselift import cli


def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit status, and what was written to stdout and stderr."""
    monkeypatch.setattr("sys.argv", ["mouselift", *arguments])
    status = 0
    try:
        cli.main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err
