// SPDX-License-Identifier: GPL-2.0-or-later
/* KUnit tests of links between devices of different netns. No assertion runs
 * while a lock is held, as a failed one would not release it.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/if_arp.h>
#include <linux/kthread.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/wait.h>
#include <net/net_namespace.h>
#include <net/rtnetlink.h>

#include "rtnl_net.h"

#define LINKS_NETS	3
#define LINKS_TIMEOUT	(60 * HZ)

static struct net *links_net[LINKS_NETS];
static struct net *links_alive[LINKS_NETS];
static atomic_t links_nets;	/* not through cleanup_net() yet */
static atomic_t links_devs;	/* not freed yet */
static DECLARE_WAIT_QUEUE_HEAD(links_wq);

static netdev_tx_t links_xmit(struct sk_buff *skb, struct net_device *dev)
{
	kfree_skb(skb);
	return NETDEV_TX_OK;
}

static void links_destructor(struct net_device *dev)
{
	atomic_dec(&links_devs);
}

static const struct net_device_ops links_netdev_ops = {
	.ndo_start_xmit	= links_xmit,
};

static void links_setup(struct net_device *dev)
{
	dev->netdev_ops = &links_netdev_ops;
	dev->needs_free_netdev = true;
	dev->priv_destructor = links_destructor;
	dev->type = ARPHRD_NONE;
	dev->flags = IFF_NOARP;
	dev->mtu = 1500;
}

/* Those of other tests may die at any time */
static void __net_exit links_net_exit(struct net *net)
{
	int i;

	for (i = 0; i < LINKS_NETS; i++) {
		if (cmpxchg(&links_alive[i], net, NULL) == net) {
			atomic_dec(&links_nets);
			wake_up_all(&links_wq);
		}
	}
}

static struct pernet_operations links_net_ops = {
	.exit	= links_net_exit,
};

static int links_suite_init(struct kunit_suite *suite)
{
	return register_pernet_subsys(&links_net_ops);
}

static void links_suite_exit(struct kunit_suite *suite)
{
	unregister_pernet_subsys(&links_net_ops);
}

static int links_init(struct kunit *test)
{
	int i;

	for (i = 0; i < LINKS_NETS; i++) {
		links_net[i] = copy_net_ns(CLONE_NEWNET, &init_user_ns,
					   &init_net);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, links_net[i]);
		links_alive[i] = links_net[i];
		atomic_inc(&links_nets);
	}

	return 0;
}

static bool links_wait(int nets)
{
	return wait_event_timeout(links_wq, atomic_read(&links_nets) == nets,
				  LINKS_TIMEOUT);
}

static void links_kill_net(int i)
{
	if (!IS_ERR_OR_NULL(links_net[i]))
		put_net(links_net[i]);
	links_net[i] = NULL;
}

/* A netns that is freed while it counts foreign links warns */
static void links_exit(struct kunit *test)
{
	int i;

	for (i = 0; i < LINKS_NETS; i++)
		links_kill_net(i);

	KUNIT_EXPECT_TRUE(test, links_wait(0));
	KUNIT_EXPECT_EQ(test, atomic_read(&links_devs), 0);
}

static struct net_device *links_add(struct kunit *test, struct net *net)
{
	struct net_device *dev;
	int err = -ENOMEM;

	rtnl_net_lock(net);
	dev = alloc_netdev(0, "links%d", NET_NAME_ENUM, links_setup);
	if (dev) {
		dev_net_set(dev, net);
		atomic_inc(&links_devs);
		err = register_netdevice(dev);
	}
	if (err && dev) {
		atomic_dec(&links_devs);
		free_netdev(dev);
	}
	rtnl_net_unlock(net);

	KUNIT_ASSERT_EQ(test, err, 0);
	return dev;
}

static int links_link(struct net_device *lower, struct net_device *upper)
{
	int err;

	rtnl_lock();
	err = netdev_upper_dev_link(lower, upper, NULL);
	rtnl_unlock();

	return err;
}

static void links_unlink(struct net_device *lower, struct net_device *upper)
{
	rtnl_lock();
	netdev_upper_dev_unlink(lower, upper);
	rtnl_unlock();
}

static int links_move(struct net_device *dev, struct net *net)
{
	struct net *from = dev_net(dev);
	int err;

	rtnl_lock();
	__rtnl_net_lock(min(from, net));
	__rtnl_net_lock(max(from, net));
	err = dev_change_net_namespace(dev, net, "links%d");
	__rtnl_net_unlock(max(from, net));
	__rtnl_net_unlock(min(from, net));
	rtnl_unlock();

	return err;
}

static bool links_foreign(struct net_device *dev)
{
	bool foreign;

	rtnl_lock();
	foreign = netdev_has_foreign_links(dev);
	rtnl_unlock();

	return foreign;
}

/* One of the threads that make links at the same time */
struct links_thread {
	struct task_struct	*task;
	struct net_device	*dev[3];	/* a stack, lowest first */
	struct completion	ready, *start;
	int			err;
	bool			wrong_level;
};

static bool links_levels_are(struct links_thread *t, int lower0, int upper0)
{
	return t->dev[0]->lower_level == lower0 &&
	       t->dev[0]->upper_level == upper0 &&
	       t->dev[2]->lower_level == upper0 &&
	       t->dev[2]->upper_level == lower0;
}

static int links_thread_fn(void *data)
{
	struct links_thread *t = data;
	struct rtnl_section section;
	int i;

	rtnl_net_lock_shared(dev_net(t->dev[0]), &section);
	complete(&t->ready);
	wait_for_completion_timeout(t->start, LINKS_TIMEOUT);

	for (i = 0; i < 100 && !t->err; i++) {
		t->err = netdev_upper_dev_link(t->dev[0], t->dev[1], NULL);
		if (t->err)
			break;

		t->err = netdev_upper_dev_link(t->dev[1], t->dev[2], NULL);
		if (!t->err) {
			t->wrong_level |= !links_levels_are(t, 1, 3);
			netdev_upper_dev_unlink(t->dev[1], t->dev[2]);
		}
		netdev_upper_dev_unlink(t->dev[0], t->dev[1]);
		t->wrong_level |= !links_levels_are(t, 1, 1);
	}

	rtnl_net_unlock_shared(dev_net(t->dev[0]), &section);

	return 0;
}

static void links_del(struct net_device *dev)
{
	unregister_netdev(dev);
}

static void links_expect(struct kunit *test, int a, int b, int c)
{
	KUNIT_EXPECT_EQ(test, atomic_read(&links_net[0]->dev_foreign_links), a);
	KUNIT_EXPECT_EQ(test, atomic_read(&links_net[1]->dev_foreign_links), b);
	KUNIT_EXPECT_EQ(test, atomic_read(&links_net[2]->dev_foreign_links), c);
}

/* A link counts in the netns of both ends, unless that is one */
static void links_count(struct kunit *test)
{
	struct net_device *lower, *upper[2], *away;

	lower = links_add(test, links_net[0]);
	upper[0] = links_add(test, links_net[0]);
	upper[1] = links_add(test, links_net[1]);
	away = links_add(test, links_net[2]);

	KUNIT_EXPECT_EQ(test, links_link(lower, upper[0]), 0);
	links_expect(test, 0, 0, 0);
	KUNIT_EXPECT_FALSE(test, links_foreign(lower));

	KUNIT_EXPECT_EQ(test, links_link(lower, upper[1]), 0);
	links_expect(test, 1, 1, 0);

	/* One that is refused does not count */
	KUNIT_EXPECT_EQ(test, links_link(lower, upper[1]), -EEXIST);
	KUNIT_EXPECT_EQ(test, links_link(upper[1], lower), -EBUSY);
	links_expect(test, 1, 1, 0);

	KUNIT_EXPECT_EQ(test, links_link(upper[1], away), 0);
	links_expect(test, 1, 2, 1);

	/* By way of the lower device and its other upper device */
	KUNIT_EXPECT_TRUE(test, links_foreign(upper[0]));

	links_unlink(lower, upper[1]);
	links_expect(test, 0, 1, 1);
	KUNIT_EXPECT_FALSE(test, links_foreign(upper[0]));
	KUNIT_EXPECT_TRUE(test, links_foreign(upper[1]));

	links_unlink(upper[1], away);
	links_unlink(lower, upper[0]);
	links_expect(test, 0, 0, 0);

	links_del(away);
	links_del(upper[1]);
	links_del(upper[0]);
	links_del(lower);
}

/* A device takes its links along when it moves */
static void links_moves(struct kunit *test)
{
	struct net_device *lower, *dev, *upper;

	lower = links_add(test, links_net[0]);
	dev = links_add(test, links_net[0]);
	upper = links_add(test, links_net[1]);

	KUNIT_EXPECT_EQ(test, links_link(lower, dev), 0);
	KUNIT_EXPECT_EQ(test, links_link(dev, upper), 0);
	links_expect(test, 1, 1, 0);

	/* To the netns of its upper device: the other link counts now */
	KUNIT_EXPECT_EQ(test, links_move(dev, links_net[1]), 0);
	links_expect(test, 1, 1, 0);

	/* To a netns where it has neither */
	KUNIT_EXPECT_EQ(test, links_move(dev, links_net[2]), 0);
	links_expect(test, 1, 1, 2);

	KUNIT_EXPECT_EQ(test, links_move(dev, links_net[0]), 0);
	links_expect(test, 1, 1, 0);

	/* To where all are */
	KUNIT_EXPECT_EQ(test, links_move(upper, links_net[0]), 0);
	links_expect(test, 0, 0, 0);

	links_unlink(dev, upper);
	links_unlink(lower, dev);
	links_del(upper);
	links_del(dev);
	links_del(lower);
}

/* Dismantle moves a device without link ops to init_net */
static void links_dismantle(struct kunit *test)
{
	int before = atomic_read(&init_net.dev_foreign_links);
	struct net_device *lower, *upper;
	struct net *home;
	int moved;

	lower = links_add(test, links_net[0]);
	upper = links_add(test, links_net[1]);
	KUNIT_EXPECT_EQ(test, links_link(lower, upper), 0);
	links_expect(test, 1, 1, 0);

	links_kill_net(0);
	KUNIT_EXPECT_TRUE(test, links_wait(LINKS_NETS - 1));
	home = dev_net(lower);
	moved = atomic_read(&init_net.dev_foreign_links) - before;

	links_unlink(lower, upper);
	links_del(upper);
	links_del(lower);

	KUNIT_EXPECT_PTR_EQ(test, home, &init_net);
	KUNIT_EXPECT_EQ(test, moved, 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&links_net[1]->dev_foreign_links), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&init_net.dev_foreign_links), before);
}

/* Sections of two netns make and cut links side by side */
static void links_shared(struct kunit *test)
{
	DECLARE_COMPLETION_ONSTACK(start);
	struct links_thread thread[2] = {};
	bool ready[2] = {};
	int i, j;

	if (!rtnl_gate_open())
		kunit_skip(test, "sections are exclusive");

	for (i = 0; i < 2; i++) {
		for (j = 0; j < 3; j++)
			thread[i].dev[j] = links_add(test, links_net[i]);

		init_completion(&thread[i].ready);
		thread[i].start = &start;
		thread[i].task = kthread_create(links_thread_fn, &thread[i],
						"rtnl_links");
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, thread[i].task);
		get_task_struct(thread[i].task);
	}

	for (i = 0; i < 2; i++)
		wake_up_process(thread[i].task);
	for (i = 0; i < 2; i++)
		ready[i] = wait_for_completion_timeout(&thread[i].ready,
						       LINKS_TIMEOUT);
	complete_all(&start);

	for (i = 0; i < 2; i++) {
		kthread_stop(thread[i].task);
		put_task_struct(thread[i].task);
		for (j = 0; j < 3; j++)
			links_del(thread[i].dev[j]);
	}

	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_TRUE(test, ready[i]);
		KUNIT_EXPECT_EQ(test, thread[i].err, 0);
		KUNIT_EXPECT_FALSE(test, thread[i].wrong_level);
	}
	links_expect(test, 0, 0, 0);
}

static struct kunit_case links_cases[] = {
	KUNIT_CASE(links_count),
	KUNIT_CASE(links_moves),
	KUNIT_CASE(links_dismantle),
	KUNIT_CASE(links_shared),
	{}
};

static struct kunit_suite links_suite = {
	.name		= "rtnl_links",
	.suite_init	= links_suite_init,
	.suite_exit	= links_suite_exit,
	.init		= links_init,
	.exit		= links_exit,
	.test_cases	= links_cases,
};

kunit_test_suite(links_suite);
