/* SPDX-License-Identifier: GPL-2.0 */
/* Sections of different netns that run side by side: who drains, who waits for whom.
 * "make model" checks it with spin; tools/small-rtnl/model.sh has the list of
 * configurations (-D C_x), of sound alternatives, and of broken variants (-D
 * BREAK_x), each of which breaks one rule and must be caught.
 *
 * RTNL is a rw_semaphore, on which a waiting writer stops new readers. A section
 * holds it shared, with the mutex of its netns, or exclusive. The rules I1 to I8 are
 * those of Documentation/networking/per_netns_rtnl.rst. The assertions look at
 * who[], which nothing else reads: all requests that take a device down, also as
 * the upper of another one.
 *
 * Who waits for a drain under way in another section?
 *
 * A request: until each device that it made pending, or met pending, is freed, by
 * whomever. The mutex of the device's netns is not enough (BREAK_WAIT): it says that
 * the device is unregistered, and the other section frees it later. Nor is waiting
 * until it is freed (BREAK_PIN): its uppers, which the other section's handler made
 * pending elsewhere, may be freed after it, and the request does not know of them.
 * Either a device is not freed before all devices that its NETDEV_UNREGISTER queued
 * are (parent[], a reference that the upper has until free_netdev()), or a request
 * has a count that its devices inherit (-D BY_REQUEST). Both are sound. The request
 * frees its own devices before it waits (BREAK_EARLY: it waits for itself, or two
 * requests for each other), and holds neither RTNL nor a mutex.
 *
 * Dismantle: for its own devices as a request; for dev_reap_count of the netns
 * before it is freed (BREAK_REAP); and, before the first ->exit(), for each device
 * that uses the netns and that another section has made pending or collected
 * (BREAK_BARRIER), as the driver does not list it any longer. Either by an exclusive
 * section that drains all that is pending in any netns: what was left to the works
 * is not all (BREAK_ADOPT), as a drain drops RTNL between two netns. Or by a count
 * in the netns that is used, from claim to NETREG_UNREGISTERING, for which dismantle
 * waits without RTNL (-D USE_COUNT), and which needs no exclusive section.
 *
 * Module unload: for dev_unreg_count, as rtnl_lock_unregistering_all() does
 * (BREAK_UNLOAD), and then as a request for all its devices, pending ones included.
 *
 * Two sections kick one netns: does each need an entry?
 *
 * Not for safety (-D RELY, with one entry for all sections): the second may rely on
 * the first if it waits as above, which it has to do anyhow, and if the entry is
 * removed before the mutex is acquired and the list is collected (BREAK_CLEAR). Who
 * relies without waiting breaks I7. With an entry for each section the section does
 * not depend on when another one gets RTNL again; it has the same wait. Either way
 * an entry has a passive reference on the netns (BREAK_REF): another section may
 * drain it, and dismantle end, before.
 *
 * Not in the model: rebroadcasts, grace periods, ->priv_destructor()s that use
 * another netns, starvation (only safety and deadlocks are checked), more than four
 * devices, processes and one work, and batches of more netns than there are.
 */

/* The devices, and how they hang together. a0 of netns 0 and b0 of netns 1 are a
 * pair, u0 of netns 2 is an upper of b0, t0 of netns 0 is a tunnel whose socket is
 * in netns 1.
 */
#define A0	0
#define B0	1
#define U0	2
#define T0	3
#define ND	4
#define NN	3
#define NT	4
#define NONE	9

/* Life of a device, as in Documentation/networking/per_netns_rtnl.rst */
#define ABSENT	0
#define REG	1
#define PEND	2	/* on dev_unreg_head of a netns */
#define KILL	3	/* on a kill list */
#define UNREG	4	/* on the todo_list of a section */
#define FREED	5

#define BIT(n)		(1 << (n))

/* Devices */
byte st[ND], home[ND], list[ND], by[ND], parent[ND], depth[ND], handlers[ND];
byte lower[ND], peer[ND], uses[ND];
byte who[ND];		/* who takes it down; only the assertions look at it */

/* Netns: owner of ->rtnl_mutex plus one; passive references; dev_reap_count */
byte mutex[NN], passive[NN], reap[NN];
bool exited[NN];	/* ->exit() ran */
byte users[NN];		/* requests that hold a reference, get_net() */
bool gone[NN];		/* the memory is free */

/* RTNL */
byte readers, waiting;
bool writer;
/* pernet_ops_rwsem */
byte pernet_readers;
bool pernet_writer;

/* Sections: the netns kicked, the devices queued, the netns being drained */
byte kicked[NT], want[NT], draining[NT];
bool excl[NT];
byte left;		/* rtnl_net_left */
byte rely;		/* netns that are on the list of some section */
byte unreg_count;	/* dev_unreg_count */
bool module_gone;
bool working;
byte done;

/* Events that a sound model must reach: -D REACH=EVENT fails there */
#define TAKEN_OVER		1
#define MET_PENDING		2
#define OTHERS_DEVICE		3
#define EMPTY_DRAIN		4
#define TRYLOCK_FAILED		5
#define GAVE_WAY		6
#define MOVED_PENDING		7
#define WAITS_FOR_OTHERS	8
#define UNLOAD_WAITS		9
#define EXIT_MET_DRAIN		10
#define EXIT_WAITS_REAP		11
#ifdef REACH
#define EVENT(e)	assert(e != REACH)
#else
#define EVENT(e)	skip
#endif

#define USE(n)		assert(!gone[n])
#define LIVE(x)		(st[x] >= REG && st[x] <= KILL)
#define HOLDS(x, y)	(lower[x] == y && LIVE(x))
#ifdef BREAK_PIN
#define PINS(x, y)	false
#elif defined(BY_REQUEST)
#define PINS(x, y)	false
#else
#define PINS(x, y)	(parent[x] == y && st[x] != FREED)
#endif
#define HELD(y)		(HOLDS(0, y) || HOLDS(1, y) || HOLDS(2, y) || HOLDS(3, y) || \
			 PINS(0, y) || PINS(1, y) || PINS(2, y) || PINS(3, y))
#define MINE(x, s)	(st[x] == s && by[x] == t)
#define NO_MINE(s)	(!MINE(0, s) && !MINE(1, s) && !MINE(2, s) && !MINE(3, s))
#define OUT(x, set)	(!(set & BIT(x)) || st[x] == FREED)
#define ALL_OUT(set)	(OUT(0, set) && OUT(1, set) && OUT(2, set) && OUT(3, set))
#define TAKEN(x)	(!(who[x] & BIT(t)) || st[x] == FREED)
#define ALL_TAKEN	(TAKEN(0) && TAKEN(1) && TAKEN(2) && TAKEN(3))
#define IN_USE(x, n)	(uses[x] == n && (st[x] == PEND || st[x] == KILL))
#define ANY_IN_USE(n)	(IN_USE(0, n) || IN_USE(1, n) || IN_USE(2, n) || IN_USE(3, n))
#define PEER_OF(x, n)	(peer[x] != NONE && home[peer[x] % ND] == n)
#define NEEDS(x, n)	(home[x] == n || uses[x] == n || PEER_OF(x, n))
#define PENDING(x, n)	(st[x] == PEND && list[x] == n)
#define ANY_PENDING(n)	(PENDING(0, n) || PENDING(1, n) || PENDING(2, n) || PENDING(3, n))
#define HAS_KICK(n)	((kicked[0] | kicked[1] | kicked[2] | kicked[3] | left) & BIT(n) || \
			 draining[0] & BIT(n) || draining[1] & BIT(n) || \
			 draining[2] & BIT(n) || draining[3] & BIT(n))
#define I3(n)		assert(!ANY_PENDING(n) || HAS_KICK(n))
#define I3_ALL		I3(0); I3(1); I3(2)

/* The last put frees the netns: net_passive_dec() */
inline put_passive(n)
{
	assert(passive[n] > 0);
	passive[n]--;
	if
	:: passive[n] == 0 -> gone[n] = true
	:: else
	fi
}

/* rtnl_net_kick(): an entry of the section, with a passive reference */
inline kick(n)
{
#ifdef RELY
	if
	:: !(rely & BIT(n)) ->
		rely = rely | BIT(n);
#endif
	if
	:: !(kicked[t] & BIT(n)) ->
		USE(n);
		kicked[t] = kicked[t] | BIT(n);
#ifndef BREAK_REF
		passive[n]++
#endif
	:: else
	fi
#ifdef RELY
	:: else
	fi
#endif
}

/* netdev_unreg_pend() under the instance lock, which elects one thread. from is
 * the device whose NETDEV_UNREGISTER handler this is, or NONE.
 */
inline pend(x, from)
{
	assert(st[x] == REG);			/* I1 */
	st[x] = PEND;
	list[x] = home[x];
	parent[x] = from;
	want[t] = want[t] | BIT(x);
	if
	:: from == NONE -> who[x] = who[x] | BIT(t); depth[x] = 1
	:: else -> who[x] = who[x] | who[from]; depth[x] = depth[from] + 1
	fi;
	kick(home[x]);
}

/* down_read(): a waiting writer stops new readers */
inline rtnl_shared()
{
	atomic { !writer && waiting == 0 -> readers++ }
}

inline rtnl_exclusive()
{
	waiting++;
	atomic { !writer && readers == 0 -> waiting--; writer = true; excl[t] = true }
}

inline rtnl_release()
{
	if
	:: excl[t] -> assert(writer && readers == 0); writer = false; excl[t] = false
	:: else -> assert(readers > 0); readers--
	fi
}

/* RTNL shared is held: the mutex by trylock. If another section has it, drop RTNL,
 * wait without it, and retry.
 */
inline net_lock_shared(n)
{
	do
	:: atomic {
		USE(n);
		if
		:: mutex[n] == 0 -> mutex[n] = t + 1; break
		:: else -> EVENT(TRYLOCK_FAILED); readers--
		fi }
#ifdef BREAK_KEEP
	   atomic { mutex[n] == 0 -> mutex[n] = t + 1 }
	   rtnl_shared();
	   break
#else
	   mutex[n] == 0;
	   rtnl_shared()
#endif
	od
}

/* RTNL exclusive is held: nobody else has a mutex, so this does not wait. A block
 * is a deadlock, which is what the checker reports.
 */
inline net_lock(n)
{
	if
	:: excl[t] -> atomic { USE(n); mutex[n] == 0 -> mutex[n] = t + 1 }
	:: else -> net_lock_shared(n)
	fi
}

inline net_unlock(n)
{
	atomic { USE(n); assert(mutex[n] == t + 1); mutex[n] = 0 }
}

/* One device of the handler of lower x: unregister_netdevice_queue_upper() */
inline upper(v, x)
{
	if
	:: lower[v] == x && st[v] == REG ->
		if
#ifdef BREAK_FOREIGN
		:: true ->
#else
		:: mutex[home[v]] == t + 1 ->
#endif
			st[v] = KILL;
			by[v] = t;
			parent[v] = x;
			depth[v] = depth[x];
			who[v] = who[v] | who[x]
#ifndef BREAK_FOREIGN
		:: else -> pend(v, x)
#endif
		fi
	:: else
	fi
}

#define CAN_DIE(x)	(MINE(x, KILL) && handlers[x] == 0)

/* unregister_netdevice_many_notify(): it waits for the handlers of a device's
 * sysctls, and the device's NETDEV_UNREGISTER queues the uppers
 */
inline unregister_many()
{
	do
	:: atomic {
		CAN_DIE(0) || CAN_DIE(1) || CAN_DIE(2) || CAN_DIE(3) ->
		if
		:: CAN_DIE(0) -> d = 0
		:: CAN_DIE(1) -> d = 1
		:: CAN_DIE(2) -> d = 2
		:: CAN_DIE(3) -> d = 3
		fi;
		assert(mutex[home[d]] == t + 1);	/* the rule */
		assert(!module_gone);			/* I6 */
		assert(uses[d] == NONE || !exited[uses[d] % NN]);	/* I5 */
		st[d] = UNREG;
		reap[home[d]]++;
		unreg_count++;
		for (v : 0 .. ND - 1) {
			upper(v, d)
		}
		v = 0;
		d = 0
	   }
	:: NO_MINE(KILL) -> break
	od
}

/* netdev_unreg_collect() */
inline collect(n)
{
	atomic {
		USE(n);
		if
		:: !ANY_PENDING(n) -> EVENT(EMPTY_DRAIN)
		:: else
		fi;
		for (v : 0 .. ND - 1) {
			if
			:: PENDING(v, n) ->
				assert(home[v] == n);	/* I2 */
				st[v] = KILL;
				by[v] = t;
				if
				:: depth[v] > deepest -> deepest = depth[v]
				:: else
				fi;
				if
				:: !(want[t] & BIT(v)) && who[v] -> EVENT(OTHERS_DEVICE)
				:: else
				fi
			:: else
			fi
		}
		v = 0;
#ifdef BREAK_CLEAR
	}
	/* too late: who pends after the collection relies on it */
	atomic {
		rely = rely & ~BIT(n);
#endif
		draining[t] = draining[t] & ~BIT(n);
		I3_ALL
	}
}

/* The kick is gone before the mutex is taken: who pends later kicks again */
inline unkick(n)
{
	kicked[t] = kicked[t] & ~BIT(n);
	draining[t] = draining[t] | BIT(n);
#ifndef BREAK_CLEAR
	rely = rely & ~BIT(n);
#endif
}

inline put_kick(n)
{
#ifndef BREAK_REF
	atomic { put_passive(n) }
#else
	skip
#endif
}

/* rtnl_net_drain_batch() of an exclusive section: one nest of all kicked netns, in
 * the order in which they were kicked, which may be any
 */
inline drain_nest()
{
	atomic {
		batch = kicked[t];
#ifdef BREAK_I8
		if
		:: batch & 1 -> batch = 1
		:: else -> if :: batch & 2 -> batch = 2 :: else fi
		fi;
#endif
		if :: batch & 1 -> unkick(0) :: else fi;
		if :: batch & 2 -> unkick(1) :: else fi;
		if :: batch & 4 -> unkick(2) :: else fi;
		batches++
	}
#ifdef BREAK_NEST
	if :: down = true :: down = false fi;
#endif
	for (h : 0 .. NN - 1) {
		n_ = (down -> NN - 1 - h : h);
		if
		:: batch & BIT(n_) ->
			atomic { mutex[n_] == 0 -> USE(n_); mutex[n_] = t + 1 }
			collect(n_)
		:: else
		fi
	}
	unregister_many();
	for (h : 0 .. NN - 1) {
		if
		:: batch & BIT(h) -> net_unlock(h); put_kick(h)
		:: else
		fi
	}
	h = 0; n_ = 0; batch = 0; down = false
}

/* rtnl_net_drain() of a shared section: home after home; RTNL may be dropped
 * between two, so that an exclusive section gets its turn
 */
inline drain_home()
{
	if
	:: skip
	:: atomic { waiting > 0 -> readers-- } rtnl_shared(); EVENT(GAVE_WAY)
	fi;
	atomic {
		if
		:: kicked[t] & 1 -> h = 0
		:: kicked[t] & 2 -> h = 1
		:: kicked[t] & 4 -> h = 2
		fi;
		unkick(h)
	}
	net_lock_shared(h);
	collect(h);
	unregister_many();
	net_unlock(h);
	put_kick(h)
}

inline drain()
{
	batches = 0;
	deepest = 0;
	do
	:: kicked[t] == 0 -> break
#ifdef BREAK_NEST
	:: kicked[t] != 0 -> drain_nest()
#else
	:: kicked[t] != 0 && excl[t] -> drain_nest()
	:: kicked[t] != 0 && !excl[t] -> drain_home()
#endif
	od;
}

#define CAN_GO(x)	(MINE(x, UNREG) && !HELD(x))

/* netdev_run_todo() without RTNL: any device of the list that is free */
inline reap_mine()
{
	do
	:: atomic {
		CAN_GO(0) || CAN_GO(1) || CAN_GO(2) || CAN_GO(3) ->
		if
		:: CAN_GO(0) -> d = 0
		:: CAN_GO(1) -> d = 1
		:: CAN_GO(2) -> d = 2
		:: CAN_GO(3) -> d = 3
		fi;
		assert(!module_gone);			/* I6, ->priv_destructor() */
		USE(home[d]);				/* net_reap_done() */
		st[d] = FREED;
		reap[home[d]]--;
		unreg_count--;
		d = 0
	   }
	:: NO_MINE(UNREG) -> break
	od
}

/* What another section collected: not before the own list is freed, as two
 * requesters may wait for each other's devices
 */
inline wait_for_others()
{
#ifdef BREAK_WAIT
	skip
#elif defined(BY_REQUEST)
	ALL_TAKEN
#else
	ALL_OUT(want[t])
#endif
}

/* rtnl_unlock() */
inline section_end()
{
#ifdef BREAK_I4
	rtnl_release();
	reap_mine();
	rtnl_shared();
#endif
	drain();
	atomic { assert(kicked[t] == 0); I3_ALL; rtnl_release() }
#ifdef BREAK_EARLY
	wait_for_others();
	reap_mine();
#else
	reap_mine();
	if
	:: !ALL_TAKEN -> EVENT(WAITS_FOR_OTHERS)
	:: else
	fi;
	wait_for_others();
#endif
	assert(ALL_TAKEN)				/* I7, S5 */
}

#define LOCALS	byte h, d, v, n_, batch, batches, deepest; bool mine, claimed, down

#if !defined(C_LEAVE)
/* RTM_DELLINK of x by a request in netns n: rtnl_dellink(). The claim of the peer
 * is one step, unregister_netdevice_claim_net().
 */
proctype dellink(byte t, n, x; bool exclusive)
{
	LOCALS;

	if
	:: exclusive -> rtnl_exclusive()
	:: else -> rtnl_shared()
	fi;
	net_lock(n);
	atomic {
		mine = home[x] == n && (st[x] == REG || st[x] == PEND);
		claimed = mine && peer[x] != NONE && st[peer[x]] == REG && st[x] == REG;
#ifdef BREAK_CLAIM
	}
	atomic {
#endif
		if
		:: claimed -> pend(peer[x], NONE)
		:: else
		fi;
		if
		:: mine ->
			if
			:: st[x] == PEND -> EVENT(TAKEN_OVER)
			:: else
			fi;
			st[x] = KILL;
			by[x] = t;
			who[x] = who[x] | BIT(t)
		:: else
		fi
	}
	unregister_many();
	net_unlock(n);
#ifndef BREAK_I4
	/* the drain of section_end(), here for the assertion */
	drain();
#endif
	if
	:: exclusive -> assert(batches <= deepest)	/* I8 */
	:: else
	fi;
	section_end();
	atomic { users[n]--; done++ }
}
#endif

/* Two entries become one, and keep one reference */
inline put_twice()
{
#ifndef BREAK_REF
	if :: kicked[t] & left & 1 -> put_passive(0) :: else fi;
	if :: kicked[t] & left & 2 -> put_passive(1) :: else fi;
	if :: kicked[t] & left & 4 -> put_passive(2) :: else fi;
#endif
	skip
}

#if defined(C_LEAVE)
/* A handler or a driver in netns n whose caller holds locks: it makes x
 * pending and leaves it, __rtnl_unlock() and rtnl_net_leave()
 */
proctype leaver(byte t, n, x)
{
	LOCALS;

	rtnl_shared();
	net_lock_shared(n);
	atomic {
		if
		:: st[x] == REG && home[x] != n -> pend(x, NONE)
		:: else
		fi
	}
	net_unlock(n);
	atomic {
		put_twice();
#ifndef BREAK_LEAVE
		left = left | kicked[t];
#endif
		kicked[t] = 0;
		/* nobody waits for these */
		who[x] = who[x] & ~BIT(t);
		I3_ALL;
		readers--;
		users[n]--;
		done++
	}
}
#endif

/* rtnl_net_adopt(): the kicks that were left, with their references */
inline adopt()
{
	atomic {
		put_twice();
		kicked[t] = kicked[t] | left;
		left = 0
	}
}

#if defined(C_LEAVE)
/* rtnl_net_work_func() */
proctype work(byte t)
{
	LOCALS;

end:	do
	:: atomic { left != 0 -> working = true }
		rtnl_shared();
		adopt();
		section_end();
		working = false
	od
}
#endif

#if defined(C_MOVE)
/* RTM_SETLINK that moves x to netns "to": __dev_change_net_namespace(),
 * netdev_unreg_move(). Both mutexes, by trylock, in their order.
 */
proctype mover(byte t, x, from, to)
{
	LOCALS;

	do
	:: rtnl_shared();
	   net_lock_shared(from);
	   atomic {
		if
		:: mutex[to] == 0 -> mutex[to] = t + 1; break
		:: else -> mutex[from] = 0; readers--
		fi
	   }
	   mutex[to] == 0
	od;
	atomic {
		if
		:: home[x] == from && (st[x] == REG || st[x] == PEND) ->
			home[x] = to;
#ifndef BREAK_MOVE_LIST
			list[x] = to;
#ifndef BREAK_MOVE_KICK
			if
			:: st[x] == PEND -> EVENT(MOVED_PENDING); kick(to)
			:: else
			fi;
#endif
#endif
			I3_ALL
		:: else
		fi
	}
	net_unlock(to);
	net_unlock(from);
	section_end();
	atomic { users[from]--; users[to]--; done++ }
}
#endif

#if defined(C_KICK) || defined(C_MOVE) || defined(C_SYSCTL)
/* An ioctl: an exclusive section that uses netns n */
proctype exclusive(byte t, n)
{
	LOCALS;

	rtnl_exclusive();
	net_lock(n);
	net_unlock(n);
	section_end();
	atomic { users[n]--; done++ }
}
#endif

#if defined(C_SYSCTL)
/* A writer of net.ipv6.conf.DEV.disable_ipv6: unregistering x waits for it. RTNL
 * and the mutex by trylock; restart_syscall() lets go of the handler.
 */
proctype sysctl(byte t, n, x)
{
	LOCALS;

	atomic {
		if
		:: st[x] == REG || st[x] == PEND -> handlers[x]++; mine = true
		:: else
		fi
	}
	if
	:: mine ->
#ifdef BREAK_SYSCTL
		rtnl_shared();
		net_lock_shared(n);
		net_unlock(n);
		section_end();
#else
		if
		:: atomic { !writer && waiting == 0 && mutex[n] == 0 ->
			readers++; mutex[n] = t + 1 }
		   net_unlock(n);
		   section_end()
		:: else
		fi;
#endif
		handlers[x]--
	:: else
	fi;
	atomic { users[n]--; done++ }
}
#endif

/* A claimed device has left the list of its driver, so that only a walk of its
 * own netns still meets it
 */
#ifdef LISTED
#define MEETS(x, n)	NEEDS(x, n)
#else
#define MEETS(x, n)	(home[x] == n)
#endif

inline take_down(x, cond, meets)
{
	if
	:: cond && st[x] == REG -> pend(x, NONE)
	:: meets && st[x] == PEND ->
		EVENT(MET_PENDING);
		who[x] = who[x] | BIT(t);
		want[t] = want[t] | BIT(x);
		kick(list[x])
	:: else
	fi
}

inline kick_pending(n)
{
	if
	:: ANY_PENDING(n) -> kick(n)
	:: else
	fi
}

#if defined(C_DISMANTLE) || defined(C_LEAVE) || defined(C_UNLOAD)
/* cleanup_net(): ops_exit_rtnl_list(), the ->exit()s, default_device_exit_batch() */
proctype dismantle(byte t, n)
{
	LOCALS;

	users[n] == 0;
	atomic { !pernet_writer -> pernet_readers++ }
	rtnl_shared();
	adopt();
	net_lock_shared(n);
	/* ->exit_rtnl() and ->dellink(): its devices, and the tunnels that use it */
	atomic {
		for (v : 0 .. ND - 1) {
			take_down(v, NEEDS(v, n), MEETS(v, n))
		}
		v = 0
	}
	net_unlock(n);
	section_end();
	if
	:: ANY_IN_USE(n) -> EVENT(EXIT_MET_DRAIN)
	:: else
	fi;
	/* Before the first ->exit(): no section is in the middle of unregistering a
	 * device that uses the netns
	 */
#ifdef USE_COUNT
	!ANY_IN_USE(n);
#elif !defined(BREAK_BARRIER)
	rtnl_exclusive();
	adopt();
#ifndef BREAK_ADOPT
	atomic { kick_pending(0); kick_pending(1); kick_pending(2) }
#endif
	section_end();
#endif
	exited[n] = true;
#ifndef BREAK_REAP
	/* net_reap_wait() */
	if
	:: reap[n] != 0 -> EVENT(EXIT_WAITS_REAP)
	:: else
	fi;
	reap[n] == 0;
#endif
	atomic {
		pernet_readers--;
		put_passive(n);
		done++
	}
}
#endif

#if defined(C_UNLOAD)
/* rtnl_link_unregister() of the module of all devices */
proctype unload(byte t)
{
	LOCALS;

	atomic { pernet_readers == 0 && !pernet_writer -> pernet_writer = true }
	/* rtnl_lock_unregistering_all() */
	do
	:: rtnl_exclusive();
#ifdef BREAK_UNLOAD
	   break
#else
	   if
	   :: unreg_count == 0 -> break
	   :: else -> EVENT(UNLOAD_WAITS); atomic { rtnl_release() } unreg_count == 0
	   fi
#endif
	od;
	adopt();
	atomic {
		for (v : 0 .. ND - 1) {
			take_down(v, true, true)
		}
		v = 0
	}
	section_end();
	atomic { module_gone = true; pernet_writer = false; done++ }
}
#endif

inline device(x, n)
{
	st[x] = REG;
	home[x] = n
}

#define START(n)	users[n]++; threads++

init
{
	byte i, threads;

	atomic {
		for (i : 0 .. ND - 1) {
			lower[i] = NONE;
			peer[i] = NONE;
			uses[i] = NONE;
			parent[i] = NONE;
			list[i] = NONE;
			by[i] = NONE
		}
		for (i : 0 .. NN - 1) {
			passive[i] = 1
		}
		device(B0, 1);
#ifdef C_KICK
		/* two pairs, with one end each in netns 2 */
		device(A0, 0);
		device(U0, 2);
		device(T0, 2);
		peer[A0] = U0;
		peer[U0] = A0;
		peer[B0] = T0;
		peer[T0] = B0;
		START(0); run dellink(0, 0, A0, false);
		START(1); run dellink(1, 1, B0, false);
		START(2); run exclusive(2, 2);
#elif !defined(C_LEAVE)
		device(A0, 0);
		peer[A0] = B0;
		peer[B0] = A0;
#endif
#ifdef C_PAIR
		device(U0, 2);
		lower[U0] = B0;
		START(0); run dellink(0, 0, A0, false);
		START(1); run dellink(1, 1, B0, false);
		START(2); run dellink(2, 2, U0, false);
#elif defined(C_EXCLUSIVE)
		/* two uppers of b0, of two netns */
		device(U0, 2);
		device(T0, 0);
		lower[U0] = B0;
		lower[T0] = B0;
		START(0); run dellink(0, 0, A0, true);
		START(1); run dellink(1, 1, B0, false);
		START(2); run dellink(2, 2, U0, false);
#elif defined(C_MOVE)
		device(U0, 2);
		lower[U0] = B0;
		START(0); run dellink(0, 0, A0, false);
		START(1); users[2]++; run mover(1, B0, 1, 2);
		START(2); run dellink(2, 2, U0, false);
		START(1); run exclusive(3, 1);
#elif defined(C_DISMANTLE)
		device(U0, 2);
		lower[U0] = B0;
		device(T0, 0);
		uses[T0] = 1;
		threads++; run dismantle(0, 1);
		START(0); run dellink(1, 0, A0, false);
		START(0); run dellink(2, 0, T0, false);
#elif defined(C_LEAVE)
		device(U0, 2);
		uses[U0] = 1;
		device(T0, 0);
		uses[T0] = 1;
		START(2); run leaver(0, 2, T0);
		START(0); run leaver(1, 0, U0);
		run work(2);
		threads++; run dismantle(3, 1);
#elif defined(C_UNLOAD)
		device(U0, 2);
		lower[U0] = B0;
		threads++; run unload(0);
		START(0); run dellink(1, 0, A0, false);
		threads++; run dismantle(2, 1);
		START(2); run dellink(3, 2, U0, false);
#elif defined(C_SYSCTL)
		START(0); run dellink(0, 0, A0, false);
		START(1); run sysctl(1, 1, B0);
		START(0); run sysctl(2, 0, A0);
		START(1); run exclusive(3, 1);
#endif
	}
	/* A request that never returns is reported here, as an invalid end state */
	done == threads && left == 0 && !working;
	atomic {
		/* no lost kick */
		for (i : 0 .. ND - 1) {
			assert(st[i] == ABSENT || st[i] == REG || st[i] == FREED)
		}
		assert(readers == 0 && !writer && waiting == 0);
		for (i : 0 .. NN - 1) {
			assert(mutex[i] == 0 && reap[i] == 0);
			assert(exited[i] || passive[i] == 1);
			assert(!exited[i] || gone[i])
		}
	}
}
