#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# model.sh [WORD]: check model/rtnl_net.pml with spin: the sound configurations, all
# states of which are searched; that each event which matters happens in them; and
# one broken variant for each rule, which must be caught. With WORD only the lines
# that hold it.

. "$(dirname "$0")/lib.sh"

MODEL=$TOOLS/model/rtnl_net.pml

# one FOLDER DEFINES: build the checker and run it, in a folder of its own
one()
{
	local words=() defines=()

	read -ra words <<<"$2"
	defines=("${words[@]/#/-D}")
	mkdir "$1"
	cd "$1"
	{
		spin -a "${defines[@]}" "$MODEL" &&
			gcc -O0 -w -DSAFETY -DCOLLAPSE -DVECTORSZ=1024 -DMEMLIM=1800 -o pan pan.c &&
			timeout 300 ./pan -m20000 -n
	} >out 2>&1 || echo "status $?" >>out
	rm -f pan pan.?
	basename "$1"
}

if [ "${1:-}" = one ]; then
	one "$2" "$3"
	exit
fi

TMP=$(mktemp -d "${TMPDIR:-/tmp}/small-rtnl.XXXXXX")
trap 'rm -rf "$TMP"' EXIT

for tool in spin gcc; do
	command -v "$tool" >/dev/null || die "$tool is missing: run 'make deps'"
done

# EXPECTED | DEFINES | NAME. EXPECTED is "sound", or words of what spin reports
cases()
{
	cat <<-'END'
	sound | C_PAIR | a pair and an upper, three requests
	sound | C_KICK | two sections kick one netns
	sound | C_EXCLUSIVE | exclusive and shared requests
	sound | C_MOVE | a pending device moves
	sound | C_DISMANTLE | dismantle beside requests
	sound | C_LEAVE | kicks left to the work, dismantle
	sound | C_LEAVE LISTED | the same, dismantle meets claimed devices
	sound | C_UNLOAD | module unload, dismantle, requests
	sound | C_SYSCTL | writers of sysctls
	sound | C_KICK RELY | one entry for all sections
	sound | C_MOVE RELY | one entry for all sections, a move
	sound | C_DISMANTLE RELY | one entry for all sections, dismantle
	sound | C_UNLOAD RELY | one entry for all sections, unload
	sound | C_PAIR BY_REQUEST | wait for a count of the request
	sound | C_KICK BY_REQUEST | wait for a count of the request, two kicks
	sound | C_MOVE BY_REQUEST | wait for a count of the request, a move
	sound | C_DISMANTLE USE_COUNT | dismantle waits for users, not for RTNL
	sound | C_LEAVE USE_COUNT | dismantle waits for users, and a work
	sound | C_UNLOAD USE_COUNT | dismantle waits for users, unload
	!= | C_PAIR REACH=TAKEN_OVER | a pending device is taken over
	!= | C_UNLOAD REACH=MET_PENDING | unload or dismantle meets a pending device
	!= | C_KICK REACH=OTHERS_DEVICE | a section collects another one's device
	!= | C_PAIR REACH=EMPTY_DRAIN | a drain finds nothing
	!= | C_PAIR REACH=TRYLOCK_FAILED | a trylock fails
	!= | C_MOVE REACH=GAVE_WAY | a drain gives way to an exclusive section
	!= | C_MOVE REACH=MOVED_PENDING | a pending device moves
	!= | C_KICK REACH=WAITS_FOR_OTHERS | a request waits for another section
	!= | C_UNLOAD REACH=UNLOAD_WAITS | unload waits for other sections
	!= | C_LEAVE REACH=EXIT_MET_DRAIN | dismantle meets a drain under way
	!= | C_DISMANTLE REACH=EXIT_WAITS_REAP | dismantle waits for the reap count
	mutex[home | C_PAIR BREAK_FOREIGN | the rule: unregister under a foreign mutex
	st[peer | C_PAIR BREAK_CLAIM | I1, once: claim and queue in two steps
	home[v] | C_MOVE BREAK_MOVE_LIST | I2: move without the pending list
	kicked[0] | C_MOVE BREAK_MOVE_KICK | I3: move without a kick
	kicked[0] | C_LEAVE BREAK_LEAVE | I3: __rtnl_unlock() drops the kicks
	invalid end state | C_EXCLUSIVE BREAK_I4 | I4: wait for references before the drain
	exited | C_LEAVE BREAK_BARRIER | I5: no wait for drains under way
	exited | C_LEAVE BREAK_ADOPT | I5: adopt only what was left
	gone[home | C_DISMANTLE BREAK_REAP | I5: no wait for dev_reap_count
	module_gone | C_UNLOAD BREAK_UNLOAD | I6: unload does not wait
	who[0] | C_KICK BREAK_WAIT | I7: no wait for another section
	who[0] | C_PAIR BREAK_PIN | I7: nothing pins a device until its uppers are freed
	who[0] | C_KICK RELY BREAK_WAIT | I7: rely and do not wait
	batches | C_EXCLUSIVE BREAK_I8 | I8: one batch for each netns
	gone[ | C_DISMANTLE BREAK_REF | use after free: no reference with a kick
	invalid end state | C_MOVE BREAK_KEEP | deadlock: a mutex kept while RTNL is waited for
	invalid end state | C_LEAVE LISTED BREAK_NEST | deadlock: a nest in a shared section
	invalid end state | C_SYSCTL BREAK_SYSCTL | deadlock: a sysctl writer waits for the mutex
	invalid end state | C_PAIR BREAK_EARLY | deadlock: wait for others before the own list
	kicked[0] | C_KICK RELY BREAK_CLEAR | lost kick: the common entry is cleared after the collection
	END
}

# judge EXPECTED LOG
judge()
{
	if [ "$1" = sound ]; then
		grep -q 'errors: 0' "$2" &&
			! grep -qE 'max search depth too small|out of memory|not completed|status ' "$2"
	else
		grep '^pan:1: ' "$2" | grep -qF -- "$1"
	fi
}

states()
{
	sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p; s/^pan: elapsed time (.*)/\1/p' "$1" |
		paste -sd ' '
}

expected=() defines=() names=()
while IFS='|' read -r a b c; do
	[[ "$a|$b|$c" == *"${1:-}"* ]] || continue
	expected+=("$(echo "$a" | xargs)")
	defines+=("$(echo "$b" | xargs)")
	names+=("${c# }")
done < <(cases)

start()
{
	local i

	for i in "${!names[@]}"; do
		printf '%s\0%s\0' "$TMP/$i" "${defines[i]}"
	done | xargs -0 -n 2 -P "$JOBS" "$0" one
}

# In the order in which they end
while read -r i; do
	rc=0
	judge "${expected[i]}" "$TMP/$i/out" || rc=1
	if [ "${expected[i]}" = sound ]; then
		result "$rc" "${names[i]} (${defines[i]}): $(states "$TMP/$i/out")" "$TMP/$i/out"
	else
		result "$rc" "${names[i]} (${defines[i]})" "$TMP/$i/out"
	fi
done < <(start)
[ $((passed + failed)) -eq ${#names[@]} ] || die "only $((passed + failed)) of ${#names[@]} ran"
finish
