"""What an exception of a hook means: the close code, and whether it is worth a log line."""

from __future__ import annotations

from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from ..close_codes import INTERNAL_ERROR, POLICY_VIOLATION, TRY_AGAIN_LATER
from ..exceptions import BrokerUnavailable, CloseConnection, GroupError, fit_reason


def ending_of(error: Exception) -> tuple[int, str]:
    """Return the close code and the reason for an exception that a hook has raised.

    =====================================  =======================================================
    ``CloseConnection``                    its own code and reason
    ``HTTPException`` below 500            1008 Policy Violation, with the name of the status
    ``BrokerUnavailable``                  1013 Try Again Later
    ``GroupError`` that the client caused  1008 Policy Violation
    anything else                          1011 Internal Error
    =====================================  =======================================================
    """
    if isinstance(error, CloseConnection):
        return error.code, error.reason
    if isinstance(error, HTTPException) and _status_of(error) < 500:
        status = HTTP_STATUS_CODES.get(_status_of(error), "")
        return POLICY_VIOLATION, fit_reason(status if error.code is None else error.name)
    if isinstance(error, BrokerUnavailable):
        return TRY_AGAIN_LATER, "please try again"
    if is_clients_fault(error):
        return POLICY_VIOLATION, "there is no such group"
    return INTERNAL_ERROR, ""


def is_quiet(error: Exception) -> bool:
    """Return whether an exception only chooses a close code, so that nothing is logged."""
    # The broker logs once, for all connections, that it is unavailable.
    return isinstance(error, (CloseConnection, HTTPException, BrokerUnavailable))


def is_clients_fault(error: Exception) -> bool:
    """Return whether the client named a group that it may not name."""
    return isinstance(error, GroupError) and error.code == POLICY_VIOLATION


def _status_of(error: HTTPException) -> int:
    """Return the HTTP status of *error*, or of its response after ``abort(response)``."""
    if error.code is not None:
        return error.code
    return 500 if error.response is None else int(getattr(error.response, "status_code", 500))
