"""An existing endpoint for a model's answer, made to survive a refresh: the marked lines do it.

    uvicorn openai_endpoint:app

The page follows the task that it is given; see `fastapi_chat.py` for one.
"""

import os

from fastapi import BackgroundTasks, FastAPI
from openai import AsyncOpenAI

from taskcast_client import TaskcastClient
from taskcast_client.recorders.openai import record

app = FastAPI()
openai = AsyncOpenAI()
taskcast = TaskcastClient(os.environ.get("TASKCAST_URL", "http://localhost:3721"))


async def answer(task_id: str, question: str) -> None:
    async with taskcast.attach(task_id) as task:  # 1
        stream = await openai.chat.completions.create(
            model="gpt-5-mini", messages=[{"role": "user", "content": question}], stream=True
        )
        async for _ in record(task, stream):  # 2
            pass


@app.post("/chat")
async def chat(question: str, background: BackgroundTasks) -> dict[str, str]:
    task = await taskcast.create_task(type="llm.chat", params={"question": question})  # 3
    background.add_task(answer, task.id, question)  # 4
    return {"task": task.id}  # 5
