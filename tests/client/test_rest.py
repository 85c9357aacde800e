"""Every verb of the REST API against a real server, and what is tried again when it fails."""

import asyncio
import time
from uuid import uuid4

import pytest

from taskcast_client import (
    ConnectionFailed,
    Cursor,
    EventInput,
    RetryPolicy,
    SyncTaskcastClient,
    TaskcastClient,
    TaskcastServerClient,
    TaskInput,
    errors,
)
from taskcast_client.models import TaskError
from tests.client.conftest import TaskcastServer
from tests.client.raw_server import RawServer

pytestmark = pytest.mark.anyio


async def running_task(client: TaskcastClient, **fields: str) -> str:
    task = await client.create_task(**fields)  # type: ignore[arg-type]
    await client.transition_task(task.id, "running")
    return task.id


async def test_a_task_from_its_creation_to_its_end(client: TaskcastClient) -> None:
    task = await client.create_task(
        type="llm.chat", params={"q": [1, None]}, metadata={"m": {}}, ttl=60, tags=["a", "b"]
    )
    assert (task.status, task.type, task.params, task.tags, task.ttl) == (
        "pending", "llm.chat", {"q": [1, None]}, ["a", "b"], 60,
    )  # fmt: skip
    assert (await client.transition_task(task.id, "running")).started_at is not None
    event = await client.publish_event(task.id, "llm.text", {"delta": "a"}, series_id="s", series_mode="accumulate")
    assert (event.index, event.series_id, event.data) == (1, "s", {"delta": "a"})
    events = await client.publish_events(task.id, [EventInput("x", n, level="warn") for n in range(3)])
    assert [(each.index, each.data, each.level) for each in events] == [(2, 0, "warn"), (3, 1, "warn"), (4, 2, "warn")]
    lines = await client.publish_lines(task.id, [EventInput("line", n) for n in range(1200)])
    assert (lines.count, lines.first_index, lines.last_index) == (1200, 5, 1204)
    ended = await client.complete_task(task.id, {"ok": True})
    assert (ended.status, ended.result, ended.is_terminal) == ("completed", {"ok": True}, True)
    seen = await client.get_task(task.id)
    assert (seen.status, seen.hot, seen.subscriber_count) == ("completed", False, 0)
    history = await client.get_history(task.id)
    assert [each.index for each in history] == list(range(1206))
    assert await client.get_history(task.id, since=history[-2].id) == history[-1:]
    assert await client.get_history(task.id, since=Cursor(index=1203), types=["line"]) == history[1204:1205]
    assert len(await client.get_history(task.id, limit=3, series_format="accumulated")) == 3


async def test_failing_cancelling_deleting(client: TaskcastClient) -> None:
    failed = await client.fail_task(await running_task(client), "no luck", code="luck", details={"n": 1})
    assert (failed.status, failed.error) == ("failed", TaskError("no luck", "luck", {"n": 1}))
    task_id = await running_task(client)
    assert (await client.cancel_task(task_id, "enough")).status == "cancelled"
    await client.delete_task(task_id)
    with pytest.raises(errors.TaskNotFound):
        await client.get_task(task_id)
    with pytest.raises(errors.TaskNotFound):
        await client.delete_task(task_id)


async def test_a_question_and_its_answer(client: TaskcastClient) -> None:
    task_id = await running_task(client)
    with pytest.raises(errors.NoBlockedRequest):
        await client.get_blocked_request(task_id)
    with pytest.raises(errors.NotBlocked):
        await client.resolve_task(task_id, {"answer": 1})
    await client.transition_task(task_id, "blocked", reason="why", blocked_request={"type": "ask", "data": {"q": 1}})
    asked = await client.get_blocked_request(task_id)
    assert (asked.type, asked.data) == ("ask", {"q": 1})
    assert (await client.resolve_task(task_id, {"answer": 1})).result == {"answer": 1}


async def test_refusals_have_classes(client: TaskcastClient) -> None:
    with pytest.raises(errors.TaskNotFound):
        await client.get_task("nobody")
    task = await client.create_task()
    with pytest.raises(errors.InvalidTransition):
        await client.complete_task(task.id)
    with pytest.raises(errors.TaskExists):
        await client.create_task(id=task.id)
    with pytest.raises(errors.InvalidInput) as caught:
        await client.create_task(ttl=-1)
    assert caught.value.details[0]["path"] == "ttl"
    await client.cancel_task(task.id)
    with pytest.raises(errors.TaskEnded):
        await client.publish_event(task.id, "x")


async def test_ids_are_encoded(client: TaskcastClient) -> None:
    for odd in ("a/b?c#d e%2F", "ünï\N{SNOWMAN}", "a+b&c=d", "..."):
        task_id = f"{odd}{uuid4().hex}"
        assert (await client.create_task(id=task_id)).id == task_id
        assert (await client.get_task(task_id)).id == task_id
        assert (await client.publish_event(task_id, "x")).task_id == task_id
        stream = client.subscribe(task_id)
        assert (await anext(stream)).task_id == task_id
        await stream.aclose()
    for wrong in ("", ".", ".."):
        with pytest.raises(ValueError, match="not an id"):
            await client.get_task(wrong)


async def test_batches_and_pages(client: TaskcastClient) -> None:
    tag = uuid4().hex
    wanted = [TaskInput(type=f"t.{n}", tags=[tag]) for n in range(25)]
    made = await client.create_tasks([*wanted, TaskInput(ttl=-1)])
    assert [each.ok for each in made] == [True] * 25 + [False]
    assert (made[-1].status, made[-1].code) == (400, "validation_error")
    ids = [each.task.id for each in made if each.task]
    page = await client.list_tasks(tags=[tag], limit=10)
    assert len(page.tasks) == 10
    assert page.next_cursor
    walked = [task.id async for task in client.iterate_tasks(tags=[tag], page_size=10)]
    assert sorted(walked) == sorted(ids)
    assert [task.type for task in (await client.list_tasks(tags=[tag], type="t.7")).tasks] == ["t.7"]
    assert len((await client.list_tasks(tags=[tag], status=["pending", "running"])).tasks) == 25
    assert not (await client.list_tasks(tags=[tag], status="running")).tasks
    first, second = (await client.create_tasks(wanted[:2], mode="sequential"))[:2]
    assert first.task
    assert second.task
    assert second.task.after == first.task.id


async def test_archives(client: TaskcastClient) -> None:
    task_id = await running_task(client, type="x")
    await client.publish_events(task_id, [EventInput("x", None), EventInput("y", {"a": [1]})])
    await client.complete_task(task_id)
    archive = await client.export_task_archive(task_id)
    with pytest.raises(errors.TaskExists):
        await client.import_task_archive(archive)
    again = await client.import_task_archive(archive, overwrite=True)
    assert (again.task_id, again.event_count, again.overwritten) == (task_id, 4, True)
    assert [each.data for each in await client.get_history(task_id)] == [each.data for each in archive.events]


async def test_the_server_tells_of_itself(client: TaskcastClient) -> None:
    assert (await client.get_server_info()).name == "taskcast"
    assert (await client.get_health())["ok"] is True
    assert (await client.get_readiness()).ok
    assert (await client.get_health_detail())["auth"] == {"mode": "none"}
    with pytest.raises(errors.NotFound):
        await client.create_admin_token("guess")


async def test_a_key_of_ones_own_repeats_nothing(client: TaskcastClient) -> None:
    key = uuid4().hex
    first = await client.create_task(type="a", idempotency_key=key)
    assert (await client.create_task(type="a", idempotency_key=key)).id == first.id
    with pytest.raises(errors.IdempotencyConflict):
        await client.create_task(type="b", idempotency_key=key)
    one = await client.publish_event(first.id, "x", idempotency_key=key)
    assert (await client.publish_event(first.id, "x", idempotency_key=key)).index == one.index


async def test_what_those_who_run_it_can_do(guarded_server: TaskcastServer) -> None:
    async with TaskcastClient(guarded_server.url, service_key="the-key-of-a-service") as client:
        page = await client.list_dead_letters(limit=5)
        assert (page.dead_letters, page.next_after) == ([], None)
        for verb in (client.retry_dead_letter, client.discard_dead_letter):
            with pytest.raises(errors.NotFound):
                await verb("no/such letter")
        shown = await client.get_config()
        assert shown.settings["adminToken"]["value"] != "the-admin-token"
        assert (await client.validate_config({"workers": {"enabled": True}})).valid
        verdict = await client.validate_config({"workers": {"enabled": "perhaps"}})
        assert (verdict.valid, [each["path"] for each in verdict.errors]) == (False, ["workers.enabled"])
        changed = await client.change_config({"logLevel": "warn"})
        assert (await client.change_config({"logLevel": "error"})).at >= changed.at
        assert len((await client.get_config()).changes) >= 2
        assert await client.get_metrics()
        task = await client.create_task()
        with pytest.raises(errors.StorageReleaseUnsupported):
            await client.release_task(task.id, expected_last_event_index=-1, inactive_since=task.created_at)


async def test_tags_of_all_kinds(client: TaskcastClient) -> None:
    mine = uuid4().hex
    made = [await client.create_task(tags=[mine, *tags]) for tags in (["a"], ["b"], ["a", "b"])]

    async def found(**tags: list[str]) -> set[str]:
        return {task.id for task in (await client.list_tasks(tags=[mine], **tags)).tasks}  # type: ignore[arg-type]

    assert await found(tags_any=["a", "c"]) == {made[0].id, made[2].id}
    assert await found(tags_none=["a"]) == {made[1].id}


# ── Credentials ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_tokens_keys_and_tickets(guarded_server: TaskcastServer) -> None:
    async with TaskcastClient(guarded_server.url) as nobody:
        with pytest.raises(errors.Unauthorized):
            await nobody.create_task()
        minted = await nobody.create_admin_token("the-admin-token", scopes=["*"], expires_in_s=60)
        assert minted.token not in repr(minted)
        with pytest.raises(errors.Unauthorized):
            await nobody.create_admin_token("wrong")
    async with TaskcastClient(guarded_server.url, token=minted.token) as known:
        task_id = await running_task(known)
        ticket = await known.create_ticket(task_id)
        assert ticket.ticket
    async with TaskcastClient(guarded_server.url, service_key="the-key-of-a-service") as service:
        assert (await service.get_task(task_id)).id == task_id


async def test_a_token_that_is_not_taken_any_more_is_asked_for_again_once(guarded_server: TaskcastServer) -> None:
    async with TaskcastClient(guarded_server.url) as nobody:
        good = (await nobody.create_admin_token("the-admin-token")).token
    given: list[str] = []

    async def token() -> str:
        given.append("expired" if not given else good)
        return given[-1]

    async with TaskcastClient(guarded_server.url, token=token) as client:
        tasks = await asyncio.gather(*[client.create_task() for _ in range(10)])
        assert given == ["expired", good]
        stream = client.subscribe(tasks[0].id)
        await client.publish_event(tasks[0].id, "x")
        assert (await anext(stream)).type == "x"
        await stream.aclose()
    given.clear()
    asked = 0

    def always_wrong() -> str:
        nonlocal asked
        asked += 1
        return "wrong"

    async with TaskcastClient(guarded_server.url, token=always_wrong) as client:
        with pytest.raises(errors.Unauthorized):
            await client.create_task()
        assert asked == 2


# ── Trying again ──────────────────────────────────────────────────────────────────────────────────────────────────

QUICK = RetryPolicy(attempts=4, first_s=0.005, longest_s=0.02)


async def test_a_busy_server_is_asked_again_with_the_same_key() -> None:
    busy = b'{"error":"away","code":"storage_unavailable"}'
    task = b'{"id":"t","status":"pending","createdAt":1,"updatedAt":1}'
    async with (
        RawServer([(503, {}, busy), (429, {"Retry-After": "0"}, busy), (201, {}, task)]) as raw,
        TaskcastClient(raw.url, retry=QUICK) as client,
    ):
        assert (await client.create_task()).id == "t"
    keys = {request.headers["idempotency-key"] for request in raw.requests}
    assert (len(raw.requests), len(keys)) == (3, 1)


async def test_retry_after_is_honoured() -> None:
    async with (
        RawServer([(429, {"Retry-After": "0.3"}, b"{}"), (200, {}, b'{"ok":true}')]) as raw,
        TaskcastClient(raw.url, retry=QUICK) as client,
    ):
        began = time.monotonic()
        await client.get_health()
        assert time.monotonic() - began >= 0.3


async def test_patience_ends() -> None:
    async with RawServer([(503, {}, b"{}")] * 9) as raw, TaskcastClient(raw.url, retry=QUICK) as client:
        with pytest.raises(errors.Unavailable):
            await client.get_health()
        assert len(raw.requests) == 4
        with pytest.raises(errors.Unavailable):
            await client.resolve_task("t")  # the server may have done it: not to be repeated
        assert len(raw.requests) == 5


async def test_a_lost_reply_is_asked_for_again_where_that_is_safe() -> None:
    async with (
        RawServer([None, (200, {}, b'{"ok":true}'), None, None, (404, {}, b"{}")]) as raw,
        TaskcastClient(raw.url, retry=QUICK) as client,
    ):
        await client.get_health()
        with pytest.raises(ConnectionFailed):
            await client.resolve_task("t")
        assert len(raw.requests) == 3
        await client.delete_task("t")  # the first attempt has removed it
        assert len(raw.requests) == 5


async def test_nobody_there() -> None:
    async with RawServer([]) as raw:
        url = raw.url
    async with TaskcastClient(url, retry=QUICK) as client:
        with pytest.raises(ConnectionFailed) as caught:
            await client.resolve_task("t")
        assert not caught.value.was_sent


async def test_something_else_is_listening_there() -> None:
    async with RawServer([(200, {}, b"<html>"), (200, {}, b'{"id":1}')]) as raw, TaskcastClient(raw.url) as client:
        for _ in range(2):
            with pytest.raises(errors.InvalidReply):
                await client.get_task("t")


# ── The blocking client ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_blocking_client_has_the_same_verbs(sync_client: SyncTaskcastClient) -> None:
    task = sync_client.create_task(type="x")
    sync_client.transition_task(task.id, "running")
    assert sync_client.publish_event(task.id, "x", 1).index == 1
    sync_client.complete_task(task.id)
    assert [event.type for event in sync_client.subscribe(task.id)] == ["taskcast:status", "x", "taskcast:status"]
    assert sync_client.wait(task.id).status == "completed"
    assert task.id in [each.id for each in sync_client.iterate_tasks(page_size=50, type="x")]
    with pytest.raises(errors.TaskNotFound):
        sync_client.get_task("nobody")


def test_verbs_say_what_they_do() -> None:
    assert TaskcastServerClient is TaskcastClient
    assert "TaskExists" in (TaskcastClient.create_task.__doc__ or "")
    public = {name for name in dir(TaskcastClient) if not name.startswith("_")} - {"aclose"}
    assert public <= {name for name in dir(SyncTaskcastClient) if not name.startswith("_")}
