"""Reading a file: the whole grammar becomes these records, and short forms mean what one would expect."""

from __future__ import annotations

from pathlib import Path

import pytest

from ergates.drivers.nodes import catalogue
from ergates.errors import InputError
from ergates.experiment.plan import plan_runs
from ergates.experiment.reading.read_experiment import FILE_BYTES_MAX, parse_experiment, read_experiment
from ergates.experiment.reading.read_hosts import SETTINGS
from ergates.experiment.spec import (
    Axis,
    Comparison,
    Experiment,
    Figure,
    HostGroup,
    Measure,
    Program,
    Ready,
    Role,
    TimedSignal,
)
from ergates.units import GIB, MIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

EVERYTHING = Path(__file__).parent / "everything" / "everything.toml"


def seconds(number: float) -> Nanoseconds:
    return Nanoseconds(round(number * SECOND_NS))


def read(text: str, here: Path = Path("/nowhere")) -> Experiment:
    return parse_experiment(text, "test.toml", here)


@pytest.fixture(scope="module")
def everything() -> Experiment:
    return read_experiment(EVERYTHING)


def test_the_head(everything: Experiment) -> None:
    head = everything
    assert (head.name, head.source, head.here) == ("everything", str(EVERYTHING), str(EVERYTHING.parent))
    assert (head.description, head.repetitions, head.order, head.seed) == ("all of the grammar", 5, "interleaved", 42)
    assert (head.time_limit_ns, head.retries, head.settle_ns) == (seconds(120), 2, seconds(0.5))
    assert head.parallel
    assert (head.store, head.listen) == ("redis://db1", "10.0.0.5")


def test_hosts_and_roles(everything: Experiment) -> None:
    assert everything.hosts == (
        HostGroup(name="me", kind="local"),
        HostGroup(name="near", kind="ssh", count=3, hosts=("alpha", "beta1", "beta2")),
        HostGroup(
            name="spaces",
            kind="namespaces",
            count=4,
            rate_bit_s=100_000_000,
            delay_ns=seconds(0.002),
            cpus_milli=MilliCpus(500),
            memory_bytes=Bytes(512 * MIB),
            prepare=(("governor", "performance"), ("turbo", "off"), ("isolate", "2,3")),
        ),
        HostGroup(name="fake", kind="simulated", count=2, cpus_milli=MilliCpus(2000), memory_bytes=Bytes(GIB)),
        HostGroup(
            name="far",
            kind="ssh",
            count=3,
            hosts=("alice@gamma:2222", "delta01", "delta02"),
            directory="/scratch/runs",
            send=("tools", "setup.sh"),
            setup="setup.sh",
        ),
        HostGroup(
            name="batch", kind="slurm", count=8, options=("--partition=long", "--exclusive"), time_ns=seconds(5400)
        ),
    )
    assert everything.roles == (
        Role(name="server", group="spaces"),
        Role(name="client", group="spaces", count="{clients}"),
        Role(name="watcher", group="me"),
    )


def test_programs(everything: Experiment) -> None:
    assert everything.programs == (
        Program(
            name="server",
            role="server",
            command="./serve --port '{port}' --policy '{policy}' 'a word'",
            order=1,
            background=True,
            ready=Ready(port="{port}", within_ns=seconds(10)),
            stop_signal="INT",
            grace_ns=seconds(2.5),
            success=(0, 3),
            env=(("THREADS", "{clients}"), ("DEBUG", "true")),
            cwd="{here}/site",
            gather=("*.log", "/tmp/{run}.trace"),
        ),
        Program(
            name="client",
            role="client",
            command="{here}/load {server.address}:{port} --rate {load} > out.{index}.json",
            order=2,
            start_ns=seconds(1),
            stop_ns=seconds(30),
            signals=(
                TimedSignal(after_ns=seconds(5), signal="USR1"),
                TimedSignal(after_ns=seconds(10), signal="USR2"),
            ),
        ),
        Program(name="watch", role="watcher", command="vmstat 1", background=True, ready=Ready(line=r"^procs\s")),
        Program(name="touch", role="watcher", command="touch {folder}/up", ready=Ready(file="up")),
    )


def test_sweep(everything: Experiment) -> None:
    assert everything.sweep == (
        Axis(name="policy", values=("fcfs", "darc")),
        Axis(name="load", values=(0.1, 0.3, 0.5)),
        Axis(name="clients", values=(1, 2)),
        Axis(name="warm", values=(True, False)),
        Axis(name="one", values=(7,)),
    )
    assert [type(value) for value in everything.sweep[2].values] == [int, int]
    assert everything.exclude == (
        (("policy", "fcfs"), ("load", 0.3)),
        (("policy", "fcfs"), ("load", 0.5)),
        (("warm", False), ("clients", 1)),
    )
    assert everything.fixed == (("port", 9000), ("label", "x y"))
    # 2 x 3 x 2 x 2 points less 2 x 4 with fcfs, less 4 that are not warm and have one client of the other 4 pairs
    assert len(plan_runs(everything)) == (24 - 8 - 4) * 5


def test_measures_comparison_and_figures(everything: Experiment) -> None:
    assert everything.measures == (
        Measure(name="took", record="seconds", unit="s"),
        Measure(name="energy", record="joules", unit="J"),
        Measure(name="cpu", record="cpu_seconds", program="server", combine="sum", unit="s"),
        Measure(name="p99", program="client", file="out.{rank}.json", json="latency.p99", unit="us"),
        Measure(name="tail", program="client", file="latencies.csv", csv="latency_us", quantile=0.999, optional=True),
        Measure(name="rate", program="client", regex="rate=([0-9.]+)", combine="sum", better="higher"),
    )
    assert everything.comparison == Comparison(
        axis="policy", baseline="fcfs", measures=("p99", "tail"), statistic="mean", confidence=0.99, paired=True
    )
    assert everything.figures == (
        Figure(
            name="tails",
            x="load",
            y="p99",
            by="policy",
            panels="clients",
            kind="line",
            log_x=True,
            log_y=True,
            title="Tails",
        ),
        Figure(name="spread", kind="ecdf", x="", y="took"),
    )


def test_a_command_is_all_an_experiment_needs() -> None:
    experiment = read('program = "sleep 1"')
    assert experiment.name == "test"
    assert experiment.hosts == (HostGroup(name="here", kind="local"),)
    assert experiment.roles == (Role(name="main", group="here"),)
    assert experiment.programs == (Program(name="program", role="main", command="sleep 1"),)
    (run,) = plan_runs(experiment)
    assert (run.number, run.point, run.repetition) == (1, (), 1)


@pytest.mark.parametrize(
    "text",
    [
        '[program]\ncommand = "sleep 1"\nstop = "2s"',
        '[programs]\nprogram = { command = "sleep 1", stop = 2 }',
        '[hosts]\nhere = "local"\n[roles]\nmain = "here"\n[programs.program]\ncommand = ["sleep", "1"]\nstop = "2000ms"',
        '[hosts.here]\nkind = "local"\n[roles.main]\n[program]\nrole = "main"\ncommand = "sleep 1"\nstop = 2.0',
        '[roles]\nmain = 1\n[program]\ncommand = "sleep 1"\nstop = "2s"',
    ],
)
def test_short_forms_mean_the_same(text: str) -> None:
    experiment = read(text)
    assert experiment.hosts == (HostGroup(name="here", kind="local"),)
    assert experiment.roles == (Role(name="main", group="here"),)
    assert experiment.programs == (Program(name="program", role="main", command="sleep 1", stop_ns=seconds(2)),)


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("{ from = 0.1, to = 1.0, step = 0.1 }", tuple(number / 10 for number in range(1, 11))),
        ("{ from = 1, to = 1024, factor = 2 }", tuple(2**number for number in range(11))),
        ("{ from = 5, to = 1, step = -2 }", (5, 3, 1)),
        ("{ from = 1.0, to = 0.1, factor = 0.5 }", (1.0, 0.5, 0.25, 0.125)),
        ("{ from = 1, to = 2, step = 0.5 }", (1.0, 1.5, 2.0)),
        ("{ from = 3, to = 3, step = 1 }", (3,)),
        ('"lru"', ("lru",)),
        ('["1", 1]', ("1", 1)),
    ],
)
def test_ranges_are_exact_and_keep_their_kind(axis: str, values: tuple[object, ...]) -> None:
    found = read(f'program = "p {{x}}"\n[sweep]\nx = {axis}').sweep[0].values
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


def test_an_empty_list_gathers_no_file_but_the_output() -> None:
    assert [read(f'[program]\ncommand = "p"\n{line}').programs[0].gather for line in ("", "gather = []")] == [
        (),
        ("stdout",),
    ]


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ('command = "./run {seed}"', "{here}/run {seed}"),
        ('command = "../bin/run > out"', "{here}/../bin/run > out"),
        ('command = ["./a run", "./x"]', "'{here}/a run' ./x"),
        ('command = "./run"\ncwd = "/srv"', "./run"),
        ('command = "run ./x"', "run ./x"),
    ],
)
def test_a_program_named_by_a_path_is_beside_the_file(line: str, command: str) -> None:
    assert read(f"[program]\n{line}").programs[0].command == command


def test_a_command_may_be_an_axis() -> None:
    assert read('program = "{c}"\n[sweep]\nc = ["date", "hostname"]').programs[0].command == "{c}"


def test_defaults_that_depend_on_the_rest() -> None:
    experiment = read(
        """
        [programs]
        serve = { command = "serve", background = true }
        load = "load"
        [measure]
        rate = { json = "rate" }
        """
    )
    assert experiment.measures[0].program == "load", "the only one in the foreground"
    assert {program.role for program in experiment.programs} == {"main"}


def test_a_name_comes_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my first sweep!.toml"
    path.write_text('program = "true"')
    experiment = read_experiment(path)
    assert experiment.name == "my-first-sweep"
    assert experiment.here == str(tmp_path)


def test_the_folder_of_a_file_named_relatively(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "e.toml").write_text('program = "true"')
    monkeypatch.chdir(tmp_path)
    experiment = read_experiment("sub/e.toml")
    assert (experiment.source, experiment.here) == ("sub/e.toml", str(tmp_path / "sub"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_experiment(tmp_path / "none.toml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_experiment(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b'a = 1\n\nb = "\xff"\n')
    with pytest.raises(InputError, match="not UTF-8") as caught:
        read_experiment(tmp_path / "bytes.toml")
    assert caught.value.line == 3
    with (tmp_path / "large.toml").open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    with pytest.raises(InputError, match="too large"):
        read_experiment(tmp_path / "large.toml")


@pytest.mark.parametrize("kind", ["simulated", "namespaces", "slurm"])
def test_several_hosts_of_one_group(kind: str) -> None:
    experiment = read(
        f'program.command = "true"\nprogram.role = "b"\nhosts.x = {{ kind = "{kind}", count = 3 }}\nroles = {{ a = 1, b = 2 }}'
    )
    assert [role.group for role in experiment.roles] == ["x", "x"]


def test_every_setting_of_a_node_may_be_prepared() -> None:
    assert set(catalogue.SETTINGS) <= set(SETTINGS)
    for other_name in ("thp", "epp", "boost"):
        assert catalogue.setting_named(other_name).name in SETTINGS
