# SPDX-License-Identifier: Apache-2.0
"""To see what is planned and what runs: the plan as a picture, a controller's status as metrics."""
