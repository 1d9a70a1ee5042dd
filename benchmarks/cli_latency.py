"""How long does the command line keep somebody waiting? `erg --help`; submitting a million commands; status of that job.

The million commands differ from each other; their file is written before the clock starts. Peak memory is the largest
resident set of the `erg` process.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from _record import ERG, Bar, CommandRun, argument_parser, finish, machine_facts, run_command

MIB = 1024**2


def write_commands(path: Path, count: int) -> None:
    """Lines as people have them: a program, a seed, an output file; 45 bytes each or so."""
    with open(path, "w") as lines:
        lines.writelines(f"./simulate --seed {number} --out results/{number}.json\n" for number in range(count))


def median_ms(argv: list[str], folder: Path, times: int) -> float:
    """Median wall time of a short command, the first (cold) run left out."""
    run_command(argv, folder)
    return statistics.median(run_command(argv, folder).seconds for _ in range(times)) * 1000


def submit(folder: Path, count: int) -> CommandRun:
    """One submission into an empty store."""
    write_commands(folder / "commands.txt", count)
    return run_command([ERG, "submit", "commands.txt"], folder, log=folder / "log")


def main() -> None:
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--tasks", type=int, default=1_000_000)
    options = parser.parse_args()
    if options.quick:
        options.tasks, options.rounds = min(options.tasks, 10_000), 1
    facts = machine_facts()
    times = 3 if options.quick else 21
    submissions: list[CommandRun] = []
    helps_ms: list[float] = []
    statuses_ms: list[float] = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            submissions.append(submit(folder, options.tasks))
            helps_ms.append(median_ms([ERG, "--help"], folder, times))
            statuses_ms.append(median_ms([ERG, "status"], folder, times))
            stored = sum(
                path.stat().st_size for path in folder.rglob("*") if path.is_file() and ".ergates" in path.parts
            )
            print(
                f"round {number + 1}: submit {submissions[-1].seconds:.2f} s, {submissions[-1].peak_rss_bytes / MIB:.0f} MiB,"
                f" {stored / MIB:.0f} MiB on disk; --help {helps_ms[-1]:.0f} ms; status {statuses_ms[-1]:.0f} ms"
            )
    submit_s = statistics.median(run.seconds for run in submissions)
    submit_mib = max(run.peak_rss_bytes for run in submissions) / MIB
    results = {
        "submit_seconds": [run.seconds for run in submissions],
        "submit_peak_rss_mib": [run.peak_rss_bytes / MIB for run in submissions],
        "help_ms": helps_ms,
        "status_ms": statuses_ms,
    }
    bars = [
        Bar(f"seconds to submit {options.tasks:,} commands", submit_s, 10, at_least=False),
        Bar("MB of memory that took (largest of the rounds)", submit_mib * MIB / 1e6, 300, at_least=False),
        Bar("ms for erg status", statistics.median(statuses_ms), 100, at_least=False),
        Bar("ms for erg --help", statistics.median(helps_ms), 150, at_least=False),
    ]
    finish("cli_latency", options, facts, results, bars)


if __name__ == "__main__":
    main()
