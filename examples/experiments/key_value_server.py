"""A small key-value server: `GET key` and `PUT key length` with that many bytes behind it, one line each. Ends on TERM."""

from __future__ import annotations

import argparse
import asyncio
import signal


class Store:
    """All keys, in memory."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it hangs up."""
        while line := await reader.readline():
            match line.split():
                case [b"PUT", key, length]:
                    self._values[key] = await reader.readexactly(int(length))
                    writer.write(b"OK 0\n")
                case [b"GET", key]:
                    value = self._values.get(key, b"")
                    writer.write(b"OK %d\n" % len(value) + value)
                case _:
                    writer.write(b"BAD 0\n")
            await writer.drain()
        writer.close()


async def run(address: str, port: int) -> None:
    """Serve until told to end."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = await asyncio.start_server(Store().serve, address, port)
    print(f"listening on {address}:{port}", flush=True)
    await ended.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args()
    asyncio.run(run(chosen.address, chosen.port))


if __name__ == "__main__":
    main()
