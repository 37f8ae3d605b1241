#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# scratch.sh: make or refresh $BUILD/scratch/linux, a copy of build/linux for
# those who check out other commits or break the kernel: bisect.sh, mutants.py.
# Prints its folder. Only files that differ are written, so that an object
# stays if its source does. Called with $BUILD/scratch/lock held.

. "$(dirname "$0")/lib.sh"

linux=$BUILD/linux
scratch=$BUILD/scratch/linux

[ -d "$linux/.git" ] || die "there is no patched tree at $linux: run 'make tree'"
if [ ! -d "$scratch/.git" ]; then
	need_space "$BUILD/scratch" 3000
	say "copying $linux to $scratch"
	rm -rf "$scratch.tmp"
	git clone -q --shared --no-checkout "$linux" "$scratch.tmp"
	mv "$scratch.tmp" "$scratch"
fi
git -C "$scratch" fetch -q -f "$linux" HEAD refs/tags/base:refs/tags/base
git -C "$scratch" checkout -q -f --detach FETCH_HEAD
echo "$scratch"
