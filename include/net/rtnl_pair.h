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
 *
 * The mutex of one end's netns does not cover what both ends share, such as the
 * carrier: rtnl_pair_lock() does.
 */
#ifndef _NET_RTNL_PAIR_H
#define _NET_RTNL_PAIR_H

#include <linux/minmax.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/spinlock.h>

/**
 * struct rtnl_pair - one end's view of the pair, in its private data
 * @peer: the other end, NULL once this end is queued
 * @tracker: reference paired with @peer
 * @lock: the pair's lock if this end has the lower address, else unused
 * @up: this end is open, guarded by the pair's lock
 *
 * The helpers find it by calling their argument @pair_of, for either end.
 */
struct rtnl_pair {
	struct net_device __rcu	*peer;
#ifdef CONFIG_NET_SMALL_RTNL
	netdevice_tracker	tracker;
	spinlock_t		lock;	/* what both ends share, such as @up */
	bool			up;
#endif
};

#ifdef CONFIG_NET_SMALL_RTNL
static inline void rtnl_pair_lock_init(struct rtnl_pair *pair)
{
	spin_lock_init(&pair->lock);
}

/* For a caller in an RCU read-side section, where it has found the peer */
static inline void
__rtnl_pair_lock(const struct net_device *dev, const struct net_device *peer,
		 struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	spin_lock(&pair_of(min(dev, peer))->lock);
}

static inline void
__rtnl_pair_unlock(const struct net_device *dev, const struct net_device *peer,
		   struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	spin_unlock(&pair_of(min(dev, peer))->lock);
}

/**
 * rtnl_pair_lock() - keep the other end of a pair from changing what is shared
 * @dev: one end
 * @pair_of: finds an end's struct rtnl_pair
 *
 * Context: RTNL is held, exclusively or shared together with the mutex of
 * @dev's netns. Acquires a spinlock, inside of all mutexes, and begins an RCU
 * read-side section, in which the peer is not freed.
 *
 * Return: the peer, or NULL if @dev has none. Pass it to rtnl_pair_unlock().
 */
static inline struct net_device *
rtnl_pair_lock(const struct net_device *dev,
	       struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	struct net_device *peer;

	rcu_read_lock();
	peer = rcu_dereference(pair_of(dev)->peer);
	if (peer)
		__rtnl_pair_lock(dev, peer, pair_of);

	return peer;
}

/**
 * rtnl_pair_unlock() - release what rtnl_pair_lock() has acquired
 * @dev: the same end
 * @peer: its peer, or NULL, as returned by rtnl_pair_lock()
 * @pair_of: finds an end's struct rtnl_pair
 *
 * Context: after rtnl_pair_lock().
 */
static inline void
rtnl_pair_unlock(const struct net_device *dev, const struct net_device *peer,
		 struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	if (peer)
		__rtnl_pair_unlock(dev, peer, pair_of);
	rcu_read_unlock();
}

/* The peer of an end of the caller's netns. Another section can clear the
 * pointer, but not free the peer before it has drained this netns.
 */
#define rtnl_pair_peer(dev, pair)					\
	rcu_dereference_rtnl_shared(dev_net(dev), (pair)->peer)

/* Whether the caller may change the peer, and call notifiers for it */
static inline bool rtnl_pair_may_change(const struct net_device *peer)
{
	return rtnl_net_is_guarded(dev_net(peer));
}

/**
 * rtnl_pair_open() - switch the carrier on if both ends are open
 * @dev: end that is being opened
 * @peer: the other end, not NULL
 * @pair_of: finds an end's struct rtnl_pair
 *
 * For ->ndo_open(), after all that can fail. When both ends are opened at the
 * same time, neither has IFF_UP yet: @up is set here instead.
 *
 * Context: as rtnl_pair_lock(). The instance lock of @dev may be held.
 */
static inline void
rtnl_pair_open(struct net_device *dev, struct net_device *peer,
	       struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	/* Another section may have queued the pair since the caller looked */
	peer = rtnl_pair_lock(dev, pair_of);
	if (peer) {
		pair_of(dev)->up = true;
		if (pair_of(peer)->up) {
			netif_carrier_on(dev);
			netif_carrier_on(peer);
		}
	}
	rtnl_pair_unlock(dev, peer, pair_of);
}

/**
 * rtnl_pair_close() - switch the carrier of both ends off
 * @dev: end that is being closed
 * @peer: the other end, or NULL
 * @pair_of: finds an end's struct rtnl_pair
 *
 * For ->ndo_stop(). An end that was never linked has only its own carrier.
 *
 * Context: as rtnl_pair_open().
 */
static inline void
rtnl_pair_close(struct net_device *dev, struct net_device *peer,
		struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	peer = rtnl_pair_lock(dev, pair_of);
	netif_carrier_off(dev);
	if (peer) {
		pair_of(dev)->up = false;
		netif_carrier_off(peer);
	}
	rtnl_pair_unlock(dev, peer, pair_of);
}

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
static inline void rtnl_pair_lock_init(struct rtnl_pair *pair)
{
}

static __always_inline void
__rtnl_pair_lock(const struct net_device *dev, const struct net_device *peer,
		 struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
}

static __always_inline void
__rtnl_pair_unlock(const struct net_device *dev, const struct net_device *peer,
		   struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
}

static __always_inline struct net_device *
rtnl_pair_lock(const struct net_device *dev,
	       struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	return rtnl_dereference(pair_of(dev)->peer);
}

static __always_inline void
rtnl_pair_unlock(const struct net_device *dev, const struct net_device *peer,
		 struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
}

#define rtnl_pair_peer(dev, pair)					\
	((void)(dev), rtnl_dereference((pair)->peer))

static __always_inline void
rtnl_pair_open(struct net_device *dev, struct net_device *peer,
	       struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	if (peer->flags & IFF_UP) {
		netif_carrier_on(dev);
		netif_carrier_on(peer);
	}
}

static __always_inline void
rtnl_pair_close(struct net_device *dev, struct net_device *peer,
		struct rtnl_pair *(*pair_of)(const struct net_device *dev))
{
	netif_carrier_off(dev);
	if (peer)
		netif_carrier_off(peer);
}

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
	rtnl_pair_lock_init(pair_of(dev));
	rtnl_pair_lock_init(pair_of(peer));
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
