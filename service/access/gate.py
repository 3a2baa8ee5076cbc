"""Lets in whoever has a key: callers, administrators, and those who read the metrics."""

import time

from service.access.accounts import Clock, KeyAccount
from service.access.keys import Key, digest_of_sent, read_keys, read_secret, same_digest
from service.errors import AdminDisabled, Unauthorized
from service.metrics import Metrics
from service.settings import Settings

SEND = "send the header 'Authorization: Bearer KEY' or 'x-api-key: KEY'"


class Gate:
    """The keys of a server and what each has used; without API keys everybody may ask.

    Raises:
        KeysInvalid: a key, or a file of keys, is not as it should be.
    """

    def __init__(self, settings: Settings, metrics: Metrics, clock: Clock = time.monotonic) -> None:
        self._callers = [
            (key.digest, KeyAccount(key, settings.max_queue_tokens, metrics, clock))
            for key in keys_of(settings)
        ]
        self._admin = read_secret(settings.admin_key.get_secret_value(), settings.admin_key_file)
        self._metrics = read_secret(
            settings.metrics_key.get_secret_value(), settings.metrics_key_file
        )

    def account_of(self, sent: bytes) -> KeyAccount | None:
        """The account that a request with the key `sent` is for; None where there are no keys.

        Raises:
            Unauthorized: it is none, and there are keys.
        """
        if not self._callers:
            return None
        digest = digest_of_sent(sent)
        found: KeyAccount | None = None
        # All are compared, so that time does not tell how far the list goes.
        for known, account in self._callers:
            found = account if same_digest(known, digest) else found
        if found is None:
            raise Unauthorized(f"no valid API key: {SEND}")
        found.requests.inc()
        return found

    def require_admin(self, sent: bytes) -> None:
        """Raise unless `sent` is the admin key.

        Raises:
            AdminDisabled: there is no key, and so nobody who has it.
            Unauthorized: another one, or none, was sent.
        """
        if self._admin is None:
            raise AdminDisabled(
                "administration is off: set ENCSERVE_ADMIN_KEY or ENCSERVE_ADMIN_KEY_FILE"
            )
        if not same_digest(self._admin, digest_of_sent(sent)):
            raise Unauthorized(f"not the admin key: {SEND}")

    def require_metrics(self, sent: bytes) -> None:
        """Raise unless `sent` is the key of /metrics, if there is one.

        Raises:
            Unauthorized: another one, or none, was sent.
        """
        if self._metrics is not None and not same_digest(self._metrics, digest_of_sent(sent)):
            raise Unauthorized(f"not the key of /metrics: {SEND}")


def keys_of(settings: Settings) -> tuple[Key, ...]:
    """The API keys of the settings. Raises as `read_keys`."""
    return read_keys(settings.api_keys.get_secret_value(), settings.api_keys_file)
