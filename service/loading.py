"""From the store to engines: verify, choose variant and shape of the runs, open, warm up."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.batching.batcher import Batcher
from service.batching.cache import Cache, RowCache
from service.batching.runner import WideRun
from service.batching.workers import WorkerPool, give_way
from service.drift import Drift
from service.engine import Engine
from service.errors import InvalidField, ModelCorrupt, ModelNotFound, SignatureInvalid
from service.metrics import Metrics, ModelMetrics
from service.preparing import Preparer
from service.probing import probe
from service.registry import EngineRegistry
from service.runtime.cpus import available_cpus
from service.runtime.outputs import FloatArray
from service.runtime.session import ENCODERS, Encoder, TokenEncoder, open_session
from service.runtime.tokenizer import Tokenizer
from service.settings import Settings
from service.store.manifest import TOKENIZER_FILE, Manifest
from service.store.reference import REFERENCE_FILE, read_reference
from service.store.repository import ModelRepository, PublishedModel, name_and_version
from service.store.signing import check_signature, load_trusted
from service.store.verification import Stamps, require_unchanged, verify
from service.tuning import DEFAULT_BATCH_TOKENS, Shape, read_shape

logger = logging.getLogger(__name__)

# More cores than this shorten the run of one text no further.
MOST_WIDE_THREADS = 8
# Below this, handing out the work costs about what the other cores save.
LEAST_WIDE_TOKENS = {"fp32": 8, "int8": 64}


@dataclass(frozen=True)
class Plan:
    """A model that is to be served: which of its files, and how its runs are shaped."""

    model: PublishedModel
    variant: str
    shape: Shape


def load_engines(settings: Settings, metrics: Metrics) -> EngineRegistry:
    """The engines alone; see `load_all`."""
    return load_all(settings, metrics)[0]


def load_all(settings: Settings, metrics: Metrics) -> tuple[EngineRegistry, "Loader"]:
    """Load every model of the store, or those that the settings name, in parallel.

    The loader makes more of them later. Of several versions of a model the current one answers to
    the name alone, else the first named.

    Raises:
        InvalidField: an alias means no loaded model.
        ModelNotFound: the store is empty or lacks a named model.
        ModelCorrupt, ManifestInvalid, SignatureInvalid, ModelFailed: see `check_published`.
    """
    repository = ModelRepository(settings.model_store)
    names = tuple(dict.fromkeys(settings.models)) or tuple(repository.names())
    if not names:
        raise ModelNotFound(
            f"no models in {settings.model_store}: make the default models with "
            "`encserve bootstrap`, or name another store with ENCSERVE_MODEL_STORE"
        )
    plans = [
        plan(repository.resolve(*name_and_version(name)), settings)
        for name in sorted(names, key=lambda name: "@" in name)
    ]
    pool = WorkerPool(max(plan.shape.workers for plan in plans))
    cache = RowCache(settings.cache_bytes, metrics) if settings.cache_bytes else None
    loader = Loader(repository, pool, cache, settings, metrics)
    try:
        with ThreadPoolExecutor(initializer=give_way) as threads:
            engines = EngineRegistry(list(threads.map(loader.load, plans)), pool, settings.aliases)
    except BaseException:
        pool.close()
        raise
    return engines, loader


@dataclass(frozen=True)
class Loader:
    """What loading takes beside a plan: the store, and what all engines share."""

    repository: ModelRepository
    pool: WorkerPool
    cache: RowCache | None
    settings: Settings
    metrics: Metrics

    def plan(self, name: str, version: str | None = None) -> Plan:
        """For the current version, or the one asked for. Raises as `ModelRepository.resolve`."""
        return plan(self.repository.resolve(name, version), self.settings)

    def load(self, plan: Plan) -> Engine:
        """An engine, not yet started. Raises as `load_engine`."""
        return load_engine(plan, self.pool, self.cache, self.settings, self.metrics)


def plan(model: PublishedModel, settings: Settings) -> Plan:
    """What the settings say; what they leave open, as `encserve tune` found it, or the defaults.

    Raises:
        InvalidField: the model lacks the variant.
    """
    variant = variant_to_serve(model.manifest, settings)
    tuned = _tuned(model, variant, settings)
    threads = settings.run_threads or tuned.threads
    # Shares of the cores belong together: with other threads a run, other workers.
    workers = tuned.workers if threads == tuned.threads else max(1, available_cpus() // threads)
    budget = settings.max_batch_tokens or tuned.max_batch_tokens
    shape = Shape(
        workers=settings.workers or workers,
        threads=threads,
        max_batch_tokens=min(budget, settings.max_queue_tokens),
    )
    name, version = model.manifest.name, model.manifest.version
    logger.info("model %s version %s: %s, %s", name, version, variant, shape)
    return Plan(model, variant, shape)


def load_engine(
    plan: Plan, pool: WorkerPool, cache: RowCache | None, settings: Settings, metrics: Metrics
) -> Engine:
    """Verify one published version, warm it up and build its engine, not yet started.

    Raises:
        ModelCorrupt: its files are not those of the manifest, or it fails its warm-up.
        ProviderUnavailable: onnxruntime cannot run it as the settings ask.
        InvalidField: the queue is too short for one of its longest texts.
    """
    stamps = check_published(plan.model, [plan.variant], settings)
    manifest = plan.model.manifest
    if settings.max_queue_tokens < manifest.max_tokens:
        raise InvalidField(
            f"ENCSERVE_MAX_QUEUE_TOKENS is {settings.max_queue_tokens}, less than the "
            f"{manifest.max_tokens} tokens of one long text of model {manifest.name!r}"
        )
    tokenizer = Tokenizer(
        plan.model.file(TOKENIZER_FILE),
        manifest.max_tokens,
        pairs=manifest.pair_separator_id is not None,
    )
    encoder = _open(plan, settings, tokenizer, plan.shape.threads)
    model_metrics = metrics.of_model(manifest.name, manifest.version)
    model_metrics.declare(manifest.task, plan.variant, manifest.labels)

    def batcher(
        encoder: Encoder | TokenEncoder,
        cache: Cache[FloatArray] | None = None,
        wide: WideRun[FloatArray] | None = None,
    ) -> Batcher[FloatArray]:
        return Batcher[FloatArray](
            encoder.run,
            pool,
            model_metrics,
            cache,
            wide=wide,
            model=manifest.name,
            max_batch_tokens=plan.shape.max_batch_tokens,
            max_queue_tokens=settings.max_queue_tokens,
            max_queue_wait_s=settings.max_queue_wait_s,
            max_queue_bytes=settings.max_queue_bytes,
            max_runs=plan.shape.workers,
            padded=manifest.layout == "padded",
            pack=encoder.pack,
        )

    rows = cache.of_model(manifest.name, manifest.version, plan.variant) if cache else None
    tokens = (output := manifest.token_output_of(plan.variant)) and TokenEncoder(encoder, output)
    engine = Engine(
        manifest,
        plan.variant,
        tokenizer,
        Preparer(manifest, tokenizer, pool, model_metrics, settings),
        batcher(encoder, rows, _wide_run(plan, settings, tokenizer)),
        pool,
        model_metrics,
        settings,
        batcher(tokens) if tokens else None,
        _drift(plan.model, tokenizer, model_metrics),
    )
    # What was loaded is what was verified: nobody exchanged a file meanwhile.
    require_unchanged(plan.model, stamps)
    return engine


def check_published(model: PublishedModel, variants: Iterable[str], settings: Settings) -> Stamps:
    """Prove the files, whose they are, and what they answer, before the server opens them.

    Returns what `require_unchanged` compares with.

    Args:
        variants: are tried.

    Raises:
        SignatureInvalid: the settings require a signature, and there is none that counts.
        ModelCorrupt: the files are not those of the manifest.
        ModelFailed: the model does not answer as it should.
    """
    if settings.signatures != "off":
        try:
            check_signature(model, load_trusted(settings.trusted_keys))
        except SignatureInvalid as error:
            if settings.signatures == "require":
                raise
            logger.warning("%s", error.message)
    stamps = verify(model)
    if settings.probe and settings.provider == "cpu":
        for variant in variants:
            probe(
                model,
                variant,
                memory_bytes=settings.probe_memory_bytes,
                timeout_s=settings.probe_timeout_s,
            )
    return stamps


def variant_to_serve(manifest: Manifest, settings: Settings) -> str:
    """The variant asked for, else the fastest on the CPU; int8 is made for no other provider."""
    if not settings.variant:
        return manifest.default_variant if settings.provider == "cpu" else "fp32"
    if settings.variant not in manifest.variants:
        raise InvalidField(
            f"model {manifest.name!r} has no variant {settings.variant!r} (ENCSERVE_VARIANT): "
            f"it has {', '.join(manifest.variants)}; leave it empty to serve the fastest"
        )
    return settings.variant


def _tuned(model: PublishedModel, variant: str, settings: Settings) -> Shape:
    """What `encserve tune` found here; a run a core where it was not asked, or for a GPU."""
    tuned = None
    try:
        if settings.provider == "cpu":
            tuned = read_shape(model, variant)
    except ModelCorrupt as error:
        # It is a hint only: no reason not to serve.
        logger.warning("%s", error.message)
    return tuned or Shape(
        workers=available_cpus(), threads=1, max_batch_tokens=DEFAULT_BATCH_TOKENS
    )


def _drift(model: PublishedModel, tokenizer: Tokenizer, metrics: ModelMetrics) -> Drift | None:
    """None for models that were made without a reference."""
    if REFERENCE_FILE not in model.manifest.files:
        return None
    return Drift(read_reference(model.file(REFERENCE_FILE)), tokenizer.unknown_id, metrics)


def _wide_run(plan: Plan, settings: Settings, tokenizer: Tokenizer) -> WideRun[FloatArray] | None:
    """A session on all cores; None where it would add nothing."""
    threads = settings.wide_threads or min(available_cpus(), MOST_WIDE_THREADS)
    if settings.provider != "cpu" or threads <= plan.shape.threads:
        return None
    least_tokens = LEAST_WIDE_TOKENS.get(plan.variant, LEAST_WIDE_TOKENS["fp32"])
    return WideRun(_open(plan, settings, tokenizer, threads).run, least_tokens)


def _open(plan: Plan, settings: Settings, tokenizer: Tokenizer, threads: int) -> Encoder:
    manifest = plan.model.manifest
    session = open_session(
        plan.model.file(manifest.file_of(plan.variant)),
        settings.provider,
        settings.provider_options,
        threads=threads,
    )
    encoder = ENCODERS[manifest.layout](
        session, manifest.output, manifest.width, manifest.pair_separator_id
    )
    _warm_up(encoder, tokenizer, manifest.max_tokens)
    return encoder


def _warm_up(encoder: Encoder, tokenizer: Tokenizer, max_tokens: int) -> None:
    """Answer one short text and one of the longest, before anyone waits; a bad model fails here."""
    for text in tokenizer.encode(["warm up", "warm up " * max_tokens]):
        try:
            encoder([text.token_ids])
        except Exception as error:  # onnxruntime's own classes share no public base
            raise ModelCorrupt(
                f"the model failed on a warm-up of {len(text.token_ids)} tokens: "
                f"{type(error).__name__}"
            ) from error
