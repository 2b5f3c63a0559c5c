"""The decision log: a fresh pager decides it all again, or the index says where not."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from edm_policy import EdmError, PolicyConfig, load_log, replay, save_log
from edm_policy.pager import EVENTS, OPS
from model.world import World, random_step

CONFIG = PolicyConfig(pages=9, limit=5, high=4, low=2, evict="lpet", observe="idle", batch=2)


def run(steps: int = 400, config: PolicyConfig = CONFIG) -> World:
    draw = random.Random(7)
    world = World(config)
    for _ in range(steps):
        random_step(world, draw.randrange)
    return world


def test_replay_gives_every_decision_again() -> None:
    records = run().log.records()
    assert len(records) > 400
    assert replay(CONFIG, records)[0] == len(records)


def test_a_log_survives_the_file(tmp_path: Path) -> None:
    records = run().log.records()
    save_log(tmp_path / "x.log", CONFIG.resolved(), records, driver="test")
    config, again, head = load_log(tmp_path / "x.log")
    assert config == CONFIG.resolved() and head["driver"] == "test"
    assert np.array_equal(again, records)
    assert replay(config, again)[0] == len(records)


def test_a_changed_decision_is_found_at_its_index() -> None:
    records = run().log.records()
    decisions = np.flatnonzero(records["kind"] & 0x80)
    for index in decisions[:: max(1, len(decisions) // 40)]:
        for field, change in (("page", 1), ("flags", 128), ("kind", 16)):
            tampered = records.copy()
            tampered[field][index] ^= change
            at, got = replay(CONFIG, tampered)
            assert at == index
            assert got["page"] == records["page"][index] and got["kind"] == records["kind"][index]


def test_an_event_that_could_not_have_been_is_found_at_its_index() -> None:
    records = run().log.records()
    names = {name: kind for kind, name in EVENTS.items()}
    for name in ("INSTALLED", "DONE", "STORED"):
        index = int(np.flatnonzero(records["kind"] == names[name])[3])
        tampered = records.copy()
        tampered["page"][index] = 1_000_000
        assert replay(CONFIG, tampered)[0] == index


def test_another_policy_decides_otherwise() -> None:
    records = run().log.records()
    other = PolicyConfig(pages=9, limit=5, high=4, low=2, evict="random", observe="idle", batch=2)
    at, _ = replay(other, records)
    assert at < len(records) and OPS[int(records["kind"][at]) & 0x7F]


def test_a_file_that_is_no_log_is_refused_in_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"\x00\x01\n123")
    with pytest.raises(EdmError, match="not a decision log"):
        load_log(bad)
    with pytest.raises(EdmError, match="No such file"):
        load_log(tmp_path / "absent")
