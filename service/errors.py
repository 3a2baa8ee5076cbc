"""The error tree: what can go wrong, in the domain's words, without HTTP.

    EncserveError
    ├── InvalidRequest          the caller can mend it
    │   ├── InvalidJson · InvalidField · UnsupportedMediaType · BodyTooLarge · BodyTooSlow
    │   ├── InvalidHttp · HeaderTooLarge · HeaderTooSlow
    │   ├── EmptyInput · BlankText · TooManyTexts · TextTooLong · TooManyTokens
    │   ├── InvalidDimensions · WrongTask · TokenIdsNotAccepted
    │   ├── Unauthorized · AdminDisabled
    │   └── UnknownModel · UnknownRequest · UnknownPage
    ├── VersionMismatch         another version serves than the caller expects
    ├── Overloaded · DeadlineExceeded · ShuttingDown · TooManyConnections   try again later
    │   └── RateLimited         the caller's own limit
    ├── InferenceFailed         the model could not answer
    │   └── NonFiniteOutput
    ├── KeysInvalid             the keys of the settings are not as they should be
    ├── ProviderUnavailable     this onnxruntime cannot run models as the settings ask
    ├── TracingUnavailable      traces are asked for, and what makes them is not installed
    ├── StoreError              published files are missing or not what their manifest says
    │   └── ModelNotFound · ManifestInvalid · ModelCorrupt · SignatureInvalid · ModelFailed
    │       StoreUnwritable · SourceFailed
    └── WorkshopError           a model cannot be made
        └── CheckpointInvalid · DatasetInvalid · ParityFailed

`code` is a stable word for programs, the message a sentence for people that names the limit and
the setting that moves it. Neither ever holds text that a caller sent.
"""


class EncserveError(Exception):
    """Root of every error raised on purpose.

    Args:
        message: a sentence for people; never contains the caller's text.
        param: the part of the request that is at fault, such as ``input[3]``.
    """

    code = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidRequest(EncserveError):
    code = "invalid_request"


class InvalidJson(InvalidRequest):
    code = "invalid_json"


class InvalidField(InvalidRequest):
    code = "invalid_field"


class UnsupportedMediaType(InvalidRequest):
    code = "unsupported_media_type"


class BodyTooLarge(InvalidRequest):
    code = "body_too_large"


class BodyTooSlow(InvalidRequest):
    code = "body_too_slow"


class InvalidHttp(InvalidRequest):
    code = "invalid_http"


class HeaderTooLarge(InvalidRequest):
    code = "header_too_large"


class HeaderTooSlow(InvalidRequest):
    code = "header_too_slow"


class EmptyInput(InvalidRequest):
    code = "empty_input"


class BlankText(InvalidRequest):
    code = "blank_text"


class TooManyTexts(InvalidRequest):
    code = "too_many_texts"

    def __init__(
        self, texts: int, limit: int, *, setting: str = "ENCSERVE_MAX_TEXTS_PER_REQUEST"
    ) -> None:
        super().__init__(
            f"the request has {texts} texts, the limit is {limit}: "
            f"send fewer at a time, or raise {setting}",
            param="input",
        )


class TextTooLong(InvalidRequest):
    code = "text_too_long"


class TooManyTokens(InvalidRequest):
    code = "too_many_tokens"


class InvalidDimensions(InvalidRequest):
    code = "invalid_dimensions"


class WrongTask(InvalidRequest):
    code = "wrong_task"


class TokenIdsNotAccepted(InvalidRequest):
    code = "token_ids_not_accepted"


class UnknownModel(InvalidRequest):
    code = "model_not_found"


class UnknownPage(InvalidRequest):
    code = "page_not_found"


class UnknownRequest(InvalidRequest):
    code = "request_not_found"


class Unauthorized(InvalidRequest):
    code = "unauthorized"


class AdminDisabled(InvalidRequest):
    code = "admin_disabled"


class VersionMismatch(EncserveError):
    """The same request would be refused again: vectors of two versions must not be mixed."""

    code = "version_mismatch"


class Overloaded(EncserveError):
    """The queue is full; `retry_after_s` is when it should have drained."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(Overloaded):
    """The caller has used up what its key may take, whatever room there is."""

    code = "rate_limit_exceeded"


class DeadlineExceeded(EncserveError):
    code = "deadline_exceeded"


class ShuttingDown(EncserveError):
    code = "shutting_down"


class TooManyConnections(EncserveError):
    code = "too_many_connections"


class InferenceFailed(EncserveError):
    code = "inference_failed"


class NonFiniteOutput(InferenceFailed):
    code = "non_finite_output"


class KeysInvalid(EncserveError):
    code = "keys_invalid"


class ProviderUnavailable(EncserveError):
    code = "provider_unavailable"


class TracingUnavailable(EncserveError):
    code = "tracing_unavailable"


class StoreError(EncserveError):
    code = "store_error"


class ModelNotFound(StoreError):
    code = "published_model_not_found"


class ManifestInvalid(StoreError):
    code = "manifest_invalid"


class ModelCorrupt(StoreError):
    code = "model_corrupt"


class SignatureInvalid(StoreError):
    code = "signature_invalid"


class ModelFailed(StoreError):
    """The files are those that were published, and the model does not do what it should."""

    code = "model_failed"


class StoreUnwritable(StoreError):
    """The disk is full, or the store is not this user's to write."""

    code = "store_unwritable"


class SourceFailed(StoreError):
    """A place that versions come from does not answer, or not as it should."""

    code = "source_failed"


class InvalidSetting(EncserveError):
    code = "invalid_setting"


class WorkshopError(EncserveError):
    code = "workshop_error"


class CheckpointInvalid(WorkshopError):
    code = "checkpoint_invalid"


class DatasetInvalid(WorkshopError):
    code = "dataset_invalid"


class ParityFailed(WorkshopError):
    code = "parity_failed"
