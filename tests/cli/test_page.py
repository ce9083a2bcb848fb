"""What the commands ask of a page under `stats_path`: with whom they share its token."""

from __future__ import annotations

import socket
import threading

import pytest

from glasscache.cli import main
from tests.asgi.site import Origin
from tests.support.servers import live_server


@pytest.mark.parametrize("command", [["stats"], ["invalidate", "--all", "--at"]])
def test_where_a_page_leads_elsewhere_the_token_does_not_follow(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    other = Origin()
    with live_server(other) as elsewhere:
        there = f"http://127.0.0.1:{elsewhere.port}/stats"
        with live_server(Origin(status=302, headers=[(b"location", there.encode())])) as server:
            assert main([*command, f"http://127.0.0.1:{server.port}/stats", "--token", "a secret"]) == 1
    told = capsys.readouterr().err
    assert "answers 302" in told
    assert f"it leads to {there}: ask there" in told
    assert "a secret" not in told
    assert [scope for scope in other.scopes if scope["type"] == "http"] == []


def test_what_is_no_http_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"+PONG\r\n\r\n")

        speaker = threading.Thread(target=speak)
        speaker.start()
        assert main(["stats", f"http://127.0.0.1:{server.getsockname()[1]}/stats"]) == 1
        speaker.join()
    assert "does not answer: +PONG" in capsys.readouterr().err
