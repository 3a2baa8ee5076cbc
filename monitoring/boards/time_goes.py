"""Where an encoder's time goes: stages, waiting, batches, padding, cache."""

from monitoring.panels import INSTANCE, MODEL, Board, Panel, Query, Row, mean, quantile, rate, share

STAGE = "encserve_stage_duration_seconds"
TOKENS = "encserve_tokens_total"

STAGES = (
    Panel(
        "Time spent by stage",
        "Seconds spent in each stage in a second. `queue` is the waiting of texts; `pack` and "
        "`infer` are of batches, the others of requests.",
        "short",
        (Query(rate(f"{STAGE}_sum", MODEL, "stage"), "{{stage}}"),),
        stacked=True,
    ),
    Panel(
        "Stages, mean",
        "Of requests, texts (queue) or batches (pack, infer).",
        "s",
        (Query(mean(STAGE, MODEL, "model, stage"), "{{model}} {{stage}}"),),
    ),
    Panel(
        "Stages, p95",
        "Of requests, texts (queue) or batches (pack, infer).",
        "s",
        (Query(quantile(0.95, STAGE, MODEL, "model, stage"), "{{model}} {{stage}}"),),
    ),
)

WAITING = (
    Panel(
        "Waiting",
        "How long texts wait for a batch: 95 of 100 not longer than this; and how long a new "
        "request would, by which it is admitted or refused.",
        "s",
        (
            Query('encserve:queue_wait_seconds:p95_5m{model=~"$model"}', "{{model}} p95 of 5 min"),
            Query(quantile(0.95, STAGE, f'{MODEL}, stage="queue"', "model"), "{{model}} p95"),
            Query(
                f"max by (model) (encserve_queue_wait_seconds{{{MODEL}}})",
                "{{model}} expected of the next request",
            ),
        ),
    ),
    Panel(
        "Waiting: tokens",
        "In the queue. ENCSERVE_MAX_QUEUE_TOKENS is the most for each model.",
        "short",
        (Query(f"sum by (model) (encserve_queue_tokens{{{MODEL}}})", "{{model}}"),),
    ),
    Panel(
        "Workers",
        "Model runs under way, how many there may be, and workers whose run does not end.",
        "short",
        (
            Query(f"sum(encserve_workers_busy{{{INSTANCE}}})", "busy"),
            Query(f"sum(encserve_workers{{{INSTANCE}}})", "all"),
            Query(f"sum(encserve_workers_stuck{{{INSTANCE}}})", "stuck"),
        ),
    ),
)

BATCHES = (
    Panel(
        "Batch: texts",
        "Texts in one model run.",
        "short",
        (
            Query(mean("encserve_batch_texts", MODEL, "model"), "{{model}} mean"),
            Query(quantile(0.95, "encserve_batch_texts", MODEL, "model"), "{{model}} p95"),
        ),
    ),
    Panel(
        "Batch: tokens",
        "Tokens in one model run. ENCSERVE_MAX_BATCH_TOKENS is the most.",
        "short",
        (
            Query(mean("encserve_batch_tokens", MODEL, "model"), "{{model}} mean"),
            Query(quantile(0.95, "encserve_batch_tokens", MODEL, "model"), "{{model}} p95"),
        ),
    ),
    Panel(
        "Padding",
        "Share of the places in batches that hold no token. Models of the packed layout pad in "
        "attention alone.",
        "percentunit",
        (Query(share(TOKENS, f'{MODEL}, kind="padding"', MODEL, "model"), "{{model}}"),),
        most=1,
    ),
)

THROUGHPUT = (
    Panel(
        "Tokens/s",
        "Tokens of texts that were run.",
        "tokens/s",
        (Query(rate(TOKENS, f'{MODEL}, kind="text"', "model"), "{{model}}"),),
        stacked=True,
    ),
    Panel(
        "Texts/s by source",
        "Computed; taken from the cache; or in flight already for another caller.",
        "texts/s",
        (Query(rate("encserve_texts_total", MODEL, "source"), "{{source}}"),),
        stacked=True,
    ),
    Panel(
        "Cache",
        "Size of the cache of answers. ENCSERVE_CACHE_BYTES is the most.",
        "bytes",
        (Query(f"sum by (instance) (encserve_cache_bytes{{{INSTANCE}}})", "{{instance}}"),),
    ),
)

WHERE_TIME_GOES = Board(
    "encserve-time",
    "encserve: Where time goes",
    "Stages of a request, waiting, batches, padding and the cache of encserve.",
    (
        Row("Stages", STAGES),
        Row("Waiting for a worker", WAITING),
        Row("Batches", BATCHES),
        Row("Throughput", THROUGHPUT),
    ),
)
