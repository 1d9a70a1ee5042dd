"""How fast is simulated time? Events a second of the engine alone, of a network on it, and of a whole task queue.

The engine: 10,000 targets that each wake once a simulated second for 600 s, six million events. The network: the same
targets send each other messages with random delays. The queue: one node that packs 200 tasks, with the policy of
production inside, without and with the laws checked after every event.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from _record import Bar, argument_parser, finish, in_turns, machine_facts, medians

from ergates.simulation.engine import Deliver, Engine
from ergates.simulation.network import Network
from ergates.simulation.scenarios import ramps
from ergates.simulation.simulate import run_scenario
from ergates.taskqueue.node_settings import NodeSettings

SECOND = 1_000_000_000


def ticking(targets: int, seconds: int) -> float:
    engine = Engine(1)
    rng = engine.stream("phases")

    def make(name: str) -> Callable[[Any, int], tuple[Deliver]]:
        return lambda event, now_ns: (Deliver(now_ns + SECOND, name, event),)

    for number in range(targets):
        name = f"n{number}"
        engine.attach(name, make(name))
        engine.at(rng.randrange(SECOND), name, None)
    return timed(engine, seconds * SECOND)


def chatting(targets: int, seconds: int) -> float:
    engine = Engine(1)
    network = Network(engine)
    rng = engine.stream("peers")

    def make(name: str) -> Callable[[Any, int], tuple[Deliver] | None]:
        def handle(event: Any, now_ns: int) -> tuple[Deliver] | None:
            if event is None:
                return None
            network.send(name, f"n{rng.randrange(targets)}", None)
            return (Deliver(now_ns + SECOND, name, event),)

        return handle

    for number in range(targets):
        name = f"n{number}"
        engine.attach(name, make(name))
        engine.at(rng.randrange(SECOND), name, "wake")
    return timed(engine, seconds * SECOND)


def timed(engine: Engine, until_ns: int) -> float:
    started = time.perf_counter()
    engine.run(until_ns)
    return engine.events / (time.perf_counter() - started)


def packing(check: bool) -> float:
    started = time.perf_counter()
    result = run_scenario(ramps(1), "ours", 1, settings=NodeSettings(), check=check)
    return result.events / (time.perf_counter() - started)


def main() -> None:
    options = argument_parser(__doc__ or "", default_rounds=3).parse_args()
    targets, seconds = (1_000, 10) if options.quick else (10_000, 600)
    facts = machine_facts()
    figures = in_turns(
        {
            "engine": lambda: ticking(targets, seconds),
            "engine and network": lambda: chatting(targets, max(1, seconds // 10)),
            "queue": lambda: packing(check=False),
            "queue, laws checked": lambda: packing(check=True),
        },
        options.rounds,
    )
    middle = medians(figures)
    print("\n".join(f"{name:24} {rate:12,.0f} events/s" for name, rate in middle.items()))
    bars = [
        Bar("seconds for 10,000 targets x 600 s, one event a second each", 6e6 / middle["engine"], 12.0, at_least=False)
    ]
    finish("simulation_rate", options, facts, {"events_per_s": figures, "medians": middle}, bars)


if __name__ == "__main__":
    main()
