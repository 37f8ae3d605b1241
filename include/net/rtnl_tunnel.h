/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Devices that depend on something in another netns, such as tunnels, whose
 * socket is in one netns while they live in any: a list or table of the
 * socket's netns names them, with a mutex of its own. They die with either of
 * the two netns, each under the mutex of its home.
 *
 * Who queues such a device does so under the list's mutex, so that there is one
 * winner. A device is on the list until it is queued or, if it is looked up
 * there by more than the list's owner, until its ->ndo_uninit(). See
 * Documentation/networking/per_netns_rtnl.rst.
 */
#ifndef _NET_RTNL_TUNNEL_H
#define _NET_RTNL_TUNNEL_H

#include <linux/netdevice.h>
#include <net/rtnl_drv_mutex.h>

/**
 * rtnl_tunnel_queue() - queue a device that was found on a list, once
 * @lock: the list's mutex, which the caller holds
 * @net: netns whose mutex the caller holds
 * @dev: device to unregister
 * @head: the caller's kill list, not NULL
 *
 * A device of @net goes on @head, to be unregistered when @lock is released.
 * Any other is left to its own netns. One that is queued already stays where it
 * is: it is on its way, and leaves the list in its ->ndo_uninit().
 *
 * Context: RTNL and @net's mutex are held, and @lock. May sleep.
 */
static inline void rtnl_tunnel_queue(struct rtnl_drv_mutex *lock,
				     struct net *net, struct net_device *dev,
				     struct list_head *head)
{
	rtnl_drv_assert_held(lock);

	if (IS_ENABLED(CONFIG_NET_SMALL_RTNL) &&
	    unregister_netdevice_queued(dev))
		return;

	unregister_netdevice_queue_net(net, dev, head);
}

/**
 * rtnl_tunnel_dellink() - queue a device that is on a list
 * @lock: the list's mutex
 * @dev: device to unregister, of the netns whose mutex the caller holds
 * @head: the caller's kill list, not NULL
 *
 * What ->dellink() does for devices that leave the list in ->ndo_uninit(). If
 * the list's netns was faster, @dev is pending at home, and may as well be
 * unregistered now.
 *
 * Context: RTNL and the mutex of @dev's netns are held. May sleep.
 */
static inline void rtnl_tunnel_dellink(struct rtnl_drv_mutex *lock,
				       struct net_device *dev,
				       struct list_head *head)
{
	rtnl_drv_lock(lock);
	unregister_netdevice_queue(dev, head);
	rtnl_drv_unlock(lock);
}

/**
 * rtnl_tunnel_dellink_list() - take a device off its list and queue it
 * @lock: the list's mutex
 * @entry: @dev on the list, or by itself if it was taken off already
 * @dev: device to unregister, of the netns whose mutex the caller holds
 * @head: the caller's kill list, not NULL
 *
 * What ->dellink() does for devices that leave the list when they are queued.
 *
 * Context: RTNL and the mutex of @dev's netns are held. May sleep.
 */
static inline void rtnl_tunnel_dellink_list(struct rtnl_drv_mutex *lock,
					    struct list_head *entry,
					    struct net_device *dev,
					    struct list_head *head)
{
	rtnl_drv_lock(lock);
	list_del_init(entry);
	unregister_netdevice_queue(dev, head);
	rtnl_drv_unlock(lock);
}

/**
 * rtnl_tunnel_exit_list() - take all devices off a dying netns's list and queue
 *	them
 * @lock: the list's mutex
 * @list: the list
 * @net: dying netns, whose mutex the caller holds
 * @pos: pointer to the driver's structure, with a member dev
 * @member: name of the list's entry in that
 * @head: the kill list that ->exit_rtnl() was given
 *
 * Off the list and queued in one step: whoever finds a device off the list also
 * finds it queued.
 *
 * Context: RTNL and @net's mutex are held. May sleep.
 */
#define rtnl_tunnel_exit_list(lock, list, net, pos, member, head)	\
do {									\
	typeof(pos) _next;						\
									\
	rtnl_drv_lock(lock);						\
	list_for_each_entry_safe(pos, _next, list, member) {		\
		list_del_init(&(pos)->member);				\
		unregister_netdevice_queue_net(net, (pos)->dev, head);	\
	}								\
	rtnl_drv_unlock(lock);						\
} while (0)

#endif
