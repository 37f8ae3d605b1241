// SPDX-License-Identifier: GPL-2.0-or-later
/* Unregistering devices under the mutexes of their own netns: a thread makes the
 * devices of other netns pending there, and drains those netns when it releases
 * RTNL. See Documentation/networking/per_netns_rtnl.rst.
 */

#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>
#include <net/rtnetlink.h>

#include "dev.h"
#include "rtnl_net.h"

/* lockdep counts the mutexes of one nest in 11 bits */
#define RTNL_NET_DRAIN_MAX	1024

/**
 * rtnl_net_kick() - have rtnl_unlock() drain a netns
 * @net: netns with pending devices
 *
 * All of them are unregistered and freed when the caller's rtnl_unlock()
 * returns. They keep @net from being freed until then.
 *
 * Context: RTNL is held.
 */
void rtnl_net_kick(struct net *net)
{
	ASSERT_RTNL();

	list_move_tail(&net->rtnl_kick_list, &rtnl_section()->kick_list);
}

/**
 * rtnl_net_may_unregister() - whether a handler may unregister an upper device
 * @net: netns of the lower device, which is unregistered or moved
 * @home: netns of the upper device
 *
 * Context: RTNL is held.
 *
 * Return: true if the caller holds @home's mutex. Also true if it holds no
 * per-netns mutex and @home is @net: such a caller unregisters the lower device
 * under RTNL alone.
 */
bool rtnl_net_may_unregister(const struct net *net, const struct net *home)
{
	ASSERT_RTNL_ANY();

	return rtnl_net_is_mine(home) ||
	       (!rtnl_section()->nr_nets && net_eq(net, home));
}

/* One batch for all kicked netns, so that the number of grace periods does not
 * depend on the number of netns.
 */
static void rtnl_net_drain_batch(struct rtnl_section *section)
{
	LIST_HEAD(dev_kill_list);
	struct net *net, *tmp;
	LIST_HEAD(nets);
	int n = 0;

	list_for_each_entry_safe(net, tmp, &section->kick_list, rtnl_kick_list) {
		list_del_init(&net->rtnl_kick_list);
		list_add_tail(&net->rtnl_drain_list, &nets);
		rtnl_net_lock_nest(net);
		netdev_unreg_collect(net, &dev_kill_list);

		if (++n == RTNL_NET_DRAIN_MAX)
			break;
	}

	unregister_netdevice_many(&dev_kill_list);

	list_for_each_entry_safe(net, tmp, &nets, rtnl_drain_list) {
		list_del_init(&net->rtnl_drain_list);
		__rtnl_net_unlock(net);
	}
}

/**
 * rtnl_net_drain() - unregister all pending devices
 *
 * Unregistering a device may make others pending, which are the next batch: a
 * chain of devices takes as many batches as it is long.
 *
 * Unregistering waits for the device's sysctl and sysfs handlers, for
 * references and for grace periods. Only the thread that kicked a netns may
 * drain it: a thread that merely releases the netns's mutex may be such a
 * handler, and would wait for itself.
 *
 * Context: RTNL is held, no per-netns mutex is. May sleep.
 */
void rtnl_net_drain(void)
{
	struct rtnl_section *section = rtnl_section();

	WARN_ON_ONCE(section->nr_nets);

	while (rtnl_net_kicked(section))
		rtnl_net_drain_batch(section);
}

/* Netns that a thread kicked and could not drain, under RTNL */
static LIST_HEAD(rtnl_net_left);

/**
 * rtnl_net_has_left() - whether pending devices are left to the drain works
 *
 * Only sections that hold RTNL exclusively leave devices pending.
 *
 * Context: RTNL is held.
 *
 * Return: true if rtnl_net_adopt() has something to do.
 */
bool rtnl_net_has_left(void)
{
	return !list_empty(&rtnl_net_left);
}

/* Unbound, so that a work that waits for references delays no other */
static struct workqueue_struct *rtnl_net_wq;

/**
 * rtnl_net_adopt() - drain what other sections left to the drain works
 *
 * For dismantle and module unload, which need that no pending device uses the
 * netns or the module; and for the works, any of which drains all.
 *
 * Context: RTNL is held, no per-netns mutex is. May sleep.
 */
void rtnl_net_adopt(void)
{
	ASSERT_RTNL();

	list_splice_tail_init(&rtnl_net_left, &rtnl_section()->kick_list);
	rtnl_net_drain();
}

/**
 * rtnl_net_queue_work() - have a work drain a netns
 * @net: netns with pending devices
 *
 * A pending device keeps @net from being freed: dismantle drains @net, and then
 * calls rtnl_net_flush_work().
 *
 * Context: any.
 */
void rtnl_net_queue_work(struct net *net)
{
	queue_work(rtnl_net_wq, &net->rtnl_work);
}

/**
 * rtnl_net_leave() - leave the kicked netns of a section to their works
 *
 * Context: RTNL is held, and about to be released without a drain.
 */
void rtnl_net_leave(void)
{
	struct rtnl_section *section = rtnl_section();
	struct net *net;

	list_for_each_entry(net, &section->kick_list, rtnl_kick_list)
		rtnl_net_queue_work(net);
	list_splice_tail_init(&section->kick_list, &rtnl_net_left);
}

/**
 * rtnl_net_work_func() - drain what other sections left
 * @work: rtnl_work of a netns with pending devices
 *
 * Context: process. Acquires RTNL and per-netns mutexes, but not
 * pernet_ops_rwsem: dismantle holds that while it waits for this work.
 */
void rtnl_net_work_func(struct work_struct *work)
{
	rtnl_lock();
	rtnl_net_adopt();
	rtnl_unlock();
}

/**
 * rtnl_net_flush_work() - wait until a netns's drain work has finished
 * @net: netns being dismantled
 *
 * On return, the devices that the work unregistered are freed.
 *
 * Context: neither RTNL nor a per-netns mutex is held. May sleep.
 */
void rtnl_net_flush_work(struct net *net)
{
	flush_work(&net->rtnl_work);
}

/**
 * rtnl_net_work_init() - allocate the workqueue of the drain works
 *
 * Context: boot.
 */
void __init rtnl_net_work_init(void)
{
	rtnl_net_wq = alloc_workqueue("rtnl_net", WQ_UNBOUND, 0);
	if (!rtnl_net_wq)
		panic("rtnetlink_init: cannot allocate the drain workqueue\n");
}

#ifdef CONFIG_DEBUG_NET_SMALL_RTNL
/* Devices that were reported, under RTNL. The name is a copy, as the driver may
 * be unloaded.
 */
struct rtnl_net_kind {
	struct list_head list;
	unsigned short type;
	char name[];
};

static LIST_HEAD(rtnl_net_kinds);

static bool rtnl_net_kind_is_new(const char *name, unsigned short type)
{
	size_t size = strlen(name) + 1;
	struct rtnl_net_kind *kind;

	list_for_each_entry(kind, &rtnl_net_kinds, list)
		if (kind->type == type && !strcmp(kind->name, name))
			return false;

	kind = kmalloc_flex(*kind, name, size);
	if (kind) {
		kind->type = type;
		memcpy(kind->name, name, size);
		list_add(&kind->list, &rtnl_net_kinds);
	}

	return true;
}

/**
 * rtnl_net_check_home() - warn of a device that is unregistered under the mutex
 *	of another netns
 * @dev: device that is being unregistered
 *
 * Warns once for each kind and type of device if the caller holds a per-netns
 * mutex, but not that of @dev's netns. The message names the next driver to
 * convert to unregister_netdevice_queue_net().
 *
 * Context: RTNL is held.
 */
void rtnl_net_check_home(const struct net_device *dev)
{
	const struct rtnl_section *section = rtnl_section();
	const char *kind = rtnl_net_dev_kind(dev);
	const struct net *home = dev_net(dev);

	if (rtnl_net_is_mine(home)) {
		pr_debug("rtnl_net: %s (%s) dies in netns %u under its mutex, in %s[%d]\n",
			 dev->name, kind, home->ns.inum,
			 current->comm, task_pid_nr(current));
		return;
	}

	pr_debug("rtnl_net: %s (%s) dies in netns %u under %s, in %s[%d]\n",
		 dev->name, kind, home->ns.inum,
		 section->nr_nets ? "a foreign mutex" : "RTNL alone",
		 current->comm, task_pid_nr(current));

	if (section->nr_nets && rtnl_net_kind_is_new(kind, dev->type))
		WARN(1, "rtnl_net: foreign unregistration: %s (%s, type %u) of netns %u by a thread holding netns %u\n",
		     dev->name, kind, dev->type, home->ns.inum,
		     section->net ? section->net->ns.inum : 0);
}
#endif
