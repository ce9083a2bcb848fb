"""An HTTP/2 client that knows it speaks HTTP/2 (RFC 9113, section 3.3), and says whatever it is told to say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded

from tests.support.patience import PATIENCE

Fields = list[tuple[str, str]]


@dataclass
class Answer:
    """What came on one stream."""

    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def cache_status(self) -> str:
        """What the cache says of it, without seconds."""
        return self.fields["cache-status"].removeprefix("glasscache; ").partition("; ttl=")[0]


async def ask(port: int, path: str, *requests: Fields) -> list[Answer]:
    """All requests at once, on one connection: each has these fields beside :method, :scheme and :path."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = H2Connection(H2Configuration(header_encoding="utf-8", validate_outbound_headers=False))
    try:
        async with asyncio.timeout(PATIENCE):
            client.initiate_connection()
            answers = {}
            for number, fields in enumerate(requests):
                pseudo = [(":method", "GET"), (":scheme", "http"), (":path", path)]
                stream = 2 * number + 1
                client.send_headers(stream, [*pseudo, *fields], end_stream=True)
                answers[stream] = Answer()
            missing = set(answers)
            while missing:
                writer.write(client.data_to_send())
                data = await reader.read(65_536)
                assert data, "the server has closed the connection"
                missing -= set(_take(client, data, answers))
    finally:
        writer.close()
        await writer.wait_closed()
    return list(answers.values())


def _take(client: H2Connection, data: bytes, answers: dict[int, Answer]) -> Iterable[int]:
    """Sort what came into the answers; which of them are whole."""
    for event in client.receive_data(data):
        match event:
            case ResponseReceived():
                answers[event.stream_id].fields = {str(name): str(value) for name, value in event.headers}
            case DataReceived():
                answers[event.stream_id].body += event.data
                client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                yield event.stream_id
