"""HTTPS: the certificate and its key, tried before anything else is done."""

import ssl

from service.errors import KeysInvalid
from service.settings import Settings


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """For TLS 1.2 and later; None where the settings name no certificate.

    Raises:
        KeysInvalid: a file cannot be read, or the key is encrypted or another certificate's.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password of its own the library would ask the terminal for one.
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file, lambda: "")
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or getattr(error, "reason", None)
        raise KeysInvalid(
            f"TLS with {settings.tls_cert_file} and {settings.tls_key_file} is not possible "
            f"({told or type(error).__name__}): they must be PEM, belong together, and the key "
            "must not be encrypted"
        ) from None
    return context
