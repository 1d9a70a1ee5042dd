"""Wrong files: each mistake is named with its line and what was meant, all of them at once, and nothing of Python shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from ergates.errors import InputError
from ergates.experiment.reading.read_experiment import parse_experiment
from ergates.experiment.reading.read_problems import PROBLEMS_MAX, ExperimentFileError


def problems_of(text: str, here: Path = Path("/nowhere")) -> tuple[InputError, ...]:
    with pytest.raises(ExperimentFileError) as caught:
        parse_experiment(text, "bad.toml", here)
    return caught.value.problems


HEAD = 'program = "true"\n'
TWO_ROLES = """
[hosts]
lab = { kind = "namespaces", count = 3 }
[roles]
server = 1
client = 2
"""

# (text, line, what is said, what is expected or hinted)
CASES = [
    # unknown keys and names, with the nearest known one
    ('[programs.p]\ncomand = "true"\ncommand = "true"', 2, "[programs.p] has no key 'comand'", "did you mean command?"),
    ('[experiment]\nrepetition = 3\n[program]\ncommand = "true"', 2, "no key 'repetition'", "mean repetitions?"),
    (HEAD + "[swep]\nx = 1", 2, "the file has no key 'swep'", "did you mean sweep?"),
    ('hosts.a = "locl"\n' + HEAD, 1, "no 'locl'", "did you mean local?"),
    (HEAD + '[hosts.a]\nkind = "local"\nrate = "1mbit"', 4, "[hosts.a] of kind local has no key 'rate'", "known are"),
    (TWO_ROLES + '[programs.p]\nrole = "sever"\ncommand = "true"', 8, "no role 'sever'", "did you mean server?"),
    (HEAD + '[hosts]\nlab = "local"\n[roles]\na = "lap"', 5, "no hosts 'lap'", "did you mean lab?"),
    (HEAD + '[measure.m]\nprogram = "progam"\njson = "a"', 3, "no program 'progam'", "did you mean program?"),
    (HEAD + "[sweep]\nload = [1]\n[[exclude]]\nlod = 1", 5, "no axis 'lod'", "did you mean load?"),
    (HEAD + '[sweep]\np = ["lru"]\n[[exclude]]\np = "lur"', 5, "the axis has no value lur", "did you mean lru?"),
    (HEAD + '[sweep]\nload = [1]\n[compare]\naxis = "laod"\nbaseline = 1', 5, "no axis 'laod'", "did you mean load?"),
    (HEAD + '[sweep]\np = ["lru"]\n[compare]\naxis = "p"\nbaseline = "lrv"', 6, "no value lrv", "did you mean lru?"),
    (HEAD + '[compare]\naxis = "p"\nbaseline = 1', 3, "no axis 'p'", "[sweep] has no axis"),
    (HEAD + '[sweep]\np = [1]\n[compare]\naxis = "p"\nbaseline = 1\nmeasures = ["m"]', 7, "no measure 'm'", "there is none"),
    (HEAD + '[sweep]\nx = [1]\n[plot.f]\nx = "z"\ny = "m"\n[measure]\nm = "seconds"', 5, "no axis 'z'", "known are x"),
    (HEAD + '[sweep]\nx = [1]\n[plot.f]\nx = "x"\ny = "n"\n[measure]\nmm = "seconds"', 6, "no measure 'n'", "known are mm"),
    # templates with an unbound name
    ('[sweep]\nload = [1]\n[program]\ncommand = "p {laod}"', 4, "[program] command: nothing is bound to {laod}", "mean {load}?"),
    ('[program]\ncommand = "p {}"', 2, "nothing is bound to {}", "For the braces themselves write {{}}"),
    ('[program]\ncommand = "{}"', 2, "nothing is bound to {}", "bound are"),
    ('[program]\ncommand = "p {1}"', 2, "nothing is bound to {1}", ""),
    ('[program]\ncommand = "p {main.adress}"', 2, "nothing is bound to {main.adress}", "did you mean {main.address}?"),
    ('[program]\ncommand = ["p", "{x}"]', 2, "nothing is bound to {x}", ""),
    ('[program]\ncommand = "p"\nenv = { A = "1", B = "{x}" }', 3, "env B: nothing is bound to {x}", ""),
    ('[program]\ncommand = "p"\ncwd = "{x}"', 3, "cwd: nothing is bound to {x}", ""),
    ('[program]\ncommand = "p"\n[program.ready]\nport = "{prt}"\n[fixed]\nport = 1', 4, "{prt}", "did you mean {port}?"),
    ('[program]\ncommand = "p"\ngather = [\n"a",\n"{x}.log"]', 5, "gather: nothing is bound to {x}", ""),
    (HEAD + '[measure.m]\nfile = "{x}.json"\njson = "a"', 3, "[measure.m] file: nothing is bound to {x}", ""),
    (HEAD + 'hosts.l = { kind = "simulated", count = 9 }\n[roles.r]\ncount = "{clients}"', 4, "{clients}", "no axis"),
    # no runs, or too many
    (HEAD + "[sweep]\nload = []", 3, "has no value, so there would be no run", "a list of values"),
    (HEAD + "[experiment]\nrepetitions = 0", 3, "there would be no run", ""),
    (HEAD + "[sweep]\nx = [1, 2]\n[[exclude]]\nx = [1, 2]", 4, "every point is excluded", "leave some point in"),
    (HEAD + "[sweep]\nx = { from = 1, to = 9, step = -1 }", 3, "never gets from 1 to 9", "negative step"),
    (HEAD + "[sweep]\nx = { from = 1, to = 9, factor = 0.5 }", 3, "never gets from 1 to 9", "factor below 1"),
    (HEAD + "[sweep]\nx = { from = 0, to = 9, factor = 2 }", 3, "never gets from 0 to 9", ""),
    (HEAD + "[sweep]\nx = { from = 0, to = 1, step = 1e-9 }", 3, "more than 10,000 values", ""),
    (HEAD + "[sweep]\nx = { from = 1, to = 2 }", 3, "is no range", "step = 0.1"),
    (HEAD + "[sweep]\nx = { from = 1, to = 2, steps = 1 }", 3, "has no key 'steps'", "did you mean step?"),
    (HEAD + "[sweep]\nx = { from = 1, to = nan, step = 1 }", 3, "is nan", "a number"),
    (HEAD + "[sweep]\na = {from=1,to=999,step=1}\nb = {from=1,to=999,step=1}", 2, "998,001 runs", "at most 100,000"),
    (HEAD + "[sweep]\nx = [1,\n2,\n1.0]", 5, "has 1.0 twice", "repetitions = 5"),
    (HEAD + "[sweep]\nx = [1, [2]]", 3, "is a list", "a text, a number, true or false"),
    (HEAD + "[sweep]\nx = 2026-11-21", 3, "is a date or a time", "quotes"),
    (HEAD + "[sweep]\nx = [9223372036854775808]", 3, "is 9223372036854775808", "goes into quotes"),
    (HEAD + "[experiment]\nseed = 9223372036854775808", 3, "is 9223372036854775808", ""),
    (HEAD + '[experiment]\nsettle = "999999999999d"', 3, "cannot read '999999999999d'", "90s"),
    (HEAD + "[sweep]\nx = [inf]", 3, "is inf", "a number"),
    # names that have a meaning of their own, or are there twice
    (HEAD + "[sweep]\nseed = [1]", 3, "seed: this name has a meaning of its own", "another name"),
    (HEAD + "[fixed]\nhost = 1", 3, "host: this name has a meaning", ""),
    (HEAD + "[sweep]\nok = [1]", 3, "ok: this name has a meaning", ""),
    (HEAD + "[sweep]\nx = [1]\n[fixed]\nx = 1", 5, "[fixed] x is an axis of [sweep], too", "keep one"),
    (HEAD + '[sweep]\nx = [1]\n[measure]\nx = "seconds"', 5, "x is an axis or a constant, too", ""),
    (HEAD + '[measure]\nproblem = "seconds"', 3, "a column that every table has", ""),
    (HEAD + '[sweep]\n"a b" = [1]', 3, "cannot be the name of an axis", "letters, digits"),
    (HEAD + '[roles]\n"a.b" = 1', 3, "cannot be the name of a role", ""),
    (HEAD + '[experiment]\nname = "a/b"', 3, "cannot be 'a/b'", "letters"),
    (HEAD + '[hosts]\na = ["n1", "n2"]\nb = ["n2"]\n[roles]\nr = "a"', 4, "host n2 is in [hosts.a], too", ""),
    (HEAD + '[hosts]\na = ["n[1-3]", "n2"]\n[roles]\nr = "a"', 3, "names n2 twice", ""),
    # hosts
    (HEAD + "[hosts.a]\ncount = 2", 2, "[hosts.a] has no kind", "simulated"),
    (HEAD + '[hosts.a]\nkind = "local"\ncount = 2', 4, "this machine is one host", "namespaces"),
    (HEAD + '[hosts.a]\nkind = "ssh"', 2, "names no host", "node[1-4]"),
    (HEAD + "[hosts.a]\nhosts = []", 2, "names no host", ""),
    (HEAD + '[hosts]\na = ["n[3-1]"]', 3, "runs backwards", "node[01-16]"),
    (HEAD + '[hosts]\na = ["-oProxy=x"]', 3, "cannot read the host", ""),
    (HEAD + '[hosts.a]\nfile = "none.txt"', 3, "cannot read /nowhere/none.txt: No such file", ""),
    (HEAD + '[hosts.b]\nkind = "ssh"\nhosts = "n2"\nsend = ["x"]', 5, "no file or folder", ""),
    (HEAD + '[hosts.a]\nkind = "local"\nsetup = "none.sh"', 4, "no file /nowhere/none.sh", "a script"),
    (HEAD + '[hosts.a]\nkind = "namespaces"\nrate = "fast"', 4, "cannot read 'fast'", "100mbit"),
    (HEAD + '[hosts.a]\nkind = "simulated"\nmemory = "1 bag"', 4, "cannot read '1 bag'", "512MiB"),
    (HEAD + '[hosts.a]\nkind = "simulated"\ncpus = 0', 4, "cannot read 0", "2 or 0.5"),
    (HEAD + '[hosts]\na = 7', 3, "is no group of hosts", "kind"),
    (HEAD + '[hosts.a]\nkind = "simulated"\ncount = 3', 2, "several hosts and no role", "[roles]"),
    (HEAD + 'hosts.a = { kind = "local", prepare = { govenor = "x" } }', 2, "no setting 'govenor'", "mean governor?"),
    # roles and hosts
    (TWO_ROLES + '[programs.p]\ncommand = "true"', 7, "[programs.p] has no role", "server, client"),
    ('[roles]\na = 1\nb = 1\n[program]\nrole = "a"\ncommand = "true"', 3, "2 hosts needed, [hosts.here] has 1", "namespaces"),
    (TWO_ROLES.replace("2", "3") + '[program]\nrole = "client"\ncommand = "true"', 6, "4 hosts needed", "hosts of its own"),
    (
        TWO_ROLES.replace("2", '"{c}"') + '[sweep]\nc = [1, 3, 4, 2]\n[program]\nrole = "client"\ncommand = "true"',
        6, "1 of server and 4 of client (at c=4): 5 hosts needed, [hosts.lab] has 3", "",
    ),
    (HEAD + 'roles.r.count = "{c}"\n[sweep]\nc = [1, 0]', 2, "role r would have 0 hosts", "1 or more"),
    (HEAD + 'roles.r.count = "{c}"\n[fixed]\nc = "x"', 2, "role r would have x hosts", "1 or more"),
    (HEAD + 'roles.r.count = "c"', 2, "cannot read 'c'", "{clients}"),
    (HEAD + "roles.r.count = 0", 2, "is 0", "1 or more"),
    (HEAD + '[hosts]\na = "local"\nb = "local"\n[roles.r]\ncount = 1', 5, "says not on which hosts", "a, b"),
    # programs
    ('program = "{c}"\n[sweep]\nc = ["date", "sleep 1"]', 1, "{c}: a value is one word, so 'sleep 1' would be", "sh -c {c}"),
    ("[experiment]", None, "no program, so there is nothing to run", "[programs.NAME]"),
    ("[programs.p]\norder = 1", 1, "[programs.p] has no command", "command ="),
    ('program = " "', 1, "is empty", "a text"),
    ('program = "a"\n[programs]\nb = "b"', 1, "both [program] and [programs]", "a name"),
    ('[program]\ncommand = "p"\norder = "first"', 3, "is a text", "a whole number"),
    ('[program]\ncommand = "p"\nbackground = 1', 3, "is a whole number", "true or false"),
    ('[program]\ncommand = "p"\nstart = "soon"', 3, "cannot read 'soon'", "90s"),
    ('[program]\ncommand = "p"\nready = {}', 3, "says not how", "exactly one of"),
    ('[program]\ncommand = "p"\nready = { port = 1, file = "x" }', 3, "says port and file", "exactly one of"),
    ('[program]\ncommand = "p"\nready = { port = 70000 }', 3, "is 70000", "65535"),
    ('[program]\ncommand = "p"\nready = { line = "a(" }', 3, "not a regular expression", ""),
    ('[program]\ncommand = "p"\nready = 80', 3, "is a whole number", "a table"),
    ('[program]\ncommand = "p"\nstop_signal = "TREM"', 3, "no signal 'TREM'", "did you mean TERM?"),
    ('[program]\ncommand = "p"\nstop_signal = 99', 3, "no signal '99'", ""),
    ('[program]\ncommand = "p"\nsignals = [{ after = "1s" }]', 3, "is not whole", "USR1"),
    ('[program]\ncommand = "p"\nstop = 3\nsignals = [{ after = 3, signal = 1 }]', 4, "stopped after 3 s, before", ""),
    ('[program]\ncommand = "p"\nsuccess = [256]', 3, "are no exit codes", "[0, 3]"),
    ('[program]\ncommand = "p"\nbackground = true', 1, "would never end", 'stop = "30s"'),
    (
        '[programs]\na = { command = "a", background = true, stop = 9 }\nb = { command = "b", background = true }',
        3, "would never end: b has no stop", "leave background out",
    ),
    ('[programs]\na = "a"\nb = { command = "b", background = true, order = 1 }', 3, "its turn never comes", "larger order"),
    ('[experiment]\ntime_limit = 5\n[program]\ncommand = "p"\nstart = 6', 5, "the time limit of a run is 5 s", ""),
    # measures and figures
    (HEAD + '[measure.m]\nunit = "s"', 2, "nothing to take", "exactly one of record, json, csv, regex"),
    (HEAD + '[measure.m]\njson = "a"\ncsv = "b"', 2, "json and csv", "exactly one"),
    (HEAD + '[measure.m]\njson = "a..b"', 3, "expected a path such as", ""),
    (HEAD + '[measure.m]\nregex = "("', 3, "not a regular expression", ""),
    (HEAD + '[measure]\nm = "secnds"', 3, "no 'secnds'", "did you mean seconds?"),
    (HEAD + '[measure.m]\nrecord = "joules"\nprogram = "program"', 4, "known of the whole run only", ""),
    (HEAD + '[measure.m]\nrecord = "seconds"\nfile = "x"', 4, "in no file", ""),
    (HEAD + '[measure.m]\njson = "a"\nquantile = 0.5', 4, "no CSV column", ""),
    (HEAD + '[measure.m]\ncsv = "a"\nquantile = 99', 4, "is 99", "from 0 to 1"),
    ('[programs]\na = "a"\nb = "b"\n[measure.m]\njson = "x"', 4, "says not of which program", "a, b"),
    (HEAD + "[sweep]\nx = [1]\n[compare]\nbaseline = 1", 4, "[compare] has no axis", "x"),
    (HEAD + '[sweep]\nx = [1, 2]\n[compare]\naxis = "x"', 4, "[compare] has no baseline", "1, 2"),
    (HEAD + '[sweep]\nx = [1]\n[compare]\naxis = "x"\nbaseline = true', 6, "x has no value true", ""),
    (HEAD + '[sweep]\nx = [1]\n[compare]\naxis = "x"\nbaseline = 1\nconfidence = 95', 7, "is 95", "0.95"),
    (HEAD + '[measure]\nm = "seconds"\n[plot.f]\ny = "m"', 4, "[plot.f] has no x", "one axis"),
    (HEAD + "[plot]\nf = 1", 3, "is a whole number", "a table"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "says", "helps"), CASES, ids=[f"{case[2]}"[:60] for case in CASES])
def test_a_mistake_is_named_with_its_line(text: str, line: int | None, says: str, helps: str) -> None:
    found = problems_of(text)
    matching = [each for each in found if says in each.message]
    assert matching, "\n".join(map(str, found))
    assert matching[0].line == line
    assert helps in matching[0].hint + matching[0].expected
    assert "Traceback" not in str(found)


@pytest.mark.parametrize(("text", "line", "says", "helps"), CASES, ids=[f"{case[2]}"[:60] for case in CASES])
def test_one_mistake_is_one_problem(text: str, line: int | None, says: str, helps: str) -> None:
    """What follows from a mistake is not said beside it: whoever mends the one line is done."""
    assert len(problems_of(text)) == 1


def test_all_mistakes_are_said_at_once_in_the_order_of_their_lines() -> None:
    found = problems_of(
        """
        [experiment]
        order = "randm"
        [programs.a]
        comand = "x {lod}"
        command = "x {lod}"
        stop_signal = "KIL"
        [sweep]
        load = [0.1]
        [compare]
        axis = "lod"
        baseline = 0.1
        """
    )
    assert [each.line for each in found] == [3, 5, 6, 7, 11]


def test_the_first_ten_are_shown_and_the_others_counted() -> None:
    text = HEAD + "[fixed]\n" + "".join(f"x{number} = [1]\n" for number in range(14))
    with pytest.raises(ExperimentFileError) as caught:
        parse_experiment(text, "bad.toml", Path("/"))
    shown = str(caught.value)
    assert len(caught.value.problems) == 14
    assert (caught.value.source, caught.value.line) == ("bad.toml", 3)
    assert shown.count("bad.toml:") == PROBLEMS_MAX
    assert "bad.toml:12: " in shown and "bad.toml:13: " not in shown
    assert shown.endswith("and 4 more")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[sweep]\nload = [1]\nload = [2]", 3, "not TOML: Cannot overwrite a value"),
        ('[sweep]\nload = [1]\n"load" = [2]', 3, "Cannot overwrite a value"),
        ("[sweep]\nx = 1\n[sweep]\ny = 2", 3, "not TOML: Cannot declare ('sweep',) twice"),
        ("[sweep]\nx = \n", 2, "not TOML: Invalid value"),
        ("[sweep\n", 1, "not TOML"),
        ("x = [1,", 1, "not TOML"),
        ("x = " + "[" * 100_000, None, "nested too deeply"),
        ("x = 1" + "0" * 10_000, None, "not TOML"),
    ],
)
def test_what_is_no_toml(text: str, line: int | None, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_experiment(text, "bad.toml", Path("/"))
    assert says in caught.value.message
    assert caught.value.line == line


def test_a_file_of_hosts_is_named_with_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "hosts.txt").write_text("n1\nn2 cpus=much\n")
    (found,) = problems_of(HEAD + '[hosts.a]\nfile = "hosts.txt"', tmp_path)
    assert found.line == 3
    assert f"{tmp_path}/hosts.txt:2" in found.message
    (tmp_path / "hosts.txt").write_text("n1 cpus=2\n")
    (found,) = problems_of(HEAD + '[hosts.a]\nfile = "hosts.txt"', tmp_path)
    assert "n1 has limits of its own" in found.message
