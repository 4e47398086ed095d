"""The close codes are those of the standard."""

from __future__ import annotations

from websockets.frames import CloseCode

from flask_wsviews import close_codes

# What `websockets` calls them.
OTHER_NAMES = {"NO_STATUS": "NO_STATUS_RCVD"}


def test_each_has_the_number_of_its_name() -> None:
    ours = {name: code for name, code in vars(close_codes).items() if name.isupper()}
    assert len(ours) == 12
    for name, code in ours.items():
        assert CloseCode[OTHER_NAMES.get(name, name)] == code
