"""A bulk job on a Ray cluster of three nodes on 127.0.0.1, one of which is lost.

python -m tests.chaos.bulk_cluster IN OUT STORE PART_ROWS     prints the job's summary as JSON

A process of its own: Ray takes over much of the one that it runs in.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from service.bulk import cluster
from service.bulk.job import Options
from service.bulk.run import Asked, run_job
from service.loading import plan
from service.settings import load_settings
from service.store.repository import ModelRepository

NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 100 * 2**20}
# Parts that are there, at least, when the node is lost.
DONE_BEFORE = 4


def main(given: str, out: Path, store: Path, part_rows: int) -> None:
    nodes = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    lost, _ = nodes.add_node(**NODE), nodes.add_node(**NODE)
    nodes.wait_for_nodes()
    ray.init(address=nodes.address, log_to_driver=False)
    killed_at: list[int] = []

    enough = threading.Event()

    def lose() -> None:
        enough.wait()
        nodes.remove_node(lost, allow_graceful=False)
        killed_at.append(len(list(out.glob("*.parquet"))))

    @contextmanager
    def watched(description: str, rows: int, done: int) -> Iterator[Callable[[int], None]]:
        encoded = 0

        def note(more: int) -> None:
            nonlocal encoded
            encoded += more
            if description == "encode" and encoded >= DONE_BEFORE * part_rows:
                enough.set()

        yield note

    settings = load_settings(model_store=store, probe=False)
    chosen = plan(ModelRepository(store).resolve("embedding"), settings)
    asked = Asked(given, out, chosen, None, Options(part_rows=part_rows))
    loser = threading.Thread(target=lose, daemon=True)
    loser.start()
    summary = run_job(asked, settings, watched, cluster.Cluster(nodes.address))
    loser.join()
    print(json.dumps({**asdict(summary), "killed_at": killed_at[0]}))
    ray.shutdown()
    nodes.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
