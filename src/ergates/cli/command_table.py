"""Every command with its one-line help, in the order and under the headings of `erg --help`."""

from __future__ import annotations

SECTIONS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Run work",
        (
            ("run", "Run a file of commands, or a template with its parameters, here and now."),
            ("submit", "Put a job into the store without running it."),
            ("close", "An open job takes no more tasks."),
            ("edit", "Change many waiting tasks at once: priority, memory, command; run some again."),
            ("retry", "Take failed or cancelled tasks back into the queue."),
            ("cancel", "Cancel jobs or some of their tasks."),
            ("forget", "Remove finished jobs from the store; the ledger keeps what it has of them."),
            ("pause", "Start no more tasks of jobs until they are resumed."),
            ("resume", "Let paused jobs go on."),
        ),
    ),
    (
        "See how it goes",
        (
            ("status", "All jobs, or one job: counts, rate, failures by reason."),
            ("top", "Jobs, workers and the longest tasks on one screen that keeps up."),
            ("wait", "Wait until jobs are finished."),
            ("logs", "What tasks printed."),
            ("explain", "Why a task waits, came back or failed."),
        ),
    ),
    (
        "Use the results",
        (
            ("export", "Tasks with parameters, outcome, time, memory and cost, as CSV or JSON Lines."),
            ("report", "Sums by job, label, host, outcome or reason; wasted work shown."),
        ),
    ),
    (
        "Learn something",
        (("experiment", "Programs on hosts, parameters swept and repeated: plan, run, compare, plot."),),
    ),
    (
        "This machine",
        (
            ("node", "Make this machine fit to be measured on, and put it back."),
            ("doctor", "Check what Ergates needs here, and say what to do about what is missing."),
            ("config", "Settings in effect, and where each comes from."),
            ("completion", "Print the script that completes `erg` in bash, zsh or fish."),
            ("simulate", "Try scheduling policies on simulated machines."),
        ),
    ),
    (
        "Many machines",
        (
            ("store", "A private store for many machines: start, stop, look, back up."),
            ("worker", "Workers of a cluster: start, see, change, place on other hosts, take down."),
            ("controller", "Move attempts into the ledger, take back tasks of dead workers, serve metrics."),
        ),
    ),
    (
        "For scripts written for others",
        (("distcomp", "distComp's manager: its verbs, filters and flags; takes over a live queue."),),
    ),
)
COMMANDS: dict[str, str] = {name: text for _, section in SECTIONS for name, text in section}
