// SPDX-License-Identifier: GPL-2.0-or-later
/* KUnit tests of a lower device's port, included by ipvlan_main.c. All devices
 * are in init_net: the kselftest ipvlan_netns.py has other namespaces.
 *
 * A test holds RTNL from test_begin() to test_end(). It makes no assertion in
 * between, as a failed one would not release RTNL.
 */

#include <kunit/test.h>
#include <linux/kthread.h>

#define TEST_UPPERS	3
#define TEST_RACES	50

static struct net_device *test_lower;
static struct net_device *test_upper[TEST_UPPERS];

static netdev_tx_t test_xmit(struct sk_buff *skb, struct net_device *dev)
{
	kfree_skb(skb);
	return NETDEV_TX_OK;
}

static const struct net_device_ops test_lower_ops = {
	.ndo_start_xmit	= test_xmit,
};

static int test_add_upper(struct net_device *link, struct net_device **upper)
{
	struct {
		struct nlattr	attr;
		u32		ifindex;
	} iflink = {
		.attr = {
			.nla_len	= nla_attr_size(sizeof(u32)),
			.nla_type	= IFLA_LINK,
		},
		.ifindex = link->ifindex,
	};
	struct nlattr *tb[IFLA_MAX + 1] = { [IFLA_LINK] = &iflink.attr };
	struct rtnl_newlink_params params = {
		.src_net	= &init_net,
		.tb		= tb,
	};
	struct net_device *dev;
	int err;

	dev = alloc_netdev(sizeof(struct ipvl_dev), "kuipvl%d", NET_NAME_ENUM,
			   ipvlan_link_setup);
	if (!dev)
		return -ENOMEM;

	dev->rtnl_link_ops = &ipvlan_link_ops;
	dev->rtnl_link_initializing = true;

	err = ipvlan_link_new(dev, &params, NULL);
	if (!err)
		*upper = dev;
	else if (dev->reg_state == NETREG_UNINITIALIZED)
		free_netdev(dev);

	return err;
}

static void test_delete(struct net_device *dev)
{
	LIST_HEAD(list_kill);

	ipvlan_link_delete(dev, &list_kill);
	unregister_netdevice_many(&list_kill);
}

static void test_end(void)
{
	/* With all its uppers */
	if (test_lower)
		unregister_netdevice(test_lower);
	test_lower = NULL;

	/* Waits until all are freed */
	rtnl_net_unlock(&init_net);
}

static int test_begin(void)
{
	struct net_device *dev;
	int i, err;

	dev = alloc_etherdev(0);
	if (!dev)
		return -ENOMEM;

	strscpy(dev->name, "kulower%d");
	dev->netdev_ops = &test_lower_ops;
	dev->needs_free_netdev = true;
	eth_hw_addr_random(dev);

	rtnl_net_lock(&init_net);

	err = register_netdevice(dev);
	if (err) {
		rtnl_net_unlock(&init_net);
		free_netdev(dev);
		return err;
	}

	test_lower = dev;
	for (i = 0; i < TEST_UPPERS; i++)
		err = test_add_upper(dev, &test_upper[i]) ?: err;

	if (err)
		test_end();

	return err;
}

static unsigned int test_users(void)
{
	struct ipvl_port *port = ipvlan_port_hold(test_lower);
	unsigned int users = 0;

	if (port) {
		users = refcount_read(&port->users.count) - 1;
		ipvlan_port_put(port);
	}

	return users;
}

static void test_last_user_destroys(struct kunit *test)
{
	int i;

	KUNIT_ASSERT_EQ(test, test_begin(), 0);

	for (i = 0; i < TEST_UPPERS; i++) {
		KUNIT_EXPECT_EQ(test, test_users(), TEST_UPPERS - i);
		KUNIT_EXPECT_TRUE(test, netif_is_ipvlan_port(test_lower));
		test_delete(test_upper[i]);
	}

	KUNIT_EXPECT_FALSE(test, netif_is_ipvlan_port(test_lower));
	KUNIT_EXPECT_NULL(test, ipvlan_port_hold(test_lower));

	/* The next upper creates a new port */
	KUNIT_EXPECT_EQ(test, test_add_upper(test_lower, &test_upper[0]), 0);
	KUNIT_EXPECT_EQ(test, test_users(), 1);

	test_end();
}

/* A notifier for the lower holds the port longer than the last upper */
static void test_reader_keeps(struct kunit *test)
{
	struct ipvl_port *port;
	int i;

	KUNIT_ASSERT_EQ(test, test_begin(), 0);

	port = ipvlan_port_hold(test_lower);
	for (i = 0; i < TEST_UPPERS; i++)
		test_delete(test_upper[i]);

	KUNIT_EXPECT_TRUE(test, netif_is_ipvlan_port(test_lower));
	KUNIT_EXPECT_TRUE(test, list_empty(&port->ipvlans));
	KUNIT_EXPECT_EQ(test, refcount_read(&port->users.count), 1);

	ipvlan_port_put(port);
	KUNIT_EXPECT_FALSE(test, netif_is_ipvlan_port(test_lower));

	test_end();
}

static int test_reader(void *data)
{
	while (!kthread_should_stop()) {
		struct ipvl_port *port = ipvlan_port_hold(test_lower);

		if (port)
			ipvlan_port_put(port);
		cond_resched();
	}

	return 0;
}

/* Threads without RTNL look for a port that is created and destroyed. The last
 * put is mostly that of the thread that created it.
 */
static void test_reader_races(struct kunit *test)
{
	struct task_struct *reader[2];
	int i, bad = 0;

	KUNIT_ASSERT_EQ(test, test_begin(), 0);

	for (i = 0; i < TEST_UPPERS; i++)
		test_delete(test_upper[i]);

	for (i = 0; i < ARRAY_SIZE(reader); i++) {
		reader[i] = kthread_run(test_reader, NULL, "ipvlan_reader");
		bad += IS_ERR(reader[i]);
	}

	for (i = 0; i < TEST_RACES && !bad; i++) {
		struct ipvl_port *port = ipvlan_port_join(test_lower);

		if (IS_ERR(port)) {
			bad++;
			break;
		}
		cond_resched();
		ipvlan_port_put(port);
	}

	for (i = 0; i < ARRAY_SIZE(reader); i++)
		if (!IS_ERR(reader[i]))
			kthread_stop(reader[i]);

	KUNIT_EXPECT_EQ(test, bad, 0);
	KUNIT_EXPECT_FALSE(test, netif_is_ipvlan_port(test_lower));

	test_end();
}

/* An upper that is deleted twice is queued once */
static void test_one_winner(struct kunit *test)
{
	struct ipvl_dev *ipvlan;
	struct ipvl_port *port;
	struct net_device *dev;
	LIST_HEAD(list_kill);
	int queued = 0;

	KUNIT_ASSERT_EQ(test, test_begin(), 0);

	ipvlan = netdev_priv(test_upper[0]);
	port = ipvlan->port;

	ipvlan_link_delete(test_upper[0], &list_kill);
	KUNIT_EXPECT_TRUE(test, ipvlan->dead);

	/* NETDEV_UNREGISTER of the lower does not find it */
	ipvlan_port_lock(port);
	list_for_each_entry(ipvlan, &port->ipvlans, pnode)
		queued += ipvlan->dev == test_upper[0];
	ipvlan_port_unlock(port);
	KUNIT_EXPECT_EQ(test, queued, 0);

	ipvlan_link_delete(test_upper[0], &list_kill);
	list_for_each_entry(dev, &list_kill, unreg_list)
		queued++;
	KUNIT_EXPECT_EQ(test, queued, 1);

	unregister_netdevice_many(&list_kill);
	KUNIT_EXPECT_EQ(test, test_users(), TEST_UPPERS - 1);

	test_end();
}

static void test_lower_takes_all(struct kunit *test)
{
	netdevice_tracker tracker;
	struct ipvl_port *port;
	int i, alive = 0;

	KUNIT_ASSERT_EQ(test, test_begin(), 0);

	port = ipvlan_port_hold(test_lower);
	netdev_hold(test_lower, &tracker, GFP_KERNEL);
	unregister_netdevice(test_lower);

	for (i = 0; i < TEST_UPPERS; i++)
		alive += test_upper[i]->reg_state == NETREG_REGISTERED;
	KUNIT_EXPECT_EQ(test, alive, 0);

	ipvlan_port_lock(port);
	KUNIT_EXPECT_TRUE(test, rtnl_port_dying(&port->users));
	ipvlan_port_unlock(port);

	ipvlan_port_put(port);
	KUNIT_EXPECT_FALSE(test, netif_is_ipvlan_port(test_lower));

	netdev_put(test_lower, &tracker);
	test_lower = NULL;

	test_end();
}

static void test_dying_port_refuses(struct kunit *test)
{
	struct ipvl_port *port;
	struct net_device *dev;

	KUNIT_ASSERT_EQ(test, test_begin(), 0);

	port = ((struct ipvl_dev *)netdev_priv(test_upper[0]))->port;
	ipvlan_port_lock(port);
	rtnl_port_kill(&port->users);
	ipvlan_port_unlock(port);

	KUNIT_EXPECT_EQ(test, test_add_upper(test_lower, &dev), -ENODEV);
	KUNIT_EXPECT_EQ(test, test_add_upper(test_upper[0], &dev), -ENODEV);
	KUNIT_EXPECT_EQ(test, test_users(), TEST_UPPERS);

	test_end();
}

static void test_dead_takes_no_address(struct kunit *test)
{
	struct in_addr addr = { .s_addr = htonl(0xc0000201) };
	struct ipvl_dev *ipvlan;
	LIST_HEAD(list_kill);

	KUNIT_ASSERT_EQ(test, test_begin(), 0);

	ipvlan = netdev_priv(test_upper[0]);
	KUNIT_EXPECT_EQ(test, ipvlan_add_addr4(ipvlan, &addr), 0);

	ipvlan_link_delete(test_upper[0], &list_kill);
	KUNIT_EXPECT_TRUE(test, list_empty(&ipvlan->addrs));
	KUNIT_EXPECT_EQ(test, ipvlan_add_addr4(ipvlan, &addr), -ENODEV);
	KUNIT_EXPECT_TRUE(test, list_empty(&ipvlan->addrs));

	unregister_netdevice_many(&list_kill);

	test_end();
}

/* The body of the walk deletes the upper */
static void test_walk_goes_on(struct kunit *test)
{
	struct ipvl_dev *ipvlan;
	struct ipvl_port *port;
	LIST_HEAD(list_kill);
	int last = 0, seen = 0;

	KUNIT_ASSERT_EQ(test, test_begin(), 0);

	port = ipvlan_port_hold(test_lower);
	rtnl_port_for_each_upper(ipvlan, &port->users, test_lower,
				 &port->ipvlans, pnode) {
		seen++;
		last += ipvlan->dev == test_upper[TEST_UPPERS - 1];
		if (ipvlan->dev == test_upper[1])
			ipvlan_link_delete(ipvlan->dev, &list_kill);
	}
	ipvlan_port_put(port);

	/* The walk begins again, so the first upper is seen twice */
	KUNIT_EXPECT_EQ(test, last, 1);
	KUNIT_EXPECT_EQ(test, seen, TEST_UPPERS + 1);

	unregister_netdevice_many(&list_kill);

	test_end();
}

static int test_came_back;

static int test_come_back(struct notifier_block *nb, unsigned long event,
			  void *ptr)
{
	struct net_device *dev = netdev_notifier_info_to_dev(ptr);

	if (test_lower && dev == test_upper[0] && event == NETDEV_CHANGEADDR) {
		test_came_back++;
		call_netdevice_notifiers(NETDEV_CHANGE, test_lower);
	}

	return NOTIFY_DONE;
}

static struct notifier_block test_come_back_nb = {
	.notifier_call	= test_come_back,
};

/* A notifier for an upper calls one for the lower, which acquires the mutex of
 * the port whose uppers are being notified.
 */
static void test_notifier_comes_back(struct kunit *test)
{
	int err;

	test_came_back = 0;
	KUNIT_ASSERT_EQ(test,
			register_netdevice_notifier_shared(&test_come_back_nb),
			0);

	err = test_begin();
	if (!err) {
		call_netdevice_notifiers(NETDEV_CHANGEADDR, test_lower);
		test_end();
	}

	unregister_netdevice_notifier(&test_come_back_nb);

	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_EQ(test, test_came_back, 1);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(test_last_user_destroys),
	KUNIT_CASE(test_reader_keeps),
	KUNIT_CASE_SLOW(test_reader_races),
	KUNIT_CASE(test_one_winner),
	KUNIT_CASE(test_lower_takes_all),
	KUNIT_CASE(test_dying_port_refuses),
	KUNIT_CASE(test_dead_takes_no_address),
	KUNIT_CASE(test_walk_goes_on),
	KUNIT_CASE(test_notifier_comes_back),
	{}
};

static struct kunit_suite test_suite = {
	.name		= "ipvlan",
	.test_cases	= test_cases,
};

kunit_test_suite(test_suite);
