"""What every ledger must do, whatever keeps it. A driver's test file subclasses `LedgerContract` and gives it a `rig` fixture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from ergates.cluster.attempt import Attempt, Kept, Outcome, Output
from ergates.cluster.job import JobSpec, RetryLimits
from ergates.cluster.task import JobId, TaskId
from ergates.cluster.usage import Usage
from ergates.drivers.ledgers import postgres_schema, sqlite_ledger
from ergates.drivers.ledgers.migrations import Migration, migrations
from ergates.drivers.ledgers.open_ledger import OpenLedger
from ergates.errors import StoreError, UsageError
from ergates.taskqueue.ledger import DrainBatch, LedgerJob, LedgerRow
from ergates.taskqueue.ledger_sums import LedgerSums, merged_sums, sums_of
from ergates.units import Bytes, Microjoules, Nanoseconds, UsdMicros

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
OUTCOMES = tuple(Outcome)


@dataclass
class LedgerRig:
    """A fresh ledger under test.

    Args:
        open: a handle on it, as a process of its own would have it; the first one makes the tables.
        query: rows of plain SQL, as a person with psql or sqlite3 gets them.
        tables: the prefix of tables and views.
    """

    open: Callable[[], OpenLedger]
    query: Callable[[str], list[tuple[Any, ...]]]
    tables: str


def job(number: int = 1, queue: str = "default", **fields: Any) -> LedgerJob:
    spec = JobSpec(key=f"key {number}", name=f"name {number}", labels={"team": f"t{number}"}, **fields)
    at = Nanoseconds(START + number * SECOND)
    return LedgerJob(uid=f"uid-{number}", queue=queue, id=JobId(f"j{number}"), spec=spec, submitted_ns=at, total=1000)


def row(
    number: int, of: LedgerJob | None = None, *, task: int | None = None, attempt: int = 1, **fields: Any
) -> LedgerRow:
    """A row with something in every field; what can differ differs by `number`."""
    values: dict[str, Any] = {
        "number": attempt,
        "outcome": Outcome.SUCCEEDED,
        "worker": f"w{number % 3}",
        "host": f"host-{number % 4}",
        "started_ns": START + number * SECOND,
        "ended_ns": START + (number + 2) * SECOND,
        "exit_code": 0,
        "reason": "",
        "usage": usage(number),
        "output": Output(pack="p-1", offset=number * 10, stdout_bytes=5, stderr_bytes=2),
        "predicted_bytes": number * 7,
    }
    own = {name: fields.pop(name) for name in ("labels", "kept") if name in fields}
    return LedgerRow(
        job_uid=(of or job()).uid,
        row=number,
        task=TaskId(number if task is None else task),
        attempt=Attempt(**(values | fields)),
        **own,
    )


def usage(number: int) -> Usage:
    return Usage(
        wall_ns=Nanoseconds(number * SECOND),
        cpu_ns=Nanoseconds(number * SECOND // 2),
        peak_bytes=Bytes(number * 1000),
        peak_label="sampled",
        peak_with_cache_bytes=Bytes(number * 2000),
        energy_uj=Microjoules(number * 11) if number % 2 else Microjoules(0),
        energy_label=("unknown", "measured", "unknown", "estimated")[number % 4],
        cost_usd_micros=UsdMicros(number) if number % 3 else None,
    )


def batch(*rows: LedgerRow, jobs: Sequence[LedgerJob] = (job(),)) -> DrainBatch:
    return DrainBatch(jobs=tuple(jobs), rows=rows, token=b"t")


def mixed_rows(of: LedgerJob, many: int) -> list[LedgerRow]:
    """Rows of all outcomes, each task at most once a success."""
    return [
        row(
            number,
            of,
            outcome=OUTCOMES[number % len(OUTCOMES)],
            reason=f"reason {number % 5}",
            labels={"size": str(number % 6)} if number % 7 else {},
        )
        for number in range(1, many + 1)
    ]


class LedgerContract:
    """Writing once and twice, reading, summing, and what people see with SQL."""

    # --- writing --------------------------------------------------------------------------------

    def test_a_new_ledger_is_empty(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        assert ledger.jobs() == ()
        assert list(ledger.attempts("nobody")) == []
        assert ledger.sums("job").sums == ()
        assert ledger.write(DrainBatch(jobs=(), rows=(), token=b"")) == 0

    def test_what_was_written_is_read_again(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        rows = [
            row(1, labels={"seed": "7", "größe": "très grand"}, kept=Kept(stdout=b"\0\xff out", result=b"\x80pickle")),
            row(2, outcome=Outcome.FAILED, exit_code=3, reason="exit code 3", kept=Kept()),
            row(3, outcome=Outcome.SIGNALLED, exit_code=None, signal=11, usage=Usage(), output=Output()),
            row(4, outcome=Outcome.LOST, worker="", host="", started_ns=0, predicted_bytes=0),
        ]
        assert ledger.write(batch(*rows)) == 4
        assert list(ledger.attempts("uid-1")) == rows
        assert list(rig.open().attempts("uid-1")) == rows

    def test_jobs_are_read_again_without_their_environment(self, rig: LedgerRig) -> None:
        one = job(1, retry_limits=RetryLimits(failures=3), cwd="/tmp/x", env={"TOKEN": "secret"}, max_failed_tasks=0)
        two, three = job(2, queue="other"), job(3)
        ledger = rig.open()
        ledger.write(batch(jobs=(one, three)))
        ledger.write(batch(jobs=(two,)))
        known = ledger.jobs()
        assert [entry.uid for entry in known] == ["uid-3", "uid-2", "uid-1"]
        assert known[1] == two
        assert known[2].spec == JobSpec(**{**_fields(one.spec), "env": {}})
        assert "secret" not in str(rig.query(f"SELECT * FROM {rig.tables}jobs"))

    def test_a_job_grows(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        small, large = job(1), LedgerJob(**{**_fields(job(1)), "total": 2000})
        for entry in (small, large, small):
            ledger.write(batch(jobs=(entry,)))
        assert [entry.total for entry in ledger.jobs()] == [2000]

    def test_writing_again_changes_nothing(self, rig: LedgerRig) -> None:
        ledger, other = rig.open(), rig.open()
        rows = mixed_rows(job(), 50)
        assert ledger.write(batch(*rows[:30])) == 30
        assert other.write(batch(*rows[:30])) == 0
        assert ledger.write(batch(*rows[20:])) == 20
        assert other.write(batch(*rows)) == 0
        assert list(other.attempts("uid-1")) == rows

    def test_the_first_of_one_number_stays(self, rig: LedgerRig) -> None:
        """The store was rolled back and counts anew: there is only one attempt of a number."""
        ledger = rig.open()
        assert ledger.write(batch(row(1))) == 1
        assert ledger.write(batch(row(9, task=1, reason="another"))) == 0
        assert list(ledger.attempts("uid-1")) == [row(1)]

    def test_a_second_success_is_kept_as_a_repeat(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        first, second, third = row(1), row(5, task=1, attempt=2), row(6, task=1, attempt=3)
        assert ledger.write(batch(first)) == 1
        assert ledger.write(batch(row(2), second, third)) == 3
        assert ledger.write(batch(third, second, first, row(2))) == 0
        assert [entry.row for entry in ledger.attempts("uid-1")] == [1, 2, 5, 6]
        useful = rig.query(f"SELECT task, attempt, useful, repeat FROM {rig.tables}attempts ORDER BY row")
        assert [tuple(map(int, line)) for line in useful] == [
            (1, 1, 1, 0), (2, 1, 1, 0), (1, 2, 0, 1), (1, 3, 0, 1),
        ]  # fmt: skip
        (sums,) = ledger.sums("outcome").sums
        assert (sums.attempts, sums.succeeded) == (4, 2)
        assert (sums.wall_ns, sums.wasted_wall_ns) == (14 * SECOND, 11 * SECOND)

    def test_two_successes_in_one_batch(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        both = [row(1), row(2, task=1, attempt=2)]
        assert ledger.write(batch(*both)) == 2
        assert ledger.sums("outcome").sums[0].succeeded == 1
        assert ledger.write(batch(*both)) == 0

    def test_all_of_a_batch_or_nothing(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        broken = LedgerRow(**{**_fields(row(2)), "row": 2**70})
        with pytest.raises((StoreError, OverflowError)):
            ledger.write(batch(row(1), broken))
        assert list(ledger.attempts("uid-1")) == [] and ledger.jobs() == ()
        assert ledger.write(batch(row(1))) == 1

    def test_text_that_no_database_holds(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        odd = "nul \0 byte \udcff end"
        spec = JobSpec(key=odd, name=odd, cwd=odd, labels={odd: odd})
        strange = LedgerJob(**{**_fields(job()), "spec": spec})
        ledger.write(batch(row(1, reason=odd, host=odd, labels={odd: odd}), jobs=(strange,)))
        (found,) = ledger.attempts("uid-1")
        shown = "nul \\x00 byte \\udcff end"
        assert found.attempt.reason == found.attempt.host == shown and found.labels == {shown: shown}
        assert ledger.jobs()[0].spec.cwd == shown
        assert ledger.write(batch(row(1, reason=odd), jobs=(strange,))) == 0

    def test_two_that_start_and_write_at_once(self, rig: LedgerRig) -> None:
        rows = mixed_rows(job(), 400)

        def write_all(_: int) -> int:
            ledger = rig.open()
            new = sum(ledger.write(batch(*rows[start : start + 40])) for start in range(0, 400, 40))
            ledger.close()
            return new

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(write_all, range(4))) == 400
        assert list(rig.open().attempts("uid-1")) == rows

    # --- reading --------------------------------------------------------------------------------

    def test_a_listing_continues(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        rows = [row(number) for number in range(1, 2600)]  # more than one page, with outputs and without
        ledger.write(batch(*reversed(rows)))
        assert list(ledger.attempts("uid-1")) == rows
        assert list(ledger.attempts("uid-1", since_row=1700)) == rows[1700:]
        assert list(ledger.attempts("uid-1", since_row=2599)) == []
        assert list(ledger.attempts("uid-1", since_row=3, kept=False)) == rows[3:]

    def test_a_listing_without_outputs(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        ledger.write(batch(row(1, kept=Kept(stdout=b"x" * 100_000, result=b"r"))))
        assert list(ledger.attempts("uid-1", kept=False)) == [row(1)]

    @pytest.mark.parametrize("first", [1, 30_000_000])
    def test_some_tasks(self, rig: LedgerRig, first: int) -> None:
        """Few are looked up, many are picked out on the way; ranges may overlap."""
        ledger = rig.open()
        rows = [row(number, task=first + number // 2, attempt=1 + number % 2) for number in range(1, 41)]
        ledger.write(batch(*rows))
        for last in (first + 5, first + 10**7):
            ids = ((first + 15, first + 15), (first + 2, last), (first + 3, first + 4), (9, 8))
            wanted = [entry for entry in rows if first + 2 <= entry.task <= last or entry.task == first + 15]
            assert list(ledger.attempts("uid-1", ids=ids)) == wanted
            assert list(ledger.attempts("uid-1", ids=ids, since_row=7)) == [e for e in wanted if e.row > 7]

    def test_jobs_do_not_mix(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        one, two = job(1), job(2)
        ledger.write(batch(row(1, one), row(1, two, reason="b"), jobs=(one, two)))
        assert list(ledger.attempts("uid-2", ids=((1, 1),))) == [row(1, two, reason="b")]

    # --- sums -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("by", ["job", "host", "worker", "outcome", "reason", "queue", "label:size", "label:team"])
    @pytest.mark.parametrize("some", [False, True])
    def test_sums_are_those_made_by_hand(self, rig: LedgerRig, by: str, some: bool) -> None:
        ledger = rig.open()
        jobs = {entry.uid: entry for entry in (job(1), job(2, queue="other"), job(3))}
        rows = [entry for one in jobs.values() for entry in mixed_rows(one, 60)]
        ledger.write(batch(*rows, jobs=tuple(jobs.values())))
        uids = ("uid-2", "uid-3") if some else ()
        counted = [entry for entry in rows if not some or entry.job_uid in uids]
        by_hand = merged_sums(sums_of(entry.attempt, _group(by, jobs[entry.job_uid], entry)) for entry in counted)
        assert ledger.sums(by, uids).sums == by_hand

    def test_what_a_sum_lacks(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        ledger.write(batch(row(1), row(2)))
        unknown = job(8)
        asked = (row(2), row(3), row(2, attempt=2), row(1, unknown))
        assert ledger.sums("host", but=asked).missing == asked[1:]

    def test_nothing_known_is_not_zero(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        ledger.write(batch(row(1, usage=Usage(wall_ns=Nanoseconds(5)))))
        (sums,) = ledger.sums("job").sums
        assert sums == LedgerSums(
            group="uid-1", attempts=1, succeeded=1, wall_ns=5, cpu_ns=0, wasted_wall_ns=0, wasted_cpu_ns=0, peak_bytes=0
        )

    @pytest.mark.parametrize("by", ["colour", "label:", "a.host; DROP TABLE jobs"])
    def test_groups_there_are_not(self, rig: LedgerRig, by: str) -> None:
        with pytest.raises(UsageError, match=r"cannot group by .*expected job, host"):
            rig.open().sums(by)

    def test_a_label_is_never_sql(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        key = "x') OR 1=1 -- \"$."
        ledger.write(batch(row(1, labels={key: "v"}), row(2)))
        assert [entry.group for entry in ledger.sums(f"label:{key}").sums] == ["", "v"]

    # --- what people see ------------------------------------------------------------------------

    def test_the_view_speaks_in_seconds_and_dollars(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        ledger.write(batch(row(5, outcome=Outcome.EVICTED, reason="memory", labels={"size": "3", "team": "mine"})))
        columns = "job, job_name, task, attempt, outcome, reason, host, worker, seconds, cpu_seconds, peak_bytes,"
        columns += " peak_label, cost_usd, joules, joules_label, job_key, queue"
        (found,) = rig.query(f"SELECT {columns} FROM {rig.tables}attempts")
        assert found == (
            "j1", "name 1", 5, 1, "evicted", "memory", "host-1", "w2", 5.0, 2.5, 5000, "sampled", 5e-6, 55e-6, "measured",
            "key 1", "default",
        )  # fmt: skip
        ((labels,),) = rig.query(f"SELECT labels ->> 'team' FROM {rig.tables}attempts")
        assert labels == "mine"

    def test_the_view_shows_what_is_not_known_as_null(self, rig: LedgerRig) -> None:
        ledger = rig.open()
        ledger.write(batch(row(4, started_ns=0, usage=Usage(), predicted_bytes=0)))
        columns = "started, peak_bytes, peak_with_cache_bytes, predicted_bytes, cost_usd, joules"
        assert rig.query(f"SELECT {columns} FROM {rig.tables}attempts") == [(None,) * 6]

    # --- its schema -----------------------------------------------------------------------------

    def test_a_newer_ledger_is_refused(self, rig: LedgerRig) -> None:
        rig.open().write(batch(row(1)))
        rig.query(f"INSERT INTO {rig.tables}schema_version(version, name) VALUES (99, 'later') RETURNING version")
        with pytest.raises(
            StoreError, match=r"newer Ergates \(schema 99, this one knows up to \d+\).*\n.*hint: update"
        ):
            rig.open()

    def test_a_ledger_of_an_older_version_is_brought_up_to_date(
        self, rig: LedgerRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rig.open().write(batch(row(1)))
        sql = f"CREATE TABLE {rig.tables}extra(x integer);\nINSERT INTO {rig.tables}extra VALUES (7);\n"
        for broken in (True, False):
            step = Migration(version=2, name="0002_extra.sql", sql=sql + ("no SQL at all;" if broken else ""))
            for module in (postgres_schema, sqlite_ledger):
                monkeypatch.setattr(module, "migrations", lambda dialect, step=step: (*migrations(dialect), step))
            if broken:
                with pytest.raises(StoreError, match="syntax error"):
                    rig.open()
                assert rig.query(f"SELECT max(version) FROM {rig.tables}schema_version") == [(1,)]
        with ThreadPoolExecutor(4) as pool:
            for ledger in pool.map(lambda _: rig.open(), range(4)):
                assert list(ledger.attempts("uid-1")) == [row(1)]
        assert rig.query(f"SELECT x FROM {rig.tables}extra") == [(7,)]
        monkeypatch.undo()
        with pytest.raises(StoreError, match="newer Ergates"):
            rig.open()

    def test_opening_again_keeps_all(self, rig: LedgerRig) -> None:
        rig.open().write(batch(row(1)))
        assert list(rig.open().attempts("uid-1")) == [row(1)]
        assert rig.query(f"SELECT version, name FROM {rig.tables}schema_version") == [(1, "0001_jobs_and_attempts.sql")]


def _group(by: str, of: LedgerJob, entry: LedgerRow) -> str:
    if by.startswith("label:"):
        return (of.spec.labels | entry.labels).get(by.removeprefix("label:"), "")
    if by in ("job", "queue"):
        return of.uid if by == "job" else of.queue
    return str(getattr(entry.attempt, by))


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}
