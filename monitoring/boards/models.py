"""How the models do: versions, canary and shadow, drift, labels, confidence."""

from monitoring.panels import INSTANCE, MODEL, Board, Panel, Query, Row, mean, quantile, rate, share

VERSION = "model, version"
REQUESTS = "encserve_requests_total"
LOADS = f'encserve_model_loads_total{{{INSTANCE}, model=~"$model"}}'
SHADOW_TEXTS = rate("encserve_shadow_texts_total", MODEL, VERSION)
CANARY_SHARE = f"encserve_canary_share{{{MODEL}}}"
PREDICTIONS = "encserve_predictions_total"
CONFIDENCE = "encserve_confidence_ratio"
FEEDBACK = "encserve_feedback_total"

VERSIONS = (
    Panel(
        "Versions",
        "What serves.",
        "short",
        (Query(f"encserve_model_info{{{MODEL}}}"),),
        kind="table",
    ),
    Panel(
        "Requests/s by version",
        "Answered requests that found their model.",
        "reqps",
        (
            Query(
                rate("encserve_slo_requests_total", f'{MODEL}, model!=""', VERSION),
                "{{model}}@{{version}}",
            ),
        ),
        stacked=True,
    ),
    Panel(
        "Loads and swaps",
        "Versions loaded while serving, by outcome, and versions that took another one's place; "
        "since the process began.",
        "short",
        (
            Query(f"sum by (model, outcome) ({LOADS})", "{{model}} load {{outcome}}"),
            Query(f"sum by (model) (encserve_model_swaps_total{{{MODEL}}})", "{{model}} swaps"),
            Query(
                f"max by (model) (encserve_model_load_failed{{{MODEL}}})",
                "{{model}} last load failed",
            ),
        ),
    ),
    Panel(
        "Latency by version, p95",
        "Of answered requests.",
        "s",
        (
            Query(
                quantile(0.95, "encserve_request_duration_seconds", MODEL, VERSION),
                "{{model}}@{{version}}",
            ),
        ),
    ),
    Panel(
        "Errors/s by version",
        "By the error's code; those before a model was found have none.",
        "reqps",
        (
            Query(
                rate(REQUESTS, f'{MODEL}, model!="", outcome!="ok"', f"{VERSION}, outcome"),
                "{{model}}@{{version}} {{outcome}}",
            ),
        ),
        stacked=True,
    ),
    Panel(
        "Truncated texts",
        "Share of the texts that are longer than the model reads.",
        "percentunit",
        (
            Query('encserve:truncated:ratio_rate30m{model=~"$model"}', "{{model}} 30 min"),
            Query(
                f"{rate('encserve_truncated_texts_total', MODEL, 'model')}"
                f" / {rate('encserve_texts_total', MODEL, 'model')}",
                "{{model}}",
            ),
        ),
        most=1,
    ),
)

CANARY = (
    Panel(
        "Canary",
        "Share of a model's requests that another version is given.",
        "percentunit",
        (Query(f"sum by (model, version) ({CANARY_SHARE})", "{{model}}@{{version}}"),),
        width=6,
        most=1,
    ),
    Panel(
        "Canaries taken back",
        "By what was worse than of the version that serves; since the process began.",
        "short",
        (
            Query(
                f"sum by (model, reason) (encserve_canaries_taken_back_total{{{MODEL}}})",
                "{{model}} {{reason}}",
            ),
        ),
        width=6,
    ),
    Panel(
        "Shadow: other labels",
        "Share of the texts that get another label from the shadow; mean difference of scores.",
        "percentunit",
        (
            Query(
                f"{rate('encserve_shadow_disagreements_total', MODEL, VERSION)} / {SHADOW_TEXTS}",
                "{{model}}@{{version}} other label",
            ),
            Query(
                mean("encserve_shadow_score_difference", MODEL, VERSION),
                "{{model}}@{{version}} scores",
            ),
        ),
        width=6,
    ),
    Panel(
        "Shadow: cosine",
        "Of the vectors of the shadow and of what serves, mean.",
        "short",
        (Query(mean("encserve_shadow_cosine", MODEL, VERSION), "{{model}}@{{version}}"),),
        width=6,
    ),
)

ANSWERS = (
    Panel(
        "Drift by feature",
        "Population stability index of the last texts against the model's own: below 0.1 little "
        "has changed, above 0.25 much. 0 before 200 texts.",
        "short",
        (
            Query(
                f"max by (model, version, feature) (encserve_drift_psi{{{MODEL}}})",
                "{{model}}@{{version}} {{feature}}",
            ),
        ),
    ),
    Panel(
        "Labels",
        "Share of the classified texts that each label won; of a shadow, too.",
        "percentunit",
        (
            Query(
                f"{rate(PREDICTIONS, MODEL, f'{VERSION}, label')} / on ({VERSION}) "
                f"group_left () {rate(PREDICTIONS, MODEL, VERSION)}",
                "{{model}}@{{version}} {{label}}",
            ),
        ),
        most=1,
    ),
    Panel(
        "Confidence",
        "Probability of the label that won: mean, and the tenth of the texts below which.",
        "percentunit",
        (
            Query(mean(CONFIDENCE, MODEL, VERSION), "{{model}}@{{version}} mean"),
            Query(quantile(0.1, CONFIDENCE, MODEL, VERSION), "{{model}}@{{version}} p10"),
        ),
        most=1,
    ),
    Panel(
        "Right, as callers say",
        "Share of the judged labels that were right.",
        "percentunit",
        (
            Query(
                share(FEEDBACK, f'{MODEL}, judged="right"', MODEL, VERSION),
                "{{model}}@{{version}}",
            ),
        ),
        width=12,
        most=1,
    ),
    Panel(
        "Right, by confidence",
        "Share of the judged labels that were right, by the probability that they had (tenths, by "
        "their upper end): the two are alike if scores are honest. Since the process began.",
        "percentunit",
        (
            Query(
                "sum by (model, confidence) "
                f'(encserve_feedback_confidence_total{{{MODEL}, right="true"}})'
                " / sum by (model, confidence) "
                f"(encserve_feedback_confidence_total{{{MODEL}}})",
                "{{model}} {{confidence}}",
            ),
        ),
        width=12,
        most=1,
    ),
)

MODELS = Board(
    "encserve-models",
    "encserve: Models",
    "Versions, canaries, shadows, drift, labels and confidence of encserve's models.",
    (
        Row("Versions", VERSIONS),
        Row("Canary and shadow", CANARY),
        Row("What comes in, what goes out", ANSWERS),
    ),
)
