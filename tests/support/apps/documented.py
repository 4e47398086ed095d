"""The contract application with its documents."""

from __future__ import annotations

from contract import app

from flask_wsviews import AsyncAPI

AsyncAPI(app, title="Contract", version="1.2.3", description="What the *tests* talk to.")

__all__ = ["app"]
