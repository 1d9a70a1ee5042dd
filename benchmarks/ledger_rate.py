"""How many attempts a second does the ledger take in, in PostgreSQL and in SQLite, and what does reading and summing them cost?

A private PostgreSQL with its defaults (fsync on) on a Unix socket; batches as a controller writes them. Rows have labels and a
line of output each, as those of a parameter sweep have.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from _record import Bar, argument_parser, finish, machine_facts

from ergates.cluster.attempt import Attempt, Kept, Outcome, Output
from ergates.cluster.job import JobSpec
from ergates.cluster.task import JobId, TaskId
from ergates.cluster.usage import Usage
from ergates.drivers.ledgers.address import ledger_address
from ergates.drivers.ledgers.open_ledger import OpenLedger, open_ledger
from ergates.taskqueue.ledger import DrainBatch, LedgerJob, LedgerRow
from ergates.units import Bytes, Nanoseconds, UsdMicros

START = 1_700_000_000 * 10**9
BATCHES = (500, 5000)
BAR_ROWS_PER_S = 50_000


def row(uid: str, number: int) -> LedgerRow:
    usage = Usage(
        wall_ns=Nanoseconds(2 * 10**9 + number),
        cpu_ns=Nanoseconds(10**9),
        peak_bytes=Bytes(123_456_789),
        peak_label="sampled",
        peak_with_cache_bytes=Bytes(234_567_890),
        cost_usd_micros=UsdMicros(17),
    )
    made = Attempt(
        number=1,
        outcome=Outcome.FAILED if number % 50 == 0 else Outcome.SUCCEEDED,
        worker=f"6f1c2a34-0000-4000-8000-{number % 200:012}",
        host=f"node{number % 200}.cluster",
        started_ns=Nanoseconds(START + number * 10**6),
        ended_ns=Nanoseconds(START + number * 10**6 + 2 * 10**9),
        exit_code=0,
        reason="exit code 1" if number % 50 == 0 else "",
        usage=usage,
        output=Output(pack="6f1c2a34-1", offset=number * 40, stdout_bytes=22),
    )
    return LedgerRow(
        job_uid=uid,
        row=number,
        task=TaskId(number),
        attempt=made,
        labels={"seed": str(number), "size": str(number % 16)},
        kept=Kept(stdout=b"result 0.1234567890123\n"),
    )


def batches(uid: str, rows: int, size: int) -> list[DrainBatch]:
    spec = JobSpec(key=uid, name="sweep")
    job = LedgerJob(uid=uid, queue="default", id=JobId("j1"), spec=spec, submitted_ns=Nanoseconds(START), total=rows)
    made = [row(uid, number) for number in range(1, rows + 1)]
    return [
        DrainBatch(jobs=(job,), rows=tuple(made[start : start + size]), token=b"") for start in range(0, rows, size)
    ]


@contextmanager
def private_server(folder: Path) -> Iterator[str]:
    """A URL of an empty PostgreSQL with its default settings, as another user when this one is root."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    if as_user:
        subprocess.run(["chown", "postgres", str(folder)], check=True)

    def run(*argv: str) -> None:
        subprocess.run([*as_user, str(programs / argv[0]), *argv[1:]], check=True, cwd="/", stdout=subprocess.DEVNULL)

    data = str(folder / "data")
    run("initdb", "-D", data, "-A", "trust", "-U", "erg", "--locale=C", "-E", "UTF8")
    listening = f"-c listen_addresses='' -c unix_socket_directories={folder}"
    run("pg_ctl", "-D", data, "-o", listening, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://erg@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def rate(rows: int, call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return rows / (time.perf_counter() - begun)


def measure(kind: str, ledger: OpenLedger, rows: int, turn: int, note: Callable[[str, float], None]) -> None:
    for size in BATCHES:
        uid = f"{turn}-{size}"
        made = batches(uid, rows, size)
        new: list[int] = []
        note(f"{kind}_rows_per_s_batch_{size}", rate(rows, lambda: new.extend(map(ledger.write, made))))  # noqa: B023
        assert sum(new) == rows
        note(f"{kind}_again_rows_per_s_batch_{size}", rate(rows, lambda: list(map(ledger.write, made))))  # noqa: B023
    note(f"{kind}_read_rows_per_s", rate(rows, lambda: sum(1 for _ in ledger.attempts(f"{turn}-5000", kept=False))))
    for by in ("job", "host", "label:size"):
        begun = time.perf_counter()
        ledger.sums(by)
        note(f"{kind}_sum_by_{by.partition(':')[0]}_s", time.perf_counter() - begun)


def main() -> None:
    parser = argument_parser(__doc__ or "", default_rounds=5)
    parser.add_argument("--rows", type=int, default=100_000, help="attempts of each measurement (default: %(default)s)")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.rounds = min(options.rows, 20_000), 1
    facts = machine_facts()
    results: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        results.setdefault(name, []).append(value)
        print(f"  {name:44} {value:12,.4g}", file=sys.stderr, flush=True)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="erg-")))
        server = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="erg-")))
        urls = {"postgresql": stack.enter_context(private_server(server)), "sqlite": str(folder / "ledger.db")}
        ledgers = {kind: stack.enter_context(closing(open_ledger(ledger_address(url)))) for kind, url in urls.items()}
        for turn in range(options.rounds):
            for kind in sorted(ledgers, reverse=bool(turn % 2)):
                measure(kind, ledgers[kind], options.rows, turn, note)
    middle = {name: statistics.median(values) for name, values in results.items()}
    for name, value in middle.items():
        print(f"{name:46} {value:12,.4g}")
    bars = [
        Bar(f"new rows/s into {kind}, batches of 5000", middle[f"{kind}_rows_per_s_batch_5000"], BAR_ROWS_PER_S)
        for kind in ("postgresql", "sqlite")
    ]
    finish("ledger_rate", options, facts, dict(results), bars)


if __name__ == "__main__":
    main()
