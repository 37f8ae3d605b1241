/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Devices that are stacked on a lower device: what they have in common, the
 * port of the lower device, such as its rx_handler_data. The uppers can be in
 * any netns, and each dies under the mutex of its own, so the port can outlive
 * the lower device's unregistration and needs a mutex and a count of its users.
 *
 * Embed a struct rtnl_port in the driver's. An upper is a user from its
 * ->ndo_init() to its ->ndo_uninit(), and a handler of the lower's events is
 * one while it runs. The port is created by who joins first and destroyed by
 * who puts last, both under rtnl_lower_lock(). See
 * Documentation/networking/per_netns_rtnl.rst.
 */
#ifndef _NET_RTNL_PORT_H
#define _NET_RTNL_PORT_H

#include <linux/netdevice.h>
#include <linux/refcount.h>
#include <net/rtnl_drv_mutex.h>

struct rtnl_port {
	refcount_t		count;
#ifdef CONFIG_NET_SMALL_RTNL
	/* The lower device is, and takes no more uppers; see @lock */
	bool			dying;
	/* Protects the list of uppers and what they have in common */
	struct rtnl_drv_mutex	lock;
#endif
};

/* In the private data of an upper */
struct rtnl_upper {
#ifdef CONFIG_NET_SMALL_RTNL
	/* Has no part in the lower device any more, which is dead */
	bool			orphan;
#endif
};

#ifdef CONFIG_NET_SMALL_RTNL
struct rtnl_drv_mutex *rtnl_lower_lock(const struct net_device *lower);

/* A macro, so that each kind of port is a class of its own for lockdep */
#define rtnl_port_init(port)					\
do {								\
	struct rtnl_port *_port = (port);			\
								\
	refcount_set(&_port->count, 1);				\
	_port->dying = false;					\
	rtnl_drv_mutex_init(&_port->lock);			\
} while (0)

/**
 * rtnl_port_destroy() - tell the debug code that a port is not used again
 * @port: port without users
 *
 * Context: any.
 */
static inline void rtnl_port_destroy(struct rtnl_port *port)
{
	rtnl_drv_mutex_destroy(&port->lock);
}

/**
 * rtnl_port_lock() - acquire a port's mutex
 * @port: the port
 * @lower: its lower device
 *
 * May be taken inside that of a port further down a stack of devices, as a
 * notifier for one of that port's uppers leads there; the level in the stack
 * tells lockdep so.
 *
 * Context: RTNL, or the mutex of a netns, is held. May sleep.
 */
static inline void rtnl_port_lock(struct rtnl_port *port,
				  const struct net_device *lower)
{
	unsigned int level = 0;

#ifdef CONFIG_LOCKDEP
	level = lower->nested_level;
#endif
	rtnl_drv_lock_nested(&port->lock, level);
}

/**
 * rtnl_port_unlock() - release a port's mutex
 * @port: port whose mutex the caller holds
 *
 * Context: process.
 */
static inline void rtnl_port_unlock(struct rtnl_port *port)
{
	rtnl_drv_unlock(&port->lock);
}

/**
 * rtnl_port_assert_locked() - assert that the caller holds a port's mutex
 * @port: the port
 *
 * Context: any.
 */
static inline void rtnl_port_assert_locked(struct rtnl_port *port)
{
	rtnl_drv_assert_held(&port->lock);
}

/**
 * rtnl_port_kill() - let nobody join a port any more
 * @port: port whose lower device dies
 *
 * Context: @port's mutex is held.
 */
static inline void rtnl_port_kill(struct rtnl_port *port)
{
	rtnl_port_assert_locked(port);
	port->dying = true;
}

/**
 * rtnl_port_dying() - whether the uppers of a port have been queued
 * @port: the port
 *
 * A new upper would keep a dead lower device for ever: ->newlink() fails with
 * -ENODEV then. Without the option, uppers are gone when the lower is.
 *
 * Context: @port's mutex is held.
 *
 * Return: true if nobody may join.
 */
static inline bool rtnl_port_dying(struct rtnl_port *port)
{
	rtnl_port_assert_locked(port);
	return port->dying;
}

/**
 * rtnl_port_queued() - whether an upper is on its way to be unregistered
 * @port: the port
 * @upper: one of its devices
 *
 * Who queues an upper takes it off the port's list, both under the port's
 * mutex. So whoever finds it queued has nothing to take off any more.
 *
 * Context: RTNL and @port's mutex are held.
 *
 * Return: true if it is queued.
 */
static inline bool rtnl_port_queued(struct rtnl_port *port,
				    const struct net_device *upper)
{
	rtnl_port_assert_locked(port);
	return unregister_netdevice_queued(upper);
}

/**
 * rtnl_upper_orphan() - let an upper not touch its lower device any more
 * @upper: the upper's
 *
 * For the lower's death, before what the upper has put into the lower is taken
 * out: when the upper is closed in its own netns, the lower is gone.
 *
 * Context: RTNL is held.
 */
static inline void rtnl_upper_orphan(struct rtnl_upper *upper)
{
	WRITE_ONCE(upper->orphan, true);
}

/**
 * rtnl_upper_orphaned() - whether an upper's lower device is dead
 * @upper: the upper's
 *
 * Context: any. Who asks with a lock that is taken to take things out of the
 *	lower, such as an address lock, gets an answer that stays.
 *
 * Return: true if the upper must not touch the lower. Without the option,
 * uppers are gone when the lower is.
 */
static inline bool rtnl_upper_orphaned(const struct rtnl_upper *upper)
{
	return READ_ONCE(upper->orphan);
}

struct rtnl_port_walk {
	/* The driver's data of the last upper, or NULL */
	void			*upper;
	struct net_device	*dev;
	netdevice_tracker	tracker;
};

/* For __cleanup() */
static inline void rtnl_port_walk_stop(struct rtnl_port_walk *walk)
{
	if (walk->upper)
		netdev_put(walk->dev, &walk->tracker);
}

/* Put the last upper, and hold and return the next one, or NULL at the end. If
 * the last one has left the list, begin again.
 */
static inline void *rtnl_port_walk_next(struct rtnl_port *port,
					const struct net_device *lower,
					struct list_head *uppers,
					size_t member, size_t dev,
					struct rtnl_port_walk *walk)
{
	struct rtnl_port_walk last = *walk;
	struct list_head *pos = uppers;

	rtnl_port_lock(port, lower);

	if (last.upper && !rtnl_port_queued(port, last.dev))
		pos = last.upper + member;

	if (list_is_last(pos, uppers)) {
		walk->upper = NULL;
	} else {
		walk->upper = (void *)pos->next - member;
		walk->dev = *(struct net_device **)(walk->upper + dev);
		netdev_hold(walk->dev, &walk->tracker, GFP_KERNEL);
	}

	rtnl_port_unlock(port);

	rtnl_port_walk_stop(&last);

	return walk->upper;
}

/**
 * rtnl_port_for_each_upper() - walk along a port's uppers, to call notifiers
 * @upper: variable for the driver's data of each upper, with its @dev
 * @port: the port, which the caller is a user of
 * @lower: its lower device
 * @uppers: the port's list
 * @member: the node of that list in the driver's data of an upper
 *
 * Notifiers for an upper may come back for the port's mutex: an upper that
 * drops LRO drops it in the lower, too, which is announced to the driver. So
 * the body runs without it, and a reference keeps the upper to go on from. An
 * upper may be seen twice, if the one before it dies in the body. break and
 * return are fine.
 *
 * Context: RTNL is held, @port's mutex is not. May sleep.
 */
#define rtnl_port_for_each_upper(upper, port, lower, uppers, member)	\
	for (struct rtnl_port_walk _walk				\
			__cleanup(rtnl_port_walk_stop) = {};		\
	     ((upper) = rtnl_port_walk_next(port, lower, uppers,	\
				offsetof(typeof(*(upper)), member),	\
				offsetof(typeof(*(upper)), dev),	\
				&_walk));)
#else
static inline struct rtnl_drv_mutex *
rtnl_lower_lock(const struct net_device *lower)
{
	return NULL;
}

static inline void rtnl_port_init(struct rtnl_port *port)
{
	refcount_set(&port->count, 1);
}

static inline void rtnl_port_destroy(struct rtnl_port *port) {}
static inline void rtnl_port_lock(struct rtnl_port *port,
				  const struct net_device *lower) {}
static inline void rtnl_port_unlock(struct rtnl_port *port) {}
static inline void rtnl_port_assert_locked(struct rtnl_port *port) {}
static inline void rtnl_port_kill(struct rtnl_port *port) {}

static inline bool rtnl_port_dying(struct rtnl_port *port)
{
	return false;
}

static inline bool rtnl_port_queued(struct rtnl_port *port,
				    const struct net_device *upper)
{
	return false;
}

static inline void rtnl_upper_orphan(struct rtnl_upper *upper) {}

static inline bool rtnl_upper_orphaned(const struct rtnl_upper *upper)
{
	return false;
}

#define rtnl_port_for_each_upper(upper, port, lower, uppers, member)	\
	for ((void)(port), (void)(lower), (upper) =			\
	     list_first_entry(uppers, typeof(*(upper)), member);	\
	     !list_entry_is_head(upper, uppers, member);		\
	     (upper) = list_next_entry(upper, member))
#endif

/**
 * rtnl_port_join() - become a user of the port of a lower device
 * @port: its port, found under rtnl_lower_lock()
 *
 * A port without users is gone before that mutex is released.
 *
 * Context: rtnl_lower_lock() is held, or the caller is a user already.
 */
static inline void rtnl_port_join(struct rtnl_port *port)
{
	refcount_inc(&port->count);
}

/**
 * rtnl_port_tryhold() - become a user of a port that may lose its last one
 * @port: port, found under RCU
 *
 * Context: rcu_read_lock() is held, and ports are freed after a grace period.
 *
 * Return: false if it has no users any more.
 */
static inline bool rtnl_port_tryhold(struct rtnl_port *port)
{
	return refcount_inc_not_zero(&port->count);
}

/**
 * rtnl_port_put() - stop being a user of a port
 * @port: the port
 * @lower: its lower device
 * @destroy: called for the last one, under rtnl_lower_lock(), to unhook the
 *	port from @lower, put the reference on @lower and free the port
 *
 * Context: RTNL, or the mutex of a netns, is held; @port's mutex is not. May
 *	sleep.
 */
static inline void rtnl_port_put(struct rtnl_port *port,
				 struct net_device *lower,
				 void (*destroy)(struct rtnl_port *port))
{
	struct rtnl_drv_mutex *lock;

	if (refcount_dec_not_one(&port->count))
		return;

	lock = rtnl_lower_lock(lower);
	rtnl_drv_lock(lock);

	if (refcount_dec_and_test(&port->count))
		destroy(port);

	rtnl_drv_unlock(lock);
}

#endif
