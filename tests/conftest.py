# SPDX-License-Identifier: Apache-2.0
"""How many examples Hypothesis tries: ``IVC_EXAMPLES``, 2,000 unless told."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ivc",
    max_examples=int(os.environ.get("IVC_EXAMPLES", "2000")),
    deadline=None,  # a shared machine may stall any example
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ivc")
