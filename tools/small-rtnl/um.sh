#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# vm.sh for User-mode Linux: the same variables, the same statuses. KERNEL= is
# patched, stock or a 'linux' program; CONFIG is always um.

UML=1 CONFIG=um exec "$(dirname "$0")/vm.sh"
