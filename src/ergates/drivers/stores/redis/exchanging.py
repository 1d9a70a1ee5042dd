"""The worker's side of the hot call: numbered, so that a lost answer is asked again and not carried out again; and what a worker
holds, so that it can say so to a server that has forgotten.

When the connection breaks in an exchange nobody knows whether it was carried out. The request is remembered, and repeated
under its number before the next exchange; what it granted and refused is joined to the next answer.

When another server process answers (its run id says so), the last second of the old one may be lost. Then the worker's
commits of the last seconds are offered again, and all leases it holds are named (lua/adopt.lua).
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ergates.cluster.node import WorkerInfo, WorkerLoad, WorkerOrders
from ergates.cluster.task import JobId
from ergates.drivers.stores.redis.gangs import gang_ends_of, seat_of
from ergates.drivers.stores.redis.names import job_number, number_or_none, to_json
from ergates.drivers.stores.redis.session import Session
from ergates.drivers.stores.redis.wire import (
    SEAT,
    Core,
    Granted,
    Rest,
    decode_core,
    decode_rest,
    handed_back,
    leases_of,
    offers_of,
    pack_commit,
    pack_row,
    places_of,
)
from ergates.errors import StoreFullError, StoreUnavailableError
from ergates.taskqueue.store import Commit, Exchanged, Want
from ergates.units import SECOND_NS, Nanoseconds

COMMITS_AT_ONCE = 1000
OFFERED_AGAIN_NS = 10 * SECOND_NS
"""A server with `appendfsync everysec` loses at most two seconds; counted back from the last answer."""
REMEMBERED_MAX = 50_000
ADOPTED_AT_ONCE = 500
LEADS = (0,)
"""Where a commit of a gang's member has its rank: of the one that keeps its lease until all have ended."""
Row = tuple[int, int, int]
_rows = msgspec.msgpack.Decoder(list[Row])


@dataclass(slots=True)
class _Call:
    """One numbered request as it was sent. `rows` are its commits as (job, task, fence), `attempts` their numbers."""

    number: int
    commits: list[Any]
    blobs: list[bytes]
    wants: list[tuple[int, ...]]
    rows: list[Row]
    attempts: list[int]


class _Sent(msgspec.Struct, gc=False):
    """A commit that was accepted: when, what was sent, and the attempt it was (0: none). Many are kept, none in a cycle."""

    at_ns: int
    commit: Any
    blob: bytes
    attempt: int


@dataclass(slots=True)
class _Life:
    """One worker as this process knows it."""

    info: WorkerInfo | None = None
    registered: str = ""
    """When, as the server was told."""
    asker: str = field(default_factory=lambda: secrets.token_hex(4))
    number: int = 0
    run_id: str = ""
    pending: _Call | None = None
    lost: list[Core] = field(default_factory=list)
    """Answers that came late: their leases have not been handed on yet."""
    settled: dict[Row, bool] = field(default_factory=dict)
    """Commits of lost exchanges whose fate is known: whether they were refused."""
    revoked: set[Row] = field(default_factory=set)
    """Leases a restarted server gave to somebody else."""
    held: dict[Row, Granted] = field(default_factory=dict)
    uids: dict[int, str] = field(default_factory=dict)
    """Which job had a number when its tasks were leased: a server that forgot the job gives its number to another."""
    led: set[Row] = field(default_factory=set)
    """Those of `held` that are gangs whose leader has ended here: it waits for the others."""
    recent: deque[_Sent] = field(default_factory=lambda: deque(maxlen=REMEMBERED_MAX))
    """Accepted commits."""

    def forget_led(self, gone: set[Row]) -> list[Row]:
        """Of these, the gangs that nobody needs to wait for any more: there is nobody who could say that they have ended."""
        rows = sorted(gone & self.led)
        for row in rows:
            del self.held[row]
        self.led.difference_update(rows)
        return rows


class Exchanging:
    """All workers that speak through one store object: usually one."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lives: dict[str, _Life] = {}

    def register(self, info: WorkerInfo, now_ns: int) -> None:
        """See Exchanger.register."""
        registered = str(now_ns)
        self._session.run("register", [info.id, info.host, to_json(info, "the worker"), registered], now_ns)
        self._lives[info.id] = _Life(info=info, registered=registered, run_id=self._session.connection().run_id)

    def leave(self, worker: str, now_ns: int) -> None:
        """See Exchanger.leave."""
        self._session.run("leave", worker, now_ns)
        self._lives.pop(worker, None)

    def exchange(
        self,
        worker: str,
        commits: Sequence[Commit],
        want: Sequence[Want],
        now_ns: int,
        jobs: Sequence[JobId],
        unfit: Sequence[int],
        load: WorkerLoad | None,
        orders_seen: int,
    ) -> Exchanged:
        """See Exchanger.exchange."""
        asked = [job_number(job) for job in jobs] if jobs else []
        life = self._lives.get(worker)
        if life is None:
            life = self._lives[worker] = _Life()
        self._settle(worker, life, now_ns, asked, unfit)
        refused: list[Row] = []
        new = self._new_commits(life, commits, refused)
        wants: list[tuple[int, ...]] = _less_what_came_late(
            [(number_or_none(w.job), w.class_id, w.priority, w.count) for w in want if w.copy_of is None], life.lost
        )
        wants += [(number_or_none(w.job), 0, 0, 0, *w.copy_of) for w in want if w.copy_of is not None]
        while len(new) > COMMITS_AT_ONCE:
            part, new = new[:COMMITS_AT_ONCE], new[COMMITS_AT_ONCE:]
            core, _ = self._send(worker, life, part, [], now_ns, asked, unfit, None, orders_seen)
            life.lost.append(core)
            life.settled |= {row: row in core.refused for row in map(_row_of, part)}  # should a later part be lost
            refused += core.refused
        core, rest = self._send(worker, life, new, wants, now_ns, asked, unfit, load, orders_seen)
        return self._answer(life, core, rest, refused)

    # --- what was lost ----------------------------------------------------------------------------

    def _settle(self, worker: str, life: _Life, now_ns: int, asked: Sequence[int], unfit: Sequence[int]) -> None:
        """Make sure that server and worker agree on what happened before."""
        connection = self._session.connection()
        connection.open()
        if life.run_id != connection.run_id:
            if life.run_id:
                self._adopt(worker, life, now_ns)
            life.run_id = connection.run_id
        call = life.pending
        if call is None:
            return
        core, _ = self._ask(worker, life, call, now_ns, asked, unfit, None, 1 << 40, again=True)
        refused = set(core.refused)
        life.settled |= {row: row in refused for row in call.rows}
        life.lost.append(core)

    def _new_commits(self, life: _Life, commits: Sequence[Commit], refused: list[Row]) -> list[Commit]:
        """Those whose fate is not known from an exchange whose answer came late."""
        if not life.settled:
            return list(commits)
        new = []
        for commit in commits:
            row = _row_of(commit)
            was_refused = life.settled.pop(row, None)
            if was_refused is None:
                new.append(commit)
            elif was_refused:
                refused.append(row)
        return new

    def _adopt(self, worker: str, life: _Life, now_ns: int) -> None:
        """Tell a server that may have forgotten what this worker holds and what it committed lately."""
        info = "" if life.info is None else to_json(life.info, "the worker")
        host = "" if life.info is None else life.info.host
        pending = set() if life.pending is None else set(life.pending.rows)
        number = life.pending.number if life.pending is not None else 1 << 40
        held: list[Any] = [(*row, 0, row in pending, bool(some.gang)) for row, some in life.held.items()]
        recent = list(life.recent)
        held += [(*entry.commit[:3], entry.attempt, False, False) for entry in recent if entry.attempt]
        taken: set[Row] = set()
        for start in range(0, max(len(held), len(recent), 1), ADOPTED_AT_ONCE):
            part = slice(start, start + ADOPTED_AT_ONCE)
            request = [
                worker, host, info, life.registered, life.asker, number, held[part], [entry.commit for entry in recent[part]],
                list(life.uids.items()),
            ]  # fmt: skip
            (answer,) = self._session.run("adopt", request, now_ns, [entry.blob for entry in recent[part]])
            taken |= {(job, task, fence) for job, task, fence in _rows.decode(answer)}
        for entry in recent:
            entry.at_ns = now_ns  # this server may lose them once more
        life.revoked |= taken & life.held.keys()

    # --- one request ------------------------------------------------------------------------------

    def _send(
        self,
        worker: str,
        life: _Life,
        commits: Sequence[Commit],
        wants: Sequence[tuple[int, ...]],
        now_ns: int,
        asked: Sequence[int],
        unfit: Sequence[int],
        load: WorkerLoad | None,
        orders_seen: int,
    ) -> tuple[Core, Rest]:
        host = "\0" if life.info is None else life.info.host
        packed = [pack_commit(self._session, commit) for commit in commits]
        life.number += 1
        call = _Call(
            number=life.number,
            commits=packed,
            blobs=[pack_row(commit, worker, host) for commit in commits],
            wants=list(wants),
            rows=[commit[:3] for commit in packed],
            attempts=[0 if commit.attempt is None else commit.attempt.number for commit in commits],
        )
        return self._ask(worker, life, call, now_ns, asked, unfit, load, orders_seen)

    def _ask(
        self,
        worker: str,
        life: _Life,
        call: _Call,
        now_ns: int,
        asked: Sequence[int],
        unfit: Sequence[int],
        load: WorkerLoad | None,
        orders_seen: int,
        *,
        again: bool = False,
    ) -> tuple[Core, Rest]:
        told = False if load is None else to_json(load, "the load")
        request = [
            worker, life.asker, call.number, call.commits, call.wants, asked, unfit, told, orders_seen, again,
        ]  # fmt: skip
        try:
            packed_core, packed_rest, *blobs = self._session.run("exchange", request, now_ns, call.blobs, life.run_id)
        except StoreUnavailableError:
            life.pending = call
            raise
        except StoreFullError:
            self._session.run("beat", worker, now_ns)  # what cannot be committed now must not be taken away meanwhile
            raise
        life.pending = None
        core, rest = decode_core(packed_core), decode_rest(packed_rest)
        rest.blobs = blobs
        if rest.stale:
            core.refused = call.rows
        self._note(life, call, core, now_ns)
        return core, rest

    def _note(self, life: _Life, call: _Call, core: Core, now_ns: int) -> None:
        """Remember what this worker holds and what it committed lately."""
        refused = set(core.refused) if core.refused else ()
        recent, held = life.recent, life.held
        for place, row in enumerate(call.rows):
            seat = call.commits[place][3] == SEAT
            if seat and call.commits[place][10] == LEADS and row in held and row not in refused:
                some = held.get(row)
                life.led.add(row)
            else:
                some = held.pop(row, None)
                life.led.discard(row)
            if some is not None and row not in refused:
                # What a gang did is never taken for an ordinary task's end by a server that forgot the gang.
                number = 0 if some.gang else call.attempts[place]
                recent.append(_Sent(now_ns, call.commits[place], call.blobs[place], number))
            elif some is not None and not seat:
                # A server that forgets why it refused this (a copy was first, say) gets the lease back: it does not run any more.
                recent.append(_Sent(now_ns, handed_back(row, some), b"", 0))
        while recent and recent[0].at_ns < now_ns - OFFERED_AGAIN_NS:
            recent.popleft()
        for some in core.granted:
            life.uids[some.job] = some.uid
            for place in range(some.size):
                held[some.job, some.first + place, some.fence + place] = some

    def _answer(self, life: _Life, core: Core, rest: Rest, refused: Sequence[Row]) -> Exchanged:
        granted = core.granted
        if life.lost:
            granted = [some for late in life.lost for some in late.granted] + granted
        session = self._session
        leases = leases_of(session, granted)
        revoked = set(rest.revoked)
        if life.revoked:
            gone = life.revoked & life.held.keys()
            revoked |= gone - life.led
            refused = [*refused, *life.forget_led(gone)]
        answer = Exchanged(
            leases=leases,
            refused=places_of([*refused, *core.refused]) if refused or core.refused else (),
            offers=offers_of(session, rest.offers),
            revoked=places_of(sorted(revoked)) if revoked else (),
            next_ready_ns=None if rest.next_ready_us is False else Nanoseconds(rest.next_ready_us * 1000),
            open_tasks=rest.open_tasks,
            stale=rest.stale,
            orders=msgspec.json.decode(rest.orders, type=WorkerOrders) if rest.orders else None,
            seat=seat_of(rest.seat),
            gang_ends=gang_ends_of(rest.gang_ends, rest.blobs) if rest.gang_ends else (),
        )
        life.lost.clear()
        life.settled.clear()
        if rest.stale:
            life.held.clear()
            life.revoked.clear()
            life.led.clear()
        return answer


def _row_of(commit: Commit) -> Row:
    return number_or_none(commit.job), int(commit.task), commit.fence


def _less_what_came_late(wants: list[tuple[int, ...]], late: Sequence[Core]) -> list[tuple[int, ...]]:
    """What a lost answer had granted is not asked for a second time."""
    if not late:
        return wants
    extra: dict[tuple[int, int, int], int] = {}
    for core in late:
        for some in core.granted:
            row = some.job, some.class_id, some.priority
            extra[row] = extra.get(row, 0) + some.size
    left: list[tuple[int, ...]] = []
    for job, class_id, priority, count in wants:
        less = min(count, extra.get((job, class_id, priority), 0))
        if less:
            extra[job, class_id, priority] -= less
        left.append((job, class_id, priority, count - less))
    return left
