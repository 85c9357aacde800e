"""A pool of workers: start as many as you like, on as many machines as you like.

    taskcast worker worker_pool:worker

The server has to have workers enabled (``workers: {enabled: true}``). Give it something to do:

    python worker_pool.py 20
"""

import asyncio
import os
import sys

from taskcast_client import SyncTaskRun, TaskcastClient, TaskcastWorker, TaskInput, TaskRun

client = TaskcastClient(os.environ.get("TASKCAST_URL", "http://localhost:3721"))
worker = TaskcastWorker(client)


@worker.task("image.resize", capacity=4)
async def resize(task: TaskRun) -> dict[str, object]:
    for step in range(10):
        await asyncio.sleep(0.05)  # cancelling the task interrupts this
        await task.progress(step + 1, 10)
    return {"image": task.params["image"], "by": os.getpid()}


@worker.task("report", capacity=1)
def report(task: SyncTaskRun) -> dict[str, object]:
    """An ordinary function runs on a thread."""
    words = [word.upper() for word in task.track(task.params["words"])]
    return {"words": words}


async def give_work(count: int) -> None:
    async with client:
        images = [TaskInput(type="image.resize", params={"image": n}, assign_mode="pull") for n in range(count)]
        report_on = TaskInput(type="report", params={"words": ["all", "done"]}, assign_mode="pull")
        for item in await client.create_tasks([*images, report_on]):
            assert item.task
            done = await client.wait(item.task.id)
            print(done.type, done.status, done.result)


if __name__ == "__main__":
    asyncio.run(give_work(int(sys.argv[1])))
