"""What names in templates stand for, on every host of a run."""

from __future__ import annotations

import pytest

from ergates.errors import InputError
from ergates.experiment.bindings import (
    bound_names,
    check_command,
    check_text,
    filled_command,
    filled_text,
    planned_values,
    values_of,
)
from ergates.experiment.run import RoleSeats, Run, RunOrder, Seated

ORDER = RunOrder(
    experiment="e",
    run=Run(number=7, point=(("load", 0.5), ("warm", True), ("name", "a b")), repetition=2, seed=99),
    roles=(RoleSeats(role="server", group="lab", count=1), RoleSeats(role="client", group="lab", count=2)),
    programs=(),
    fixed=(("port", 9000),),
)
SEATS = [
    Seated(rank=0, role="server", index=0, host="lab1", address="10.0.0.1"),
    Seated(rank=1, role="client", index=0, host="lab2", address="10.0.0.2"),
    Seated(rank=2, role="client", index=1, host="lab3", address="10.0.0.3"),
]


def test_every_value_of_a_member() -> None:
    assert values_of(ORDER, SEATS, SEATS[2], here="/exp", folder="/runs/7") == {
        "load": "0.5", "warm": "true", "name": "a b", "port": "9000",
        "run": "7", "repetition": "2", "seed": "99",
        "server.address": "10.0.0.1", "server.host": "lab1",
        "server.addresses": "10.0.0.1", "server.hosts": "lab1", "server.count": "1",
        "client.address": "10.0.0.2", "client.host": "lab2",
        "client.addresses": "10.0.0.2,10.0.0.3", "client.hosts": "lab2,lab3", "client.count": "2",
        "here": "/exp", "folder": "/runs/7", "index": "1", "rank": "2", "host": "lab3", "address": "10.0.0.3",
    }  # fmt: skip


def test_names_known_from_the_file_are_those_that_get_values() -> None:
    names = bound_names(["load", "warm", "name", "port"], ["server", "client"])
    assert set(names) == set(values_of(ORDER, SEATS, SEATS[0], here="", folder=""))
    assert set(planned_values(ORDER)) < set(names)


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("p {client.addresses} {#}", ("p", "10.0.0.2,10.0.0.3", "7")),
        ("p '{name}' x{name}", ("p", "a b", "xa b")),
        ("p {name} > out", ("/bin/sh", "-c", "p 'a b' > out")),
        ("awk '{print $1}' {folder}/x", ("awk", "{print $1}", "/f/x")),
        ("p '{{name}}' '{\"a\": 1}'", ("p", "{name}", '{"a": 1}')),
        ("p {folder//}", ("p", "/")),
    ],
)
def test_commands(text: str, argv: tuple[str, ...]) -> None:
    values = values_of(ORDER, SEATS, SEATS[0], here="/h", folder="/f")
    assert filled_command(text, values, 7) == argv
    check_command(text, tuple(values))


def test_a_value_stays_data_in_the_shell() -> None:
    assert filled_command("echo {x} | cat", {"x": "$(rm -rf /); 'q'"}, 1)[2] == "echo '$(rm -rf /); '\\''q'\\''' | cat"


def test_texts_are_filled_as_they_are() -> None:
    values = values_of(ORDER, SEATS, SEATS[1], here="/h", folder="/f")
    assert (
        filled_text("{here}/{name} {client.host} *.{csv,json} ${HOME}", values, 7) == "/h/a b lab2 *.{csv,json} ${HOME}"
    )


@pytest.mark.parametrize(
    "text", ["p {lod}", "p {server.adress}", "p {serverr.address}", "{}", "p {}", "p {2}", "p {.}"]
)
def test_unbound_names(text: str) -> None:
    names = bound_names(["load"], ["server"])
    for check in (check_command, check_text):
        with pytest.raises(InputError, match="nothing is bound to") as caught:
            check(text, names)
        assert "-p NAME" not in str(caught.value), "there is no such option here"


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(
        InputError, match=r"did you mean {server.address}\? For the braces themselves write {{sever.address}}"
    ):
        check_text("{sever.address}", bound_names([], ["server"]))


def test_a_value_that_cannot_be_quoted_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be quoted"):
        filled_command("cat << {x}\nEOF", {"x": "a b"}, 1)
