"""The HTTP client of remote stores: how it is made, and what its errors mean."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ups_data.errors import ConfigError, RemoteError, StoreError, StoreNotFoundError
from ups_data.storage.remote_options import RemoteOptions

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_STATUS = re.compile(r"status code: (\d{3})")
_TRY_LATER = {408, 429}
_DENIED = {401, 403}
_WHOLE = "the server answers a request for a range with the whole file; use one that knows ranges"
_SIGNS = (
    ("RangeNotSupported", _WHOLE),
    ("NotPartial", _WHOLE),
    ("UnexpectedRange", "the server answered with another range than was asked for"),
    ("TimedOut", "no answer in time"),
    ("Connect", "no connection"),
    ("Body", "the answer broke off"),
)


class Fault(Exception):
    """A request that failed.

    Attributes:
        reason: why, without anything that the service said.
        kind: as what it is raised in the end.
        final: whether it will be the same next time.
        denied: whether it is a matter of credentials.
    """

    def __init__(self, reason: str, *, kind: type[StoreError], final: bool = False, denied: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.kind, self.final, self.denied = reason, kind, final, denied


def classify(error: Exception) -> Fault:
    """Say what kind of failure an error of the client is.

    Its text is not kept: it repeats what the service answered, and services answer with key ids and signed requests.
    """
    if isinstance(error, FileNotFoundError):
        return Fault("there is no such file", kind=StoreNotFoundError, final=True)
    status = _STATUS.search(str(error))
    code = int(status[1]) if status else 0
    if code in _DENIED:
        return Fault(
            "access is denied; set the credentials in the environment, or anonymous=True",
            kind=RemoteError,
            final=True,
            denied=True,
        )
    if code:
        return Fault(
            f"the server answered {code}", kind=RemoteError, final=400 <= code < 500 and code not in _TRY_LATER
        )
    reason = next((reason for sign, reason in _SIGNS if sign in str(error)), "the request failed")
    return Fault(f"{reason} ({type(error).__name__})", kind=RemoteError)


def client_errors() -> tuple[type[Exception], ...]:
    """Return what the client raises."""
    from obstore.exceptions import BaseError

    return (BaseError, FileNotFoundError, Fault)


def make_client(url: str, options: RemoteOptions) -> ObjectStore:
    """Return a client for the files below a URL."""
    from obstore.store import GCSStore, HTTPStore, S3Store

    client: Any = {
        "timeout": timedelta(seconds=options.timeout_s),
        "connect_timeout": timedelta(seconds=options.connect_timeout_s),
    }
    # Repeating is done here, where it is counted and ends at the deadline.
    retry: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=options.deadline_s)}
    if url.startswith("http"):
        client["allow_http"] = True
        return HTTPStore(url, client_options=client, retry_config=retry)
    if options.allow_http is not None:
        client["allow_http"] = options.allow_http
    config: Any = {"skip_signature": True} if options.anonymous else {}
    if url.startswith("gs://"):
        config |= {"base_url": options.endpoint} if options.endpoint else {}
        return GCSStore.from_url(url, config=config, client_options=client, retry_config=retry)
    config |= {"endpoint": options.endpoint} if options.endpoint else {}
    config |= {"region": options.region} if options.region else {}
    return S3Store.from_url(url, config=config, client_options=client, retry_config=retry)


def require_client() -> None:
    """Refuse to go on without the client's package."""
    try:
        import obstore  # noqa: F401  # whether it is there
    except ImportError as error:
        raise ConfigError('remote stores need obstore: pip install "ups-data[remote]"') from error
