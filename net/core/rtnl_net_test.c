// SPDX-License-Identifier: GPL-2.0-or-later
/* KUnit tests of devices that are unregistered under the mutexes of their own
 * netns.
 *
 * Completions and states fix the order of events, never time; a time-out only
 * ends a test that would hang. No assertion is made under a lock, as a failed
 * one would leave it locked.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/if_arp.h>
#include <linux/kthread.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <net/net_namespace.h>
#include <net/netdev_lock.h>
#include <net/rtnetlink.h>

#include "dev.h"
#include "rtnl_net.h"

#define TEST_KIND	"rtnl_net_test"
#define TEST_NETS	10
#define TEST_TIMEOUT	(60 * HZ)

/* A device is one of a pair (peer), or stacked on another device (lower), or a
 * tunnel with its socket in another netns (sock_net), or none of these.
 */
struct test_priv {
	struct list_head	list;
	struct net_device __rcu	*peer;
	netdevice_tracker	peer_tracker;
	struct net_device	*lower;
	netdevice_tracker	lower_tracker;
	bool			lower_put_late;
	struct net		*sock_net;
	bool			queued;
	bool			stays;		/* ->dellink() leaves it queued */
};

static LIST_HEAD(test_devs);		/* under RTNL */
static atomic_t test_devs_nr;		/* not freed yet */
static atomic_t test_nets_nr;		/* not through cleanup_net() yet */
static DECLARE_WAIT_QUEUE_HEAD(test_wq);

#define test_wait(condition)	wait_event_timeout(test_wq, condition, TEST_TIMEOUT)

static struct {
	struct net		*net;		/* whose exit is watched */
	bool			subsys_exit;
	int			reap_count;	/* seen by its subsys ->exit() */
	bool			foreign_left;	/* seen by its device ->exit() */
} test_exit;

/* The most test netns whose mutexes a thread held as it unregistered a device */
static int test_most_held;
static int test_died_away;		/* without their netns's mutex */
static int test_died_pending;
static int test_freed_late;		/* after dismantle may go on */
static struct net *test_net[TEST_NETS];

static void test_uninit(struct net_device *dev)
{
	struct test_priv *priv = netdev_priv(dev);
	int i, n = 0;

	list_del_init(&priv->list);
	if (priv->lower && !priv->lower_put_late)
		netdev_put(priv->lower, &priv->lower_tracker);

	for (i = 0; i < TEST_NETS; i++)
		n += test_net[i] && rtnl_net_is_mine(test_net[i]);
	test_most_held = max(test_most_held, n);
	test_died_away += !rtnl_net_is_mine(dev_net(dev));
	test_died_pending += netdev_unreg_pending(dev);
}

static void test_destructor(struct net_device *dev)
{
	struct test_priv *priv = netdev_priv(dev);

	if (priv->lower && priv->lower_put_late)
		netdev_put(priv->lower, &priv->lower_tracker);

	test_freed_late += !atomic_read(&dev_net(dev)->dev_reap_count);
	atomic_dec(&test_devs_nr);
	wake_up_all(&test_wq);
}

static netdev_tx_t test_xmit(struct sk_buff *skb, struct net_device *dev)
{
	kfree_skb(skb);
	return NETDEV_TX_OK;
}

static const struct net_device_ops test_netdev_ops = {
	.ndo_uninit	= test_uninit,
	.ndo_start_xmit	= test_xmit,
};

static void test_setup(struct net_device *dev)
{
	struct test_priv *priv = netdev_priv(dev);

	INIT_LIST_HEAD(&priv->list);
	dev->netdev_ops = &test_netdev_ops;
	dev->needs_free_netdev = true;
	dev->priv_destructor = test_destructor;
	dev->type = ARPHRD_NONE;
	dev->flags = IFF_NOARP;
	dev->mtu = 1500;
}

static struct net_device *test_claim(struct net *net, struct net_device *dev,
				     struct list_head *head)
{
	struct test_priv *priv = netdev_priv(dev);

	return unregister_netdevice_claim_net(net, dev, &priv->peer, head);
}

static void test_dellink(struct net_device *dev, struct list_head *head)
{
	struct test_priv *priv = netdev_priv(dev);
	struct net *net = dev_net(dev);
	struct net_device *peer;

	if (priv->stays)
		return;

	peer = test_claim(net, dev, head);
	if (!peer) {
		priv->queued = true;
		unregister_netdevice_queue_net(net, dev, head);
		return;
	}

	if (test_claim(net, peer, head))
		netdev_put(dev, &((struct test_priv *)netdev_priv(peer))->peer_tracker);
	netdev_put(peer, &priv->peer_tracker);
}

static struct rtnl_link_ops test_link_ops = {
	.kind		= TEST_KIND,
	.priv_size	= sizeof(struct test_priv),
	.setup		= test_setup,
	.dellink	= test_dellink,
};

/* A lower device takes its upper devices down */
static int test_netdev_event(struct notifier_block *nb, unsigned long event,
			     void *ptr)
{
	struct net_device *dev = netdev_notifier_info_to_dev(ptr);
	struct test_priv *priv;
	LIST_HEAD(list_kill);

	if (event != NETDEV_UNREGISTER || dev->reg_state == NETREG_REGISTERED)
		return NOTIFY_DONE;

	list_for_each_entry(priv, &test_devs, list) {
		if (priv->lower != dev || priv->queued)
			continue;
		priv->queued = true;
		unregister_netdevice_queue_upper(dev, netdev_from_priv(priv),
						 &list_kill);
	}
	unregister_netdevice_many(&list_kill);

	return NOTIFY_DONE;
}

static struct notifier_block test_netdev_nb = {
	.notifier_call = test_netdev_event,
};

static int __net_init test_net_init(struct net *net)
{
	atomic_inc(&test_nets_nr);
	return 0;
}

static void __net_exit test_net_exit_rtnl(struct net *net,
					  struct list_head *head)
{
	struct test_priv *priv;

	list_for_each_entry(priv, &test_devs, list) {
		if (priv->sock_net != net || priv->queued)
			continue;
		priv->queued = true;
		unregister_netdevice_queue_net(net, netdev_from_priv(priv), head);
	}
}

/* A pernet device: runs before the core's own exit */
static void __net_exit test_net_exit(struct net *net)
{
	struct test_priv *priv;

	if (net != test_exit.net)
		return;

	rtnl_lock();
	list_for_each_entry(priv, &test_devs, list)
		test_exit.foreign_left |= priv->sock_net == net;
	rtnl_unlock();
}

static struct pernet_operations test_net_ops = {
	.init		= test_net_init,
	.exit		= test_net_exit,
	.exit_rtnl	= test_net_exit_rtnl,
};

/* A pernet subsystem: runs after the core has unregistered all devices */
static void __net_exit test_net_subsys_exit(struct net *net)
{
	if (net == test_exit.net) {
		test_exit.reap_count = atomic_read(&net->dev_reap_count);
		test_exit.subsys_exit = true;
	}
	atomic_dec(&test_nets_nr);
	wake_up_all(&test_wq);
}

static struct pernet_operations test_net_subsys_ops = {
	.exit		= test_net_subsys_exit,
};

static int test_suite_init(struct kunit_suite *suite)
{
	int err;

	err = register_pernet_subsys(&test_net_subsys_ops);
	if (err)
		return err;

	err = register_pernet_device(&test_net_ops);
	if (err)
		goto err_subsys;

	err = rtnl_link_register(&test_link_ops);
	if (err)
		goto err_device;

	err = register_netdevice_notifier_shared(&test_netdev_nb);
	if (err)
		goto err_link;

	return 0;

err_link:
	rtnl_link_unregister(&test_link_ops);
err_device:
	unregister_pernet_device(&test_net_ops);
err_subsys:
	unregister_pernet_subsys(&test_net_subsys_ops);
	return err;
}

static void test_suite_exit(struct kunit_suite *suite)
{
	unregister_netdevice_notifier(&test_netdev_nb);
	rtnl_link_unregister(&test_link_ops);
	unregister_pernet_device(&test_net_ops);
	unregister_pernet_subsys(&test_net_subsys_ops);
}

static int test_nets_live;

static void test_put_net(int i)
{
	struct net *net = test_net[i];

	if (IS_ERR_OR_NULL(net))
		return;

	put_net(net);
}

/* In ascending order of their addresses, so that test_net[0] is locked first */
static int test_init(struct kunit *test)
{
	int i, j;

	test_nets_live = atomic_read(&test_nets_nr);
	test_most_held = 0;
	test_died_away = 0;
	test_died_pending = 0;
	test_freed_late = 0;
	memset(&test_exit, 0, sizeof(test_exit));

	for (i = 0; i < TEST_NETS; i++) {
		struct net *net;

		net = copy_net_ns(CLONE_NEWNET, &init_user_ns, &init_net);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, net);

		for (j = i; j > 0 && test_net[j - 1] > net; j--)
			test_net[j] = test_net[j - 1];
		test_net[j] = net;
	}

	return 0;
}

static void test_kill_net(int i)
{
	test_put_net(i);
	test_net[i] = NULL;
}

/* Every test ends when its netns are freed, and finds no device left */
static void test_cleanup(struct kunit *test)
{
	int i;

	for (i = 0; i < TEST_NETS; i++)
		test_kill_net(i);

	KUNIT_EXPECT_TRUE(test, test_wait(atomic_read(&test_nets_nr) ==
					  test_nets_live));
	KUNIT_EXPECT_TRUE(test, test_wait(!atomic_read(&test_devs_nr)));
	KUNIT_EXPECT_TRUE(test, list_empty(&test_devs));
	KUNIT_EXPECT_EQ(test, test_died_away, 0);
	KUNIT_EXPECT_EQ(test, test_died_pending, 0);
	KUNIT_EXPECT_EQ(test, test_freed_late, 0);
}

/* The caller holds RTNL, and the mutexes of @net and of those of the others */
static struct net_device *test_add(struct net *net, const char *name,
				   struct net_device *lower)
{
	struct net_device *dev;
	struct test_priv *priv;

	dev = alloc_netdev(sizeof(*priv), name, NET_NAME_ENUM, test_setup);
	if (!dev)
		return NULL;

	dev_net_set(dev, net);
	dev->rtnl_link_ops = &test_link_ops;
	priv = netdev_priv(dev);

	if (register_netdevice(dev)) {
		free_netdev(dev);
		return NULL;
	}

	atomic_inc(&test_devs_nr);
	list_add_tail(&priv->list, &test_devs);

	if (lower) {
		priv->lower = lower;
		netdev_hold(lower, &priv->lower_tracker, GFP_KERNEL);
	}

	return dev;
}

static struct net_device *test_create(struct kunit *test, struct net *net,
				      const char *name,
				      struct net_device *lower)
{
	struct net_device *dev;

	rtnl_net_lock(net);
	dev = test_add(net, name, lower);
	rtnl_net_unlock(net);

	KUNIT_ASSERT_NOT_NULL(test, dev);
	return dev;
}

static void test_pair(struct net_device *a, struct net_device *b)
{
	struct test_priv *pa = netdev_priv(a), *pb = netdev_priv(b);

	rtnl_lock();
	netdev_hold(b, &pa->peer_tracker, GFP_KERNEL);
	netdev_hold(a, &pb->peer_tracker, GFP_KERNEL);
	rcu_assign_pointer(pa->peer, b);
	rcu_assign_pointer(pb->peer, a);
	rtnl_unlock();
}

/* What RTM_DELLINK does */
static void test_delete(struct net *net, const char *name)
{
	struct net_device *dev;
	LIST_HEAD(list_kill);

	rtnl_net_lock(net);
	dev = __dev_get_by_name(net, name);
	if (dev)
		test_dellink(dev, &list_kill);
	unregister_netdevice_many(&list_kill);
	rtnl_net_unlock(net);
}

static bool test_found(struct net *net, const char *name)
{
	bool found;

	rtnl_net_lock(net);
	found = __dev_get_by_name(net, name);
	rtnl_net_unlock(net);

	return found;
}

/* Devices that the caller's rtnl_unlock() has not freed */
static int test_not_freed(void)
{
	return atomic_read(&test_devs_nr);
}

struct test_holder {
	struct net		*net;
	struct completion	held;
	struct completion	release;
	struct completion	done;
};

static int test_holder_fn(void *data)
{
	struct test_holder *holder = data;

	mutex_lock(&holder->net->rtnl_mutex);
	complete(&holder->held);
	wait_for_completion(&holder->release);
	mutex_unlock(&holder->net->rtnl_mutex);
	complete(&holder->done);

	return 0;
}

/* A mutex that another thread holds is not this thread's. RTNL keeps others from
 * calling rtnl_net_lock(), so the other thread acquires the bare mutex.
 */
static void test_owner(struct kunit *test)
{
	struct test_holder holder = { .net = test_net[0] };
	bool others, before, mine, after;
	struct task_struct *task;

	init_completion(&holder.held);
	init_completion(&holder.release);
	init_completion(&holder.done);
	task = kthread_run(test_holder_fn, &holder, "rtnl_net_hold");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);
	wait_for_completion(&holder.held);

	rtnl_lock();
	others = rtnl_net_is_locked(test_net[0]);
	__rtnl_net_lock(test_net[1]);
	before = rtnl_net_is_locked(test_net[0]);
	mine = rtnl_net_is_locked(test_net[1]);
	__rtnl_net_unlock(test_net[1]);
	after = rtnl_net_is_locked(test_net[1]);
	rtnl_unlock();

	complete(&holder.release);
	wait_for_completion(&holder.done);

	KUNIT_EXPECT_FALSE(test, others);
	KUNIT_EXPECT_FALSE(test, before);
	KUNIT_EXPECT_TRUE(test, mine);
	KUNIT_EXPECT_FALSE(test, after);
}

static void test_home(struct kunit *test)
{
	struct net *a = test_net[0];
	bool queued, pending;
	struct net_device *dev;
	LIST_HEAD(list_kill);

	dev = test_create(test, a, "a0", NULL);

	rtnl_net_lock(a);
	unregister_netdevice_queue_net(a, dev, &list_kill);
	queued = list_is_singular(&list_kill) &&
		 list_first_entry(&list_kill, struct net_device,
				  unreg_list) == dev;
	pending = !list_empty(&a->dev_unreg_head);
	unregister_netdevice_many(&list_kill);
	rtnl_net_unlock(a);

	KUNIT_EXPECT_TRUE(test, queued);
	KUNIT_EXPECT_FALSE(test, pending);
	KUNIT_EXPECT_FALSE(test, test_found(a, "a0"));
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

static void test_home_now(struct kunit *test)
{
	struct net *a = test_net[0];
	struct net_device *dev;
	bool found;

	dev = test_create(test, a, "a0", NULL);

	rtnl_net_lock(a);
	unregister_netdevice_queue_net(a, dev, NULL);
	found = __dev_get_by_name(a, "a0");
	rtnl_net_unlock(a);

	KUNIT_EXPECT_FALSE(test, found);
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

static void test_foreign(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	bool on_head, pending, found, registered;
	struct net_device *dev;
	LIST_HEAD(list_kill);

	dev = test_create(test, b, "b0", NULL);

	rtnl_net_lock(a);
	unregister_netdevice_queue_net(a, dev, &list_kill);
	on_head = !list_empty(&list_kill);
	pending = list_first_entry_or_null(&b->dev_unreg_head,
					   struct net_device,
					   unreg_list_net) == dev;
	unregister_netdevice_many(&list_kill);
	found = __dev_get_by_name(b, "b0");
	registered = dev->reg_state == NETREG_REGISTERED;
	rtnl_net_unlock(a);

	KUNIT_EXPECT_FALSE(test, on_head);
	KUNIT_EXPECT_TRUE(test, pending);
	KUNIT_EXPECT_TRUE(test, found);
	KUNIT_EXPECT_TRUE(test, registered);
	/* rtnl_net_unlock() drained, and freed */
	KUNIT_EXPECT_FALSE(test, test_found(b, "b0"));
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* A thread that holds the mutex may unregister a pending device itself */
static void test_foreign_then_home(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct net_device *dev;
	LIST_HEAD(list_kill);
	bool left;

	dev = test_create(test, b, "b0", NULL);

	rtnl_lock();
	__rtnl_net_lock(a);
	unregister_netdevice_queue_net(a, dev, &list_kill);
	__rtnl_net_unlock(a);

	__rtnl_net_lock(b);
	unregister_netdevice_queue_net(b, dev, &list_kill);
	left = !list_empty(&b->dev_unreg_head);
	unregister_netdevice_many(&list_kill);
	__rtnl_net_unlock(b);
	rtnl_unlock();

	KUNIT_EXPECT_FALSE(test, left);
	KUNIT_EXPECT_FALSE(test, test_found(b, "b0"));
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

static void test_many(struct kunit *test)
{
	bool on_head[3] = {}, pending[3];
	struct net_device *dev;
	LIST_HEAD(list_kill);
	int i;

	for (i = 0; i < 3; i++)
		test_create(test, test_net[i], "d0", NULL);

	rtnl_lock();
	for (i = 0; i < 3; i++)
		unregister_netdevice_queue(__dev_get_by_name(test_net[i], "d0"),
					   &list_kill);

	__rtnl_net_lock(test_net[1]);
	unregister_netdevice_queue_many_net(test_net[1], &list_kill);
	for (i = 0; i < 3; i++) {
		list_for_each_entry(dev, &list_kill, unreg_list)
			on_head[i] |= net_eq(dev_net(dev), test_net[i]);
		pending[i] = !list_empty(&test_net[i]->dev_unreg_head);
	}
	unregister_netdevice_many(&list_kill);
	__rtnl_net_unlock(test_net[1]);
	rtnl_unlock();

	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_EQ(test, on_head[i], i == 1);
		KUNIT_EXPECT_EQ(test, pending[i], i != 1);
	}
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

static void test_double(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct net_device *dev;
	LIST_HEAD(list_kill);
	int warnings = 0;
	bool once;

	dev = test_create(test, b, "b0", NULL);

	rtnl_net_lock(a);
	unregister_netdevice_queue_net(a, dev, &list_kill);
	kunit_warning_suppress(test) {
		unregister_netdevice_queue_net(a, dev, &list_kill);
		warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
	once = list_is_singular(&b->dev_unreg_head) && list_empty(&list_kill);
	rtnl_net_unlock(a);

	KUNIT_EXPECT_EQ(test, warnings, 1);
	KUNIT_EXPECT_TRUE(test, once);
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* A device that is on a kill list does not become pending as well. With
 * CONFIG_DEBUG_LIST, test_double alone would not tell.
 */
static void test_double_queued(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct net_device *dev;
	LIST_HEAD(list_kill);
	bool pending;

	dev = test_create(test, b, "b0", NULL);

	rtnl_lock();
	__rtnl_net_lock(b);
	unregister_netdevice_queue_net(b, dev, &list_kill);
	__rtnl_net_unlock(b);

	__rtnl_net_lock(a);
	kunit_warning_suppress(test)
		unregister_netdevice_queue_net(a, dev, &list_kill);
	__rtnl_net_unlock(a);
	pending = netdev_unreg_pending(dev);
	list_del_init(&dev->unreg_list_net);

	__rtnl_net_lock(b);
	unregister_netdevice_many(&list_kill);
	__rtnl_net_unlock(b);
	rtnl_unlock();

	KUNIT_EXPECT_FALSE(test, pending);
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

static void test_claim_once(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct net_device *dev_a, *dev_b, *first, *second;
	bool once;
	LIST_HEAD(list_kill);

	dev_a = test_create(test, a, "a0", NULL);
	dev_b = test_create(test, b, "b0", NULL);
	test_pair(dev_a, dev_b);

	rtnl_net_lock(a);
	first = test_claim(a, dev_b, &list_kill);
	second = test_claim(a, dev_b, &list_kill);
	once = list_is_singular(&b->dev_unreg_head) && list_empty(&list_kill);
	/* So that a failure is no hang */
	if (second)
		RCU_INIT_POINTER(((struct test_priv *)netdev_priv(dev_b))->peer,
				 NULL);
	/* The thread that claimed b0 has b0's reference on a0 */
	netdev_put(dev_a, &((struct test_priv *)netdev_priv(dev_b))->peer_tracker);
	/* Deleting a0 leaves b0 alone */
	test_dellink(dev_a, &list_kill);
	unregister_netdevice_many(&list_kill);
	rtnl_net_unlock(a);

	KUNIT_EXPECT_PTR_EQ(test, first, dev_a);
	KUNIT_EXPECT_NULL(test, second);
	KUNIT_EXPECT_TRUE(test, once);
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* A stack with a device in each netns. Deleting the lowest device deletes all,
 * and each handler kicks the next netns.
 */
struct test_chain {
	const char	*name;
	int		len;
	bool		put_late;	/* put by the destructor, as macvlan does */
	bool		backwards;	/* against the order of the mutexes */
};

static const struct test_chain test_chains[] = {
	{ "2 netns", 2 },
	{ "2 netns, against the lock order", 2, .backwards = true },
	{ "2 netns, reference put by the destructor", 2, .put_late = true },
	{ "3 netns", 3 },
	{ "3 netns, against the lock order", 3, .backwards = true },
	{ "3 netns, reference put by the destructor", 3, .put_late = true },
	{ "10 netns", 10 },
	{ "10 netns, against the lock order", 10, .backwards = true },
	{ "10 netns, reference put by the destructor", 10, .put_late = true },
};

KUNIT_ARRAY_PARAM_DESC(test_chain, test_chains, name);

static struct net *test_chain_net(const struct test_chain *chain, int i)
{
	return test_net[chain->backwards ? chain->len - 1 - i : i];
}

static void test_chain_create(struct kunit *test,
			      const struct test_chain *chain)
{
	struct net_device *dev = NULL;
	int i;

	for (i = 0; i < chain->len; i++) {
		struct test_priv *priv;

		dev = test_create(test, test_chain_net(chain, i), "c0", dev);
		priv = netdev_priv(dev);
		priv->lower_put_late = chain->put_late;
	}
}

static void test_chain(struct kunit *test)
{
	const struct test_chain *chain = test->param_value;
	int i;

	test_chain_create(test, chain);
	test_delete(test_chain_net(chain, 0), "c0");

	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
	for (i = 0; i < chain->len; i++)
		KUNIT_EXPECT_FALSE(test, test_found(test_net[i], "c0"));
}

/* One batch for all netns, however many lose a device */
static void test_batch(struct kunit *test)
{
	struct net_device *lower;
	int i;

	lower = test_create(test, test_net[0], "c0", NULL);
	for (i = 1; i < TEST_NETS; i++)
		test_create(test, test_net[i], "c0", lower);
	test_delete(test_net[0], "c0");

	KUNIT_EXPECT_EQ(test, test_most_held, TEST_NETS - 1);
	KUNIT_EXPECT_EQ(test, test_died_away, 0);
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* A handler makes a device pending; rtnl_unlock() unregisters it */
static void test_nested(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct net_device *lower;
	bool lower_gone, upper_found, pending;
	LIST_HEAD(list_kill);

	lower = test_create(test, a, "c0", NULL);
	test_create(test, b, "c0", lower);

	rtnl_net_lock(a);
	test_dellink(lower, &list_kill);
	unregister_netdevice_many(&list_kill);
	lower_gone = !__dev_get_by_name(a, "c0");
	upper_found = __dev_get_by_name(b, "c0");
	pending = !list_empty(&b->dev_unreg_head);
	rtnl_net_unlock(a);

	KUNIT_EXPECT_TRUE(test, lower_gone);
	KUNIT_EXPECT_TRUE(test, upper_found);
	KUNIT_EXPECT_TRUE(test, pending);
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* A caller with RTNL alone, as a driver's remove function */
static void test_plain_rtnl(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct net_device *dev_a, *dev_b;
	LIST_HEAD(list_kill);

	dev_a = test_create(test, a, "a0", NULL);
	dev_b = test_create(test, b, "b0", NULL);

	rtnl_lock();
	unregister_netdevice_queue(dev_a, &list_kill);
	unregister_netdevice_queue(dev_b, &list_kill);
	unregister_netdevice_queue_many_net(NULL, &list_kill);
	rtnl_unlock();

	KUNIT_EXPECT_TRUE(test, list_empty(&list_kill));
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* A caller that frees what the devices use after they are unregistered */
static void test_plain_home(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1], *c = test_net[2];
	struct net_device *dev_a, *dev_b, *dev_c;
	LIST_HEAD(list_kill);
	bool found, away;

	dev_a = test_create(test, a, "a0", NULL);
	dev_b = test_create(test, b, "b0", NULL);
	dev_c = test_create(test, c, "c0", NULL);
	test_create(test, c, "d0", dev_b);

	rtnl_lock();
	unregister_netdevice_queue(dev_a, &list_kill);
	unregister_netdevice_queue(dev_b, &list_kill);
	unregister_netdevice_many_home(&list_kill);
	unregister_netdevice_home(dev_c);
	found = __dev_get_by_name(a, "a0") || __dev_get_by_name(b, "b0") ||
		__dev_get_by_name(c, "c0") || __dev_get_by_name(c, "d0");
	away = test_died_away;
	rtnl_unlock();

	KUNIT_EXPECT_FALSE(test, found);
	KUNIT_EXPECT_FALSE(test, away);
	KUNIT_EXPECT_TRUE(test, list_empty(&list_kill));
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* A caller that knows its device, and not the netns of it */
static void test_lock_dev(struct kunit *test)
{
	struct net *b = test_net[1];
	struct net_device *dev;
	bool locked, away;

	dev = test_create(test, b, "b0", NULL);

	rtnl_net_lock_dev(dev);
	locked = rtnl_net_is_locked(b);
	unregister_netdevice(dev);
	away = test_died_away;
	rtnl_net_unlock_dev(dev);

	KUNIT_EXPECT_TRUE(test, locked);
	KUNIT_EXPECT_FALSE(test, away);
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

struct test_locker {
	struct net_device	*dev;
	struct net		*from;
	struct net		*to;
	bool			locked;
	struct completion	done;
};

static int test_locker_fn(void *data)
{
	struct test_locker *locker = data;

	rtnl_net_lock_dev(locker->dev);
	locker->locked = rtnl_net_is_locked(locker->to);
	if (locker->locked)
		rtnl_net_unlock_dev(locker->dev);
	else
		rtnl_net_unlock(locker->from);
	complete(&locker->done);

	return 0;
}

static bool test_wait_blocked(struct task_struct *task)
{
	unsigned long end = jiffies + TEST_TIMEOUT;

	while (!(READ_ONCE(task->__state) & TASK_UNINTERRUPTIBLE)) {
		if (time_after(jiffies, end))
			return false;
		schedule_timeout_uninterruptible(1);
	}

	return true;
}

/* The device moves while a thread that wants it waits for RTNL */
static void test_lock_dev_moves(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct test_locker locker = { .from = a, .to = b };
	struct task_struct *task;
	bool blocked = false;
	int err;

	locker.dev = test_create(test, a, "a0", NULL);
	init_completion(&locker.done);

	rtnl_lock();
	task = kthread_create(test_locker_fn, &locker, "rtnl_net_locker");
	if (!IS_ERR(task)) {
		/* A new thread sleeps in the same way */
		wake_up_process(task);
		blocked = test_wait_blocked(task);
	}
	__rtnl_net_lock(a);
	__rtnl_net_lock(b);
	err = dev_change_net_namespace(locker.dev, b, NULL);
	__rtnl_net_unlock(b);
	__rtnl_net_unlock(a);
	rtnl_unlock();

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);
	wait_for_completion(&locker.done);

	KUNIT_EXPECT_TRUE(test, blocked);
	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_TRUE(test, locker.locked);
}

/* A thread with RTNL alone unregisters the uppers of the lower's netns with the
 * lower, and leaves the others to rtnl_unlock().
 */
static void test_plain_upper(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct net_device *lower;
	bool here, away;

	lower = test_create(test, a, "c0", NULL);
	test_create(test, a, "u0", lower);
	test_create(test, b, "u0", lower);

	rtnl_lock();
	unregister_netdevice(lower);
	here = __dev_get_by_name(a, "u0");
	away = __dev_get_by_name(b, "u0");
	/* Both devices of a */
	test_died_away -= 2;
	rtnl_unlock();

	KUNIT_EXPECT_FALSE(test, here);
	KUNIT_EXPECT_TRUE(test, away);
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* A thread that deletes a device, to be watched while it waits */
struct test_deleter {
	struct net		*net;
	const char		*name;
	struct completion	go;
	struct completion	done;
};

static int test_deleter_fn(void *data)
{
	struct test_deleter *del = data;

	wait_for_completion(&del->go);
	test_delete(del->net, del->name);
	complete(&del->done);

	return 0;
}

static void test_deleter_start(struct kunit *test, struct test_deleter *del,
			       struct net *net, const char *name)
{
	struct task_struct *task;

	del->net = net;
	del->name = name;
	init_completion(&del->go);
	init_completion(&del->done);

	task = kthread_run(test_deleter_fn, del, "rtnl_net_del");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);
}

/* The caller holds a reference on @dev, so the thread that deletes it waits */
static bool test_wait_reaping(struct net_device *dev)
{
	unsigned long end = jiffies + TEST_TIMEOUT;

	while (READ_ONCE(dev->reg_state) != NETREG_UNREGISTERED) {
		if (time_after(jiffies, end))
			return false;
		schedule_timeout_uninterruptible(1);
	}

	return true;
}

static bool test_wait_for(struct completion *done)
{
	return wait_for_completion_timeout(done, TEST_TIMEOUT);
}

/* When a thread waits for the references of a lower device, the upper device,
 * which may hold one, has been drained.
 */
static void test_drain_before_reap(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct test_deleter del;
	struct net_device *lower;
	bool reaping, drained;

	lower = test_create(test, a, "c0", NULL);
	test_create(test, b, "c0", lower);
	dev_hold(lower);
	/* It would drain what the thread leaves */
	disable_work_sync(&b->rtnl_work);

	test_deleter_start(test, &del, a, "c0");
	complete(&del.go);

	reaping = test_wait_reaping(lower);
	drained = list_empty(&b->dev_unreg_head);

	enable_work(&b->rtnl_work);
	rtnl_net_queue_work(b);
	dev_put(lower);
	KUNIT_EXPECT_TRUE(test, test_wait_for(&del.done));
	KUNIT_EXPECT_TRUE(test, reaping);
	KUNIT_EXPECT_TRUE(test, drained);
}

/* Both devices of a pair are deleted at once, and each of them first */
static void test_both_ends(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct test_deleter del[2];
	int i;

	for (i = 0; i < 20; i++) {
		test_pair(test_create(test, a, "p0", NULL),
			  test_create(test, b, "p0", NULL));

		rtnl_lock();
		test_deleter_start(test, &del[0], a, "p0");
		test_deleter_start(test, &del[1], b, "p0");
		complete(&del[i & 1].go);
		complete(&del[!(i & 1)].go);
		rtnl_unlock();

		KUNIT_ASSERT_TRUE(test, test_wait_for(&del[0].done));
		KUNIT_ASSERT_TRUE(test, test_wait_for(&del[1].done));
		KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
	}
}

/* Upper devices are created after their lower device was announced dead, in its
 * netns and in another one. The thread that waits for the lower device announces
 * it again, and waits for the upper devices, too.
 */
static void test_rebroadcast(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct net_device *lower;
	struct test_deleter del;
	bool reaping;

	lower = test_create(test, a, "c0", NULL);
	dev_hold(lower);

	test_deleter_start(test, &del, a, "c0");
	complete(&del.go);
	reaping = test_wait_reaping(lower);

	test_create(test, a, "c1", lower);
	test_create(test, b, "c0", lower);
	dev_put(lower);
	KUNIT_EXPECT_TRUE(test, test_wait_for(&del.done));
	KUNIT_EXPECT_TRUE(test, reaping);

	KUNIT_EXPECT_FALSE(test, test_found(a, "c1"));
	KUNIT_EXPECT_FALSE(test, test_found(b, "c0"));
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* A netns is not freed while another thread waits for one of its devices */
static void test_exit_waits_for_reaper(struct kunit *test)
{
	unsigned long end = jiffies + TEST_TIMEOUT;
	struct test_deleter del;
	struct net_device *dev;
	bool reaping, waits;

	dev = test_create(test, test_net[1], "b0", NULL);
	dev_hold(dev);
	test_exit.net = test_net[1];

	test_deleter_start(test, &del, test_net[1], "b0");
	complete(&del.go);
	reaping = test_wait_reaping(dev);

	test_kill_net(1);
	while (!READ_ONCE(test_exit.subsys_exit) &&
	       !wq_has_sleeper(&netdev_unregistering_wq) &&
	       time_before(jiffies, end))
		schedule_timeout_uninterruptible(1);
	waits = !READ_ONCE(test_exit.subsys_exit);

	dev_put(dev);
	KUNIT_EXPECT_TRUE(test, test_wait_for(&del.done));
	KUNIT_EXPECT_TRUE(test, test_wait(READ_ONCE(test_exit.subsys_exit)));

	KUNIT_EXPECT_TRUE(test, reaping);
	KUNIT_EXPECT_TRUE(test, waits);
	KUNIT_EXPECT_EQ(test, test_exit.reap_count, 0);
}

/* The work of @b, which was disabled, drains what was left to it */
static void test_left_end(struct net *b)
{
	enable_work(&b->rtnl_work);
	rtnl_net_queue_work(b);
	rtnl_net_flush_work(b);
}

/* ->exit() of a pernet device, which runs before that of the core, finds no
 * device that uses the netns. No work may help dismantle.
 */
static void test_exit_after_tunnels(struct kunit *test)
{
	struct test_priv *priv;
	int i;

	for (i = 0; i < TEST_NETS; i++) {
		priv = netdev_priv(test_create(test, test_net[i], "t0", NULL));
		priv->sock_net = test_net[0];
		disable_work_sync(&test_net[i]->rtnl_work);
	}

	test_exit.net = test_net[0];
	test_kill_net(0);
	KUNIT_EXPECT_TRUE(test, test_wait(READ_ONCE(test_exit.subsys_exit)));

	for (i = 1; i < TEST_NETS; i++)
		test_left_end(test_net[i]);

	KUNIT_EXPECT_FALSE(test, test_exit.foreign_left);
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* cleanup_net() waits for pernet_ops_rwsem with one netns, while the others queue
 * up for its next batch. Each device has its peer in the next netns, and an upper
 * device in the one after that. All are unregistered in one batch.
 */
static void test_exit_batch(struct kunit *test)
{
	struct net_device *dev[TEST_NETS];
	unsigned long end = jiffies + TEST_TIMEOUT;
	struct task_struct *task;
	int i;

	for (i = 1; i < TEST_NETS; i++)
		dev[i] = test_create(test, test_net[i], "p0", NULL);
	for (i = 1; i + 1 < TEST_NETS; i += 2)
		test_pair(dev[i], dev[i + 1]);
	for (i = 1; i + 2 < TEST_NETS; i++)
		test_create(test, test_net[i + 2], "u0", dev[i]);

	down_write(&pernet_ops_rwsem);
	test_kill_net(0);
	do {
		schedule_timeout_uninterruptible(1);
		task = READ_ONCE(cleanup_net_task);
	} while ((!task || !(READ_ONCE(task->__state) & TASK_UNINTERRUPTIBLE)) &&
		 time_before(jiffies, end));
	/* test_uninit() looks at test_net[], so they stay there */
	for (i = 1; i < TEST_NETS; i++)
		test_put_net(i);
	up_write(&pernet_ops_rwsem);

	KUNIT_EXPECT_TRUE(test, test_wait(atomic_read(&test_nets_nr) ==
					  test_nets_live));
	memset(test_net, 0, sizeof(test_net));

	KUNIT_EXPECT_EQ(test, test_most_held, TEST_NETS - 1);
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* The text of a module is freed after all of its devices */
static void test_link_unregister(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct net_device *dev_b;
	int left;

	dev_b = test_create(test, b, "p0", NULL);
	test_pair(test_create(test, a, "p0", NULL), dev_b);
	test_create(test, test_net[2], "u0", dev_b);

	rtnl_link_unregister(&test_link_ops);
	left = test_not_freed();

	KUNIT_EXPECT_EQ(test, left, 0);
	KUNIT_EXPECT_EQ(test, test_died_away, 0);
	KUNIT_EXPECT_EQ(test, rtnl_link_register(&test_link_ops), 0);
}

/* A thread that releases the mutex, or RTNL, drains only what it kicked */
static void test_bystander(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	bool after_mutex, after_rtnl;
	struct net_device *dev;
	LIST_HEAD(list_kill);

	dev = test_create(test, b, "b0", NULL);
	disable_work_sync(&b->rtnl_work);

	rtnl_lock();
	__rtnl_net_lock(a);
	unregister_netdevice_queue_net(a, dev, &list_kill);
	__rtnl_net_unlock(a);
	__rtnl_net_lock(b);
	__rtnl_net_unlock(b);
	after_mutex = !list_empty(&b->dev_unreg_head);
	/* Leaves b to its work */
	__rtnl_unlock();

	/* From here on this thread kicks nothing */
	rtnl_net_lock(b);
	rtnl_net_unlock(b);
	after_rtnl = !list_empty(&b->dev_unreg_head);

	enable_work(&b->rtnl_work);
	rtnl_net_queue_work(b);
	rtnl_net_flush_work(b);

	KUNIT_EXPECT_TRUE(test, after_mutex);
	KUNIT_EXPECT_TRUE(test, after_rtnl);
	KUNIT_EXPECT_FALSE(test, test_found(b, "b0"));
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* The work drains what __rtnl_unlock() leaves */
static void test_left_to_work(struct kunit *test)
{
	struct net *a = test_net[0], *b = test_net[1];
	struct net_device *dev;
	LIST_HEAD(list_kill);

	dev = test_create(test, b, "b0", NULL);

	rtnl_lock();
	__rtnl_net_lock(a);
	unregister_netdevice_queue_net(a, dev, &list_kill);
	__rtnl_net_unlock(a);
	__rtnl_unlock();

	rtnl_net_flush_work(b);

	KUNIT_EXPECT_FALSE(test, test_found(b, "b0"));
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* Leaves a device of @b to the work of @b, which does not run */
static struct net_device *test_leave(struct kunit *test, struct net *b)
{
	struct net *a = test_net[0];
	struct net_device *dev;
	struct test_priv *priv;
	LIST_HEAD(list_kill);

	dev = test_create(test, b, "b0", NULL);
	priv = netdev_priv(dev);
	priv->queued = true;
	priv->stays = true;
	disable_work_sync(&b->rtnl_work);

	rtnl_lock();
	__rtnl_net_lock(a);
	unregister_netdevice_queue_net(a, dev, &list_kill);
	__rtnl_net_unlock(a);
	__rtnl_unlock();

	return dev;
}

/* Dismantle drains what was left to the work of another netns before any ->exit()
 * runs: the pending device may use the dying netns.
 */
static void test_adopt(struct kunit *test)
{
	struct net *b = test_net[1];
	struct test_priv *priv;
	bool found;

	priv = netdev_priv(test_leave(test, b));
	priv->sock_net = test_net[2];

	test_exit.net = test_net[2];
	test_kill_net(2);
	KUNIT_EXPECT_TRUE(test, test_wait(READ_ONCE(test_exit.subsys_exit)));
	found = test_found(b, "b0");
	test_left_end(b);

	KUNIT_EXPECT_FALSE(test, found);
	KUNIT_EXPECT_FALSE(test, test_exit.foreign_left);
}

/* The same for pernet operations that are unregistered and have no ->exit_rtnl() */
static void test_adopt_pernet(struct kunit *test)
{
	struct pernet_operations ops = { .exit = test_net_exit };
	struct net *b = test_net[1];
	struct test_priv *priv;
	int err;

	err = register_pernet_device(&ops);
	KUNIT_ASSERT_EQ(test, err, 0);

	priv = netdev_priv(test_leave(test, b));
	priv->sock_net = test_net[2];

	test_exit.net = test_net[2];
	unregister_pernet_device(&ops);
	test_left_end(b);

	KUNIT_EXPECT_FALSE(test, test_exit.foreign_left);
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

/* The text of a module is freed after the devices that were left to a work */
static void test_adopt_module(struct kunit *test)
{
	struct net *b = test_net[1];
	int left;

	test_leave(test, b);

	rtnl_link_unregister(&test_link_ops);
	left = test_not_freed();
	test_left_end(b);

	KUNIT_EXPECT_EQ(test, left, 0);
	KUNIT_EXPECT_EQ(test, rtnl_link_register(&test_link_ops), 0);
}

static void test_move(struct kunit *test, struct net *from, struct net *to)
{
	struct net *a = test_net[0];
	struct net *first = min(from, to), *second = max(from, to);
	bool at_old, at_new;
	struct net_device *dev;
	LIST_HEAD(list_kill);
	int err;

	dev = test_create(test, from, "b0", NULL);

	rtnl_lock();
	__rtnl_net_lock(a);
	unregister_netdevice_queue_net(a, dev, &list_kill);
	__rtnl_net_unlock(a);

	__rtnl_net_lock(first);
	__rtnl_net_lock(second);
	err = dev_change_net_namespace(dev, to, NULL);
	at_old = !list_empty(&from->dev_unreg_head);
	at_new = list_first_entry_or_null(&to->dev_unreg_head,
					  struct net_device,
					  unreg_list_net) == dev;
	__rtnl_net_unlock(second);
	__rtnl_net_unlock(first);
	rtnl_unlock();

	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_FALSE(test, at_old);
	KUNIT_EXPECT_TRUE(test, at_new);
	KUNIT_EXPECT_FALSE(test, test_found(from, "b0"));
	KUNIT_EXPECT_FALSE(test, test_found(to, "b0"));
	KUNIT_EXPECT_EQ(test, test_not_freed(), 0);
}

static void test_move_up(struct kunit *test)
{
	test_move(test, test_net[1], test_net[2]);
}

static void test_move_down(struct kunit *test)
{
	test_move(test, test_net[2], test_net[1]);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(test_owner),
	KUNIT_CASE(test_home),
	KUNIT_CASE(test_home_now),
	KUNIT_CASE(test_foreign),
	KUNIT_CASE(test_foreign_then_home),
	KUNIT_CASE(test_many),
	KUNIT_CASE(test_double),
	KUNIT_CASE(test_double_queued),
	KUNIT_CASE(test_claim_once),
	KUNIT_CASE_PARAM(test_chain, test_chain_gen_params),
	KUNIT_CASE(test_batch),
	KUNIT_CASE(test_nested),
	KUNIT_CASE(test_plain_rtnl),
	KUNIT_CASE(test_plain_home),
	KUNIT_CASE(test_plain_upper),
	KUNIT_CASE(test_lock_dev),
	KUNIT_CASE(test_lock_dev_moves),
	KUNIT_CASE(test_drain_before_reap),
	KUNIT_CASE(test_both_ends),
	KUNIT_CASE(test_rebroadcast),
	KUNIT_CASE(test_exit_waits_for_reaper),
	KUNIT_CASE(test_exit_after_tunnels),
	KUNIT_CASE(test_exit_batch),
	KUNIT_CASE(test_link_unregister),
	KUNIT_CASE(test_bystander),
	KUNIT_CASE(test_left_to_work),
	KUNIT_CASE(test_adopt),
	KUNIT_CASE(test_adopt_pernet),
	KUNIT_CASE(test_adopt_module),
	KUNIT_CASE(test_move_up),
	KUNIT_CASE(test_move_down),
	{}
};

static struct kunit_suite test_suite = {
	.name		= "rtnl_net",
	.suite_init	= test_suite_init,
	.suite_exit	= test_suite_exit,
	.init		= test_init,
	.exit		= test_cleanup,
	.test_cases	= test_cases,
};

kunit_test_suite(test_suite);

MODULE_DESCRIPTION("KUnit tests of per-netns unregistration of net devices");
MODULE_LICENSE("GPL");
