// SPDX-License-Identifier: GPL-2.0-or-later
/* KUnit tests of sections that hold RTNL shared. Threads meet inside of sections:
 * where one netns waited for the other, a test would not come to its end.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/etherdevice.h>
#include <linux/kthread.h>
#include <linux/netdevice.h>
#include <linux/nsproxy.h>
#include <linux/rtnetlink.h>
#include <linux/skbuff.h>
#include <net/net_namespace.h>
#include <net/rtnetlink.h>

#include "rtnl_net.h"

#define NR_NETS		3
/* A thread that does not come in that time never will */
#define TIMEOUT		(60 * HZ)

struct section_ctx {
	struct net *net[NR_NETS];
};

/* A thread that is inside of a section from @inside to @leave */
struct section_thread {
	struct task_struct *task;
	struct net *net;	/* NULL: RTNL is held exclusively */
	struct net *nets[2];
	struct completion inside, leave;
	enum rtnl_gate gate;
};

static int section_thread_fn(void *data)
{
	struct section_thread *t = data;
	struct rtnl_section section;

	if (t->net) {
		rtnl_net_lock_shared(t->net, &section);
		t->gate = section.gate;
	} else {
		rtnl_lock();
	}

	complete(&t->inside);
	wait_for_completion(&t->leave);

	if (t->net)
		rtnl_net_unlock_shared(t->net, &section);
	else
		rtnl_unlock();

	return 0;
}

static void __section_thread_start(struct kunit *test, struct section_thread *t,
				   int (*fn)(void *data))
{
	init_completion(&t->inside);
	init_completion(&t->leave);

	t->task = kthread_create(fn, t, "rtnl_section");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->task);
	get_task_struct(t->task);
	wake_up_process(t->task);
}

static void section_thread_start(struct kunit *test, struct section_thread *t,
				 struct net *net)
{
	t->net = net;
	__section_thread_start(test, t, section_thread_fn);
}

static bool section_thread_is_inside(struct section_thread *t)
{
	return wait_for_completion_timeout(&t->inside, TIMEOUT);
}

static void section_thread_end(struct section_thread *t)
{
	complete(&t->leave);
	kthread_stop(t->task);
	put_task_struct(t->task);
}

/* Others may hold RTNL for a moment: netns that are freed, works */
static bool section_try(int (*trylock)(struct net *net,
				       struct rtnl_section *section),
			struct net *net, struct rtnl_section *section)
{
	int tries;

	for (tries = 0; tries < 200; tries++) {
		if (trylock(net, section))
			return true;
		schedule_timeout_uninterruptible(1);
	}

	return false;
}

static int section_trylock_rtnl(struct net *net, struct rtnl_section *section)
{
	return rtnl_trylock();
}

/* Two threads of different netns are inside at once */
static void test_two_inside(struct kunit *test)
{
	struct section_ctx *ctx = test->priv;
	struct section_thread a, b;

	section_thread_start(test, &a, ctx->net[0]);
	section_thread_start(test, &b, ctx->net[1]);

	KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&a));
	KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&b));
	KUNIT_EXPECT_EQ(test, a.gate, RTNL_GATE_SHARED);
	KUNIT_EXPECT_EQ(test, b.gate, RTNL_GATE_SHARED);

	section_thread_end(&a);
	section_thread_end(&b);
}

/* One netns has one section at a time */
static void test_one_net(struct kunit *test)
{
	struct section_ctx *ctx = test->priv;
	struct rtnl_section section;
	struct section_thread a, b;

	section_thread_start(test, &a, ctx->net[0]);
	KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&a));

	KUNIT_EXPECT_FALSE(test, rtnl_net_trylock_shared(ctx->net[0], &section));
	KUNIT_EXPECT_FALSE(test, rtnl_net_is_mine(ctx->net[0]));

	section_thread_start(test, &b, ctx->net[0]);
	msleep(20);
	KUNIT_EXPECT_FALSE(test, completion_done(&b.inside));

	section_thread_end(&a);
	KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&b));
	section_thread_end(&b);
}

/* A thread that waits for a per-netns mutex does not hold RTNL meanwhile */
static void test_waits_without_rtnl(struct kunit *test)
{
	struct section_ctx *ctx = test->priv;
	struct section_thread a;
	bool locked;

	mutex_lock(&ctx->net[0]->rtnl_mutex);
	section_thread_start(test, &a, ctx->net[0]);
	msleep(20);

	locked = section_try(section_trylock_rtnl, NULL, NULL);
	KUNIT_EXPECT_TRUE(test, locked);
	if (locked)
		rtnl_unlock();
	KUNIT_EXPECT_FALSE(test, completion_done(&a.inside));

	mutex_unlock(&ctx->net[0]->rtnl_mutex);
	KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&a));
	section_thread_end(&a);
}

/* An exclusive section and a shared one exclude each other */
static void test_exclusive(struct kunit *test)
{
	struct section_ctx *ctx = test->priv;
	struct section_thread shared, excl;
	struct rtnl_section section;

	section_thread_start(test, &shared, ctx->net[0]);
	KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&shared));
	KUNIT_EXPECT_FALSE(test, rtnl_trylock());

	section_thread_start(test, &excl, NULL);
	msleep(20);
	KUNIT_EXPECT_FALSE(test, completion_done(&excl.inside));
	section_thread_end(&shared);

	KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&excl));
	KUNIT_EXPECT_FALSE(test, rtnl_net_trylock_shared(ctx->net[1], &section));
	section_thread_start(test, &shared, ctx->net[1]);
	msleep(20);
	KUNIT_EXPECT_FALSE(test, completion_done(&shared.inside));
	section_thread_end(&excl);

	KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&shared));
	section_thread_end(&shared);
}

static int section_stream_fn(void *data)
{
	struct section_thread *t = data;
	struct rtnl_section section;

	while (!kthread_should_stop()) {
		rtnl_net_lock_shared(t->net, &section);
		complete_all(&t->inside);
		usleep_range(4000, 6000);
		rtnl_net_unlock_shared(t->net, &section);
	}

	return 0;
}

/* Sections that are always a few milliseconds long and begin again at once leave
 * no moment without one. A thread that only tries gets in all the same.
 */
static void test_trylock(struct kunit *test)
{
	struct section_ctx *ctx = test->priv;
	struct section_thread t[NR_NETS];
	bool locked;
	int i;

	for (i = 0; i < NR_NETS; i++) {
		init_completion(&t[i].inside);
		t[i].net = ctx->net[i];
		t[i].task = kthread_run(section_stream_fn, &t[i], "rtnl_stream");
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t[i].task);
		KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&t[i]));
	}

	locked = section_try(section_trylock_rtnl, NULL, NULL);
	if (locked)
		rtnl_unlock();

	for (i = 0; i < NR_NETS; i++)
		kthread_stop(t[i].task);

	KUNIT_EXPECT_TRUE(test, locked);
}

/* A section that has to go exclusive is alone afterwards */
static void test_make_exclusive(struct kunit *test)
{
	struct section_ctx *ctx = test->priv;
	struct rtnl_section section, other;
	unsigned long before;

	rtnl_net_lock_shared(ctx->net[0], &section);
	KUNIT_EXPECT_TRUE(test, rtnl_section_is_shared(&section));
	KUNIT_EXPECT_TRUE(test, rtnl_net_is_mine(ctx->net[0]));
	KUNIT_EXPECT_TRUE(test, rtnl_net_is_guarded(ctx->net[0]));
	KUNIT_EXPECT_FALSE(test, rtnl_net_is_guarded(ctx->net[1]));

	before = rtnl_gate_sum(RTNL_GATE_FOREIGN);
	KUNIT_EXPECT_TRUE(test, rtnl_net_make_exclusive(ctx->net[0], &section,
							RTNL_GATE_FOREIGN));
	KUNIT_EXPECT_GT(test, rtnl_gate_sum(RTNL_GATE_FOREIGN), before);
	KUNIT_EXPECT_FALSE(test, rtnl_section_is_shared(&section));
	KUNIT_EXPECT_TRUE(test, rtnl_net_is_mine(ctx->net[0]));
	KUNIT_EXPECT_TRUE(test, rtnl_net_is_guarded(ctx->net[1]));
	KUNIT_EXPECT_FALSE(test, rtnl_net_trylock_shared(ctx->net[1], &other));
	ASSERT_RTNL();

	KUNIT_EXPECT_FALSE(test, rtnl_net_make_exclusive(ctx->net[0], &section,
							 RTNL_GATE_KIND));
	rtnl_net_unlock_shared(ctx->net[0], &section);

	KUNIT_ASSERT_TRUE(test, section_try(rtnl_net_trylock_shared,
					    ctx->net[1], &other));
	rtnl_net_unlock_shared(ctx->net[1], &other);
}

static int section_event(struct notifier_block *nb, unsigned long event,
			 void *ptr)
{
	return NOTIFY_DONE;
}

/* While a handler is registered that nobody has audited, sections are exclusive */
static void test_gate(struct kunit *test)
{
	struct notifier_block nb = { .notifier_call = section_event };
	struct section_ctx *ctx = test->priv;
	struct rtnl_section section, other;

	KUNIT_ASSERT_EQ(test, register_netdevice_notifier(&nb), 0);

	rtnl_net_lock_shared(ctx->net[0], &section);
	KUNIT_EXPECT_EQ(test, section.gate, RTNL_GATE_HANDLER);
	KUNIT_EXPECT_TRUE(test, rtnl_net_is_guarded(ctx->net[1]));
	KUNIT_EXPECT_FALSE(test, rtnl_net_trylock_shared(ctx->net[1], &other));
	rtnl_net_unlock_shared(ctx->net[0], &section);

	KUNIT_ASSERT_TRUE(test, section_try(rtnl_net_trylock_shared,
					    ctx->net[1], &other));
	KUNIT_EXPECT_EQ(test, other.gate, RTNL_GATE_HANDLER);
	rtnl_net_unlock_shared(ctx->net[1], &other);

	unregister_netdevice_notifier(&nb);

	rtnl_net_lock_shared(ctx->net[0], &section);
	KUNIT_EXPECT_EQ(test, section.gate, RTNL_GATE_SHARED);
	rtnl_net_unlock_shared(ctx->net[0], &section);
}

#ifdef CONFIG_DEBUG_NET_SMALL_RTNL
static int section_event_unaudited(struct notifier_block *nb,
				   unsigned long event, void *ptr)
{
	ASSERT_RTNL();

	return NOTIFY_DONE;
}

static int section_fill_info_unaudited(struct sk_buff *skb,
				       const struct net_device *dev)
{
	ASSERT_RTNL();

	return 0;
}

static void section_end_force(void *unused)
{
	rtnl_gate_forced = false;
}

static void section_force(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, section_end_force, NULL));
	rtnl_gate_forced = true;
}

/* If the gate is forced open, a handler that needs all others out warns */
static void test_force_handler(struct kunit *test)
{
	struct notifier_block nb = { .notifier_call = section_event_unaudited };
	struct section_ctx *ctx = test->priv;
	struct net *net = ctx->net[0];
	struct rtnl_section section;

	KUNIT_ASSERT_EQ(test, register_netdevice_notifier(&nb), 0);
	section_force(test);

	rtnl_net_lock_shared(net, &section);
	KUNIT_EXPECT_EQ(test, section.gate, RTNL_GATE_SHARED);
	kunit_warning_suppress(test) {
		call_netdevice_notifiers(NETDEV_CHANGE, net->loopback_dev);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	rtnl_net_unlock_shared(net, &section);

	unregister_netdevice_notifier(&nb);
}

/* So does the driver of a kind that nobody has audited */
static void test_force_kind(struct kunit *test)
{
	static struct rtnl_link_ops ops = {
		.kind		= "rtnl_section",
		.fill_info	= section_fill_info_unaudited,
	};
	static const struct net_device_ops netdev_ops = {};
	struct section_ctx *ctx = test->priv;
	struct net *net = ctx->net[0];
	struct rtnl_section section;
	struct net_device *dev;

	dev = alloc_netdev(0, "section%d", NET_NAME_UNKNOWN, ether_setup);
	KUNIT_ASSERT_NOT_NULL(test, dev);
	eth_hw_addr_random(dev);
	dev->netdev_ops = &netdev_ops;
	dev->rtnl_link_ops = &ops;
	dev_net_set(dev, net);
	KUNIT_ASSERT_EQ(test, register_netdev(dev), 0);

	rtnl_net_lock_shared(net, &section);
	KUNIT_EXPECT_EQ(test, rtnl_dev_gate(dev), RTNL_GATE_KIND);
	section_force(test);
	KUNIT_EXPECT_EQ(test, rtnl_dev_gate(dev), RTNL_GATE_SHARED);
	kunit_warning_suppress(test) {
		kfree_skb(rtmsg_ifinfo_build_skb(RTM_NEWLINK, dev, 0, 0,
						 GFP_KERNEL, NULL, 0, 0, NULL));
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	rtnl_net_unlock_shared(net, &section);

	unregister_netdev(dev);
	free_netdev(dev);
}
#endif

/* What a section has collected is not freed by another one */
static void test_own_skbs(struct kunit *test)
{
	struct section_ctx *ctx = test->priv;
	struct rtnl_section section;
	struct section_thread b;
	struct sk_buff *skb;

	skb = alloc_skb(64, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, skb);
	skb_get(skb);

	section_thread_start(test, &b, ctx->net[1]);
	KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&b));

	rtnl_net_lock_shared(ctx->net[0], &section);
	rtnl_kfree_skbs(skb, skb);
	section_thread_end(&b);
	KUNIT_EXPECT_EQ(test, refcount_read(&skb->users), 2);
	rtnl_net_unlock_shared(ctx->net[0], &section);

	KUNIT_EXPECT_EQ(test, refcount_read(&skb->users), 1);
	kfree_skb(skb);
}

/* A device of an audited kind, which says when it is freed */
struct section_dev {
	struct completion *freed;
};

static void section_dev_free(struct net_device *dev)
{
	struct section_dev *priv = netdev_priv(dev);

	complete(priv->freed);
}

static void section_dev_setup(struct net_device *dev)
{
	static struct rtnl_link_ops ops = {
		.kind		= "rtnl_section",
		.rtnl_shared	= RTNL_SHARED_GET | RTNL_SHARED_LINK,
	};
	static const struct net_device_ops netdev_ops = {};

	ether_setup(dev);
	eth_hw_addr_random(dev);
	dev->netdev_ops = &netdev_ops;
	dev->rtnl_link_ops = &ops;
	dev->priv_destructor = section_dev_free;
	dev->needs_free_netdev = true;
}

static struct net_device *section_dev_create(struct kunit *test, struct net *net,
					     struct completion *freed)
{
	struct net_device *dev;
	struct section_dev *priv;

	dev = alloc_netdev(sizeof(struct section_dev), "section%d",
			   NET_NAME_UNKNOWN, section_dev_setup);
	KUNIT_ASSERT_NOT_NULL(test, dev);

	init_completion(freed);
	priv = netdev_priv(dev);
	priv->freed = freed;
	dev_net_set(dev, net);
	KUNIT_ASSERT_EQ(test, register_netdev(dev), 0);

	return dev;
}

/* Devices are registered, unregistered and freed while another section runs */
static void test_links(struct kunit *test)
{
	struct section_ctx *ctx = test->priv;
	struct rtnl_section section;
	struct completion freed;
	struct section_thread b;
	struct net_device *dev;

	section_thread_start(test, &b, ctx->net[1]);
	KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&b));

	dev = section_dev_create(test, ctx->net[0], &freed);

	rtnl_net_lock_shared(ctx->net[0], &section);
	KUNIT_EXPECT_EQ(test, section.gate, RTNL_GATE_SHARED);
	KUNIT_EXPECT_EQ(test, rtnl_dellink_gate(dev), RTNL_GATE_SHARED);
	unregister_netdevice(dev);
	KUNIT_EXPECT_FALSE(test, completion_done(&freed));
	rtnl_net_unlock_shared(ctx->net[0], &section);
	KUNIT_EXPECT_TRUE(test, completion_done(&freed));

	section_thread_end(&b);
}

/* A netns is dismantled while another section runs */
static void test_dismantle(struct kunit *test)
{
	struct section_ctx *ctx = test->priv;
	struct completion freed[3];
	struct section_thread b;
	int i;

	section_thread_start(test, &b, ctx->net[1]);
	KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&b));

	for (i = 0; i < ARRAY_SIZE(freed); i++)
		section_dev_create(test, ctx->net[0], &freed[i]);

	put_net(ctx->net[0]);
	ctx->net[0] = NULL;
	for (i = 0; i < ARRAY_SIZE(freed); i++)
		KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&freed[i],
								    TIMEOUT));

	section_thread_end(&b);
}

/* Sections of several netns, which have one of them in common each */
static int section_crossed_fn(void *data)
{
	struct section_thread *t = data;
	struct rtnl_section section;
	int i;

	for (i = 0; i < 500; i++) {
		rtnl_nets_lock_gate(t->nets, 2, &section, RTNL_GATE_SHARED);
		if (section.gate != RTNL_GATE_SHARED ||
		    !rtnl_net_is_mine(t->nets[0]) ||
		    !rtnl_net_is_mine(t->nets[1]))
			t->gate = RTNL_GATE_REQUEST;
		cond_resched();
		rtnl_nets_unlock_shared(t->nets, 2, &section);
	}

	complete(&t->inside);
	wait_for_completion(&t->leave);
	return 0;
}

static void test_crossed(struct kunit *test)
{
	struct section_ctx *ctx = test->priv;
	struct section_thread t[NR_NETS];
	int i;

	for (i = 0; i < NR_NETS; i++) {
		struct net *a = ctx->net[i], *b = ctx->net[(i + 1) % NR_NETS];

		if (rtnl_net_cmp_locks(a, b) > 0)
			swap(a, b);
		t[i].nets[0] = a;
		t[i].nets[1] = b;
		t[i].gate = RTNL_GATE_SHARED;
		__section_thread_start(test, &t[i], section_crossed_fn);
	}

	for (i = 0; i < NR_NETS; i++) {
		KUNIT_EXPECT_TRUE(test, section_thread_is_inside(&t[i]));
		KUNIT_EXPECT_EQ(test, t[i].gate, RTNL_GATE_SHARED);
		section_thread_end(&t[i]);
	}
}

static int section_init(struct kunit *test)
{
	struct section_ctx *ctx;
	int i;

	ctx = kunit_kzalloc(test, sizeof(*ctx), GFP_KERNEL);
	if (!ctx)
		return -ENOMEM;
	test->priv = ctx;

	for (i = 0; i < NR_NETS; i++) {
		ctx->net[i] = copy_net_ns(CLONE_NEWNET, &init_user_ns, &init_net);
		if (IS_ERR(ctx->net[i]))
			return PTR_ERR(ctx->net[i]);
	}

	return 0;
}

static void section_exit(struct kunit *test)
{
	struct section_ctx *ctx = test->priv;
	int i;

	for (i = 0; ctx && i < NR_NETS; i++)
		if (!IS_ERR_OR_NULL(ctx->net[i]))
			put_net(ctx->net[i]);
}

static struct kunit_case section_cases[] = {
	KUNIT_CASE(test_two_inside),
	KUNIT_CASE(test_one_net),
	KUNIT_CASE(test_waits_without_rtnl),
	KUNIT_CASE(test_exclusive),
	KUNIT_CASE(test_trylock),
	KUNIT_CASE(test_make_exclusive),
	KUNIT_CASE(test_gate),
#ifdef CONFIG_DEBUG_NET_SMALL_RTNL
	KUNIT_CASE(test_force_handler),
	KUNIT_CASE(test_force_kind),
#endif
	KUNIT_CASE(test_own_skbs),
	KUNIT_CASE(test_links),
	KUNIT_CASE(test_dismantle),
	KUNIT_CASE(test_crossed),
	{}
};

static struct kunit_suite section_suite = {
	.name		= "rtnl_section",
	.init		= section_init,
	.exit		= section_exit,
	.test_cases	= section_cases,
};

kunit_test_suite(section_suite);

MODULE_DESCRIPTION("KUnit tests of sections that hold RTNL shared");
MODULE_LICENSE("GPL");
