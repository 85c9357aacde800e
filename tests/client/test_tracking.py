"""Progress of loops that know nothing of tasks: counted for next to nothing, told soon, and to the end."""

from collections.abc import Iterator

import pytest

from taskcast_client import SyncTaskcastClient, TaskCancelled, track
from tests.client.conftest import TaskcastServer
from tests.fixtures.eventually import eventually_sync


@pytest.fixture
def client(memory_server: TaskcastServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncTaskcastClient]:
    monkeypatch.setenv("TASKCAST_URL", memory_server.url)
    monkeypatch.delenv("TASKCAST_TOKEN", raising=False)
    monkeypatch.delenv("TASKCAST_TASK_ID", raising=False)
    with SyncTaskcastClient(memory_server.url) as client:
        yield client


def progress(client: SyncTaskcastClient, task_id: str) -> dict[str, object]:
    """The newest; older ones are not kept."""
    found = client.get_history(task_id, types=["task.progress"])
    return found[-1].data if found else {}


def told_id(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.removeprefix("taskcast: task ").strip()


def test_each_item_once_and_the_end_is_told(client: SyncTaskcastClient) -> None:
    with client.task() as task:
        assert list(task.track(range(10_000), message="counting")) == list(range(10_000))
        assert list(task.track(iter("ab"))) == ["a", "b"]
        task.flush()
        assert progress(client, task.id) == {"done": 2}
    assert client.get_task(task.id).status == "completed"


def test_a_long_item_does_not_hide_those_before_it(client: SyncTaskcastClient) -> None:
    with client.task() as task:
        for n in task.track(range(10)):
            if n == 7:
                eventually_sync(lambda: progress(client, task.id) == {"done": 7, "total": 10})


def test_a_loop_that_is_left_early_has_told_how_far_it_came(client: SyncTaskcastClient) -> None:
    with client.task() as task:
        for n in task.track(range(10)):
            if n == 4:
                break
        eventually_sync(lambda: progress(client, task.id) == {"done": 4, "total": 10})


def test_a_cancelled_task_stops_the_loop(client: SyncTaskcastClient) -> None:
    with pytest.raises(TaskCancelled), client.task() as task:  # noqa: PT012 - the block is what is tested
        client.cancel_task(task.id)
        for _ in task.track(iter(int, 1)):
            pass


def test_a_script_with_one_changed_line(client: SyncTaskcastClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(["a", "b", "c"], type="a script")) == ["a", "b", "c"]
    task = client.get_task(told_id(capsys))
    assert (task.status, task.type) == ("completed", "a script")
    assert progress(client, task.id) == {"done": 3, "total": 3}


def test_a_script_that_fails_or_stops(client: SyncTaskcastClient, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("lost")

    with pytest.raises(LookupError):
        list(track(broken()))
    failed = client.get_task(told_id(capsys))
    assert failed.error
    assert (failed.status, failed.error.code) == ("failed", "LookupError")
    for _ in track([1, 2, 3]):
        break
    assert client.get_task(told_id(capsys)).status == "cancelled"


def test_a_script_that_is_run_as_a_task(client: SyncTaskcastClient, monkeypatch: pytest.MonkeyPatch) -> None:
    task = client.create_task()
    client.transition_task(task.id, "running")
    monkeypatch.setenv("TASKCAST_TASK_ID", task.id)
    assert list(track([1, 2])) == [1, 2]
    assert progress(client, task.id) == {"done": 2, "total": 2}
    assert client.get_task(task.id).status == "running", "it is for whoever runs the script to end it"
