"""Integers out of text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camtrack_core.numbers import IdNumbers, integer


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_integers_of_64_bits_are_exact(value: int) -> None:
    assert integer(str(value)) == value
    assert integer(f" {value:+d}\t") == value


@pytest.mark.parametrize(("text", "value"), [("12.0", 12), ("1e3", 1000), ("-1", -1), ("-1.00", -1), ("007", 7)])
def test_integers_in_other_forms(text: str, value: int) -> None:
    assert integer(text) == value


@pytest.mark.parametrize("text", [
    "", "1.5", "nan", "inf", "1e300", "9007199254740993.0e1", "9223372036854775808", "9" * 5000, "\u00b2", "x", "--1",
])  # fmt: skip
def test_what_is_no_integer_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        integer(text)


@given(
    st.lists(st.one_of(st.text(max_size=4), st.integers(-3, 2 * 10**9).map(str), st.sampled_from(["1000000000", "7"])))
)
def test_numbers_of_ids_tell_apart_what_the_ids_do(texts: list[str]) -> None:
    numbers = IdNumbers()
    found = {text: numbers[text] for text in texts if text not in ("", "-1")}
    assert len(set(found.values())) == len(found) and all(number >= 0 for number in found.values())
    assert {text: numbers[text] for text in found} == found  # also when asked again
    assert all(found[text] == number for text, number in numbers.renamed.items())
    assert all(str(number) == text for text, number in found.items() if text not in numbers.renamed)


def test_what_is_no_track_has_no_number() -> None:
    assert [IdNumbers()[text] for text in ("", "-1")] == [-1, -1]
