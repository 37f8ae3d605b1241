// SPDX-License-Identifier: GPL-2.0-or-later
/* KUnit tests of the gate that notifier handlers close for shared sections */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/inetdevice.h>
#include <linux/kthread.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <net/addrconf.h>
#include <net/fib_notifier.h>
#include <net/net_namespace.h>
#include <net/nexthop.h>

#include "rtnl_net.h"

#define GATE_TEST_TIMEOUT	(60 * HZ)

static bool gate_test_called_open;
static struct netdev_net_notifier gate_test_nn;

/* A chain replays events to a new handler: the gate must be closed by then */
static int gate_test_event(struct notifier_block *nb, unsigned long event,
			   void *ptr)
{
	gate_test_called_open |= rtnl_gate_open();
	return NOTIFY_DONE;
}

static int gate_test_veto(struct notifier_block *nb, unsigned long event,
			  void *ptr)
{
	gate_test_called_open |= rtnl_gate_open();
	return notifier_from_errno(-EPERM);
}

static int gate_test_add_net(struct notifier_block *nb)
{
	return register_netdevice_notifier_net(&init_net, nb);
}

static int gate_test_add_net_shared(struct notifier_block *nb)
{
	return register_netdevice_notifier_net_shared(&init_net, nb);
}

static int gate_test_del_net(struct notifier_block *nb)
{
	return unregister_netdevice_notifier_net(&init_net, nb);
}

static int gate_test_add_dev_net(struct notifier_block *nb)
{
	return register_netdevice_notifier_dev_net(init_net.loopback_dev, nb,
						   &gate_test_nn);
}

static int gate_test_add_dev_net_shared(struct notifier_block *nb)
{
	return register_netdevice_notifier_dev_net_shared(init_net.loopback_dev,
							  nb, &gate_test_nn);
}

static int gate_test_del_dev_net(struct notifier_block *nb)
{
	return unregister_netdevice_notifier_dev_net(init_net.loopback_dev, nb,
						     &gate_test_nn);
}

static int gate_test_add_nexthop(struct notifier_block *nb)
{
	return register_nexthop_notifier(&init_net, nb, NULL);
}

static int gate_test_add_nexthop_shared(struct notifier_block *nb)
{
	return register_nexthop_notifier_shared(&init_net, nb, NULL);
}

static int gate_test_del_nexthop(struct notifier_block *nb)
{
	return unregister_nexthop_notifier(&init_net, nb);
}

static int gate_test_add_fib(struct notifier_block *nb)
{
	return register_fib_notifier(&init_net, nb, NULL, NULL);
}

static int gate_test_add_fib_shared(struct notifier_block *nb)
{
	return register_fib_notifier_shared(&init_net, nb, NULL, NULL);
}

static int gate_test_del_fib(struct notifier_block *nb)
{
	return unregister_fib_notifier(&init_net, nb);
}

static const struct gate_test_chain {
	const char	*desc;
	int		(*add)(struct notifier_block *nb);
	int		(*add_shared)(struct notifier_block *nb);
	int		(*del)(struct notifier_block *nb);
	bool		can_veto;
} gate_test_chains[] = {
	{ "netdevice", register_netdevice_notifier,
	  register_netdevice_notifier_shared,
	  unregister_netdevice_notifier, true },
	{ "netdevice_net", gate_test_add_net, gate_test_add_net_shared,
	  gate_test_del_net, true },
	{ "netdevice_dev_net", gate_test_add_dev_net,
	  gate_test_add_dev_net_shared, gate_test_del_dev_net, true },
	{ "inetaddr", register_inetaddr_notifier,
	  register_inetaddr_notifier_shared, unregister_inetaddr_notifier },
	{ "inetaddr_validator", register_inetaddr_validator_notifier,
	  register_inetaddr_validator_notifier_shared,
	  unregister_inetaddr_validator_notifier },
	{ "inet6addr_validator", register_inet6addr_validator_notifier,
	  register_inet6addr_validator_notifier_shared,
	  unregister_inet6addr_validator_notifier },
	{ "nexthop", gate_test_add_nexthop, gate_test_add_nexthop_shared,
	  gate_test_del_nexthop },
	{ "fib", gate_test_add_fib, gate_test_add_fib_shared,
	  gate_test_del_fib },
};

KUNIT_ARRAY_PARAM_DESC(gate_test_chain, gate_test_chains, desc);

/* All handlers of this kernel must be audited, or no test can open the gate */
static int gate_test_init(struct kunit *test)
{
	KUNIT_ASSERT_TRUE_MSG(test, rtnl_gate_open(),
			      "debugfs: rtnl/handlers names those that are not audited");

	gate_test_called_open = false;
	return 0;
}

static void gate_test_unaudited(struct kunit *test)
{
	struct notifier_block first = { .notifier_call = gate_test_event };
	struct notifier_block second = { .notifier_call = gate_test_event };
	const struct gate_test_chain *chain = test->param_value;
	bool open[4];
	int err;

	err = chain->add(&first);
	KUNIT_ASSERT_EQ(test, err, 0);
	open[0] = rtnl_gate_open();
	err = register_netdevice_notifier(&second);
	open[1] = rtnl_gate_open();
	chain->del(&first);
	open[2] = rtnl_gate_open();
	if (!err)
		unregister_netdevice_notifier(&second);
	open[3] = rtnl_gate_open();

	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_FALSE(test, open[0]);
	KUNIT_EXPECT_FALSE(test, open[1]);
	KUNIT_EXPECT_FALSE(test, open[2]);
	KUNIT_EXPECT_TRUE(test, open[3]);
	KUNIT_EXPECT_FALSE(test, gate_test_called_open);
}

static void gate_test_audited(struct kunit *test)
{
	struct notifier_block nb = { .notifier_call = gate_test_event };
	const struct gate_test_chain *chain = test->param_value;
	bool open;
	int err;

	err = chain->add_shared(&nb);
	KUNIT_ASSERT_EQ(test, err, 0);
	open = rtnl_gate_open();
	chain->del(&nb);

	KUNIT_EXPECT_TRUE(test, open);
	KUNIT_EXPECT_TRUE(test, rtnl_gate_open());
}

/* A handler that refuses the first event is not registered */
static void gate_test_refused(struct kunit *test)
{
	struct notifier_block nb = { .notifier_call = gate_test_veto };
	const struct gate_test_chain *chain = test->param_value;
	int err;

	if (!chain->can_veto)
		kunit_skip(test, "it may have nothing to replay");

	err = chain->add(&nb);
	if (!err)
		chain->del(&nb);

	KUNIT_EXPECT_EQ(test, err, -EPERM);
	KUNIT_EXPECT_TRUE(test, rtnl_gate_open());
	KUNIT_EXPECT_FALSE(test, gate_test_called_open);
}

struct gate_test_adder {
	const struct gate_test_chain	*chain;
	struct notifier_block		nb;
	struct completion		done;
	int				err;
};

/* It ends by itself, with or without the handler registered */
static int gate_test_adder_fn(void *data)
{
	struct gate_test_adder *adder = data;

	adder->err = adder->chain->add(&adder->nb);
	complete(&adder->done);
	return 0;
}

/* No handler is registered before a section that may call it is over */
static void gate_test_waits(struct kunit *test)
{
	unsigned long end = jiffies + GATE_TEST_TIMEOUT;
	static struct gate_test_adder adder;
	struct task_struct *task;
	bool early, open, done;

	adder = (struct gate_test_adder) {
		.chain = test->param_value,
		.nb.notifier_call = gate_test_event,
	};
	init_completion(&adder.done);
	task = kthread_create(gate_test_adder_fn, &adder, "rtnl_gate_add");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);
	get_task_struct(task);

	rtnl_lock();
	wake_up_process(task);
	/* It closes the gate, and sleeps until RTNL is released */
	do {
		early = try_wait_for_completion(&adder.done);
		open = rtnl_gate_open();
		if (early || (!open && READ_ONCE(task->__state) & TASK_UNINTERRUPTIBLE))
			break;
		schedule_timeout_uninterruptible(1);
	} while (time_before(jiffies, end));
	rtnl_unlock();
	put_task_struct(task);

	done = early || wait_for_completion_timeout(&adder.done, GATE_TEST_TIMEOUT);
	KUNIT_ASSERT_TRUE(test, done);
	if (!adder.err)
		adder.chain->del(&adder.nb);

	KUNIT_EXPECT_EQ(test, adder.err, 0);
	KUNIT_EXPECT_FALSE(test, early);
	KUNIT_EXPECT_FALSE(test, open);
	KUNIT_EXPECT_TRUE(test, rtnl_gate_open());
}

static void gate_test_counts(struct kunit *test)
{
	unsigned long before[RTNL_GATE_MAX];
	int i, n;

	for (i = 0; i < RTNL_GATE_MAX; i++)
		before[i] = rtnl_gate_sum(i);

	for (i = 0; i < RTNL_GATE_MAX; i++)
		for (n = 0; n <= i; n++)
			rtnl_gate_count(i);

	/* Other threads count, too */
	for (i = 0; i < RTNL_GATE_MAX; i++)
		KUNIT_EXPECT_GE(test, rtnl_gate_sum(i) - before[i],
				(unsigned long)i + 1);
}

static struct kunit_case gate_test_cases[] = {
	KUNIT_CASE_PARAM(gate_test_unaudited, gate_test_chain_gen_params),
	KUNIT_CASE_PARAM(gate_test_audited, gate_test_chain_gen_params),
	KUNIT_CASE_PARAM(gate_test_refused, gate_test_chain_gen_params),
	KUNIT_CASE_PARAM(gate_test_waits, gate_test_chain_gen_params),
	KUNIT_CASE(gate_test_counts),
	{}
};

static struct kunit_suite gate_test_suite = {
	.name		= "rtnl_gate",
	.init		= gate_test_init,
	.test_cases	= gate_test_cases,
};

kunit_test_suite(gate_test_suite);
