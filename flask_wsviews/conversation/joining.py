"""Joins the groups that a view declares, before its opening hook."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import request

from ..clients.membership import messages_lost
from ..close_codes import POLICY_VIOLATION
from ..common.steps import Step, hook_of
from ..exceptions import CloseConnection, GroupError
from ..groups.declared import Group, declared_pattern

if TYPE_CHECKING:
    from ..clients.base import BaseClient
    from ..views import WebSocketView


def join_groups(
    view: WebSocketView, client: BaseClient[Any], view_args: dict[str, Any]
) -> Generator[Step, Any, None]:
    """Join each group of the view; the hooks about groups run in one context.

    :raises CloseConnection: 1008 Policy Violation if the URL makes a name that isn't allowed.
    """
    declared = type(view)._wsviews_declared(view)
    for declared_group in declared.groups:
        group = _name_of(declared_group, client, view_args)
        if len(declared.groups) == 1:
            client._group = group
        since = meta = None
        options = client._group_options(group)
        if options.history is not None:
            since = yield partial(hook_of(view, "resume_from"), client, group)
        if options.presence:
            meta = yield partial(hook_of(view, "member_meta"), client, group)
        joined = yield partial(client.join, group, since, meta)
        if joined.lost and declared.protocol.is_declared:
            yield partial(client.send_error, messages_lost(group))
        yield partial(hook_of(view, "on_joined"), client, joined)


def _name_of(group: str | Group, client: BaseClient[Any], view_args: dict[str, Any]) -> str:
    """Fill the URL variables into the name of a declared group."""
    pattern = declared_pattern(group)
    if not pattern.variables <= view_args.keys():
        # A url_value_preprocessor has taken some of the rule's variables.
        adapter = client.app.create_url_adapter(request)
        view_args = {**(adapter.match()[1] if adapter else {}), **view_args}
    try:
        name = pattern.fill(view_args)
        client._check_owner(pattern, name)
    except GroupError as error:
        if error.code != POLICY_VIOLATION:
            raise
        # The client's URL made the name.
        client.app.logger.warning("WebSocket %r is closed with 1008: %s", request.path, error)
        raise CloseConnection(POLICY_VIOLATION, "there is no such group") from None
    return name
