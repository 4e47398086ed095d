"""What a server adapter is: it takes a client's socket away from one kind of WSGI server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from ..typing import Environ, Transport


class Adapter(ABC):
    """Everything that depends on the WSGI server.

    A process has one object of each adapter in the registry. It holds no connection: that is the
    job of the transport, which :meth:`take_socket` returns. Only the first two methods are
    required. The others do nothing by default, which is right for a server that has nothing to
    check and no hook to call.
    """

    #: Keys of ``environ`` whose values the server closes or reuses when the request ends.
    environ_keys: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def serves(self, environ: Environ) -> bool:
        """Return whether this server made *environ*."""

    @abstractmethod
    def take_socket(self, environ: Environ) -> Transport:
        """Return the client's socket. Called once per handshake, after :meth:`check`.

        :raises OSError: if no descriptor is left.
        """

    def check_start(self) -> None:  # noqa: B027
        """Check, while an application is set up, that this server can serve WebSockets.

        Called on every adapter, so return at once if the process belongs to another server.

        :raises ServerError: if it can't. The message names the option to change.
        """

    def check(self, environ: Environ) -> None:  # noqa: B027
        """Check that the socket behind a request can be taken.

        :raises ServerError: if it can't. The message names the option to change.
        """

    def before_exit(  # noqa: B027
        self, ending_signal: Callable[[], int | None], farewell: Callable[[int], None]
    ) -> None:
        """Call *farewell* when the server ends this process.

        Called at every handshake: the same *farewell* must be called once only.

        :param ending_signal: returns the signal that ends the process; call it at that time.
        :param farewell: takes the close code: 1012 Service Restart if the server will replace
            this process, otherwise 1001 Going Away.
        :raises RuntimeError: if a thread is needed and can't be started.
        """

    def when_worker_starts(self, function: Callable[[], object]) -> None:  # noqa: B027
        """Call *function* in each worker that the server forks after this call.

        Called on every adapter, so return at once if the process belongs to another server.

        :param function: doesn't raise.
        """
