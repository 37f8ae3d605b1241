#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# check-log.sh LOG: show each report that a kernel log holds, with what surrounds it,
# on stderr. Exits with ST_LOG if one of them is a fault, else with 0.
#
# A foreign unregistration is a fault, but with STRICT=0, for a driver that is
# being converted, only noted.

. "$(dirname "$0")/lib.sh"

[ -r "${1:-}" ] || die "usage: check-log.sh LOG, where LOG is a readable kernel log"

awk -v strict="${STRICT:-1}" -v fault="$ST_LOG" '
BEGIN {
	bad = "WARNING: |WARNING: CPU|BUG: |kernel BUG at|INFO: (task|rcu|trying|possible)" \
		"|INFO: suspicious|WARNING: (possible|suspicious|inconsistent|bad unlock)" \
		"|possible (recursive|circular|irq lock|deadlock)" \
		"|(KASAN|KCSAN|KFENCE|UBSAN|KMSAN): |Oops|general protection fault" \
		"|suspicious RCU usage|rcu: .*(detected|self-detected).* stall" \
		"|rcu_[a-z]+ .*(detected|self-detected).* stall" \
		"|blocked for more than [0-9]+ seconds|soft lockup|hard LOCKUP" \
		"|workqueue lockup|ODEBUG: |list_(add|del) corruption" \
		"|leaked reference|unregister_netdevice: waiting for" \
		"|refcount_t: |Kernel panic|Object already free|Objects remaining" \
		"|scheduling while atomic|sleeping function called|lock held when returning"
}
{ sub(/\r$/, ""); line = $0 }
/rtnl_net: foreign unregistration: / {
	print (strict == 0 ? "note: " : "fault: ") line
	if (strict != 0)
		found = 1
	excused = strict == 0
	next
}
# The line that WARN() adds to that message
excused && /WARNING: .*rtnl_net_check_home/ { excused = 0; next }
line ~ bad {
	if (left <= 0) {
		print "---- report in the kernel log, line " NR ":"
		for (i = NR - 3; i < NR; i++)
			if (i > 0 && i > shown)
				print "  " last[i % 4]
	}
	left = 40
	found = 1
}
{ last[NR % 4] = line }
left > 0 {
	print "  " line
	shown = NR
	left--
}
END { exit found ? fault : 0 }
' "$1" >&2
