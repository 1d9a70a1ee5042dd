"""A client of key_value_server.py: one connection, so many requests on their way at a time; half are PUT, half GET.

Prints one line of JSON; with --latencies every latency goes into a CSV file.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import random
import time
from collections import deque


async def _answer(reader: asyncio.StreamReader) -> None:
    line = await reader.readline()
    word, length = line.split()
    if word != b"OK":
        raise RuntimeError(f"the server said {line!r}")
    await reader.readexactly(int(length))


async def load(
    address: str, port: int, value_bytes: int, pipeline: int, requests: int, seed: int
) -> tuple[float, list[float]]:
    """Returns the seconds it took and the latency of each request, us."""
    rng = random.Random(seed)
    value = rng.randbytes(value_bytes)
    reader, writer = await asyncio.open_connection(address, port)
    sent: deque[float] = deque()
    latencies: list[float] = []
    began = time.perf_counter()
    for _ in range(requests):
        if len(sent) == pipeline:
            await _answer(reader)
            latencies.append((time.perf_counter() - sent.popleft()) * 1e6)
        key = b"k%d" % rng.randrange(1000)
        sent.append(time.perf_counter())
        writer.write(b"PUT %s %d\n" % (key, value_bytes) + value if rng.random() < 0.5 else b"GET %s\n" % key)
        await writer.drain()
    while sent:
        await _answer(reader)
        latencies.append((time.perf_counter() - sent.popleft()) * 1e6)
    took = time.perf_counter() - began
    writer.close()
    await writer.wait_closed()
    return took, latencies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--value-bytes", type=int, default=256)
    parser.add_argument("--pipeline", type=int, default=1, help="requests on their way at a time")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latencies", metavar="FILE")
    chosen = parser.parse_args()
    took, latencies = asyncio.run(
        load(chosen.address, chosen.port, chosen.value_bytes, chosen.pipeline, chosen.requests, chosen.seed)
    )
    if chosen.latencies:
        with open(chosen.latencies, "w", newline="") as file:
            csv.writer(file).writerows([["latency_us"], *([f"{latency:.1f}"] for latency in latencies)])
    print(json.dumps({"seconds": took, "requests_per_second": len(latencies) / took}))


if __name__ == "__main__":
    main()
