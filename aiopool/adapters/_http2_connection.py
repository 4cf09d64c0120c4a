"""h2's connection, for a client that keeps it: what h2 does otherwise than such a client needs is changed here."""

from __future__ import annotations

import logging

import h2.connection
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState
from h2.settings import SettingCodes, Settings

# At DEBUG it tells every header, passwords among them. Who wants that sets the level of this very logger.
_log = logging.getLogger("hpack")
if _log.level == logging.NOTSET:
    _log.setLevel(logging.INFO)


class H2Connection(h2.connection.H2Connection):
    #: It remembers streams that have ended, to tell late frames from wrong ones; 65,536 of them take 7 MB.
    MAX_CLOSED_STREAMS = 1000

    def __init__(self, stream_window: int) -> None:
        super().__init__(H2Configuration(client_side=True, header_encoding=None))
        self.state_machine = _StateMachine()
        self.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: stream_window,
                SettingCodes.MAX_HEADER_LIST_SIZE: self.DEFAULT_MAX_HEADER_LIST_SIZE,
            },
        )

    def clear_outbound_data_buffer(self) -> None:
        """h2 does so at a GOAWAY, and would cut what the other streams have to say."""


class _StateMachine(h2.connection.H2ConnectionStateMachine):
    """h2 takes a GOAWAY for the end of the connection; but streams up to its last id go on (RFC 9113, 6.8)."""

    _transitions = {  # noqa: RUF012
        **h2.connection.H2ConnectionStateMachine._transitions,
        **{
            (state, ConnectionInputs.RECV_GOAWAY): (None, state)
            for state in (ConnectionState.IDLE, ConnectionState.CLIENT_OPEN)
        },
    }
