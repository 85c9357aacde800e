"""An error reply becomes the error that its status and code say."""

import pytest

from taskcast_client import errors


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "validation_error", errors.InvalidInput),
        (400, "task_ended", errors.TaskEnded),
        (400, None, errors.BadRequest),
        (401, "unauthorized", errors.Unauthorized),
        (403, "forbidden", errors.Forbidden),
        (404, "task_not_found", errors.TaskNotFound),
        (404, "not_found", errors.NotFound),
        (409, "invalid_transition", errors.InvalidTransition),
        (409, "news", errors.Conflict),
        (413, None, errors.TooLarge),
        (418, None, errors.RefusedError),
        (422, "idempotency_key_reused", errors.IdempotencyConflict),
        (429, "too_many_requests", errors.RateLimited),
        (500, "internal_error", errors.ServerError),
        (502, None, errors.ServerError),
        (409, "limit_exceeded", errors.LimitExceeded),
        (503, "storage_unavailable", errors.Unavailable),
        (503, "shutting_down", errors.Unavailable),
        (503, "storage_release_unsupported", errors.StorageReleaseUnsupported),
        (404, "task_ended", errors.NotFound),
    ],
)
def test_by_status_and_code(status: int, code: str | None, expected: type[errors.RefusedError]) -> None:
    error = errors.refused(status, {"error": "why", "code": code}, {})
    assert type(error) is expected
    assert (str(error), error.status, error.code) == ("why", status, code)


def test_bodies_of_other_servers_are_read_as_far_as_possible() -> None:
    assert str(errors.refused(500, "Internal Server Error", {})) == "HTTP 500"
    odd = errors.refused(400, {"error": {"fieldErrors": {"a": ["b"]}}}, {})
    assert (str(odd), odd.details) == ("HTTP 400", {"fieldErrors": {"a": ["b"]}})


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), ("-1", 0.0), ("Wed, 21 Oct 2026", None), (None, None)])
def test_retry_after(header: str | None, seconds: float | None) -> None:
    headers = {} if header is None else {"retry-after": header}
    assert errors.refused(429, {}, headers).retry_after_s == seconds


def test_retryable_is_what_may_help_later() -> None:
    assert errors.Unavailable.retryable
    assert errors.RateLimited.retryable
    assert not errors.NotFound.retryable
