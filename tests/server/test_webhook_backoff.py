"""Retry settings: merging, waits, and what is refused when a task is created."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcast_core.config import Config, InvalidConfig, Section
from taskcast_core.models import RetryConfig, WebhookConfig
from taskcast_server.webhooks.backoff import delay_ms, merge_retry
from taskcast_server.webhooks.options import MAX_DELAY_MS, Retry, WebhookOptions
from taskcast_server.webhooks.targets import loggable, parse_target, same_origin, without_secrets
from taskcast_server.webhooks.validation import check_webhooks


def waits(retry: Retry, count: int = 4) -> list[int]:
    return [delay_ms(retry, attempt) for attempt in range(1, count + 1)]


def test_the_table_of_the_wire_spec() -> None:
    assert waits(Retry(backoff="fixed", initial_delay_ms=50, max_delay_ms=10)) == [50, 50, 50, 50]
    assert waits(Retry(backoff="linear", initial_delay_ms=50, max_delay_ms=100)) == [50, 100, 150, 200]
    assert waits(Retry(backoff="exponential", initial_delay_ms=50, max_delay_ms=150)) == [50, 100, 150, 150]
    assert waits(Retry(), 7) == [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]


@given(
    st.sampled_from(["fixed", "linear", "exponential"]),
    st.integers(0, MAX_DELAY_MS), st.integers(0, MAX_DELAY_MS), st.integers(1, 10**6),
)  # fmt: skip
def test_every_wait_is_bounded(backoff: str, initial: int, longest: int, attempt: int) -> None:
    retry = Retry(backoff=backoff, initial_delay_ms=initial, max_delay_ms=longest)  # type: ignore[arg-type]
    assert 0 <= delay_ms(retry, attempt) <= delay_ms(retry, attempt + 1) <= MAX_DELAY_MS


def test_the_task_comes_before_the_configuration_field_by_field() -> None:
    defaults = Retry(retries=9, timeout_ms=700)
    assert merge_retry(None, defaults) == defaults == merge_retry(RetryConfig(), defaults)
    merged = merge_retry(RetryConfig(retries=0, backoff="linear"), defaults)
    assert merged == Retry(retries=0, backoff="linear", timeout_ms=700)


def test_an_imported_task_cannot_ask_for_more_than_a_created_one() -> None:
    wild = RetryConfig(retries=10**9, initial_delay_ms=-5, max_delay_ms=10**15, timeout_ms=0)
    assert merge_retry(wild, Retry()) == Retry(100, "exponential", 0, MAX_DELAY_MS, 1)


@pytest.mark.parametrize("key", ["retries", "initialDelayMs", "maxDelayMs", "timeoutMs"])
@pytest.mark.parametrize("value", [-1, 10**12])
def test_absurd_settings_are_refused(key: str, value: int) -> None:
    with pytest.raises(InvalidConfig, match=f"webhook.defaultRetry.{key} must be from"):
        Config.of({"webhook": {"defaultRetry": {key: value}}}, sections=[Section("webhook", WebhookOptions)])
    names = {"initialDelayMs": "initial_delay_ms", "maxDelayMs": "max_delay_ms", "timeoutMs": "timeout_ms"}
    own = RetryConfig(**{names.get(key, key): value})  # type: ignore[arg-type]
    faults = check_webhooks([WebhookConfig("https://example.com"), WebhookConfig("https://example.com", retry=own)])
    assert [path for path, _ in faults] == [f"webhooks[1].retry.{key}"]


@pytest.mark.parametrize(
    "url",
    [
        "", "/hook", "example.com/hook", "//example.com/hook", "ftp://example.com", "file:///etc/passwd",
        "javascript:alert(1)", "gopher://example.com", "http://", "https:///path", "http:example.com",
        "http://exa mple.com", "http://example.com\\@127.0.0.1/", "http://example.com/\r\nHost: evil", "http://[::1",
        "http://example.com:99999999", "http://exam\x00ple.com", " http://example.com", "http://example.com/\ud800",
        "http://example.com:0", "http://ex[ample.com", "http://<script>/", "https://example.com/" + "x" * 2048,
    ],
)  # fmt: skip
def test_a_url_that_is_not_http_is_a_fault(url: str) -> None:
    faults = check_webhooks([WebhookConfig(url)])
    assert [path for path, _ in faults] == ["webhooks[0].url"]
    assert "invalid" in loggable(url)


@pytest.mark.parametrize(
    "url",
    ["http://example.com", "HTTPS://Example.COM:8443/a?b=c#d", "https://user:pass@example.com/x", "http://[2001:db8::1]:80/",
     "https://münchen.example/ä", "http://localhost:3000/hook"],
)  # fmt: skip
def test_urls_that_are_fine(url: str) -> None:
    assert check_webhooks([WebhookConfig(url)]) == []


def test_other_bounds() -> None:
    good = WebhookConfig("https://example.com")
    assert check_webhooks(None) == check_webhooks([]) == check_webhooks([good] * 16) == []
    assert check_webhooks([good] * 17) == [("webhooks", "must have at most 16 items")]
    faults = check_webhooks([WebhookConfig("ftp://x", secret="s" * 2000)])
    assert [path for path, _ in faults] == ["webhooks[0].url", "webhooks[0].secret"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@example.com/x?y=a:b@c", "https://user:***@example.com/x?y=a:b@c"),
        ("https://user:p@ss@example.com", "https://user:***@example.com"),
        ("https://:pass@example.com", "https://:***@example.com"),
        ("https://user@example.com", "https://user@example.com"),
        ("https://example.com:80/a:b@c", "https://example.com:80/a:b@c"),
    ],
)
def test_replies_show_no_secrets(url: str, shown: str) -> None:
    webhook = WebhookConfig(url, secret="hush", wrap=True)
    assert without_secrets(webhook) == WebhookConfig(shown, wrap=True)


def test_logs_see_the_origin_only() -> None:
    assert loggable("https://user:pass@example.com:8443/path/token?key=1#f") == "https://example.com:8443"


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("https://a.example/x", "https://A.example:443/y?z", True),
        ("http://a.example", "https://a.example", True),
        ("https://a.example", "http://a.example", False),
        ("http://a.example:8080", "https://a.example:8443", False),
        ("https://a.example", "https://a.example:8443", False),
        ("https://a.example", "https://b.a.example", False),
        ("https://a.example", "https://a.example.", False),
    ],
)
def test_origins(one: str, other: str, is_same: bool) -> None:
    assert same_origin(parse_target(one), parse_target(other)) is is_same
