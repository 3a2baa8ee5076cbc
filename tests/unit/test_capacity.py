"""The capacity sheet multiplies as the page says."""

from dataclasses import asdict, replace
from pathlib import Path

import orjson
import pytest

from benchmarks.capacity import need_of
from benchmarks.sheet import Costs, LoopCost, RunCost, Shape, Sheet, per_text, read_sheet

RUN = RunCost(run_s=0.0, text_s=0.0, token_s=0.0001, pair_s=0.0)
COSTS = Costs(2, RUN, RUN, LoopCost(0.0005, 0.0001, 0.0), client_request_s=0.0)
TEXT = Shape(texts=1, tokens=64, bytes_in=500, bytes_out=4500)
SHEET = Sheet(COSTS, balancer_s=0.0001, json_s=0.0, memory_mib=512, traffic={"mixed": TEXT})


def test_cores_are_what_the_texts_take_at_that_share() -> None:
    assert per_text(COSTS, TEXT) == pytest.approx((0.0064, 0.0006))
    need = need_of(SHEET, "mixed", 1000, cores=2, busy=0.7)
    assert need.cores == pytest.approx(1000 * 0.007 / 0.7)
    assert need.replicas == 5
    assert need.memory_gib == pytest.approx(2.5)
    assert need.core_hours_a_million == pytest.approx(7000 / 0.7 / 3600)
    assert need.gbit_per_s == pytest.approx(1000 * 5000 * 8 / 1e9)


def test_a_large_replica_is_bound_by_its_one_event_loop() -> None:
    need = need_of(SHEET, "mixed", 10_000, cores=64, busy=0.7)
    assert need.replicas == 9  # 64 cores would do with two
    assert need.loop_busy == pytest.approx(10_000 / 9 * 0.0006)
    assert need.first_to_give_way(100).startswith("balancer")


def test_many_texts_a_request_spare_loop_and_balancer() -> None:
    many = replace(SHEET, traffic={"mixed": replace(TEXT, texts=32)})
    one, large = (need_of(sheet, "mixed", 1000, cores=8, busy=0.7) for sheet in (SHEET, many))
    assert large.cores < one.cores
    assert large.balancers == pytest.approx(one.balancers / 32)


def test_sheet_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "sheet.json"
    file.write_bytes(orjson.dumps(asdict(SHEET)))
    assert read_sheet(file) == SHEET
