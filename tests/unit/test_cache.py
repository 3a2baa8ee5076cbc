import numpy as np
from prometheus_client import CollectorRegistry

from service.batching.cache import ENTRY_OVERHEAD_BYTES, RowCache
from service.metrics import Metrics


def row(value: float) -> np.ndarray:
    return np.full(100, value, dtype=np.float32)


def test_least_recently_used_rows_go_first_and_the_bound_holds() -> None:
    registry = CollectorRegistry()
    rows = RowCache(5000, Metrics(registry)).of_model("m", "1", "fp32")
    for number in range(20):
        rows.put(bytes([number]), row(number))
        assert rows.get(bytes([0])) is not None
        used = registry.get_sample_value("encserve_cache_bytes")
        assert used == min(number + 1, 5) * (1 + 400 + ENTRY_OVERHEAD_BYTES) <= 5000
    assert rows.get(bytes([1])) is None
    assert rows.get(bytes([19])) is not None


def test_row_does_not_keep_its_whole_batch_in_memory() -> None:
    rows = RowCache(5000, Metrics(CollectorRegistry())).of_model("m", "1", "fp32")
    batch = np.zeros((1000, 100), dtype=np.float32)
    rows.put(b"k", batch[3])
    kept = rows.get(b"k")
    assert kept is not None
    assert kept.base is None


def test_models_versions_and_variants_never_share_a_row() -> None:
    cache = RowCache(50_000, Metrics(CollectorRegistry()))
    cache.of_model("m", "1", "fp32").put(b"k", row(1))
    for other in (("n", "1", "fp32"), ("m", "2", "fp32"), ("m", "1", "int8")):
        assert cache.of_model(*other).get(b"k") is None


def test_row_larger_than_the_cache_is_not_kept() -> None:
    rows = RowCache(100, Metrics(CollectorRegistry())).of_model("m", "1", "fp32")
    rows.put(b"k", row(1))
    assert rows.get(b"k") is None
