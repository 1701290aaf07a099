# SPDX-License-Identifier: Apache-2.0
"""`python -m ivc`: the same as the console script `ivc`."""

import sys

from ivc.cli import main

sys.exit(main())
