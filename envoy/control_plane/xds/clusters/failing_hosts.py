"""When Envoy gives a host of a cluster no calls for a moment: outlier detection.

A replica whose engine fails answers sooner than one that computes, so it always has the fewest
calls and would get nearly all of them. Calls that failed are tried at another replica, and a
replica that fails one call after the other gets none until its next health check.
"""

from envoy_data_plane.envoy.config.cluster.v3 import OutlierDetection

from control_plane.xds.basics.messages import seconds

EJECTION_S = 2.0
# Answers in a row with a status that stands for HTTP's 500 to 504. A caller can have a replica give
# such answers on purpose (a deadline that is too short, a method that there is not), so this is a
# number that one caller does not reach beside the calls of others that succeed.
FAILURES = 20
CONNECTION_FAILURES = 3


def outlier_detection(by_answers: bool) -> OutlierDetection:
    """Eject a host that cannot be reached; with `by_answers` also one whose answers are failures.

    A host comes back after EJECTION_S, or with its next successful health check. At most half of
    the hosts are ejected, and never the only one.
    """
    return OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=CONNECTION_FAILURES,
        enforcing_consecutive_local_origin_failure=100,
        consecutive_5xx=FAILURES,
        enforcing_consecutive_5xx=100 if by_answers else 0,
        enforcing_consecutive_gateway_failure=0,
        enforcing_success_rate=0,
        enforcing_local_origin_success_rate=0,
        enforcing_failure_percentage=0,
        interval=seconds(1),
        base_ejection_time=seconds(EJECTION_S),
        max_ejection_time=seconds(4 * EJECTION_S),
        max_ejection_percent=50,
    )
