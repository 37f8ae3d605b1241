# SPDX-License-Identifier: GPL-2.0
# Thin calls to tools/small-rtnl; each script says at its top what it does.

# Overridable: make vm KERNEL=stock SCRIPT=my.sh
KERNEL ?= patched
CONFIG ?= debug
SCRIPT ?=
SMP ?= 2
MEM ?= 2G
TIMEOUT ?=
STRICT ?= 1
GUEST_ENV ?=
KERNEL_ARGS ?=
KERNEL_SRC ?=
OUT ?=
SIGNOFF ?=
SERIES ?=
JOBS ?=
MACHINE ?=
PATCHES ?=
MUTANTS ?=
BUILD ?= $(CURDIR)/build

# An empty one means the script's own default
export KERNEL CONFIG SCRIPT SMP MEM STRICT GUEST_ENV KERNEL_ARGS BUILD
ifneq ($(TIMEOUT),)
export TIMEOUT
endif
ifneq ($(KERNEL_SRC),)
export KERNEL_SRC
endif
ifneq ($(OUT),)
export OUT
endif
ifneq ($(SIGNOFF),)
export SIGNOFF
endif
ifneq ($(SERIES),)
export SERIES
endif
ifneq ($(JOBS),)
export JOBS
endif
ifneq ($(PATCHES),)
export PATCHES
endif
ifneq ($(MACHINE),)
export MACHINE
endif

tools := tools/small-rtnl

# The scripts run makes of their own
unexport MAKEFLAGS MFLAGS MAKELEVEL

.DEFAULT_GOAL := help
.PHONY: help run test test-all vm um tree export mbox check stress bench deb bisect model mutants base bases deps clean distclean
.PHONY: plan-run plan-test plan-test-all plan-deb
# Each target starts with a set-up that must not run twice at once
.NOTPARALLEL:

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## */\1	/p' $(MAKEFILE_LIST) | expand -t 12
	@echo
	@echo "vm and um: KERNEL=patched|stock|IMAGE CONFIG=debug|kasan|kcsan|off|FILE SCRIPT=FILE"
	@echo "           (um has debug, kasan and off)"
	@echo "           SMP=2 POSSIBLE=64 MEM=2G TIMEOUT=SECONDS STRICT=0|1 GUEST_ENV='A=1 B=2' KERNEL_ARGS="
	@sed -n 's/^ST_[A-Z]*=\([0-9]*\)	# /           status \1: /p' $(tools)/lib.sh
	@echo "stress: MACHINE=um|qemu KERNEL= CONFIG= SMP= MEM= TIMEOUT= STRICT= as there, WORKERS=4 ROUNDS=2500 SLOTS=12 SEED= KINDS='veth ...'"
	@echo "bench: SCENARIOS='setup churn dismantle bystander delete requests possible cni' REPEAT=5 N='100 500 2000' BUDGET=SECONDS"
	@echo "       SCALE=PERCENT KERNELS='stock off on' MACHINE=qemu|um TRACE=0|1 SMP=2 POSSIBLE='2 64 256' MEM=4G RESULTS=FOLDER"
	@echo "test: TESTS='NAME ...', of (test | test-all has these, too | only by name):"
	@$(tools)/test.sh names | fmt -w 100 | sed 's/^/       /'
	@echo "deb: CONFIG=FILE, such as /boot/config-...; the packages are in BUILD/deb"
	@echo "tree, base: KERNEL_SRC=TREE-OR-TARBALL   mbox: OUT=FOLDER SIGNOFF='Name <mail>' SERIES=FOLDER"

run: plan-run tree ## set everything up, boot the debug kernel, and play a demonstration on it
	@$(tools)/demo.sh

test: plan-test tree ## the tests that fit in an hour; ends with "N passed, N failed, N skipped"
	@$(tools)/test.sh

test-all: plan-test-all tree ## all tests, which take hours
	@$(tools)/test.sh all

plan-run:
	@$(tools)/test.sh plan demo

plan-test:
	@$(tools)/test.sh plan

plan-test-all:
	@$(tools)/test.sh plan all

vm: export MACHINE = qemu
vm: tree ## boot under QEMU: a root shell, or SCRIPT= and exit with its status
	@$(tools)/vm.sh

um: export MACHINE = um
um: tree ## the same as User-mode Linux, which runs ten times as fast as QEMU emulates
	@$(tools)/vm.sh

tree: deps ## build/linux: a git tree of the base with one commit for each patch
	@$(tools)/queue.py tree

export: ## the way back: commits of build/linux become patches/
	@$(tools)/queue.py export

mbox: tree ## a mailable series with cover letter from each folder of patches/
	@$(tools)/queue.py mbox

check: tree ## style of patches and scripts, round trip, format of the series
	@$(tools)/check.sh

stress: tree ## 10,000 random operations on devices of all kinds, from many processes
	@$(tools)/test.sh stress_long

# A namespace takes more memory than the tests have
bench: MEM := $(if $(filter file,$(origin MEM)),4G,$(MEM))
bench: tree ## measure stock against patched: a table of ratios, plots, bench/results
	@$(tools)/bench/bench.sh

# Of whom the packages are for, who has to say so
deb plan-deb: CONFIG := $(if $(filter file,$(origin CONFIG)),,$(CONFIG))
deb: plan-deb tree ## packages of the patched kernel, with the option on, from CONFIG=FILE
	@$(tools)/deb.sh

# Before the tree, which takes minutes
plan-deb:
	@$(tools)/deb.sh plan

base: deps ## fetch, verify and cache the base kernel
	@$(tools)/base.sh

bisect: tree ## each patch compiles by itself; PATCHES=N..M or a series
	@$(tools)/bisect.sh

model: deps ## check a model of the sections and drains with spin; breaks each of its rules
	@$(tools)/model.sh

mutants: tree ## break the kernel on purpose: a test must notice; MUTANTS= only these
	@$(tools)/mutants.py $(MUTANTS)

bases: tree ## try the queue, without fuzz, on every 7.2.y that the mirrors offer
	@$(tools)/queue.py bases

deps: ## the packages needed: install them (root on Debian) or say which
	@$(tools)/deps.sh

clean: ## remove what was compiled; the trees stay
	rm -rf $(BUILD)/linux/.obj-* $(BUILD)/stock/.obj-* $(BUILD)/stock-events/.obj-* $(BUILD)/scratch/linux/.obj-* $(BUILD)/log $(BUILD)/bench

distclean: ## remove all of build/, with commits not exported; the cache of downloads stays
	rm -rf $(BUILD)
	@echo "The downloaded base and the compiler's cache stay in $${SMALL_RTNL_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/small-rtnl}"
