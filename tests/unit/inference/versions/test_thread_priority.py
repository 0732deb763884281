"""Preparing leaves the processor to the traffic."""

import os
import threading

from inference_svc.versions.thread_priority import PREPARE_NICE, background_executor


def test_the_background_thread_has_a_lower_priority_and_others_keep_theirs() -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with background_executor("test") as executor:
        nice = executor.submit(
            lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        ).result()
    assert nice == PREPARE_NICE
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
