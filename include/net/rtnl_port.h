/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The port of a lower device, for drivers of devices that are stacked on it.
 *
 * The port holds what all uppers of a lower device share. The uppers can be in
 * any netns, and each is unregistered under the mutex of its own netns. Thus an
 * upper can outlive the unregistration of its lower, and the port needs a mutex
 * and a refcount.
 *
 * A driver embeds struct rtnl_port in its own port. An upper holds a reference
 * from ->ndo_init() to ->ndo_uninit(), and a notifier for the lower holds one
 * while it runs. Ports are created, and destroyed with the last reference,
 * under rtnl_lower_lock(). See Documentation/networking/per_netns_rtnl.rst.
 */
#ifndef _NET_RTNL_PORT_H
#define _NET_RTNL_PORT_H

#include <linux/netdevice.h>
#include <linux/refcount.h>
#include <net/rtnl_drv_mutex.h>

struct rtnl_port {
	refcount_t		count;
	/* Protects the list of uppers and what the driver says beside the port */
	struct rtnl_drv_mutex	lock;
#ifdef CONFIG_NET_SMALL_RTNL
	/* The lower device is unregistered; guarded by @lock */
	bool			dying;
#endif
};

/* In the private data of an upper */
struct rtnl_upper {
#ifdef CONFIG_NET_SMALL_RTNL
	/* The lower device is unregistered, and must not be changed any more */
	bool			orphan;
#endif
};

/* State of a walk along the uppers of a port */
struct rtnl_upper_walk {
	/* The driver's data of the current upper, or NULL */
	void			*upper;
	struct net_device	*dev;
	netdevice_tracker	tracker;
};

/* For a port that is zeroed. A macro, to give each kind of port a lockdep class
 * of its own.
 */
#define rtnl_port_init(port)					\
do {								\
	struct rtnl_port *_port = (port);			\
								\
	refcount_set(&_port->count, 1);				\
	rtnl_drv_mutex_init(&_port->lock);			\
} while (0)

/**
 * rtnl_port_destroy() - destroy a port's mutex
 * @port: port without users
 *
 * Context: any.
 */
static inline void rtnl_port_destroy(struct rtnl_port *port)
{
	rtnl_drv_mutex_destroy(&port->lock);
}

/* Subclass of a port's mutex for lockdep */
static inline unsigned int rtnl_port_subclass(const struct net_device *lower)
{
#ifdef CONFIG_LOCKDEP
	return lower->nested_level;
#else
	return 0;
#endif
}

/**
 * rtnl_port_lock() - acquire a port's mutex
 * @port: the port
 * @lower: its lower device
 *
 * A notifier for an upper can acquire the mutex of a port further up the stack
 * of devices. The level in that stack is the subclass for lockdep.
 *
 * Context: RTNL or a per-netns mutex is held. May sleep.
 */
static inline void rtnl_port_lock(struct rtnl_port *port,
				  const struct net_device *lower)
{
	rtnl_drv_lock_nested(&port->lock, rtnl_port_subclass(lower));
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

#ifdef CONFIG_NET_SMALL_RTNL
struct rtnl_drv_mutex *rtnl_lower_lock(const struct net_device *lower);

void *rtnl_upper_walk_next(struct rtnl_upper_walk *walk,
			   struct rtnl_drv_mutex *lock, unsigned int subclass,
			   struct list_head *uppers, size_t member, size_t dev);

/* For __cleanup() */
static inline void rtnl_upper_walk_stop(struct rtnl_upper_walk *walk)
{
	if (walk->upper)
		netdev_put(walk->dev, &walk->tracker);
}

/**
 * rtnl_port_kill() - refuse new uppers from now on
 * @port: port whose lower is being unregistered
 *
 * Context: @port's mutex is held.
 */
static inline void rtnl_port_kill(struct rtnl_port *port)
{
	rtnl_port_assert_locked(port);
	port->dying = true;
}

/**
 * rtnl_port_dying() - check whether a port refuses new uppers
 * @port: the port
 *
 * The uppers of a dying port are queued already. Nothing would queue a new one,
 * so its reference would keep the lower for ever.
 *
 * Context: @port's mutex is held.
 *
 * Return: true if ->newlink() has to fail with -ENODEV.
 */
static inline bool rtnl_port_dying(struct rtnl_port *port)
{
	rtnl_port_assert_locked(port);
	return port->dying;
}

/**
 * rtnl_upper_orphan() - mark an upper whose lower is unregistered
 * @upper: the upper's state
 *
 * For the NETDEV_UNREGISTER handler of the lower, which then has to remove from
 * the lower what the upper has added to it: the lower is gone when the upper is
 * closed in its own netns.
 *
 * Context: RTNL is held.
 *
 * Return: true if there is something to remove, false if @upper was marked
 * before.
 */
static inline bool rtnl_upper_orphan(struct rtnl_upper *upper)
{
	if (upper->orphan)
		return false;

	WRITE_ONCE(upper->orphan, true);
	return true;
}

/**
 * rtnl_upper_orphaned() - check whether an upper's lower is unregistered
 * @upper: the upper's state
 *
 * Context: any. A lock that the removal from the lower acquires as well, such
 *	as an address lock, makes a result of false stable.
 *
 * Return: true if the upper must not change the lower.
 */
static inline bool rtnl_upper_orphaned(const struct rtnl_upper *upper)
{
	return READ_ONCE(upper->orphan);
}

/**
 * rtnl_port_queued() - check whether an upper is queued for unregistration
 * @port: the port
 * @upper: one of its devices
 *
 * A driver queues an upper and removes it from the port's list in one critical
 * section of the port's mutex. So an upper that is queued is off the list.
 *
 * Context: RTNL and @port's mutex are held.
 *
 * Return: true if @upper is queued, or pending.
 */
static inline bool rtnl_port_queued(struct rtnl_port *port,
				    const struct net_device *upper)
{
	rtnl_port_assert_locked(port);
	return unregister_netdevice_queued(upper);
}
#else
static inline struct rtnl_drv_mutex *
rtnl_lower_lock(const struct net_device *lower)
{
	return NULL;
}

static inline void *
rtnl_upper_walk_next(struct rtnl_upper_walk *walk, struct rtnl_drv_mutex *lock,
		     unsigned int subclass, struct list_head *uppers,
		     size_t member, size_t dev)
{
	struct list_head *pos = walk->upper ? walk->upper + member : uppers;

	walk->upper = list_is_last(pos, uppers) ? NULL :
						  (void *)pos->next - member;
	return walk->upper;
}

static inline void rtnl_upper_walk_stop(struct rtnl_upper_walk *walk) {}
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

/* An upper is closed before its lower is gone */
static inline bool rtnl_upper_orphan(struct rtnl_upper *upper)
{
	return false;
}

static inline bool rtnl_upper_orphaned(const struct rtnl_upper *upper)
{
	return false;
}
#endif

/**
 * rtnl_for_each_upper() - walk along a list of uppers to call notifiers
 * @upper: variable for the driver's data of each upper
 * @netdev: the net_device pointer in that data
 * @lock: mutex that protects the list, a struct rtnl_drv_mutex
 * @subclass: subclass of @lock for lockdep
 * @uppers: the list, evaluated for each step
 * @member: the list's node in the driver's data
 *
 * The body runs without @lock, as notifiers for an upper can lead back to the
 * lower: an upper that drops LRO makes the lower drop it, which notifies the
 * driver. A reference on the upper keeps the position. The walk begins again if
 * the body removed the upper from the list, so an upper may be visited twice.
 * break and return are allowed.
 *
 * Context: RTNL is held, @lock is not. May sleep.
 */
#define rtnl_for_each_upper(upper, netdev, lock, subclass, uppers, member) \
	for (struct rtnl_upper_walk _walk				\
			__cleanup(rtnl_upper_walk_stop) = {};		\
	     ((upper) = rtnl_upper_walk_next(&_walk, lock, subclass, uppers, \
				offsetof(typeof(*(upper)), member),	\
				offsetof(typeof(*(upper)), netdev)));)

/**
 * rtnl_port_for_each_upper() - rtnl_for_each_upper() for a port
 * @upper: variable for the driver's data of each upper, with its @dev
 * @port: port that the caller holds a reference on
 * @lower: its lower device
 * @uppers: the port's list
 * @member: the list's node in the driver's data
 *
 * Context: RTNL is held, @port's mutex is not. May sleep.
 */
#define rtnl_port_for_each_upper(upper, port, lower, uppers, member)	\
	rtnl_for_each_upper(upper, dev, &(port)->lock,			\
			    rtnl_port_subclass(lower), uppers, member)

/**
 * rtnl_port_join() - acquire a reference on a port
 * @port: port that the lower device points to
 *
 * Context: the caller holds rtnl_lower_lock(), where a port has a reference as
 *	long as its lower points to it, or holds a reference already.
 */
static inline void rtnl_port_join(struct rtnl_port *port)
{
	refcount_inc(&port->count);
}

/**
 * rtnl_port_tryhold() - acquire a reference on a port, unless it has none left
 * @port: port found under RCU
 *
 * Context: rcu_read_lock() is held, and ports are freed after a grace period.
 *
 * Return: false if the port is being destroyed.
 */
static inline bool rtnl_port_tryhold(struct rtnl_port *port)
{
	return refcount_inc_not_zero(&port->count);
}

/**
 * rtnl_port_put() - release a reference on a port
 * @port: the port
 * @lower: its lower device
 * @destroy: called for the last reference, under rtnl_lower_lock(), to unhook
 *	the port from @lower, put the reference on @lower and free the port
 *
 * Context: RTNL or a per-netns mutex is held, @port's mutex is not. May sleep.
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
