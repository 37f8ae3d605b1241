/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tunnels whose socket is in another netns.
 *
 * A UDP tunnel can be moved to any netns, while its socket stays in the netns
 * that the tunnel was created for. A per-netns list of the driver names the
 * tunnels whose sockets are there. Dismantle of either netns unregisters the
 * tunnel: through the list, or because the tunnel is in the netns.
 *
 * A struct rtnl_drv_mutex protects the list. A tunnel is removed from the list
 * and queued for unregistration in one critical section, so a tunnel that is
 * not on the list any more is queued. See
 * Documentation/networking/per_netns_rtnl.rst.
 */
#ifndef _NET_RTNL_TUNNEL_H
#define _NET_RTNL_TUNNEL_H

#include <linux/list.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <net/rtnl_drv_mutex.h>

/**
 * rtnl_tunnel_list_add() - add a device to a netns's list
 * @lock: the list's mutex
 * @net: netns of the list
 * @entry: the device's entry
 * @list: the list
 *
 * ->newlink() looks for a conflicting device, registers its own, and adds it to
 * the list. @lock need not be held all the time: every creation holds @net's
 * mutex, so no other device can be added in between.
 *
 * Context: RTNL, @net's mutex and @lock are held.
 */
static inline void rtnl_tunnel_list_add(struct rtnl_drv_mutex *lock,
					struct net *net,
					struct list_head *entry,
					struct list_head *list)
{
	if (IS_ENABLED(CONFIG_NET_SMALL_RTNL))
		ASSERT_RTNL_NET(net);
	rtnl_drv_assert_held(lock);

	list_add(entry, list);
}

/**
 * rtnl_tunnel_list_del() - remove a device from a netns's list
 * @lock: the list's mutex
 * @entry: the device's entry, which may have been removed before
 *
 * Context: RTNL and @lock are held.
 */
static inline void rtnl_tunnel_list_del(struct rtnl_drv_mutex *lock,
					struct list_head *entry)
{
	rtnl_drv_assert_held(lock);
	list_del_init(entry);
}

/**
 * rtnl_tunnel_queue() - queue a device that stays in its table until uninit
 * @lock: the table's mutex
 * @net: netns whose mutex the caller holds
 * @dev: device to unregister
 * @head: the caller's kill list, not NULL
 *
 * For drivers that look packets up in the table, and remove a device from it in
 * ->ndo_uninit(). A device of @net goes on @head, any other on the pending list
 * of its own netns. A device that is queued already stays where it is.
 *
 * Context: RTNL, @net's mutex and @lock are held. May sleep.
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
 * rtnl_tunnel_dellink() - queue a device that stays in its table until uninit
 * @lock: the table's mutex
 * @dev: device to unregister
 * @head: the caller's kill list, not NULL
 *
 * This is what ->dellink() does in the drivers that use rtnl_tunnel_queue(). A
 * device that is pending moves to @head.
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
 * rtnl_tunnel_dellink_list() - remove a device from its list and queue it
 * @lock: the list's mutex
 * @entry: the device's entry
 * @dev: device to unregister
 * @head: the caller's kill list, not NULL
 *
 * This is what ->dellink() does. rtnl_tunnel_exit_list() may have removed and
 * queued @dev before, if one batch dismantles both netns. Then @dev moves from
 * its netns's pending list to @head.
 *
 * Context: RTNL and the mutex of @dev's netns are held. May sleep.
 */
static inline void rtnl_tunnel_dellink_list(struct rtnl_drv_mutex *lock,
					    struct list_head *entry,
					    struct net_device *dev,
					    struct list_head *head)
{
	rtnl_drv_lock(lock);
	rtnl_tunnel_list_del(lock, entry);
	unregister_netdevice_queue(dev, head);
	rtnl_drv_unlock(lock);
}

/**
 * rtnl_tunnel_exit_list() - remove all devices from a list and queue them
 * @lock: the list's mutex
 * @list: the list
 * @net: netns that is dismantled, whose sockets the devices use
 * @pos: pointer to the driver's structure, which has a member dev
 * @member: name of the list entry in that structure
 * @head: the kill list that ->exit_rtnl() was given
 *
 * This is what ->exit_rtnl() does. A device of @net goes on @head, any other on
 * the pending list of its own netns.
 *
 * Context: RTNL and @net's mutex are held. May sleep.
 */
#define rtnl_tunnel_exit_list(lock, list, net, pos, member, head)	\
do {									\
	typeof(pos) _next;						\
									\
	rtnl_drv_lock(lock);						\
	list_for_each_entry_safe(pos, _next, list, member) {		\
		rtnl_tunnel_list_del(lock, &(pos)->member);		\
		unregister_netdevice_queue_net(net, (pos)->dev, head);	\
	}								\
	rtnl_drv_unlock(lock);						\
} while (0)

#endif
