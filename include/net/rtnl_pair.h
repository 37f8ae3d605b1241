/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Devices that exist in pairs, such as veth: each end keeps a pointer to the
 * other one in its private data, and whoever deletes one deletes both. The ends
 * can be in different netns, and each dies under the mutex of its own.
 *
 * A pointer that is set goes with a reference on the other end. Who clears the
 * pointer of an end queues that end and takes over the reference, so that the
 * other end stays valid until it is claimed, too, even if its own netns is
 * faster. See Documentation/networking/per_netns_rtnl.rst.
 */
#ifndef _NET_RTNL_PAIR_H
#define _NET_RTNL_PAIR_H

#include <linux/netdevice.h>

/* For the reference that goes with a pointer to the other end; beside it in
 * the private data. Without the option RTNL does, and this is nothing.
 */
struct rtnl_pair_ref {
#ifdef CONFIG_NET_SMALL_RTNL
	netdevice_tracker	tracker;
#endif
};

/**
 * rtnl_pair_set() - let a device point to the other end
 * @peer: pointer in the private data of a device
 * @ref: what stands beside it
 * @other: the other end
 *
 * For ->newlink(), once for each end.
 *
 * Context: the mutexes of both ends' netns are held. May sleep.
 */
static inline void rtnl_pair_set(struct net_device __rcu **peer,
				 struct rtnl_pair_ref *ref,
				 struct net_device *other)
{
#ifdef CONFIG_NET_SMALL_RTNL
	netdev_hold(other, &ref->tracker, GFP_KERNEL);
#endif
	rcu_assign_pointer(*peer, other);
}

static inline void rtnl_pair_put(struct rtnl_pair_ref *ref,
				 struct net_device *other)
{
#ifdef CONFIG_NET_SMALL_RTNL
	netdev_put(other, &ref->tracker);
#endif
}

/* What @peer and @ref, in the private data of @dev, are for the other end */
static inline void rtnl_pair_back(const struct net_device *dev,
				  struct net_device __rcu **peer,
				  struct rtnl_pair_ref *ref,
				  const struct net_device *other,
				  struct net_device __rcu ***back,
				  struct rtnl_pair_ref **back_ref)
{
	char *from = netdev_priv(dev), *to = netdev_priv(other);

	*back = (void *)(to + ((char *)peer - from));
	*back_ref = (void *)(to + ((char *)ref - from));
}

/**
 * rtnl_pair_dellink() - delete both ends, each where it lives
 * @dev: the end to delete, of the netns whose mutex the caller holds
 * @peer: pointer to the other end, in the private data of @dev
 * @ref: what stands beside it
 * @head: the caller's kill list, not NULL
 *
 * Both ends are of one driver, so that the other one has its pointer at the
 * same place of its private data.
 *
 * ->dellink() is called from default_device_exit_batch() before a grace period,
 * so that no end is freed for that long.
 *
 * Context: RTNL is held, and the mutex of @dev's netns. May sleep.
 */
static inline void rtnl_pair_dellink(struct net_device *dev,
				     struct net_device __rcu **peer,
				     struct rtnl_pair_ref *ref,
				     struct list_head *head)
{
	struct net *net = dev_net(dev);
	struct rtnl_pair_ref *back_ref;
	struct net_device __rcu **back;
	struct net_device *other;

	other = unregister_netdevice_claim_net(net, dev, peer, head);
	if (!other) {
		/* The other end's deleter queued it, here or to be drained
		 * here
		 */
		unregister_netdevice_queue(dev, head);
		return;
	}

	rtnl_pair_back(dev, peer, ref, other, &back, &back_ref);

	/* The other end's own deleter may have been faster, but then it left
	 * @dev alone, as that is claimed. A tracker is in the private data of
	 * the end that has the pointer: the reference that keeps @dev goes last.
	 */
	if (unregister_netdevice_claim_net(net, other, back, head))
		rtnl_pair_put(back_ref, dev);
	rtnl_pair_put(ref, other);
}

/**
 * rtnl_pair_dellink_upper() - delete both ends as the lower device of one dies
 * @lower: device that is being unregistered
 * @dev: end that cannot live without it, in whichever netns
 * @peer: pointer to the other end, in the private data of @dev
 * @ref: what stands beside it
 * @head: kill list, to be unregistered before the caller returns
 *
 * As rtnl_pair_dellink(), for the handler of NETDEV_UNREGISTER of a driver of
 * pairs that are also stacked; see unregister_netdevice_queue_upper(). An end
 * that is claimed already is left to whoever did that.
 *
 * Context: RTNL is held, and the mutex of @lower's netns if whoever unregisters
 * @lower is converted. The caller has a reference on @dev. May sleep.
 */
static inline void rtnl_pair_dellink_upper(const struct net_device *lower,
					   struct net_device *dev,
					   struct net_device __rcu **peer,
					   struct rtnl_pair_ref *ref,
					   struct list_head *head)
{
	struct rtnl_pair_ref *back_ref;
	struct net_device __rcu **back;
	struct net_device *other;

	other = unregister_netdevice_claim_upper(lower, dev, peer, head);
	if (!other)
		return;

	rtnl_pair_back(dev, peer, ref, other, &back, &back_ref);

	if (unregister_netdevice_claim_upper(lower, other, back, head))
		rtnl_pair_put(back_ref, dev);
	rtnl_pair_put(ref, other);
}

#endif
