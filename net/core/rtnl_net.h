/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _NET_CORE_RTNL_NET_H
#define _NET_CORE_RTNL_NET_H

#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <net/net_namespace.h>
#include <net/rtnetlink.h>

extern struct rtnl_section rtnl_exclusive_section;

/* What a section that reads a device reads besides the device itself */
#define RTNL_GET_CARRIER	BIT(0)	/* its link state, which may be pending */
#define RTNL_GET_LOWER		BIT(1)	/* the devices below it */

/* There is one exclusive section at a time, and any number of shared ones */
#ifdef CONFIG_NET_SMALL_RTNL
static inline struct rtnl_section *rtnl_section(void)
{
	return current->rtnl_section ?: &rtnl_exclusive_section;
}

bool rtnl_gate_open(void);
void rtnl_gate_count(enum rtnl_gate why);
unsigned long rtnl_gate_sum(enum rtnl_gate why);

void rtnl_net_work_func(struct work_struct *work);
void rtnl_net_queue_work(struct net *net);
void rtnl_net_flush_work(struct net *net);
void rtnl_net_work_init(void);
void rtnl_net_leave(void);
void rtnl_net_adopt(void);
bool rtnl_net_has_left(void);

static inline void rtnl_net_preinit(struct net *net)
{
	mutex_init(&net->rtnl_mutex);
	lock_set_cmp_fn(&net->rtnl_mutex, rtnl_net_lock_cmp_fn, NULL);
	INIT_WORK(&net->rtnl_work, rtnl_net_work_func);
	INIT_LIST_HEAD(&net->rtnl_kick_list);
	INIT_LIST_HEAD(&net->rtnl_drain_list);
	INIT_LIST_HEAD(&net->dev_unreg_head);
	spin_lock_init(&net->dev_unreg_lock);
}

/* To be called right after @net's mutex is acquired */
static inline void rtnl_net_acquired(struct net *net)
{
	struct rtnl_section *section = rtnl_section();

	WRITE_ONCE(net->rtnl_owner, current);
	if (!section->nr_nets++)
		section->net = net;
}

/* To be called right before @net's mutex is released */
static inline void rtnl_net_release(struct net *net)
{
	struct rtnl_section *section = rtnl_section();

	section->nr_nets--;
	if (section->net == net)
		section->net = NULL;
	WRITE_ONCE(net->rtnl_owner, NULL);
}

/* Whether this thread holds @net's mutex: mutex_is_locked() is also true if
 * another thread does.
 */
static inline bool rtnl_net_is_mine(const struct net *net)
{
	return READ_ONCE(net->rtnl_owner) == current;
}

/* The netns that trace events name as that on whose behalf a device of @home is
 * queued: @home if this thread holds its mutex, else the first one that it holds.
 */
static inline const struct net *rtnl_net_from(const struct net *home)
{
	return rtnl_net_is_mine(home) ? home : rtnl_section()->net;
}

static inline bool rtnl_net_kicked(const struct rtnl_section *section)
{
	return !list_empty(&section->kick_list);
}

static inline void netdev_unreg_init(struct net_device *dev)
{
	INIT_LIST_HEAD(&dev->unreg_list_net);
}

static inline bool netdev_unreg_pending(const struct net_device *dev)
{
	return !list_empty(&dev->unreg_list_net);
}

/* Whether nothing keeps @net from being freed */
static inline bool netdev_unreg_empty(const struct net *net)
{
	return list_empty(&net->dev_unreg_head) &&
	       list_empty(&net->rtnl_kick_list) &&
	       !atomic_read(&net->dev_reap_count);
}

static inline void net_reap_begin(struct net *net)
{
	atomic_inc(&net->dev_reap_count);
}

static inline void net_reap_done(struct net *net)
{
	if (atomic_dec_and_test(&net->dev_reap_count))
		wake_up(&netdev_unregistering_wq);
}

/* The thread that unregistered a device locks the device's netns again while it
 * waits for references. So dismantle waits for such threads before it frees the
 * netns.
 */
static inline void net_reap_wait(struct net *net)
{
	wait_event(netdev_unregistering_wq, !atomic_read(&net->dev_reap_count));
}

/**
 * net_has_foreign_links() - whether a device is linked to one in another netns
 * @net: netns
 *
 * If not, then a change that travels up and down the links from one device to
 * the next, however far, stays in @net.
 *
 * Context: any. The answer can change unless RTNL is held exclusively, or shared
 * together with @net's mutex.
 *
 * Return: true if a device of @net has an upper or lower device in another netns.
 */
static inline bool net_has_foreign_links(const struct net *net)
{
	return atomic_read(&net->dev_foreign_links);
}

/* A device may live in one netns and belong to another one, such as a tunnel to
 * the netns that its packets are sent in. Both remember that for ever, unless the
 * kind is audited for it: the dismantle of @net unregisters such devices, wherever
 * they are, and a section of the netns that @dev lives in touches @net.
 */
static inline void rtnl_net_set_astray(struct net_device *dev, struct net *net)
{
	const struct rtnl_link_ops *ops = dev->rtnl_link_ops;

	if (net_eq(dev_net(dev), net))
		return;

	if (ops && (ops->rtnl_shared & RTNL_SHARED_LINK) &&
	    !(ops->rtnl_shared & RTNL_SHARED_HOME))
		return;

	WRITE_ONCE(dev->astray, true);
	WRITE_ONCE(net->dev_astray, true);
}

static inline bool rtnl_dev_is_astray(const struct net_device *dev)
{
	return READ_ONCE(dev->astray);
}

void rtnl_net_lock_nest(struct net *net);
int rtnl_net_trylock_shared_work(struct net *net, struct rtnl_section *section);
bool rtnl_net_trylock_dev_shared(struct net_device *dev,
				 struct rtnl_section *section);
int rtnl_net_lock_gate(struct net *net, struct rtnl_section *section,
		       enum rtnl_gate gate, unsigned int state);
void rtnl_net_lock_dev_get(struct net_device *dev,
			   struct rtnl_section *section, unsigned int what);
int rtnl_net_lock_dev_get_interruptible(struct net_device *dev,
					struct rtnl_section *section,
					unsigned int what);
void rtnl_nets_lock_gate(struct net *const *nets, unsigned int n,
			 struct rtnl_section *section, enum rtnl_gate gate);
void rtnl_nets_unlock_shared(struct net *const *nets, unsigned int n,
			     struct rtnl_section *section);
int rtnl_net_cmp_locks(const struct net *net_a, const struct net *net_b);
enum rtnl_gate rtnl_net_exit_gate(struct net *net);
enum rtnl_gate rtnl_kind_gate(const struct net_device *dev);
enum rtnl_gate rtnl_link_gate(struct net_device *dev);
enum rtnl_gate rtnl_dellink_gate(struct net_device *dev);
struct net_device *rtnl_link_peer(const struct net_device *dev);
struct net *rtnl_dellink_net_get(const struct net_device *dev);
enum rtnl_gate rtnl_dev_gate(struct net_device *dev);
enum rtnl_gate rtnl_dev_get_gate(struct net_device *dev, unsigned int what);
void __rtnl_unlock_untraced(void);
void rtnl_net_kick(struct net *net);
bool rtnl_net_may_unregister(const struct net *net, const struct net *home);
void rtnl_net_drain(void);
void netdev_unreg_collect(struct net *net, struct list_head *head);
#else
static inline struct rtnl_section *rtnl_section(void)
{
	return &rtnl_exclusive_section;
}

static inline bool rtnl_gate_open(void)
{
	return false;
}

static inline void rtnl_gate_count(enum rtnl_gate why)
{
}

static inline bool rtnl_net_trylock_dev_shared(struct net_device *dev,
					       struct rtnl_section *section)
{
	return true;
}

static inline void rtnl_net_lock_dev_get(struct net_device *dev,
					 struct rtnl_section *section,
					 unsigned int what)
{
	rtnl_lock();
}

static inline int
rtnl_net_lock_dev_get_interruptible(struct net_device *dev,
				    struct rtnl_section *section,
				    unsigned int what)
{
	return rtnl_lock_interruptible();
}

static inline void rtnl_net_preinit(struct net *net)
{
}

#define __rtnl_unlock_untraced	__rtnl_unlock

static inline void rtnl_net_flush_work(struct net *net)
{
}

static inline void rtnl_net_work_init(void)
{
}

static inline void rtnl_net_leave(void)
{
}

static inline void rtnl_net_adopt(void)
{
}

static inline void netdev_unreg_init(struct net_device *dev)
{
}

static inline bool netdev_unreg_pending(const struct net_device *dev)
{
	return false;
}

static inline bool netdev_unreg_empty(const struct net *net)
{
	return true;
}

static inline void net_reap_begin(struct net *net)
{
}

static inline void net_reap_done(struct net *net)
{
}

static inline void net_reap_wait(struct net *net)
{
}

static inline bool net_has_foreign_links(const struct net *net)
{
	return false;
}

static inline void rtnl_net_set_astray(struct net_device *dev, struct net *net)
{
}

static inline bool rtnl_dev_is_astray(const struct net_device *dev)
{
	return false;
}

static inline int rtnl_net_lock_gate(struct net *net,
				     struct rtnl_section *section,
				     enum rtnl_gate gate, unsigned int state)
{
	return rtnl_lock_killable();
}

static inline void rtnl_nets_lock_gate(struct net *const *nets, unsigned int n,
				       struct rtnl_section *section,
				       enum rtnl_gate gate)
{
	rtnl_lock();
}

static inline void rtnl_nets_unlock_shared(struct net *const *nets,
					   unsigned int n,
					   struct rtnl_section *section)
{
	rtnl_unlock();
}

static inline enum rtnl_gate rtnl_kind_gate(const struct net_device *dev)
{
	return RTNL_GATE_CALLER;
}

static inline enum rtnl_gate rtnl_dev_gate(struct net_device *dev)
{
	return RTNL_GATE_CALLER;
}

static inline enum rtnl_gate rtnl_dev_get_gate(struct net_device *dev,
					       unsigned int what)
{
	return RTNL_GATE_CALLER;
}

static inline void rtnl_net_drain(void)
{
}

static inline void netdev_unreg_unpend(struct net_device *dev)
{
}

static inline void netdev_unreg_move(struct net_device *dev, struct net *net)
{
	dev_net_set(dev, net);
}
#endif

#ifdef CONFIG_DEBUG_NET_SMALL_RTNL
extern bool rtnl_gate_forced;

static inline bool rtnl_gate_is_forced(void)
{
	return READ_ONCE(rtnl_gate_forced);
}

void rtnl_gate_delay(void);
void rtnl_net_check_home(const struct net_device *dev);
#else
static inline bool rtnl_gate_is_forced(void)
{
	return false;
}

static inline void rtnl_gate_delay(void)
{
}

static inline void rtnl_net_check_home(const struct net_device *dev)
{
}
#endif

#endif
