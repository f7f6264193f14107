"""Which entries of a Redis database were written or removed lately, as the server itself tells.

Client-side caching's broadcasting mode sends the name of every key that changes, at no cost in the
server's memory. Under RESP2 the names arrive at a second connection, which subscribes to them.
Source: the reference of CLIENT TRACKING (Redis 6.0 and later, Valkey).
"""

from collections.abc import Callable

from kvpool import lmcache
from kvpool.migrate.wire import BulkConnection
from kvpool.redis_wire import RefusalError, command

_SUFFIXES = (lmcache.HEADER_SUFFIX, lmcache.DATA_SUFFIX)
_CHANNEL = "__redis__:invalidate"


class RedisChanges:
    """Collects the keys of entries that anybody touches from now on.

    Attributes:
        watching: False where the server can't tell, or may not.
    """

    def __init__(self, connect: Callable[[], BulkConnection]):
        """Begin to watch a database."""
        self._keys: set[str] = set()
        self._names = connect()
        self._tracker = connect()
        number, subscribed = (
            self._names.pipeline([words], 1)[0]
            for words in (command("CLIENT", "ID"), command("SUBSCRIBE", _CHANNEL))
        )
        tracking = command("CLIENT", "TRACKING", "ON", "REDIRECT", str(number), "BCAST")
        answers = (number, subscribed, self._tracker.pipeline([tracking], 1)[0])
        self.watching = not any(isinstance(answer, RefusalError) for answer in answers)

    def take(self) -> set[str]:
        """Return the keys of entries that were touched since the last call.

        Whatever was done before the call is in the answer.

        Raises:
            PoolUnreachableError: the server is gone.
        """
        if self.watching:
            # Names go out at the end of the server's round in which the keys changed: the answer
            # to a second question, asked after the first one's, comes behind all of them.
            self._tracker.ask("PING")
            for _ in range(2):
                self._names.send([command("PING")])
                self._until_pong()
        taken, self._keys = self._keys, set()
        return taken

    def close(self) -> None:
        """Stop watching."""
        self._names.close()
        self._tracker.close()

    def _until_pong(self) -> None:
        while True:
            answer = self._names.answers(1)[0]
            if not isinstance(answer, list) or answer[:1] == [b"pong"]:
                return
            # Emptying the database names no keys.
            for name in answer[2] or ():
                text = name.decode("utf-8", "surrogateescape")
                self._keys |= {text.removesuffix(s) for s in _SUFFIXES if text.endswith(s)}
