"""Traffic, errors, latency, saturation: is all well?"""

from monitoring.panels import (
    ASKED,
    INSTANCE,
    MODEL,
    Board,
    Panel,
    Query,
    Row,
    quantile,
    rate,
    share,
)

REQUESTS = "encserve_requests_total"
JUDGED = "encserve_slo_requests_total"
REJECTED = "encserve_rejected_requests_total"
DURATION = "encserve_request_duration_seconds"

NOW = (
    Panel(
        "Requests/s",
        "Requests answered, of every outcome. Probes and scrapes are left out.",
        "reqps",
        (Query(rate(REQUESTS, f"{MODEL}, {ASKED}")),),
        width=4,
        kind="stat",
    ),
    Panel(
        "Failed by the server",
        "Share of the requests that were refused for want of capacity, or failed by a defect.",
        "percentunit",
        (Query(share(JUDGED, f'{MODEL}, fault="server"', f'{MODEL}, fault!="caller"')),),
        width=4,
        kind="stat",
    ),
    Panel(
        "p95 latency",
        "Of answered requests, from the first byte handled to the last byte of the answer.",
        "s",
        (Query(quantile(0.95, DURATION, MODEL)),),
        width=4,
        kind="stat",
    ),
    Panel(
        "Texts/s",
        "Texts accepted.",
        "texts/s",
        (Query(rate("encserve_texts_total", MODEL)),),
        width=4,
        kind="stat",
    ),
    Panel(
        "Texts waiting",
        "For a batch, at this moment.",
        "short",
        (Query(f"sum(encserve_queue_texts{{{MODEL}}})"),),
        width=4,
        kind="stat",
    ),
    Panel(
        "Replicas",
        "That answer Prometheus.",
        "short",
        (Query(f"count(encserve_workers{{{INSTANCE}}})"),),
        width=4,
        kind="stat",
    ),
)

TRAFFIC = (
    Panel(
        "Requests/s by endpoint",
        "Answered requests, of every outcome.",
        "reqps",
        (Query(rate(REQUESTS, f"{MODEL}, {ASKED}", "endpoint"), "{{endpoint}}"),),
        stacked=True,
    ),
    Panel(
        "Errors/s by outcome",
        "The code of the error; a caller's mistakes (4xx) are among them.",
        "reqps",
        (
            Query(
                rate(REQUESTS, f'{MODEL}, outcome!="ok"', "outcome, endpoint"),
                "{{outcome}} {{endpoint}}",
            ),
        ),
        stacked=True,
    ),
    Panel(
        "Refused/s by reason",
        "Requests that another moment would have taken: a full queue, too late, shutting down.",
        "reqps",
        (Query(rate(REJECTED, MODEL, "model, reason"), "{{model}} {{reason}}"),),
        stacked=True,
    ),
)

LATENCY = (
    Panel(
        "Latency",
        "Of answered requests.",
        "s",
        tuple(
            Query(quantile(part, DURATION, MODEL), f"p{part * 100:g}") for part in (0.5, 0.95, 0.99)
        ),
    ),
    Panel(
        "Latency by endpoint, p95",
        "Streams of /v1/bulk last as long as their callers send.",
        "s",
        (Query(quantile(0.95, DURATION, MODEL, "endpoint"), "{{endpoint}}"),),
    ),
    Panel(
        "Missed of the objectives",
        "Shares of requests that failed by the server's fault, and of answers later than 0.25 s, "
        "in the last five minutes and in the last hour. Allowed in 30 days: what the objectives "
        "leave.",
        "percentunit",
        (
            Query("encserve:unavailable:ratio_rate5m", "failed, 5 min"),
            Query("encserve:unavailable:ratio_rate1h", "failed, 1 h"),
            Query("1 - encserve:availability:objective", "failed, allowed"),
            Query("encserve:slow:ratio_rate5m", "late, 5 min"),
            Query("encserve:slow:ratio_rate1h", "late, 1 h"),
            Query("1 - encserve:latency:objective", "late, allowed"),
        ),
    ),
)

SATURATION = (
    Panel(
        "Connections",
        "Open connections of callers.",
        "short",
        (Query(f"encserve_connections{{{INSTANCE}}}", "{{instance}}"),),
        width=4,
    ),
    Panel(
        "Workers busy",
        "Share of the workers' time in model runs over five minutes, and at this moment; more than "
        "all while a short text overtakes long ones on a thread of its own.",
        "percentunit",
        (
            Query(f"encserve:workers_busy:ratio_rate5m{{{INSTANCE}}}", "{{instance}} 5 min"),
            Query(
                f"encserve_workers_busy{{{INSTANCE}}} / encserve_workers{{{INSTANCE}}}",
                "{{instance}} now",
            ),
        ),
        width=5,
    ),
    Panel(
        "Event loop, p99 late",
        "How late the event loop wakes up: every request waits for it.",
        "s",
        (
            Query(
                f"encserve:event_loop_lag_seconds:p99_5m{{{INSTANCE}}}", "{{instance}} p99 of 5 min"
            ),
            Query(
                quantile(0.99, "encserve_event_loop_lag_seconds", INSTANCE, "instance"),
                "{{instance}} p99",
            ),
        ),
        width=5,
    ),
    Panel(
        "Memory",
        "What the process holds, the limit of its cgroup or machine, and what is held for callers "
        "who wait: bodies, and texts in the queue.",
        "bytes",
        (
            Query(
                f'process_resident_memory_bytes{{job="encserve", {INSTANCE}}}', "{{instance}} holds"
            ),
            Query(f"encserve_memory_limit_bytes{{{INSTANCE}}}", "{{instance}} may hold"),
            Query(
                f"encserve_bodies_bytes{{{INSTANCE}}} + on (instance) "
                f"sum by (instance) (encserve_queue_bytes{{{INSTANCE}}})",
                "{{instance}} holds for callers",
            ),
        ),
        width=5,
    ),
    Panel(
        "CPU",
        "Cores in use.",
        "short",
        (
            Query(
                f'rate(process_cpu_seconds_total{{job="encserve", {INSTANCE}}}[$__rate_interval])',
                "{{instance}}",
            ),
        ),
        width=5,
    ),
)

CALLERS = (
    Panel(
        "Requests/s by key",
        "Requests that came with an API key; nothing where the server asks for none.",
        "reqps",
        (Query(rate("encserve_key_requests_total", INSTANCE, "key"), "{{key}}"),),
        stacked=True,
    ),
    Panel(
        "Tokens/s by key",
        "Tokens of answers that each key has spent.",
        "tokens/s",
        (Query(rate("encserve_key_tokens_total", INSTANCE, "key"), "{{key}}"),),
        stacked=True,
    ),
    Panel(
        "Refused/s by key",
        "As the key was over its rate, or over its share of the queue.",
        "reqps",
        (
            Query(
                rate("encserve_key_refusals_total", INSTANCE, "key, reason"), "{{key}} {{reason}}"
            ),
        ),
        stacked=True,
    ),
)

ALERTS = (
    Panel(
        "Alerts",
        "Alerts that fire or are about to; each has a section in docs/runbooks.md.",
        "short",
        (
            Query(
                'sum by (alertname, alertstate) (ALERTS{alertname=~"Encserve.*"})',
                "{{alertname}} {{alertstate}}",
            ),
        ),
        width=24,
        stacked=True,
    ),
)

OVERVIEW = Board(
    "encserve-overview",
    "encserve: Overview",
    "Traffic, errors, latency and saturation of encserve.",
    (
        Row("Now", NOW),
        Row("Traffic and errors", TRAFFIC),
        Row("Latency and objectives", LATENCY),
        Row("Saturation", SATURATION),
        Row("Callers", CALLERS),
        Row("Alerts", ALERTS),
    ),
)
