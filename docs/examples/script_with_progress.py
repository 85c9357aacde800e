"""An ordinary script that others can watch: three added lines.

    python script_with_progress.py

Watch it with ``taskcast logs <task id>``, in the dashboard, or as `notebook.py` does.
"""

import logging
import os
import time

from taskcast_client import SyncTaskcastClient
from taskcast_client.logs import TaskcastHandler

log = logging.getLogger("script")
log.setLevel(logging.INFO)
pages = [f"page {n}" for n in range(1, 21)]

client = SyncTaskcastClient(os.environ.get("TASKCAST_URL", "http://localhost:3721"))
with client, client.task(type="script") as task:
    print(task.id, flush=True)
    log.addHandler(TaskcastHandler(task))
    for page in task.track(pages):
        time.sleep(0.02)
        if page.endswith("0"):
            log.info("reached %s", page)
    task.result = {"pages": len(pages)}
