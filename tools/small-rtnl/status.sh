# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh disable=SC2034
# Sourced: what vm.sh exits with, other than the script's own status.
# 'make help' and README.md name them too.
ST_LOG=200	# the kernel log holds a warning or another report
ST_LEAK=201	# the script left a net device or a namespace behind
ST_DEAD=202	# the guest panicked, or never came up
ST_TIME=203	# TIMEOUT is over
