"""What the fuzzers have found, one test each."""

from __future__ import annotations

import pytest

from belljar import Policy, PolicyError
from belljar.policy.files import loads_json, loads_toml
from belljar.policy.rules import USUAL


@pytest.mark.parametrize("table", ["", "grants.", "blocks.", "limits.", "grants.env."])
def test_a_key_as_long_as_the_file_is_not_repeated_whole(table: str) -> None:
    """K1: an error about a key of a million characters is read by a person all the same."""
    key = "k" * 900_000
    with pytest.raises(PolicyError) as error:
        loads_toml(f"version = 1\n{table}{key} = 1\n")
    assert len(str(error.value)) < 1000
    with pytest.raises(PolicyError) as error:
        loads_json(f'{{"version": 1, "{key}": 1, "{key}": 2}}'[: 2**20])
    assert len(str(error.value)) < 1000


def test_the_repr_of_a_name_left_to_the_usual_list_has_an_end() -> None:
    """C4: beside a block within an allowed pattern; and within one, as only a file can say it."""
    policy = Policy().block(modules=["*"]).allow(modules=["c", "a.*"]).block(modules=["a.b"])
    both = policy & Policy().allow(modules=["a.*"])
    assert both.modules.at("c") == USUAL
    assert eval(repr(both), {"Policy": Policy}) == both
    text = 'version = 1\n[grants]\nmodules = ["a.*"]\nusual_modules = ["a.b"]\n'
    shown = repr(loads_toml(text))
    assert shown == "Policy().allow(modules=['a.*'], usual_modules=['a.b'])"


@pytest.mark.parametrize(
    "text",
    [
        'version = 1\n[grants.names]\nd = {"$date" = "%s"}\n',
        'version = 1\n[grants.names]\nd = {"$decimal" = "%s"}\n',
        "[%s]\n[%s]\n",
        "a = %s\n",
        'a."%s" = 1\na."%s" = 2\n',
    ],
)
def test_a_fault_that_a_parser_found_is_told_in_bounded_words(text: str) -> None:
    """K1: Python's own parsers repeat what they could not read."""
    with pytest.raises(PolicyError) as error:
        loads_toml(text.replace("%s", "9" * 300_000))
    assert len(str(error.value)) < 1000
