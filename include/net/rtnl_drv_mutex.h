/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A mutex for data that a driver shares between devices of several netns.
 *
 * Examples are the list of tunnels whose socket is in one netns, and the list
 * of devices on top of one lower device.  CONFIG_NET_SMALL_RTNL changes and
 * unregisters each device under the mutex of its own netns, so no single
 * per-netns mutex covers such a list.
 *
 * struct rtnl_drv_mutex is empty without CONFIG_NET_SMALL_RTNL, where RTNL
 * protects the data, and so are the functions below.
 *
 * Lock order: per-netns mutexes, then rtnl_drv_mutex, then device instance
 * locks and dev_unreg_lock.  A device may be queued for unregistration under an
 * rtnl_drv_mutex, but unregister_netdevice_many() must not be called under it:
 * ->ndo_stop(), ->ndo_uninit() and notifiers may take the same mutex.
 */
#ifndef _NET_RTNL_DRV_MUTEX_H
#define _NET_RTNL_DRV_MUTEX_H

#include <linux/mutex.h>

#ifdef CONFIG_NET_SMALL_RTNL
struct rtnl_drv_mutex {
	/* Protects the fields that the embedding structure's comment names */
	struct mutex mutex;
};

/* A macro, so that each caller gets a lockdep class of its own */
#define rtnl_drv_mutex_init(lock)	mutex_init(&(lock)->mutex)

/**
 * rtnl_drv_mutex_destroy() - mark a driver's mutex as unused
 * @lock: mutex that no thread holds
 *
 * Context: any.
 */
static inline void rtnl_drv_mutex_destroy(struct rtnl_drv_mutex *lock)
{
	mutex_destroy(&lock->mutex);
}

/**
 * rtnl_drv_lock() - acquire a driver's mutex
 * @lock: mutex to acquire
 *
 * Context: RTNL or a per-netns mutex is held. May sleep.
 */
static inline void rtnl_drv_lock(struct rtnl_drv_mutex *lock)
{
	mutex_lock(&lock->mutex);
}

/**
 * rtnl_drv_lock_nested() - acquire a driver's mutex inside another of its class
 * @lock: mutex to acquire
 * @subclass: lockdep subclass, such as the level in a stack of devices
 *
 * Context: RTNL or a per-netns mutex is held. May sleep.
 */
static inline void rtnl_drv_lock_nested(struct rtnl_drv_mutex *lock,
					unsigned int subclass)
{
	mutex_lock_nested(&lock->mutex, subclass);
}

/**
 * rtnl_drv_unlock() - release a driver's mutex
 * @lock: mutex that the caller holds
 *
 * Context: process.
 */
static inline void rtnl_drv_unlock(struct rtnl_drv_mutex *lock)
{
	mutex_unlock(&lock->mutex);
}

/**
 * rtnl_drv_assert_held() - assert that the caller holds a driver's mutex
 * @lock: the mutex
 *
 * Functions that read or change the protected data call this first. As long as
 * RTNL is exclusive, a missing rtnl_drv_lock() has no other effect.
 *
 * Context: any.
 */
static inline void rtnl_drv_assert_held(struct rtnl_drv_mutex *lock)
{
	lockdep_assert_held(&lock->mutex);
}
#else
struct rtnl_drv_mutex {
};

static inline void rtnl_drv_mutex_init(struct rtnl_drv_mutex *lock) {}
static inline void rtnl_drv_mutex_destroy(struct rtnl_drv_mutex *lock) {}
static inline void rtnl_drv_lock(struct rtnl_drv_mutex *lock) {}
static inline void rtnl_drv_lock_nested(struct rtnl_drv_mutex *lock,
					unsigned int subclass) {}
static inline void rtnl_drv_unlock(struct rtnl_drv_mutex *lock) {}
static inline void rtnl_drv_assert_held(struct rtnl_drv_mutex *lock) {}
#endif

#endif
