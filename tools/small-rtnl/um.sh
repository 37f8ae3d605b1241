#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# vm.sh for User-mode Linux: the same variables, the same statuses.

MACHINE=um exec "$(dirname "$0")/vm.sh"
