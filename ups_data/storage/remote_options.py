"""How remote stores are reached: where, how patiently, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from ups_data.errors import ConfigError, StoreError, suggest

SCHEMES = ("s3", "gs", "http", "https")
"""URL schemes of remote stores."""


@dataclass(frozen=True, kw_only=True)
class RemoteOptions:
    """Where a remote store is reached, and the limits of each request.

    Credentials are no part of it: they come from the environment's usual places (`AWS_*` variables and instance
    metadata, `GOOGLE_*` variables and application default credentials), and so may the first three options
    (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ALLOW_HTTP`).

    Attributes:
        endpoint: URL of the service, for those that are not the usual ones.
        region: region of an S3 bucket.
        allow_http: whether `s3://` and `gs://` may go without TLS.
        anonymous: whether requests go unsigned, for public buckets.
        connect_timeout_s: time for a connection.
        timeout_s: time for one request, body included; then it is tried again.
        deadline_s: time for what is waited for at once (at most 64 MiB), all tries included; then a RemoteError.
        max_attempts: how often one request is made.
        backoff_s: pause before the second attempt; doubles with each one, up to `max_backoff_s`.
        max_backoff_s: longest pause.
        retry_share: requests that may be repeated, as a share of all that were made by one handle, beyond the first 50.
            A service that fails more often is refused, so that many processes do not keep it down.
        max_in_flight: requests at one time, of one handle.
        max_waste: bytes that a request may read for nothing because it joins several ranges, as a share of those asked
            for; the smallest gaps are joined first.
        free_gap_bytes: gaps up to this length are always read through, beyond `max_waste`. What comes in the time of a
            round trip is a good value to go through a store in sequence (`StreamShuffle`): 1 MiB for 20 ms at 50 MB/s.
    """

    endpoint: str | None = None
    region: str | None = None
    allow_http: bool | None = None
    anonymous: bool = False
    connect_timeout_s: float = 5.0
    timeout_s: float = 30.0
    deadline_s: float = 120.0
    max_attempts: int = 6
    backoff_s: float = 0.1
    max_backoff_s: float = 5.0
    retry_share: float = 0.5
    max_in_flight: int = 32
    max_waste: float = 0.25
    free_gap_bytes: int = 0

    def __post_init__(self) -> None:
        positive = ("connect_timeout_s", "timeout_s", "deadline_s", "max_attempts", "max_in_flight", "max_backoff_s")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} of a remote store must be positive, got {getattr(self, name)}")
        for name in ("backoff_s", "retry_share", "max_waste", "free_gap_bytes"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} of a remote store must not be negative, got {getattr(self, name)}")
        if self.endpoint is not None:
            check_url(self.endpoint, ("http", "https"))


def check_url(url: str, schemes: tuple[str, ...] = SCHEMES) -> str:
    """Return a URL without a slash at its end.

    Raises:
        StoreError: another scheme, no host, or parts that a store cannot have. Credentials in a URL are refused without
            being repeated in the message.
    """
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise StoreError(
            f"the {parts.scheme} URL of host {parts.hostname} carries credentials, a query or a fragment: give "
            f"scheme://host/path alone, and credentials by the environment"
        )
    if parts.scheme not in schemes:
        raise StoreError(f"{url} has no scheme that is read here. {suggest(parts.scheme, schemes)}")
    if not parts.hostname:
        raise StoreError(f"{url} names no {'bucket' if parts.scheme in {'s3', 'gs'} else 'host'}")
    return url.rstrip("/")
