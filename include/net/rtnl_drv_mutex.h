/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A mutex for what a driver shares between devices of several netns, such as
 * the list of tunnels whose socket is in one netns, or of devices on top of
 * one lower device.
 *
 * RTNL alone protects that as long as it is what everybody holds. Under
 * CONFIG_NET_SMALL_RTNL each device is changed and unregistered under the
 * mutex of the netns that it is in, which is not the same one for all of them.
 * Without the option this mutex is nothing: no member, no code.
 *
 * Taken inside the netns's mutexes; device instance locks and dev_unreg_lock
 * are taken inside it. So devices may be queued under it, but not unregistered:
 * their ->ndo_uninit() and notifiers may want it. See
 * Documentation/networking/per_netns_rtnl.rst.
 */
#ifndef _NET_RTNL_DRV_MUTEX_H
#define _NET_RTNL_DRV_MUTEX_H

#include <linux/mutex.h>

#ifdef CONFIG_NET_SMALL_RTNL
struct rtnl_drv_mutex {
	/* Protects what the driver says where it has the structure */
	struct mutex mutex;
};

/* A macro, so that each kind of mutex is a class of its own for lockdep */
#define rtnl_drv_mutex_init(lock)	mutex_init(&(lock)->mutex)

/**
 * rtnl_drv_mutex_destroy() - tell the debug code that a mutex is not used again
 * @lock: mutex that nobody holds
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
 * Context: RTNL, or the mutex of a netns, is held. May sleep.
 */
static inline void rtnl_drv_lock(struct rtnl_drv_mutex *lock)
{
	mutex_lock(&lock->mutex);
}

/**
 * rtnl_drv_lock_nested() - acquire a driver's mutex inside another one like it
 * @lock: mutex to acquire
 * @subclass: for lockdep, such as the level in a stack of devices
 *
 * Context: as rtnl_drv_lock().
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
