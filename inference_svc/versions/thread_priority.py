"""Threads that leave most of the processor time to the traffic."""

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)

# Not the lowest priority: after each native call the thread needs the interpreter's lock. A thread
# that hands it over waits until this one runs, which takes long while all cores are busy.
PREPARE_NICE = 5


def background_executor(name: str) -> ThreadPoolExecutor:
    """Return an executor of one thread that gives way to the traffic."""
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=lower_thread_priority)


def lower_thread_priority() -> None:
    """Give the calling thread, and the threads that it starts, a lower priority."""
    try:
        # Linux takes a thread's id here and then changes this thread alone.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PREPARE_NICE)
    except OSError as error:
        log.warning("cannot lower a thread's priority", extra={"why": str(error)})
