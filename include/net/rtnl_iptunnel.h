/* SPDX-License-Identifier: GPL-2.0 */
/*
 * IP tunnels are found in a table of the netns of their end points, and live
 * in any netns. A tunnel is changed and deleted under the mutex of the netns
 * that it lives in, so the table has a mutex of its own, held for each use of
 * the table except by readers under RCU.
 *
 * A tunnel stays in the table until its ->ndo_uninit(). Notifiers may need the
 * table's mutex: devices are registered and unregistered without it.
 */
#ifndef _NET_RTNL_IPTUNNEL_H
#define _NET_RTNL_IPTUNNEL_H

#include <linux/if_tunnel.h>
#include <net/rtnl_tunnel.h>

/**
 * struct rtnl_iptunnel - what a tunnel knows about its table
 * @lock: the table's mutex, set before the tunnel is found in the table
 */
struct rtnl_iptunnel {
#ifdef CONFIG_NET_SMALL_RTNL
	struct rtnl_drv_mutex *lock;
#endif
};

#ifdef CONFIG_NET_SMALL_RTNL
static inline void rtnl_iptunnel_set_lock(struct rtnl_iptunnel *table,
					  struct rtnl_drv_mutex *lock)
{
	table->lock = lock;
}

static inline struct rtnl_drv_mutex *
rtnl_iptunnel_lock(const struct rtnl_iptunnel *table)
{
	return table->lock;
}
#else
static inline void rtnl_iptunnel_set_lock(struct rtnl_iptunnel *table,
					  struct rtnl_drv_mutex *lock) {}

static inline struct rtnl_drv_mutex *
rtnl_iptunnel_lock(const struct rtnl_iptunnel *table)
{
	return NULL;
}
#endif

/* register_netdevice(), with the table's mutex released meanwhile */
static inline int rtnl_iptunnel_register(struct rtnl_drv_mutex *lock,
					 struct net_device *dev)
{
	int err;

	rtnl_drv_unlock(lock);
	err = register_netdevice(dev);
	rtnl_drv_lock(lock);

	return err;
}

/**
 * rtnl_iptunnel_lost() - unregister a new tunnel if its place is taken
 * @lock: mutex of the tunnel's table, released to unregister @dev
 * @dev: the tunnel's device, just registered with @lock released
 * @taken: whether another tunnel has got the place meanwhile, not evaluated
 *	without CONFIG_NET_SMALL_RTNL
 *
 * Return: true if @dev was unregistered.
 */
#define rtnl_iptunnel_lost(lock, dev, taken)				\
	(IS_ENABLED(CONFIG_NET_SMALL_RTNL) && (taken) &&		\
	 rtnl_iptunnel_unregister(lock, dev))

static inline bool rtnl_iptunnel_unregister(struct rtnl_drv_mutex *lock,
					    struct net_device *dev)
{
	rtnl_drv_unlock(lock);
	unregister_netdevice(dev);
	rtnl_drv_lock(lock);

	return true;
}

/* netdev_state_change(), with the table's mutex released meanwhile */
static inline void
rtnl_iptunnel_state_change(const struct rtnl_iptunnel *table,
			   struct net_device *dev)
{
	rtnl_drv_unlock(rtnl_iptunnel_lock(table));
	netdev_state_change(dev);
	rtnl_drv_lock(rtnl_iptunnel_lock(table));
}

/**
 * struct rtnl_iptunnel_ctl - ioctl() on a table of tunnels
 * @lock: the table's mutex
 * @dev_net: netns of the device that the ioctl() is called on
 * @net: netns whose mutex is held: @dev_net, or the one to add a tunnel to
 * @kill: devices of @dev_net to unregister
 */
struct rtnl_iptunnel_ctl {
	struct rtnl_drv_mutex *lock;
	struct net *dev_net;
	struct net *net;
	struct list_head kill;
};

/**
 * rtnl_iptunnel_ctl_begin() - acquire what an ioctl() on tunnels needs
 * @ctl: to be initialised
 * @lock: mutex of the table that @cmd works on
 * @dev: device that the ioctl() is called on
 * @net: netns that SIOCADDTUNNEL adds a tunnel to
 * @cmd: the ioctl() command
 *
 * SIOCADDTUNNEL on a tunnel that has moved creates another one in the netns of
 * the end points. The mutexes of two netns have an order, so that of @dev's
 * netns is released first. Then only RTNL keeps @dev; @net is kept by a
 * reference.
 *
 * Context: RTNL and the mutex of @dev's netns are held. Acquires @lock, and
 * exchanges the mutex of @dev's netns for @net's. May sleep.
 *
 * Return: 0, or -ENODEV, with nothing acquired, if @net is being dismantled.
 */
static inline int rtnl_iptunnel_ctl_begin(struct rtnl_iptunnel_ctl *ctl,
					  struct rtnl_drv_mutex *lock,
					  struct net_device *dev,
					  struct net *net, int cmd)
{
	INIT_LIST_HEAD(&ctl->kill);
	ctl->lock = lock;
	ctl->dev_net = dev_net(dev);
	ctl->net = cmd == SIOCADDTUNNEL ? net : ctl->dev_net;

	if (IS_ENABLED(CONFIG_NET_SMALL_RTNL) &&
	    !net_eq(ctl->net, ctl->dev_net)) {
		if (!maybe_get_net(ctl->net))
			return -ENODEV;

		__rtnl_net_unlock(ctl->dev_net);
		__rtnl_net_lock(ctl->net);
	}
	rtnl_drv_lock(lock);

	return 0;
}

/* SIOCDELTUNNEL: the tunnel may have moved to another netns */
static inline void rtnl_iptunnel_delete(struct rtnl_iptunnel_ctl *ctl,
					struct net_device *dev)
{
	rtnl_tunnel_queue(ctl->lock, ctl->dev_net, dev, &ctl->kill);
}

/* Undo rtnl_iptunnel_ctl_begin(), unregister what rtnl_iptunnel_delete() got */
static inline void rtnl_iptunnel_ctl_end(struct rtnl_iptunnel_ctl *ctl)
{
	rtnl_drv_unlock(ctl->lock);
	if (IS_ENABLED(CONFIG_NET_SMALL_RTNL) &&
	    !net_eq(ctl->net, ctl->dev_net)) {
		__rtnl_net_unlock(ctl->net);
		__rtnl_net_lock(ctl->dev_net);
		put_net(ctl->net);
	}
	unregister_netdevice_many(&ctl->kill);
}

/**
 * rtnl_iptunnel_exit() - queue the tunnels in a dismantled netns's table
 * @lock: the table's mutex
 * @net: netns that is being dismantled
 * @local: whether to queue tunnels that live in @net, too
 * @chains: array of pointers to tunnels, each the first of a chain by ->next
 * @nr: number of chains
 * @head: the kill list that ->exit_rtnl() was given
 *
 * Context: RTNL, @net's mutex and @lock are held. May sleep.
 */
#define rtnl_iptunnel_exit(lock, net, local, chains, nr, head)		\
do {									\
	typeof(rtnl_net_dereference(net, *(chains))) _t;		\
	unsigned int _i;						\
									\
	rtnl_drv_assert_held(lock);					\
	for (_i = 0; _i < (nr); _i++)					\
		for (_t = rtnl_net_dereference(net, (chains)[_i]); _t;	\
		     _t = rtnl_net_dereference(net, _t->next))		\
			if ((local) || !net_eq(dev_net(_t->dev), net))	\
				rtnl_tunnel_queue(lock, net, _t->dev, head); \
} while (0)

#endif
