"""Celery tasks that broadcast, and the application whose pages start them."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import worker_init
from groups import app, websocket

celery = Celery("tasks", broker=os.environ["TASKS_URL"])
celery.conf.task_ignore_result = True


@worker_init.connect
def announce(**extra):
    """Broadcast before the pool forks, so that its processes inherit an open connection."""
    with app.app_context():
        websocket.broadcast("workers", "a worker starts")


@celery.task
def say(group, text):
    with app.app_context():
        websocket.broadcast(group, text)


@app.post("/later/<group>/<text>")
def later(group, text):
    """Start a task that broadcasts."""
    say.delay(group, text)
    return "soon"
