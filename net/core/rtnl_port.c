// SPDX-License-Identifier: GPL-2.0-or-later
/* Ports of lower devices: the part of <net/rtnl_port.h> that is not inline */

#include <linux/export.h>
#include <linux/hash.h>
#include <linux/init.h>
#include <linux/netdevice.h>
#include <net/rtnl_port.h>

#define RTNL_LOWER_LOCK_BITS	4

static struct rtnl_drv_mutex rtnl_lower_locks[1 << RTNL_LOWER_LOCK_BITS];

/**
 * rtnl_lower_lock() - get the mutex to create and destroy a port under
 * @lower: lower device of the port
 *
 * The uppers of a lower device can be in any netns, so no per-netns mutex
 * serialises the first upper with the last one. Nor can the port's own mutex,
 * or the lower's instance lock: some notifiers run with that lock held, and
 * their put may be the last one. All lower devices share a few mutexes. With
 * one of them held, no device is registered or unregistered, and no notifier is
 * called.
 *
 * Context: any.
 *
 * Return: the mutex, which is acquired inside the per-netns mutexes.
 */
struct rtnl_drv_mutex *rtnl_lower_lock(const struct net_device *lower)
{
	return &rtnl_lower_locks[hash_ptr(lower, RTNL_LOWER_LOCK_BITS)];
}
EXPORT_SYMBOL_GPL(rtnl_lower_lock);

/**
 * rtnl_upper_walk_next() - go to the next upper of rtnl_for_each_upper()
 * @walk: state of the walk
 * @lock: mutex that protects the list
 * @subclass: subclass of @lock for lockdep
 * @uppers: the list
 * @member: offset of the list's node in the driver's data
 * @dev: offset of the net_device pointer in the driver's data
 *
 * Context: RTNL is held, @lock is not. May sleep.
 *
 * Return: the next upper, with a reference until the next call, or NULL.
 */
void *rtnl_upper_walk_next(struct rtnl_upper_walk *walk,
			   struct rtnl_drv_mutex *lock, unsigned int subclass,
			   struct list_head *uppers, size_t member, size_t dev)
{
	struct rtnl_upper_walk last = *walk;
	struct list_head *pos = uppers;

	rtnl_drv_lock_nested(lock, subclass);

	/* An upper that is queued is off the list */
	if (last.upper && !unregister_netdevice_queued(last.dev))
		pos = last.upper + member;

	if (list_is_last(pos, uppers)) {
		walk->upper = NULL;
	} else {
		walk->upper = (void *)pos->next - member;
		walk->dev = *(struct net_device **)(walk->upper + dev);
		netdev_hold(walk->dev, &walk->tracker, GFP_KERNEL);
	}

	rtnl_drv_unlock(lock);

	rtnl_upper_walk_stop(&last);

	return walk->upper;
}
EXPORT_SYMBOL_GPL(rtnl_upper_walk_next);

static int __init rtnl_lower_locks_init(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rtnl_lower_locks); i++)
		rtnl_drv_mutex_init(&rtnl_lower_locks[i]);

	return 0;
}
core_initcall(rtnl_lower_locks_init);
