"""Following a task from a notebook: the blocking client works where an event loop is running already, as it does there.

python notebook.py <task id>
"""

# %% Connect
import os
import sys

from taskcast_client import SyncTaskcastClient
from taskcast_client.vocabulary import Conversation

client = SyncTaskcastClient(os.environ.get("TASKCAST_URL", "http://localhost:3721"))
task_id = sys.argv[1]

# %% Everything that happens, until the task has ended; interrupt the cell and run it again as you like
conversation = Conversation()
for event in client.subscribe(task_id):
    conversation.apply(event)
    if event.type == "task.progress":
        print(event.data["done"], "of", event.data.get("total"))
    elif event.type == "task.log":
        print(event.level, event.data["message"])

# %% What a model has said in it, if one has
for message in conversation.messages:
    print(message.role, message.text)

# %% How it ended
task = client.get_task(task_id)
print(task.status, task.result)
client.close()
