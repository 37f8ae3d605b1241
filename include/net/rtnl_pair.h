/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Devices that come in pairs, such as veth. Each end has a pointer to its peer,
 * and ->dellink() of either end deletes both. The ends can be in different
 * netns: each is unregistered under the mutex of its own.
 *
 * An end's pointer comes with a reference on the peer. The thread that clears
 * the pointer queues this end and puts that reference, but not before it has
 * queued the peer.
 *
 * So a pair is a reference cycle, and only ->dellink() breaks it. A driver must
 * not call unregister_netdevice() for an end that is linked, not even in an
 * error path: use ->dellink() with a list and unregister_netdevice_many().
 */
#ifndef _NET_RTNL_PAIR_H
#define _NET_RTNL_PAIR_H

#include <linux/netdevice.h>

/**
 * struct rtnl_pair - one end's view of the pair, in its private data
 * @peer: the other end, NULL once this end is queued
 * @tracker: reference paired with @peer
 *
 * The helpers find it by calling their argument @pair_of, for either end.
 */
struct rtnl_pair {
	struct net_device __rcu	*peer;
#ifdef CONFIG_NET_SMALL_RTNL
	netdevice_tracker	tracker;
#endif
};

#ifdef CONFIG_NET_SMALL_RTNL
static inline void rtnl_pair_hold(struct rtnl_pair *pair,
				  struct net_device *peer)
{
	netdev_hold(peer, &pair->tracker, GFP_KERNEL);
}

/* Puts the reference on @peer, and with @both that on @dev. Both trackers are
 * copied first, so that no put touches the private data of an end whose last
 * reference may be gone.
 */
static inline void
rtnl_pair_put(struct net_device *dev, struct net_device *peer, bool both,
	      struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	netdevice_tracker tracker = pair_of(dev)->tracker;
	netdevice_tracker peer_tracker = pair_of(peer)->tracker;

	netdev_put(peer, &tracker);
	if (both)
		netdev_put(dev, &peer_tracker);
}
#else
static inline void rtnl_pair_hold(struct rtnl_pair *pair,
				  struct net_device *peer)
{
}

static inline void
rtnl_pair_put(struct net_device *dev, struct net_device *peer, bool both,
	      struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
}
#endif

/**
 * rtnl_pair_link() - make two devices a pair
 * @dev: one end
 * @peer: the other end
 * @pair_of: finds an end's struct rtnl_pair
 *
 * For ->newlink(), once both ends are registered. Should be the last step, as
 * an error path after it has to call ->dellink().
 *
 * Context: RTNL and the mutexes of both ends' netns are held. May sleep.
 */
static inline void
rtnl_pair_link(struct net_device *dev, struct net_device *peer,
	       struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	rtnl_pair_hold(pair_of(dev), peer);
	rtnl_pair_hold(pair_of(peer), dev);
	rcu_assign_pointer(pair_of(dev)->peer, peer);
	rcu_assign_pointer(pair_of(peer)->peer, dev);
}

/**
 * rtnl_pair_dellink() - queue both ends of a pair to be unregistered
 * @dev: end, or device without a peer, of a netns whose mutex the caller holds
 * @head: the caller's kill list, not NULL
 * @pair_of: finds an end's struct rtnl_pair
 *
 * For ->dellink(). @dev is added to @head, and so is its peer if that is in
 * the same netns. Otherwise the peer is pending in its own netns.
 *
 * A grace period passes between this and the end of either device.
 *
 * Context: RTNL and the mutex of @dev's netns are held. Takes the instance
 * lock of each end, one after the other. May sleep.
 */
static inline void
rtnl_pair_dellink(struct net_device *dev, struct list_head *head,
		  struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	struct net *net = dev_net(dev);
	struct net_device *peer;
	bool claimed;

	peer = unregister_netdevice_claim_net(net, dev, &pair_of(dev)->peer,
					      head);
	if (!peer) {
		/* It has no peer, or was queued by ->dellink() of the peer */
		unregister_netdevice_queue(dev, head);
		return;
	}

	claimed = unregister_netdevice_claim_net(net, peer,
						 &pair_of(peer)->peer, head);
	rtnl_pair_put(dev, peer, claimed, pair_of);
}

/**
 * rtnl_pair_dellink_upper() - queue both ends of a pair when the lower device
 *	of one is unregistered
 * @lower: device that is being unregistered
 * @dev: end, or device without a peer, that depends on @lower, in any netns;
 *	not queued
 * @head: kill list, to be unregistered before the caller returns
 * @pair_of: finds an end's struct rtnl_pair
 *
 * This is rtnl_pair_dellink() for the NETDEV_UNREGISTER handler of a driver
 * whose devices come in pairs and are also stacked. See
 * unregister_netdevice_queue_upper().
 *
 * Context: RTNL is held, and the mutex of @lower's netns if the thread that
 * unregisters @lower holds that. Takes the instance lock of each end, one
 * after the other. May sleep.
 */
static inline void
rtnl_pair_dellink_upper(const struct net_device *lower, struct net_device *dev,
			struct list_head *head,
			struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	struct net_device *peer;
	bool claimed;

	peer = unregister_netdevice_claim_upper(lower, dev,
						&pair_of(dev)->peer, head);
	if (!peer) {
		unregister_netdevice_queue_upper(lower, dev, head);
		return;
	}

	claimed = unregister_netdevice_claim_upper(lower, peer,
						   &pair_of(peer)->peer, head);
	rtnl_pair_put(dev, peer, claimed, pair_of);
}

/**
 * rtnl_pair_uninit() - break up a pair of which one end is unregistered alone
 * @dev: device that is being unregistered
 * @pair_of: finds an end's struct rtnl_pair
 *
 * For ->ndo_uninit(). An end that is still linked was unregistered without
 * ->dellink(), a bug, and netdev_run_todo() would wait for ever for the
 * references that the ends have on each other. Warn, and leave the peer alone.
 *
 * Context: RTNL is held.
 */
static inline void
rtnl_pair_uninit(struct net_device *dev,
		 struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	struct net_device *peer;
	bool linked;

	peer = unrcu_pointer(xchg(&pair_of(dev)->peer, RCU_INITIALIZER(NULL)));
	if (likely(!peer))
		return;

	netdev_WARN(dev, "unregistered without its peer %s\n",
		    netdev_name(peer));

	linked = unrcu_pointer(xchg(&pair_of(peer)->peer,
				    RCU_INITIALIZER(NULL)));
	rtnl_pair_put(dev, peer, linked, pair_of);
}

#endif
