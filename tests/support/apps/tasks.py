"""Tasks of Celery that broadcast, with the application of its pages."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import worker_init
from groups import app, websocket

celery = Celery("tasks", broker=os.environ["TASKS_URL"])
celery.conf.task_ignore_result = True


@worker_init.connect
def announce(**extra):
    """Broadcast before the pool's processes are forked, so that these find a connection in use."""
    with app.app_context():
        websocket.broadcast("workers", "a worker starts")


@celery.task
def say(group, text):
    with app.app_context():
        websocket.broadcast(group, text)


@app.post("/later/<group>/<text>")
def later(group, text):
    """Have a task say something."""
    say.delay(group, text)
    return "soon"
