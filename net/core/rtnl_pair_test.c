// SPDX-License-Identifier: GPL-2.0-or-later
/* KUnit tests of include/net/rtnl_pair.h. No assertion runs while a lock is
 * held, as a failed one would not release it.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/if_arp.h>
#include <linux/kthread.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <net/net_namespace.h>
#include <net/rtnetlink.h>
#include <net/rtnl_pair.h>

#include "rtnl_net.h"

#define PAIR_TEST_TIMEOUT	(60 * HZ)

struct pair_test_priv {
	int			pad;
	struct rtnl_pair	pair;
};

static struct net *pair_test_net[2];
static atomic_t pair_test_devs;		/* not freed yet */

static struct rtnl_pair *pair_test_pair(const struct net_device *dev)
{
	return &((struct pair_test_priv *)netdev_priv(dev))->pair;
}

static bool pair_test_linked(const struct net_device *dev)
{
	return rcu_access_pointer(pair_test_pair(dev)->peer);
}

static void pair_test_dellink(struct net_device *dev, struct list_head *head)
{
	rtnl_pair_dellink(dev, head, pair_test_pair);
}

static void pair_test_uninit(struct net_device *dev)
{
	rtnl_pair_uninit(dev, pair_test_pair);
}

static int pair_test_open(struct net_device *dev)
{
	struct net_device *peer = rtnl_pair_peer(dev, pair_test_pair(dev));

	if (!peer)
		return -ENOTCONN;

	rtnl_pair_open(dev, peer, pair_test_pair);
	return 0;
}

static int pair_test_stop(struct net_device *dev)
{
	struct net_device *peer = rtnl_pair_peer(dev, pair_test_pair(dev));

	rtnl_pair_close(dev, peer, pair_test_pair);
	return 0;
}

static netdev_tx_t pair_test_xmit(struct sk_buff *skb, struct net_device *dev)
{
	kfree_skb(skb);
	return NETDEV_TX_OK;
}

static void pair_test_destructor(struct net_device *dev)
{
	atomic_dec(&pair_test_devs);
}

static const struct net_device_ops pair_test_netdev_ops = {
	.ndo_uninit	= pair_test_uninit,
	.ndo_open	= pair_test_open,
	.ndo_stop	= pair_test_stop,
	.ndo_start_xmit	= pair_test_xmit,
};

static void pair_test_setup(struct net_device *dev)
{
	dev->netdev_ops = &pair_test_netdev_ops;
	dev->needs_free_netdev = true;
	dev->priv_destructor = pair_test_destructor;
	dev->type = ARPHRD_NONE;
	dev->flags = IFF_NOARP;
	dev->mtu = 1500;
}

static struct rtnl_link_ops pair_test_link_ops = {
	.kind		= "rtnl_pair_test",
	.priv_size	= sizeof(struct pair_test_priv),
	.setup		= pair_test_setup,
	.dellink	= pair_test_dellink,
};

static struct net_device *pair_test_add(struct kunit *test, struct net *net)
{
	struct net_device *dev;
	int err = -ENOMEM;

	rtnl_net_lock(net);
	dev = alloc_netdev(sizeof(struct pair_test_priv), "end%d",
			   NET_NAME_ENUM, pair_test_setup);
	if (dev) {
		dev_net_set(dev, net);
		dev->rtnl_link_ops = &pair_test_link_ops;
		atomic_inc(&pair_test_devs);
		err = register_netdevice(dev);
		netif_carrier_off(dev);
	}
	if (err && dev) {
		atomic_dec(&pair_test_devs);
		free_netdev(dev);
	}
	rtnl_net_unlock(net);

	KUNIT_ASSERT_EQ(test, err, 0);
	return dev;
}

static void pair_test_add_pair(struct kunit *test, struct net_device *dev[2],
			       bool same_netns)
{
	int i;

	for (i = 0; i < 2; i++)
		dev[i] = pair_test_add(test, pair_test_net[same_netns ? 0 : i]);

	rtnl_lock();
	rtnl_pair_link(dev[0], dev[1], pair_test_pair);
	rtnl_unlock();
}

static int pair_test_init(struct kunit *test)
{
	int i;

	atomic_set(&pair_test_devs, 0);

	for (i = 0; i < 2; i++) {
		pair_test_net[i] = copy_net_ns(CLONE_NEWNET, &init_user_ns,
					       &init_net);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, pair_test_net[i]);
	}

	return 0;
}

static void pair_test_exit(struct kunit *test)
{
	int i;

	for (i = 0; i < 2; i++) {
		if (!IS_ERR_OR_NULL(pair_test_net[i]))
			put_net(pair_test_net[i]);
		pair_test_net[i] = NULL;
	}
}

struct pair_test_case {
	const char	*name;
	bool		same_netns;
	int		end;		/* that is deleted */
};

static const struct pair_test_case pair_test_cases[] = {
	{ "same netns, first end",	true,	0 },
	{ "same netns, second end",	true,	1 },
	{ "two netns, first end",	false,	0 },
	{ "two netns, second end",	false,	1 },
};

KUNIT_ARRAY_PARAM_DESC(pair_test, pair_test_cases, name);

/* ->dellink() of one end queues both and puts both references. The end in the
 * caller's netns is unregistered at once, the other one by rtnl_net_unlock().
 */
static void pair_test_either_end(struct kunit *test)
{
	const struct pair_test_case *c = test->param_value;
	bool linked, queued, here, away;
	struct net_device *dev[2];
	int i, refs[2], put[2];
	struct net *net;
	LIST_HEAD(head);

	pair_test_add_pair(test, dev, c->same_netns);
	net = dev_net(dev[c->end]);

	rtnl_net_lock(net);
	for (i = 0; i < 2; i++)
		refs[i] = netdev_refcnt_read(dev[i]);

	pair_test_dellink(dev[c->end], &head);

	for (i = 0; i < 2; i++)
		put[i] = refs[i] - netdev_refcnt_read(dev[i]);
	linked = pair_test_linked(dev[0]) || pair_test_linked(dev[1]);
	queued = unregister_netdevice_queued(dev[0]) &&
		 unregister_netdevice_queued(dev[1]);

	unregister_netdevice_many(&head);
	here = dev[c->end]->reg_state != NETREG_REGISTERED;
	away = dev[!c->end]->reg_state != NETREG_REGISTERED;
	rtnl_net_unlock(net);

	KUNIT_EXPECT_EQ(test, put[0], 1);
	KUNIT_EXPECT_EQ(test, put[1], 1);
	KUNIT_EXPECT_FALSE(test, linked);
	KUNIT_EXPECT_TRUE(test, queued);
	KUNIT_EXPECT_TRUE(test, here);
	KUNIT_EXPECT_EQ(test, away, c->same_netns);
	KUNIT_EXPECT_EQ(test, atomic_read(&pair_test_devs), 0);
}

/* When several netns are dismantled, ->dellink() is called for each end */
static void pair_test_both_ends(struct kunit *test)
{
	const struct pair_test_case *c = test->param_value;
	struct net_device *dev[2];
	LIST_HEAD(head);
	int i;

	pair_test_add_pair(test, dev, c->same_netns);

	rtnl_lock();
	for (i = 0; i < 2; i++) {
		struct net_device *end = dev[i ^ c->end];

		__rtnl_net_lock(dev_net(end));
		pair_test_dellink(end, &head);
		__rtnl_net_unlock(dev_net(end));
	}
	unregister_netdevice_queue_many_net(NULL, &head);
	rtnl_unlock();

	KUNIT_EXPECT_EQ(test, atomic_read(&pair_test_devs), 0);
}

static void pair_test_single(struct kunit *test)
{
	struct net *net = pair_test_net[0];
	struct net_device *dev;
	LIST_HEAD(head);

	dev = pair_test_add(test, net);

	rtnl_net_lock(net);
	pair_test_dellink(dev, &head);
	unregister_netdevice_many(&head);
	rtnl_net_unlock(net);

	KUNIT_EXPECT_EQ(test, atomic_read(&pair_test_devs), 0);
}

/* Puts what rtnl_pair_uninit() has left, so that a failure is no hang */
static bool pair_test_unlink(struct net_device *dev[2])
{
	bool linked[2];
	int i;

	for (i = 0; i < 2; i++) {
		linked[i] = pair_test_linked(dev[i]);
		RCU_INIT_POINTER(pair_test_pair(dev[i])->peer, NULL);
	}

	if (linked[0])
		rtnl_pair_put(dev[0], dev[1], linked[1], pair_test_pair);
	else if (linked[1])
		rtnl_pair_put(dev[1], dev[0], false, pair_test_pair);

	return linked[0] || linked[1];
}

/* unregister_netdevice() of one end warns, and the other end can be deleted */
static void pair_test_alone(struct kunit *test)
{
	const struct pair_test_case *c = test->param_value;
	struct net_device *dev[2];
	int warnings = 0, freed;
	struct net *net, *peer_net;
	LIST_HEAD(head);
	bool left;

	pair_test_add_pair(test, dev, c->same_netns);
	net = dev_net(dev[c->end]);
	peer_net = dev_net(dev[!c->end]);

	rtnl_net_lock(net);
	kunit_warning_suppress(test) {
		unregister_netdevice(dev[c->end]);
		warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
	left = pair_test_unlink(dev);
	rtnl_net_unlock(net);
	freed = 2 - atomic_read(&pair_test_devs);

	rtnl_net_lock(peer_net);
	pair_test_dellink(dev[!c->end], &head);
	unregister_netdevice_many(&head);
	rtnl_net_unlock(peer_net);

	KUNIT_EXPECT_EQ(test, warnings, 1);
	KUNIT_EXPECT_FALSE(test, left);
	KUNIT_EXPECT_EQ(test, freed, 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&pair_test_devs), 0);
}

/* One of the threads that open an end each */
struct pair_test_thread {
	struct task_struct	*task;
	struct net_device	*dev;
	struct completion	inside, *start;
	struct completion	opened, *peer_opened;
	bool			in_time;
	int			err;
};

static bool pair_test_wait(struct completion *done)
{
	return wait_for_completion_timeout(done, PAIR_TEST_TIMEOUT);
}

/* What RTM_SETLINK does, but that IFF_UP waits for the other end's ->ndo_open() */
static int pair_test_thread_fn(void *data)
{
	struct pair_test_thread *t = data;
	struct net *net = dev_net(t->dev);
	struct rtnl_section section;

	rtnl_net_lock_shared(net, &section);
	complete(&t->inside);
	t->in_time = pair_test_wait(t->start);

	t->err = pair_test_open(t->dev);
	complete(&t->opened);
	t->in_time &= pair_test_wait(t->peer_opened);
	t->dev->flags |= IFF_UP;

	rtnl_net_unlock_shared(net, &section);

	return 0;
}

static void pair_test_close(struct net_device *dev)
{
	struct net *net = dev_net(dev);

	rtnl_net_lock(net);
	dev->flags &= ~IFF_UP;
	pair_test_stop(dev);
	rtnl_net_unlock(net);
}

/* Both ends are opened at once, so that neither finds the other one up */
static void pair_test_open_both(struct kunit *test)
{
	DECLARE_COMPLETION_ONSTACK(start);
	struct pair_test_thread thread[2] = {};
	bool inside[2], up[2], down[2];
	struct net_device *dev[2];
	LIST_HEAD(head);
	int i;

	if (!rtnl_gate_open())
		kunit_skip(test, "sections are exclusive");

	pair_test_add_pair(test, dev, false);

	for (i = 0; i < 2; i++) {
		struct pair_test_thread *t = &thread[i];

		t->dev = dev[i];
		t->start = &start;
		t->peer_opened = &thread[!i].opened;
		init_completion(&t->inside);
		init_completion(&t->opened);

		t->task = kthread_create(pair_test_thread_fn, t, "rtnl_pair");
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->task);
		get_task_struct(t->task);
	}

	for (i = 0; i < 2; i++)
		wake_up_process(thread[i].task);
	for (i = 0; i < 2; i++)
		inside[i] = pair_test_wait(&thread[i].inside);
	complete_all(&start);

	for (i = 0; i < 2; i++) {
		kthread_stop(thread[i].task);
		put_task_struct(thread[i].task);
	}

	for (i = 0; i < 2; i++)
		up[i] = netif_carrier_ok(dev[i]);
	pair_test_close(dev[0]);
	for (i = 0; i < 2; i++)
		down[i] = !netif_carrier_ok(dev[i]);
	pair_test_close(dev[1]);

	rtnl_net_lock(dev_net(dev[0]));
	pair_test_dellink(dev[0], &head);
	unregister_netdevice_many(&head);
	rtnl_net_unlock(pair_test_net[0]);

	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_TRUE(test, inside[i]);
		KUNIT_EXPECT_TRUE(test, thread[i].in_time);
		KUNIT_EXPECT_EQ(test, thread[i].err, 0);
		KUNIT_EXPECT_TRUE(test, up[i]);
		KUNIT_EXPECT_TRUE(test, down[i]);
	}
	KUNIT_EXPECT_EQ(test, atomic_read(&pair_test_devs), 0);
}

static struct kunit_case pair_test_kunit_cases[] = {
	KUNIT_CASE_PARAM(pair_test_either_end, pair_test_gen_params),
	KUNIT_CASE_PARAM(pair_test_both_ends, pair_test_gen_params),
	KUNIT_CASE_PARAM(pair_test_alone, pair_test_gen_params),
	KUNIT_CASE(pair_test_single),
	KUNIT_CASE(pair_test_open_both),
	{}
};

static struct kunit_suite pair_test_suite = {
	.name		= "rtnl_pair",
	.init		= pair_test_init,
	.exit		= pair_test_exit,
	.test_cases	= pair_test_kunit_cases,
};

kunit_test_suite(pair_test_suite);
