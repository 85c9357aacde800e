"""A chat whose answer survives a page refresh: FastAPI, one process, nothing else to start.

    uvicorn fastapi_chat:app

Ask something, and refresh the page in the middle of the answer, or open it in a second tab.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from taskcast_client import TaskcastClient
from taskcast_client.inprocess import in_process
from taskcast_client.recorders.plain import record
from taskcast_core import TaskEngine
from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_server.app import create_taskcast_app

engine = TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=MemoryShortTermStore())
taskcast = create_taskcast_app(engine)
clients: list[TaskcastClient] = []
answers: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine, in_process(taskcast, lifespan=False) as client:
        clients.append(client)
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/taskcast", taskcast)


async def model(question: str) -> AsyncIterator[str]:
    """Stands for your model."""
    for word in f"You asked: {question}. Let me think about that for a while. ".split(" ") * 3:
        await asyncio.sleep(0.1)
        yield word + " "


async def answer(question: str, task_id: str) -> None:
    async with clients[0].attach(task_id) as task:
        async for _ in record(task, model(question)):
            pass


@app.post("/chat")
async def chat(question: str) -> dict[str, str]:
    created = await clients[0].create_task(type="llm.chat", params={"question": question})
    running = asyncio.create_task(answer(question, created.id))
    answers.add(running)
    running.add_done_callback(answers.discard)
    return {"task": created.id}


PAGE = """<!doctype html><meta charset="utf-8"><title>Chat</title>
<form><input name="question" autofocus placeholder="Ask something"><button>Ask</button></form><p id="answer"></p>
<script>
const out = document.getElementById("answer")
function follow(task) {
  const stream = new EventSource(`/taskcast/tasks/${task}/events?types=llm.text`)
  stream.addEventListener("taskcast.event", ({data}) => {
    const event = JSON.parse(data)
    out.textContent = event.seriesSnapshot ? event.data.delta : out.textContent + event.data.delta
  })
  stream.addEventListener("taskcast.done", () => stream.close())
}
document.querySelector("form").onsubmit = async (submit) => {
  submit.preventDefault()
  const question = encodeURIComponent(submit.target.question.value)
  const {task} = await (await fetch(`/chat?question=${question}`, {method: "POST"})).json()
  location.hash = task
  out.textContent = ""
  follow(task)
}
if (location.hash) follow(location.hash.slice(1))
</script>
"""


@app.get("/")
def page() -> HTMLResponse:
    return HTMLResponse(PAGE)
