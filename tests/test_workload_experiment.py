import pytest

from edm_policy.errors import EdmError, UsageError
from edm_workload import Experiment, Trace

pytest.importorskip("edm_policy._core", reason="the C extension is not built")

EXAMPLE = """
[memory]
region = "256MiB"
local = "25%"
[policy]
evict = "lpet"
prefetch = "none"
[store]
url = "mem:"
network = { p50_us = 5, p99_us = 20.5, gbit = 100, loss = 0.0 }
[workload]
trace = "zipf:1.0"
refs = 1_000_000
threads = 1
seed = 1
"""


def write(folder, text, name="e.toml"):
    path = folder / name
    path.write_text(text)
    return path


def test_the_documented_example(tmp_path):
    experiment = Experiment.load(write(tmp_path, EXAMPLE))
    sizes = experiment.resolve()
    assert (sizes.pages, sizes.limit, sizes.page_size) == (65536, 16384, 4096)
    assert sizes.low < sizes.high <= sizes.limit
    assert experiment.store.network == {"p50_us": 5, "p99_us": 20.5, "gbit": 100, "loss": 0.0}
    assert experiment.name == "e"
    assert len(experiment.trace) == 1_000_000


def test_watermarks_come_from_the_policy_layer():
    from edm_policy.config import watermarks

    sizes = Experiment.from_options(pages=10_000, local="10%").resolve()
    assert sizes.limit == 1000 and (sizes.low, sizes.high) == watermarks(1000, 10_000)


def test_watermarks_as_given():
    sizes = Experiment.from_options(pages=1000, limit=100, high="90%", low=0).resolve()
    assert (sizes.limit, sizes.high, sizes.low) == (100, 90, 0)
    only_high = Experiment.from_options(pages=1000, limit=100, high=5).resolve()
    assert only_high.low < only_high.high == 5


def test_one_frame_is_enough():
    sizes = Experiment.from_options(pages=10, local=1).resolve()
    assert (sizes.limit, sizes.high, sizes.low) == (1, 1, 0)


def test_local_above_the_region_is_all_local():
    assert Experiment.from_options(pages=10, local=64).resolve().limit == 10


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": 100, "high": 101}, "above the limit"),
        ({"limit": 100, "high": 50, "low": 50}, "must be below high"),
        ({"limit": 100, "low": 100}, "must be below high"),
        ({"local": "0.001%"}, "at least 1"),
        ({"local": "10%", "limit": 5}, "same thing"),
        ({"local": "much"}, "local"),
        ({"evcit": "lru"}, "did you mean evict"),
        ({"observe": "idel"}, "did you mean idle"),
        ({"faults": "upcal"}, "did you mean upcall"),
        ({"dirty": "never"}, "known: always, exact"),
        ({"refs": 0}, "refs"),
        ({"threads": 1.5}, "threads"),
        ({"seed": True}, "seed"),
        ({"writes": 2}, "writes"),
        ({"lockstep": "yes"}, "lockstep"),
        ({"lockstep": True, "threads": 2}, "one thread"),
        ({"evict": ""}, "evict"),
        ({"network": {"p50": 3}}, "did you mean p50_us"),
        ({"network": {"loss": -1}}, "loss"),
    ],
)
def test_bad_options_are_one_line(options, says):
    with pytest.raises(UsageError, match=says) as caught:
        Experiment.from_options(**({"pages": 1000} | options)).resolve()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[memroy]\n", "did you mean memory"),
        ("[policy]\nevikt = 'lru'\n", "did you mean evict"),
        ("region = 3\n", "region must stand in a section"),
        ("[memory\n", "not TOML"),
        ("[workload]\nrefs = 'all'\n", "refs"),
        ("[workload]\nseed = [1, 2]\n", "2 experiments"),
        ("[workload]\nseed = []\n", "empty list"),
    ],
)
def test_bad_files_name_the_file_and_the_mistake(tmp_path, text, says):
    with pytest.raises(UsageError, match=says) as caught:
        Experiment.load(write(tmp_path, text))
    assert "e.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(EdmError, match=r"none\.toml: cannot be read"):
        Experiment.load(tmp_path / "none.toml")


def test_with_changes_a_copy():
    first = Experiment()
    second = first.with_(evict="fifo", store="file:/tmp/x", pages=500, local="10%")
    assert (first.policy.evict, first.store.url) == ("lpet", "mem:")
    assert (second.policy.evict, second.store.url) == ("fifo", "file:/tmp/x")
    assert second.resolve().pages == 500
    assert second.with_(limit=7).resolve().limit == 7
    assert second.with_(limit=7).with_(local=9).resolve().limit == 9


def test_toml_round_trip(tmp_path):
    experiment = Experiment.load(write(tmp_path, EXAMPLE)).with_(
        low=3, high="50%", lockstep=True, store='file:/a "b"\\c'
    )
    again = Experiment.load(write(tmp_path, experiment.to_toml(), "e.toml"))
    assert again == experiment


def test_lists_make_a_grid(tmp_path):
    path = write(tmp_path, "[policy]\nevict = ['lru', 'fifo']\n[memory]\nlocal = ['10%', 5, 6]\n")
    grid = list(Experiment.grid(path))
    assert [(e.policy.evict, e.memory.local) for e in grid] == [
        (evict, local) for evict in ("lru", "fifo") for local in ("10%", 5, 6)
    ]


def test_region_follows_a_trace_file_beside_the_experiment(tmp_path):
    Trace([900, 100, 500, 100] * 10).save(tmp_path / "t.parquet")
    path = write(tmp_path, "[memory]\nlocal = '50%'\n[workload]\ntrace = 't.parquet'\n")
    experiment = Experiment.load(path)
    assert experiment.resolve().pages == 3 and experiment.resolve().limit == 1
    assert experiment.trace.page.tolist()[:4] == [2, 0, 1, 0]
    assert experiment.with_(pages=64).resolve().pages == 64
    with pytest.raises(UsageError, match="touches 3 pages, the region has 2"):
        experiment.with_(pages=2).resolve()


def test_policy_config_carries_all_of_it():
    config = Experiment.from_options(
        pages=1000, local=100, evict="lru", dirty="always", batch=8, seed=5, observe="exact"
    ).policy_config()
    assert (config.pages, config.limit, config.evict, config.dirty) == (1000, 100, "lru", "always")
    assert (config.batch, config.seed, config.observe) == (8, 5, "exact")
    assert config.resolved() == config
