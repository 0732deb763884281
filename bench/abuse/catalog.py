"""All abuses by name; `python -m bench.abuse.catalog NAME SECONDS` is the abuser's process.

With a third argument, `valid`, it sends the equal valid load of an abuse that holds what it opens.
The process reads the doors from standard input and prints what it sent and got, both as JSON.
"""

import asyncio
import json
import sys
import time

from bench.abuse import over_http1, over_http2
from bench.abuse.target import Tally, Target, Wave
from bench.abuse.valid_loads import VALID_LOADS

ABUSES: dict[str, Wave] = {
    wave.__name__: wave
    for wave in (
        over_http1.wrong_methods,
        over_http1.foreign_pages,
        over_http1.tampered_tokens,
        over_http1.invented_methods,
        over_http1.deep_json,
        over_http1.two_lengths,
        over_http1.large_heads,
        over_http1.half_heads,
        over_http1.slow_bodies,
        over_http1.idle_connections,
        over_http1.slow_readers,
        over_http2.json_bodies,
        over_http2.grpc_bodies,
        over_http2.idle_imports,
        over_http2.idle_predict_streams,
        over_http2.idle_watches,
        over_http2.idle_reflection,
        over_http2.trailers,
        over_http2.bombs,
        over_http2.large_metadata,
        over_http2.unread_answers,
        over_http2.rapid_reset,
        over_http2.pings,
        over_http2.settings,
        over_http2.priorities,
        over_http2.no_window,
        over_http2.empty_frames,
        over_http2.continuations,
    )
}
# Seconds after a refused connection.
REFUSED_S = 0.1


async def abuse(wave: Wave, target: Target, seconds: float) -> Tally:
    """Repeat the wave for so many seconds."""
    tally, end = Tally(), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            async with asyncio.timeout(left):
                await wave(target, tally)
        except OSError as error:  # TimeoutError is one
            await _refused(tally, error, end)
        except ExceptionGroup as group:
            closed, others = group.split(OSError)
            if others is not None:
                raise others from None
            await _refused(tally, closed, end)
    return tally


async def _refused(tally: Tally, error: BaseException | None, end: float) -> None:
    """Note that the mesh closed a connection or took none, unless the time is over."""
    if time.monotonic() < end:
        tally.got[f"no connection ({type(error).__name__})"] += 1
        await asyncio.sleep(REFUSED_S)


def _main() -> None:
    name, seconds, *valid = sys.argv[1:]
    target = Target(**json.load(sys.stdin))
    tally = asyncio.run(abuse((VALID_LOADS if valid else ABUSES)[name], target, float(seconds)))
    print(json.dumps(tally.to_json()))


if __name__ == "__main__":
    _main()
