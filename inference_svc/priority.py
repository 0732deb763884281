"""Threads that take only the processor time that the traffic leaves."""

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)

IDLE_NICE = 19


def idle_executor(name: str) -> ThreadPoolExecutor:
    """Return an executor of one thread at idle priority."""
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=lower_thread_priority)


def lower_thread_priority() -> None:
    """Give the calling thread, and the threads that it starts, the lowest priority."""
    try:
        # Linux takes a thread's id here and then changes this thread alone.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), IDLE_NICE)
    except OSError as error:
        log.warning("cannot lower a thread's priority", extra={"why": str(error)})
