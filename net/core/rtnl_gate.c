// SPDX-License-Identifier: GPL-2.0-or-later
/* The gate decides whether sections may hold RTNL shared: a notifier handler
 * that nobody has audited may rely on RTNL alone, so no section that calls it
 * may run beside another one.
 */

#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/percpu.h>
#include <linux/rtnetlink.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "rtnl_net.h"

struct rtnl_gate_handler {
	struct list_head		list;
	const struct notifier_block	*nb;
};

static LIST_HEAD(rtnl_gate_handlers);	/* those that are not audited */
static DEFINE_MUTEX(rtnl_gate_mutex);	/* to change or walk the list */
static DEFINE_PER_CPU(unsigned long[RTNL_GATE_MAX], rtnl_gate_counts);

static const char * const rtnl_gate_names[] = {
	[RTNL_GATE_SHARED]	= "shared",
	[RTNL_GATE_CALLER]	= "caller",
	[RTNL_GATE_HANDLER]	= "handler",
	[RTNL_GATE_KIND]	= "kind",
	[RTNL_GATE_FOREIGN]	= "foreign",
	[RTNL_GATE_REQUEST]	= "request",
};

/**
 * rtnl_gate_open() - whether all registered notifier handlers are audited
 *
 * A section that holds RTNL shared asks before it changes anything. If the gate
 * is closed, it releases RTNL and acquires it exclusively.
 *
 * Context: RTNL is held; no unaudited handler is registered until it is
 * released. Other callers get a hint.
 *
 * Return: true if the caller may go on with RTNL shared.
 */
bool rtnl_gate_open(void)
{
	return list_empty(&rtnl_gate_handlers) || rtnl_gate_is_forced();
}

/**
 * rtnl_gate_count() - count a section
 * @why: why it runs exclusive, or RTNL_GATE_SHARED
 *
 * Context: any.
 */
void rtnl_gate_count(enum rtnl_gate why)
{
	this_cpu_inc(rtnl_gate_counts[why]);
}

/**
 * rtnl_gate_sum() - how many sections were counted for a reason
 * @why: why they ran exclusive, or RTNL_GATE_SHARED
 *
 * Context: any.
 *
 * Return: the number since boot; sections that are counted meanwhile may be
 * missing.
 */
unsigned long rtnl_gate_sum(enum rtnl_gate why)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(rtnl_gate_counts, cpu)[why]);
	return sum;
}

/**
 * rtnl_gate_close() - send all sections exclusive, as a handler is not audited
 * @nb: the handler
 *
 * To be called before @nb is registered. All sections that found the gate open
 * are over when this returns, so none of them calls @nb.
 *
 * Context: neither RTNL nor a per-netns mutex is held. May sleep.
 *
 * Return: 0, or -ENOMEM.
 */
int rtnl_gate_close(const struct notifier_block *nb)
{
	struct rtnl_gate_handler *handler;

	handler = kmalloc_obj(*handler);
	if (!handler)
		return -ENOMEM;
	handler->nb = nb;

	mutex_lock(&rtnl_gate_mutex);
	if (list_empty(&rtnl_gate_handlers))
		pr_info("RTNL: sections run exclusive: %ps is not audited for shared sections\n",
			nb->notifier_call);
	list_add_tail(&handler->list, &rtnl_gate_handlers);
	mutex_unlock(&rtnl_gate_mutex);

	rtnl_lock();
	rtnl_unlock();
	return 0;
}

/**
 * rtnl_gate_reopen() - a handler is no longer registered
 * @nb: the handler, of which rtnl_gate_close() may or may not have been told
 *
 * To be called after @nb is unregistered.
 *
 * Context: may sleep.
 */
void rtnl_gate_reopen(const struct notifier_block *nb)
{
	struct rtnl_gate_handler *handler;

	mutex_lock(&rtnl_gate_mutex);
	list_for_each_entry(handler, &rtnl_gate_handlers, list) {
		if (handler->nb == nb) {
			list_del(&handler->list);
			kfree(handler);
			break;
		}
	}
	mutex_unlock(&rtnl_gate_mutex);
}

static int sections_show(struct seq_file *s, void *unused)
{
	int why;

	BUILD_BUG_ON(ARRAY_SIZE(rtnl_gate_names) != RTNL_GATE_MAX);

	for (why = 0; why < RTNL_GATE_MAX; why++)
		seq_printf(s, "%s %lu\n", rtnl_gate_names[why], rtnl_gate_sum(why));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(sections);

static int handlers_show(struct seq_file *s, void *unused)
{
	struct rtnl_gate_handler *handler;

	mutex_lock(&rtnl_gate_mutex);
	list_for_each_entry(handler, &rtnl_gate_handlers, list)
		seq_printf(s, "%ps\n", handler->nb->notifier_call);
	mutex_unlock(&rtnl_gate_mutex);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(handlers);

#ifdef CONFIG_DEBUG_NET_SMALL_RTNL
/* debugfs: rtnl/force has sections run shared that are not audited, so that the
 * assertions in what they reach name what there is to audit.
 */
bool rtnl_gate_forced;

static u32 rtnl_gate_delay_us;

/**
 * rtnl_gate_delay() - stretch a shared section
 *
 * Sections are short, and two of them hardly ever meet on a machine with few
 * CPUs. debugfs: rtnl/delay_us says for how long each one sleeps after it has
 * acquired its locks.
 *
 * Context: RTNL is held shared. May sleep.
 */
void rtnl_gate_delay(void)
{
	u32 us = READ_ONCE(rtnl_gate_delay_us);

	if (us)
		fsleep(us);
}
#endif

static int __init rtnl_gate_init(void)
{
	struct dentry *dir = debugfs_create_dir("rtnl", NULL);

	debugfs_create_file("sections", 0444, dir, NULL, &sections_fops);
	debugfs_create_file("handlers", 0444, dir, NULL, &handlers_fops);
#ifdef CONFIG_DEBUG_NET_SMALL_RTNL
	debugfs_create_u32("delay_us", 0644, dir, &rtnl_gate_delay_us);
	debugfs_create_bool("force", 0644, dir, &rtnl_gate_forced);
#endif
	return 0;
}

subsys_initcall(rtnl_gate_init);
