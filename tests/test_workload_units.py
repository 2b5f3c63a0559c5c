import pytest
from hypothesis import given
from hypothesis import strategies as st

from edm_policy.errors import EdmError, UsageError
from edm_workload.units import (
    PAGE_SIZE,
    format_bytes,
    parse_bytes,
    parse_duration_ns,
    parse_pages,
    refuse_unknown,
)


@pytest.mark.parametrize(
    ("text", "pages"),
    [("64MiB", 16384), ("1GiB", 262144), ("8kB", 2), ("4096", 4096), (7, 7), ("1_000", 1000)],
)
def test_sizes_in_pages(text, pages):
    assert parse_pages(text) == pages


def test_share_of_a_base_rounds_down():
    assert parse_pages("25%", 1000) == 250
    assert parse_pages("0.1%", 1999) == 1
    assert parse_pages("29%", 100) == 29  # 0.29 * 100 is 28.999999999999996


@given(st.integers(1, 100), st.integers(100, 10**7))
def test_whole_percentages_are_exact(percent, base):
    assert parse_pages(f"{percent}%", base) == base * percent // 100


@pytest.mark.parametrize("bad", ["", "64", "MiB", "64 miles", "-1GiB", "1e3MiB"])
def test_bytes_refuses(bad):
    with pytest.raises(UsageError):
        parse_bytes(bad)


@pytest.mark.parametrize("bad", ["", "many", "-5", -5, 0, True, 2.5, "100B", "0%", None])
def test_pages_refuses(bad):
    with pytest.raises(UsageError) as caught:
        parse_pages(bad, 100, "local")
    assert str(caught.value).startswith("local:")
    assert "\n" not in str(caught.value)


def test_share_without_a_base_is_refused():
    with pytest.raises(UsageError, match="share of nothing"):
        parse_pages("25%")


@pytest.mark.parametrize(
    ("text", "ns"), [("200us", 200_000), ("1.5ms", 1_500_000), ("2s", 2 * 10**9), (17, 17)]
)
def test_durations(text, ns):
    assert parse_duration_ns(text) == ns


@pytest.mark.parametrize("bad", ["200", "us", "-1us", -1, True])
def test_duration_refuses(bad):
    with pytest.raises(UsageError):
        parse_duration_ns(bad)


@given(st.integers(1, 2**40))
def test_formatted_bytes_keep_the_size_within_a_twentieth(count):
    assert abs(parse_bytes(format_bytes(count)) - count) <= max(1, count / 20)
    assert PAGE_SIZE == 4096


def test_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="did you mean fifo"):
        refuse_unknown("evictor", "fifi", ["fifo", "lru"])
    with pytest.raises(UsageError, match="known: fifo, lru"):
        refuse_unknown("evictor", "xyzzy", ["lru", "fifo"])


def test_usage_errors_are_edm_errors_and_value_errors():
    assert issubclass(UsageError, EdmError) and issubclass(UsageError, ValueError)
    assert UsageError.exit_code == 2
