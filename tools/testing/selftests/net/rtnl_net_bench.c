// SPDX-License-Identifier: GPL-2.0
/*
 * Load on RTNL and on the mutexes of network namespaces, measured.
 *
 * A fixed pool of processes does the work: nothing forks per operation. They
 * share their file descriptors but not their memory, since User-mode Linux
 * runs the threads of one process one at a time. Each namespace has a netlink
 * socket of its own, opened once, so nobody changes namespace to talk to one.
 *
 * When is a namespace gone? The last close() only queues its death, and what
 * tells of the end has to be cheap and to take no lock that is measured. A
 * namespace counts against user.max_net_namespaces until cleanup_net() is
 * through with it, and unshare() at the limit fails before it allocates
 * anything or takes RTNL. So the limit is set to what is still alive plus one,
 * and unshare() is tried until it succeeds; the namespace that it then makes
 * is the first one of the next round. The objects in the slab are no measure:
 * each round of cleanup_net() leaves its own for the next one to free. The
 * same limit keeps the dead ones that churn leaves behind from piling up.
 *
 * The result is one line of JSON. Times are in ns of CLOCK_MONOTONIC.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <libmnl/libmnl.h>

#define LIMIT_FILE	"/proc/sys/user/max_net_namespaces"
#define MAX_NS		20000
#define MAX_WORKERS	256
#define MAX_SAMPLES	1000000
/* Levels of stacked devices that the core allows, the lowest one included */
#define MAX_NEST	8
#define GROUP		7777

#define NSEC_PER_SEC	1000000000ULL

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

enum place { CHILD_CHILD, HOST_CHILD, HOST_HOST };
enum peers { PEERS_HOST, PEERS_ONE, PEERS_EACH };
enum load { LOAD_NONE, LOAD_CHURN, LOAD_DISMANTLE, LOAD_UPPERS };

static const char * const place_names[] = {
	"child-child", "host-child", "host-host", NULL
};

static const char * const peers_names[] = { "host", "one", "each", NULL };

static const char * const load_names[] = {
	"none", "churn", "dismantle", "uppers", NULL
};

static const char *scenario;

static struct {
	unsigned int namespaces;
	unsigned int devices;
	unsigned int workers;
	unsigned int seconds;
	unsigned int cycles;
	unsigned int length;
	unsigned int backlog;
	unsigned int gap;
	unsigned int exclusive;
	enum place place;
	enum peers peers;
	enum load load;
	const char *kind;
	const char *trace;
	bool init;
} opt = {
	.namespaces = 100,
	.devices = 10,
	.workers = 1,
	.seconds = 5,
	.cycles = 10,
	.length = 1,
	.backlog = 100,
	.gap = 1000,
	.kind = "ipvlan",
};

struct samples {
	uint64_t num;
	uint64_t sum;
	uint64_t max;
	uint64_t sample[MAX_SAMPLES];
};

/* What the processes share */
struct shared {
	unsigned int live;	/* namespaces not yet let go, by the limit's count */
	bool spare;		/* one of them is spare_fd, for anybody to take */
	bool go;
	bool stop;
	bool record;
	unsigned int ready;
	uint64_t begin;		/* of the last time that was measured, */
	uint64_t end;		/* and its end */
	uint64_t window;	/* ns of all of them */
	uint64_t throttled;	/* ns that workers waited for the backlog */
	uint64_t switches;
	uint64_t uevents;
	uint64_t idle;		/* of all CPUs, in clock ticks */
	struct samples latency;
	struct samples exclusive;	/* of requests that no other may run beside */
};

struct ns {
	int fd;
	struct mnl_socket *sock;
};

static struct shared *sh;
static struct ns host;
static struct ns *ns;
static unsigned int num_workers;
static pid_t worker_pid[MAX_WORKERS];
static bool in_worker;

/* Namespace number n is file descriptor ns_base + n: a range to close at once */
static unsigned int ns_base;
static unsigned int max_ns;
static unsigned int spare_fd;

static int limit_fd = -1;
static int tracing_fd = -1;
static int marker_fd = -1;
static char old_limit[32];
static int old_limit_len;

static void restore_limit(void)
{
	if (limit_fd < 0 || in_worker)
		return;
	if (pwrite(limit_fd, old_limit, old_limit_len, 0) < 0)
		perror("rtnl_net_bench: putting " LIMIT_FILE " back");
}

static noreturn void die(const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "rtnl_net_bench %s: ", scenario ? scenario : "");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);

	if (in_worker) {
		kill(getppid(), SIGTERM);
		_exit(1);
	}
	exit(1);
}

static void on_signal(int sig)
{
	restore_limit();
	_exit(128 + sig);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

static void sleep_us(unsigned int us)
{
	struct timespec ts = {
		.tv_sec = us / 1000000,
		.tv_nsec = us % 1000000 * 1000,
	};

	nanosleep(&ts, NULL);
}

static uint64_t sleep_until(bool *flag)
{
	while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE))
		sleep_us(200);
	return now();
}

static void sample(struct samples *to, uint64_t value)
{
	uint64_t max, num;

	num = __atomic_fetch_add(&to->num, 1, __ATOMIC_RELAXED);
	if (num < MAX_SAMPLES)
		to->sample[num] = value;
	__atomic_fetch_add(&to->sum, value, __ATOMIC_RELAXED);
	max = __atomic_load_n(&to->max, __ATOMIC_RELAXED);
	while (value > max &&
	       !__atomic_compare_exchange_n(&to->max, &max, value, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* Netlink */

static struct mnl_socket *nl_open(void)
{
	struct mnl_socket *sock;

	sock = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!sock || mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) < 0)
		die("a netlink socket: %s", strerror(errno));
	return sock;
}

/* Returns 0 or the error number of the answer */
static int nl_talk(struct ns *in, struct nlmsghdr *nlh)
{
	char buf[16384];
	struct nlmsgerr *err;
	ssize_t len;

	nlh->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	nlh->nlmsg_seq = 1;
	if (mnl_socket_sendto(in->sock, nlh, nlh->nlmsg_len) < 0)
		die("sending a request: %s", strerror(errno));
	len = mnl_socket_recvfrom(in->sock, buf, sizeof(buf));
	if (len < 0)
		die("receiving an answer: %s", strerror(errno));

	nlh = (struct nlmsghdr *)buf;
	if (!mnl_nlmsg_ok(nlh, len) || nlh->nlmsg_type != NLMSG_ERROR)
		die("the kernel answered a request with something strange");
	err = mnl_nlmsg_get_payload(nlh);
	return -err->error;
}

static void nl_must(struct ns *in, struct nlmsghdr *nlh, const char *what,
		    unsigned int idx)
{
	int err = nl_talk(in, nlh);

	if (err)
		die("%s number %u: %s", what, idx, strerror(err));
}

/* Both ends of pair number idx have the same names and indexes anywhere */
static void end_name(char *name, char side, unsigned int idx)
{
	snprintf(name, IFNAMSIZ, "%c%u", side, idx);
}

static int end_index(char side, unsigned int idx)
{
	return 100 + 2 * idx + (side == 'b');
}

static struct ifinfomsg *link_msg(char *buf, struct nlmsghdr **nlh,
				  uint16_t type, uint16_t flags, int index)
{
	struct ifinfomsg *ifm;

	*nlh = mnl_nlmsg_put_header(buf);
	(*nlh)->nlmsg_type = type;
	(*nlh)->nlmsg_flags = flags;
	ifm = mnl_nlmsg_put_extra_header(*nlh, sizeof(*ifm));
	ifm->ifi_index = index;
	return ifm;
}

/* Pair number idx: its end 'a' where the socket is, 'b' in another namespace */
static void pair_add(struct ns *a, struct ns *b, unsigned int idx)
{
	char buf[1024], name[IFNAMSIZ];
	struct nlattr *info, *data, *peer;
	struct ifinfomsg *ifm;
	struct nlmsghdr *nlh;

	link_msg(buf, &nlh, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
		 end_index('a', idx));
	end_name(name, 'a', idx);
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	mnl_attr_put_u32(nlh, IFLA_GROUP, GROUP);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
	ifm = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifm));
	ifm->ifi_index = end_index('b', idx);
	end_name(name, 'b', idx);
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	if (a != b)
		mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, b->fd);
	mnl_attr_nest_end(nlh, peer);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, info);
	nl_must(a, nlh, "creating veth pair", idx);
}

/* Device "u<idx>" on top of the one with that index, in another namespace */
static void upper_add(struct ns *in, int lower, struct ns *to, const char *kind,
		      unsigned int idx)
{
	struct nlattr *info, *data;
	char buf[1024], name[IFNAMSIZ];
	struct nlmsghdr *nlh;

	link_msg(buf, &nlh, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
		 end_index('a', idx));
	end_name(name, 'u', idx);
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	mnl_attr_put_u32(nlh, IFLA_LINK, lower);
	if (in != to)
		mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, to->fd);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, kind);
	data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	if (!strcmp(kind, "vlan"))
		mnl_attr_put_u16(nlh, IFLA_VLAN_ID, 1 + idx % 4094);
	else if (!strcmp(kind, "macvlan"))
		mnl_attr_put_u32(nlh, IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE);
	else if (!strcmp(kind, "ipvlan"))
		mnl_attr_put_u16(nlh, IFLA_IPVLAN_MODE, IPVLAN_MODE_L2);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, info);
	nl_must(in, nlh, "creating an upper device,", idx);
}

static void dummy_add(struct ns *in, unsigned int idx)
{
	char buf[1024], name[IFNAMSIZ];
	struct nlattr *info;
	struct nlmsghdr *nlh;

	link_msg(buf, &nlh, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
		 end_index('a', idx));
	end_name(name, 'a', idx);
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "dummy");
	mnl_attr_nest_end(nlh, info);
	nl_must(in, nlh, "creating dummy device", idx);
}

static void link_up(struct ns *in, int index)
{
	struct ifinfomsg *ifm;
	struct nlmsghdr *nlh;
	char buf[256];

	ifm = link_msg(buf, &nlh, RTM_NEWLINK, 0, index);
	ifm->ifi_flags = IFF_UP;
	ifm->ifi_change = IFF_UP;
	nl_must(in, nlh, "setting up link", index);
}

static void link_del(struct ns *in, int index)
{
	struct nlmsghdr *nlh;
	char buf[256];

	link_msg(buf, &nlh, RTM_DELLINK, 0, index);
	nl_must(in, nlh, "deleting link", index);
}

static void group_del(struct ns *in)
{
	struct nlmsghdr *nlh;
	char buf[256];

	link_msg(buf, &nlh, RTM_DELLINK, 0, 0);
	mnl_attr_put_u32(nlh, IFLA_GROUP, GROUP);
	nl_must(in, nlh, "deleting group", GROUP);
}

/* Of all devices of a group, lo for one: such a request holds RTNL exclusively */
static void group_mtu(struct ns *in, unsigned int mtu)
{
	struct nlmsghdr *nlh;
	char buf[256];

	link_msg(buf, &nlh, RTM_NEWLINK, 0, 0);
	mnl_attr_put_u32(nlh, IFLA_GROUP, 0);
	mnl_attr_put_u32(nlh, IFLA_MTU, mtu);
	nl_must(in, nlh, "changing MTU to", mtu);
}

static void addr4(struct ns *in, uint16_t type, int index, uint32_t addr,
		  unsigned int prefixlen)
{
	struct ifaddrmsg *ifa;
	struct nlmsghdr *nlh;
	char buf[256];

	nlh = mnl_nlmsg_put_header(buf);
	nlh->nlmsg_type = type;
	if (type == RTM_NEWADDR)
		nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_family = AF_INET;
	ifa->ifa_prefixlen = prefixlen;
	ifa->ifa_index = index;
	mnl_attr_put_u32(nlh, IFA_LOCAL, htonl(addr));
	mnl_attr_put_u32(nlh, IFA_ADDRESS, htonl(addr));
	nl_must(in, nlh, "an IPv4 address of link", index);
}

static void addr6(struct ns *in, int index, uint32_t num)
{
	struct in6_addr addr = { .s6_addr = { 0xfd } };
	struct ifaddrmsg *ifa;
	struct nlmsghdr *nlh;
	char buf[256];

	addr.s6_addr32[3] = htonl(num);
	nlh = mnl_nlmsg_put_header(buf);
	nlh->nlmsg_type = RTM_NEWADDR;
	nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_family = AF_INET6;
	ifa->ifa_prefixlen = 127;
	ifa->ifa_flags = IFA_F_NODAD;
	ifa->ifa_index = index;
	mnl_attr_put(nlh, IFA_LOCAL, sizeof(addr), &addr);
	nl_must(in, nlh, "an IPv6 address of link", index);
}

static void route4(struct ns *in, uint16_t type, int index, uint32_t dst)
{
	struct nlmsghdr *nlh;
	struct rtmsg *rtm;
	char buf[256];

	nlh = mnl_nlmsg_put_header(buf);
	nlh->nlmsg_type = type;
	if (type == RTM_NEWROUTE)
		nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	rtm->rtm_family = AF_INET;
	rtm->rtm_dst_len = 32;
	rtm->rtm_table = RT_TABLE_MAIN;
	rtm->rtm_protocol = RTPROT_STATIC;
	rtm->rtm_scope = RT_SCOPE_LINK;
	rtm->rtm_type = RTN_UNICAST;
	mnl_attr_put_u32(nlh, RTA_DST, htonl(dst));
	mnl_attr_put_u32(nlh, RTA_OIF, index);
	nl_must(in, nlh, "a route by link", index);
}

/* One end of pair number idx: two addresses, up, a route */
static void end_configure(struct ns *in, char side, unsigned int idx)
{
	uint32_t num = 2 * idx + (side == 'b');
	int index = end_index(side, idx);

	addr4(in, RTM_NEWADDR, index, 0x0a000000 + num, 31);
	addr6(in, index, num);
	link_up(in, index);
	route4(in, RTM_NEWROUTE, index, 0x0b000000 + num);
}

static void pair_configure(struct ns *a, struct ns *b, unsigned int idx)
{
	end_configure(a, 'a', idx);
	end_configure(b, 'b', idx);
}

/* Network namespaces */

static void set_limit(unsigned int limit)
{
	char buf[16];
	int len;

	len = snprintf(buf, sizeof(buf), "%u", limit);
	if (pwrite(limit_fd, buf, len, 0) != len)
		die("writing " LIMIT_FILE ": %s", strerror(errno));
}

static void ns_enter(int fd)
{
	if (setns(fd, CLONE_NEWNET) < 0)
		die("setns: %s", strerror(errno));
}

static void ns_fd_at(int want)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || dup3(fd, want, O_CLOEXEC) < 0)
		die("a file descriptor for a namespace: %s", strerror(errno));
	close(fd);
}

/* False if the limit allows no more */
static bool ns_unshare(void)
{
	if (!unshare(CLONE_NEWNET))
		return true;
	if (errno != ENOSPC)
		die("creating a network namespace: %s", strerror(errno));
	return false;
}

/* Make namespace number num; where the limit is in the way, wait */
static struct ns *ns_make(unsigned int num)
{
	uint64_t since;

	if (num >= max_ns)
		die("%u namespaces take more open files than are allowed", num + 1);
	if (__atomic_exchange_n(&sh->spare, false, __ATOMIC_ACQ_REL)) {
		ns_enter(spare_fd);
		close(spare_fd);
	} else {
		if (!ns_unshare()) {
			since = now();
			do {
				sleep_us(500);
			} while (!ns_unshare());
			__atomic_fetch_add(&sh->throttled, now() - since,
					   __ATOMIC_RELAXED);
		}
		__atomic_fetch_add(&sh->live, 1, __ATOMIC_RELAXED);
	}
	ns_fd_at(ns[num].fd);
	ns[num].sock = nl_open();
	ns_enter(host.fd);
	return &ns[num];
}

/* Sockets hold a namespace, too: these go first, the last one to kill it later */
static void ns_close_socket(unsigned int num)
{
	if (ns[num].sock)
		mnl_socket_close(ns[num].sock);
	ns[num].sock = NULL;
}

/* Let these namespaces die, with one system call */
static void ns_kill(unsigned int first, unsigned int count)
{
	__atomic_fetch_sub(&sh->live, count, __ATOMIC_RELAXED);
	if (close_range(ns_base + first, ns_base + first + count - 1, 0) < 0)
		die("close_range: %s", strerror(errno));
}

/* Wait until all namespaces that were let go are freed, return when that was */
static uint64_t ns_wait_freed(void)
{
	unsigned int tries = 0;
	uint64_t freed;

	if (__atomic_exchange_n(&sh->spare, false, __ATOMIC_ACQ_REL)) {
		sh->live--;
		close(spare_fd);
	}
	set_limit(sh->live + 1);
	while (!ns_unshare()) {
		sleep_us(500);
		if (++tries == 2 * 300 * 1000)
			die("dead network namespaces are still not freed after 300 s");
	}
	freed = now();
	ns_fd_at(spare_fd);
	ns_enter(host.fd);
	sh->live++;
	__atomic_store_n(&sh->spare, true, __ATOMIC_RELEASE);
	set_limit(sh->live + MAX_NS);
	return freed;
}

/* A namespace takes a file descriptor and one for its socket */
static void prepare_files(void)
{
	struct rlimit files = { 2 * MAX_NS + 100, 2 * MAX_NS + 100 };

	if (setrlimit(RLIMIT_NOFILE, &files) < 0) {
		if (getrlimit(RLIMIT_NOFILE, &files) < 0)
			die("getrlimit: %s", strerror(errno));
		files.rlim_cur = files.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &files) < 0)
			die("setrlimit: %s", strerror(errno));
	}
	max_ns = MAX_NS;
	if (files.rlim_cur < 2 * MAX_NS + 100)
		max_ns = files.rlim_cur / 2 - 50;
	spare_fd = files.rlim_cur - 1;
	ns_base = spare_fd - max_ns;
}

static int trace_open(const char *name)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", opt.trace, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

static void prepare(void)
{
	unsigned int i;

	prepare_files();
	if (opt.trace) {
		tracing_fd = trace_open("tracing_on");
		marker_fd = trace_open("trace_marker");
	}
	if (!opt.init && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		die("namespaces of our own: %s", strerror(errno));

	limit_fd = open(LIMIT_FILE, O_RDWR | O_CLOEXEC);
	if (limit_fd < 0)
		die(LIMIT_FILE ": %s", strerror(errno));
	old_limit_len = read(limit_fd, old_limit, sizeof(old_limit));
	if (old_limit_len <= 0)
		die(LIMIT_FILE " cannot be read");
	atexit(restore_limit);

	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sh == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	ns = calloc(MAX_NS, sizeof(*ns));
	if (!ns)
		die("out of memory");
	for (i = 0; i < MAX_NS; i++)
		ns[i].fd = ns_base + i;

	host.fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (host.fd < 0)
		die("/proc/self/ns/net: %s", strerror(errno));
	host.sock = nl_open();
	/* The initial one does not count, one of our own does */
	sh->live = !opt.init;
	if (opt.init) {
		set_limit(1);
		for (i = 0; !ns_unshare(); i++) {
			if (i == 30000)
				die("this user has other network namespaces: run it without -i");
			sleep_us(10000);
		}
		ns_fd_at(spare_fd);
		ns_enter(host.fd);
		sh->live = 1;
		sh->spare = true;
	}
	set_limit(sh->live + MAX_NS);
}

/* A namespace takes about 150 kB, a configured device 50 kB */
static void check_memory(unsigned int namespaces, unsigned int devices)
{
	unsigned long need = namespaces * 150UL + devices * 50UL;
	unsigned long have = 0;
	char line[128];
	FILE *file;

	file = fopen("/proc/meminfo", "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "MemAvailable: %lu", &have) == 1)
			break;
	}
	if (file)
		fclose(file);
	if (have && have < need)
		die("%u namespaces with %u devices need %lu MB of memory, there are %lu",
		    namespaces, devices, need / 1024, have / 1024);
}

/* Processes */

/* A uevent for each kobject that comes or goes, if sysfs is there to tell */
static uint64_t uevents(void)
{
	unsigned long long value = 0;
	FILE *file;

	file = fopen("/sys/kernel/uevent_seqnum", "r");
	if (file) {
		if (fscanf(file, "%llu", &value) != 1)
			value = 0;
		fclose(file);
	}
	return value;
}

/* What the kernel counted since it booted, added to the result or subtracted */
static void count_kernel(int sign)
{
	unsigned long long idle, iowait;
	char line[4096];
	FILE *file;

	file = fopen("/proc/stat", "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "ctxt ", 5))
			sh->switches += sign * strtoull(line + 5, NULL, 10);
		if (!strncmp(line, "cpu ", 4) &&
		    sscanf(line + 4, "%*u %*u %*u %llu %llu", &idle, &iowait) == 2)
			sh->idle += sign * (idle + iowait);
	}
	if (file)
		fclose(file);
	sh->uevents += sign * uevents();
}

/* An event that tells one time that is measured from the next */
static void mark(const char *text)
{
	if (marker_fd >= 0 && write(marker_fd, text, strlen(text)) < 0)
		die("marking the trace: %s", strerror(errno));
}

static void window_begin(void)
{
	count_kernel(-1);
	if (tracing_fd >= 0 && write(tracing_fd, "1", 1) < 0)
		die("turning tracing on: %s", strerror(errno));
	mark("begin");
	sh->begin = now();
}

static void window_end(void)
{
	sh->end = now();
	sh->window += sh->end - sh->begin;
	mark("end");
	if (tracing_fd >= 0 && write(tracing_fd, "0", 1) < 0)
		die("turning tracing off: %s", strerror(errno));
	count_kernel(1);
}

static void worker_ready(void)
{
	__atomic_fetch_add(&sh->ready, 1, __ATOMIC_ACQ_REL);
	sleep_until(&sh->go);
}

/*
 * A process that shares file descriptors, but neither memory nor namespaces.
 * What it leaves open stays so when it ends.
 */
static void worker_start(void (*func)(unsigned int id), unsigned int id)
{
	pid_t pid;

	pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (pid < 0)
		die("a worker: %s", strerror(errno));
	if (!pid) {
		in_worker = true;
		signal(SIGTERM, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* A socket has one user. */
		host.sock = nl_open();
		func(id);
		mnl_socket_close(host.sock);
		_exit(0);
	}
	worker_pid[num_workers++] = pid;
}

static void workers_ready(void)
{
	while (__atomic_load_n(&sh->ready, __ATOMIC_ACQUIRE) < num_workers)
		sleep_us(500);
}

static void workers_go(void)
{
	__atomic_store_n(&sh->go, true, __ATOMIC_RELEASE);
}

static void workers_stop(void)
{
	__atomic_store_n(&sh->stop, true, __ATOMIC_RELEASE);
}

static void workers_wait(void)
{
	int status;

	while (num_workers) {
		if (waitpid(worker_pid[--num_workers], &status, 0) < 0)
			die("waitpid: %s", strerror(errno));
		if (status)
			die("a worker failed with status %d", status);
	}
}

/* The result */

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

static uint64_t percentile(const struct samples *of, uint64_t num,
			   unsigned int percent)
{
	return of->sample[(num * percent + 99) / 100 - 1];
}

static void json_num(const char *name, uint64_t value)
{
	printf(", \"%s\": %llu", name, (unsigned long long)value);
}

static void json_str(const char *name, const char *value)
{
	printf(", \"%s\": \"%s\"", name, value);
}

static void json_begin(void)
{
	struct utsname uts;

	uname(&uts);
	printf("{\"scenario\": \"%s\"", scenario);
	json_str("release", uts.release);
}

static void json_samples(const char *name, struct samples *of)
{
	uint64_t num = of->num < MAX_SAMPLES ? of->num : MAX_SAMPLES;

	if (!num)
		return;
	qsort(of->sample, num, sizeof(of->sample[0]), compare);
	printf(", \"%s\": {\"samples\": %llu", name, (unsigned long long)of->num);
	json_num("mean", of->sum / of->num);
	json_num("p50", percentile(of, num, 50));
	json_num("p99", percentile(of, num, 99));
	json_num("max", of->max);
	printf("}");
}

static void json_end(void)
{
	json_num("window_ns", sh->window);
	json_num("switches", sh->switches);
	json_num("uevents", sh->uevents);
	json_num("idle_ns", sh->idle * (NSEC_PER_SEC / sysconf(_SC_CLK_TCK)));
	json_samples("latency_ns", &sh->latency);
	json_samples("exclusive_ns", &sh->exclusive);
	printf("}\n");
	if (fflush(stdout))
		die("the result cannot be written: %s", strerror(errno));
}

/* setup: namespaces with configured devices, by many workers */

static unsigned int slice_begin(unsigned int id)
{
	return (uint64_t)opt.namespaces * id / opt.workers;
}

static void setup_pairs(struct ns *a, struct ns *b, unsigned int idx,
			unsigned int count)
{
	for (; count; count--, idx++) {
		pair_add(a, b, idx);
		pair_configure(a, b, idx);
	}
}

/*
 * Between children, a namespace shares half of its devices with the one before
 * and half with the one after; the first and last of a worker close the ring.
 */
static void setup_worker(unsigned int id)
{
	unsigned int i, first = slice_begin(id), end = slice_begin(id + 1);
	unsigned int half = opt.devices / 2;
	uint64_t begin;

	worker_ready();
	for (i = first; i < end; i++) {
		begin = now();
		switch (opt.place) {
		case CHILD_CHILD:
			ns_make(i);
			if (i > first)
				setup_pairs(&ns[i], &ns[i - 1], i * half, half);
			if (i == end - 1)
				setup_pairs(&ns[first], &ns[i], first * half, half);
			break;
		case HOST_CHILD:
			ns_make(i);
			setup_pairs(&ns[i], &host, i * opt.devices, opt.devices);
			break;
		case HOST_HOST:
			setup_pairs(&host, &host, i * half, half);
			break;
		}
		sample(&sh->latency, now() - begin);
		/* The first one's is needed to the end */
		if (i > first + 1)
			ns_close_socket(i - 1);
	}
	if (end > first)
		ns_close_socket(end - 1);
	ns_close_socket(first);
}

static void setup(void)
{
	unsigned int devices = opt.devices * opt.namespaces;
	uint64_t begin, teardown;
	unsigned int i;

	if (opt.namespaces < opt.workers)
		die("%u namespaces are too few for %u workers", opt.namespaces,
		    opt.workers);
	if (opt.devices % 2 && opt.place != HOST_CHILD)
		die("-D %u: an even number of devices is needed", opt.devices);
	check_memory(opt.place == HOST_HOST ? 0 : opt.namespaces,
		     opt.place == HOST_CHILD ? 2 * devices : devices);

	for (i = 0; i < opt.workers; i++)
		worker_start(setup_worker, i);
	workers_ready();
	window_begin();
	workers_go();
	workers_wait();
	window_end();

	begin = now();
	if (opt.place == HOST_HOST) {
		group_del(&host);
		teardown = now();
	} else {
		ns_kill(0, opt.namespaces);
		teardown = ns_wait_freed();
	}
	json_begin();
	json_num("namespaces", opt.namespaces);
	json_num("devices", opt.devices);
	json_num("workers", opt.workers);
	json_str("place", place_names[opt.place]);
	json_num("each_ns", (sh->end - sh->begin) / opt.namespaces);
	json_num("teardown_ns", (teardown - begin));
	json_end();
}

/* churn: namespaces come and go, each with a pair */

static void churn_cycle(unsigned int id, struct ns *lasting)
{
	unsigned int num = opt.workers + id;
	struct ns *fresh = ns_make(num);
	struct ns *a = opt.place == HOST_HOST ? lasting : fresh;

	pair_add(a, lasting, id);
	pair_configure(a, lasting, id);
	link_del(a, end_index('a', id));
	ns_close_socket(num);
	ns_kill(num, 1);
}

static void churn_worker(unsigned int id)
{
	struct ns *lasting = &host;
	uint64_t begin;

	if (opt.place == CHILD_CHILD)
		lasting = ns_make(id);
	worker_ready();
	while (!__atomic_load_n(&sh->stop, __ATOMIC_RELAXED)) {
		begin = now();
		churn_cycle(id, lasting);
		if (opt.load == LOAD_NONE)
			sample(&sh->latency, now() - begin);
	}
	ns_close_socket(id);
}

static void churn_start(void)
{
	unsigned int i;

	for (i = 0; i < opt.workers; i++)
		worker_start(churn_worker, i);
}

static void churn(void)
{
	unsigned int lasting = opt.place == CHILD_CHILD ? opt.workers : 0;
	uint64_t begin, freed, cycles;

	churn_start();
	workers_ready();
	freed = ns_wait_freed();
	sh->throttled = 0;
	set_limit(sh->live + opt.backlog);
	window_begin();
	workers_go();
	begin = sh->begin;
	sleep(opt.seconds);
	workers_stop();
	workers_wait();
	cycles = sh->latency.num;
	freed = ns_wait_freed();
	window_end();
	if (lasting)
		ns_kill(0, lasting);
	json_begin();
	json_num("workers", opt.workers);
	json_num("seconds", opt.seconds);
	json_str("place", place_names[opt.place]);
	json_num("backlog", opt.backlog);
	json_num("cycles", cycles);
	json_num("freed_ns", freed - begin);
	json_num("throttled_ns", sh->throttled);
	json_end();
}

/* dismantle: many namespaces die at once */

static void dismantle_build(unsigned int first, unsigned int count)
{
	unsigned int i, k, idx = 0;
	struct ns *peer;

	for (i = first; i < first + count; i++) {
		ns_make(i);
		if (opt.peers == PEERS_HOST)
			peer = &host;
		else
			peer = &ns[opt.peers == PEERS_ONE ? 0 : i - first];
		for (k = 0; k < opt.devices; k++, idx++) {
			pair_add(&ns[i], peer, idx);
			pair_configure(&ns[i], peer, idx);
		}
		ns_close_socket(i);
	}
}

static void dismantle(void)
{
	unsigned int peers = 0, i, first;
	uint64_t begin;

	if (opt.peers == PEERS_ONE)
		peers = 1;
	else if (opt.peers == PEERS_EACH)
		peers = opt.namespaces;
	check_memory(peers + opt.namespaces,
		     2 * opt.devices * opt.namespaces);
	for (i = 0; i < peers; i++)
		ns_make(i);
	first = peers;

	for (i = 0; i < opt.cycles; i++) {
		dismantle_build(first, opt.namespaces);
		window_begin();
		begin = now();
		ns_kill(first, opt.namespaces);
		sample(&sh->latency, ns_wait_freed() - begin);
		window_end();
	}
	json_begin();
	json_num("namespaces", opt.namespaces);
	json_num("devices", opt.devices);
	json_num("cycles", opt.cycles);
	json_str("peers", peers_names[opt.peers]);
	json_end();
}

/* bystander: what a quiet namespace notices of all that */

static void bystander_worker(unsigned int num)
{
	uint64_t begin, took;
	bool record;

	ns_make(num);
	link_up(&ns[num], 1);
	worker_ready();
	while (!__atomic_load_n(&sh->stop, __ATOMIC_RELAXED)) {
		record = __atomic_load_n(&sh->record, __ATOMIC_RELAXED);
		begin = now();
		addr4(&ns[num], RTM_NEWADDR, 1, 0x0a0a0a0a, 32);
		addr4(&ns[num], RTM_DELADDR, 1, 0x0a0a0a0a, 32);
		took = now() - begin;
		/* In the load's time, at least at one end */
		if (record || __atomic_load_n(&sh->record, __ATOMIC_RELAXED))
			sample(&sh->latency, took);
		sleep_us(opt.gap);
	}
	ns_close_socket(num);
	ns_kill(num, 1);
}

/* Another one, that has all wait for it each time */
static void exclusive_worker(unsigned int num)
{
	unsigned int mtu = 1500;
	uint64_t begin, took;
	bool record;

	ns_make(num);
	worker_ready();
	while (!__atomic_load_n(&sh->stop, __ATOMIC_RELAXED)) {
		record = __atomic_load_n(&sh->record, __ATOMIC_RELAXED);
		begin = now();
		group_mtu(&ns[num], mtu++ % 1000 + 1500);
		took = now() - begin;
		if (record || __atomic_load_n(&sh->record, __ATOMIC_RELAXED))
			sample(&sh->exclusive, took);
		sleep_us(1000 * opt.exclusive);
	}
	ns_close_socket(num);
	ns_kill(num, 1);
}

static void record(bool on)
{
	__atomic_store_n(&sh->record, on, __ATOMIC_RELAXED);
}

/* Namespace 0, or what stands for it, dies with its many devices */
static void bystander_dismantle(void)
{
	struct ns *peer = &host;
	unsigned int i;

	if (opt.place == CHILD_CHILD)
		peer = ns[1].sock ? &ns[1] : ns_make(1);
	ns_make(0);
	for (i = 0; i < opt.devices; i++) {
		pair_add(&ns[0], peer, i);
		link_up(&ns[0], end_index('a', i));
		link_up(peer, end_index('b', i));
	}
	ns_close_socket(0);
	record(true);
	window_begin();
	ns_kill(0, 1);
	ns_wait_freed();
	window_end();
	record(false);
}

/* A device dies on which there are many others */
static void bystander_uppers(void)
{
	struct ns *lower = &host, *to;
	unsigned int i;

	if (opt.place == CHILD_CHILD)
		lower = ns[0].sock ? &ns[0] : ns_make(0);
	dummy_add(lower, 0);
	link_up(lower, end_index('a', 0));
	for (i = 1; i <= opt.devices; i++) {
		to = lower;
		if (opt.place != HOST_HOST)
			to = ns[i].sock ? &ns[i] : ns_make(i);
		upper_add(lower, end_index('a', 0), to, opt.kind, i);
		link_up(to, end_index('a', i));
	}
	record(true);
	window_begin();
	link_del(lower, end_index('a', 0));
	window_end();
	record(false);
}

static void bystander(void)
{
	unsigned int i;

	if (opt.place == HOST_HOST && opt.load == LOAD_DISMANTLE)
		die("-p host-host: a namespace that dies is not the host");
	if (opt.load == LOAD_DISMANTLE || opt.load == LOAD_UPPERS)
		check_memory(opt.load == LOAD_UPPERS ? opt.devices : 2,
			     2 * opt.devices);

	worker_start(bystander_worker, max_ns - 1);
	if (opt.exclusive)
		worker_start(exclusive_worker, max_ns - 2);
	if (opt.load == LOAD_CHURN)
		churn_start();
	workers_ready();
	if (opt.load == LOAD_CHURN)
		set_limit(sh->live + opt.backlog);
	workers_go();

	switch (opt.load) {
	case LOAD_NONE:
	case LOAD_CHURN:
		record(true);
		window_begin();
		sleep(opt.seconds);
		window_end();
		record(false);
		break;
	case LOAD_DISMANTLE:
	case LOAD_UPPERS:
		for (i = 0; i < opt.cycles; i++)
			opt.load == LOAD_DISMANTLE ? bystander_dismantle() : bystander_uppers();
		break;
	}
	workers_stop();
	workers_wait();
	json_begin();
	json_str("load", load_names[opt.load]);
	json_str("place", place_names[opt.place]);
	json_num("workers", opt.workers);
	json_num("seconds", opt.seconds);
	json_num("devices", opt.devices);
	json_num("cycles", opt.cycles);
	json_str("kind", opt.kind);
	json_num("gap_us", opt.gap);
	json_num("exclusive_ms", opt.exclusive);
	json_end();
}

/* delete: one command that takes devices of other namespaces along */

/*
 * A pair between the first two namespaces, then one vlan on top of the other,
 * each in a namespace of its own. Where devices may not be stacked higher, the
 * remaining ones stand beside the last one.
 */
static void chain_build(struct ns **at)
{
	int lower = end_index('b', 0);
	struct ns *in = at[1];
	unsigned int i;

	pair_add(at[0], at[1], 0);
	link_up(at[0], end_index('a', 0));
	link_up(at[1], lower);
	for (i = 2; i <= opt.length; i++) {
		upper_add(in, lower, at[i], "vlan", i);
		link_up(at[i], end_index('a', i));
		if (i < MAX_NEST) {
			in = at[i];
			lower = end_index('a', i);
		}
	}
}

static void delete_chains(void)
{
	struct ns *at[MAX_WORKERS];
	unsigned int i;
	uint64_t begin;

	if (opt.length + 1 > MAX_WORKERS)
		die("-l %u: a chain this long is not supported", opt.length);
	for (i = 0; i <= opt.length; i++) {
		if (opt.place == HOST_HOST || (opt.place == HOST_CHILD && !i))
			at[i] = &host;
		else
			at[i] = ns_make(i);
	}
	for (i = 0; i < opt.cycles; i++) {
		chain_build(at);
		window_begin();
		begin = now();
		link_del(at[0], end_index('a', 0));
		sample(&sh->latency, now() - begin);
		window_end();
	}
	json_begin();
	json_num("length", opt.length);
	json_num("cycles", opt.cycles);
	json_str("place", place_names[opt.place]);
	json_end();
}

/* create: pairs come one by one, and go where it does not count */

static void create(void)
{
	struct ns *a = &host, *b = &host;
	uint64_t begin;
	unsigned int i;

	if (opt.place == CHILD_CHILD)
		b = ns_make(1);
	if (opt.place != HOST_HOST)
		a = ns_make(0);
	/* The first one may load a module */
	pair_add(a, b, 0);
	link_del(a, end_index('a', 0));
	for (i = 0; i < opt.cycles; i++) {
		window_begin();
		begin = now();
		pair_add(a, b, 0);
		sample(&sh->latency, now() - begin);
		window_end();
		link_del(a, end_index('a', 0));
	}
	json_begin();
	json_num("cycles", opt.cycles);
	json_str("place", place_names[opt.place]);
	json_end();
}

/* requests: namespaces that have nothing to do with each other, side by side */

static void requests_worker(unsigned int id)
{
	int index = end_index('a', 0);
	struct ns *in = ns_make(id);
	unsigned int i;

	dummy_add(in, 0);
	link_up(in, index);
	worker_ready();
	for (i = 0; i < opt.cycles; i++) {
		addr4(in, RTM_NEWADDR, index, 0x0a000000, 32);
		route4(in, RTM_NEWROUTE, index, 0x0b000000);
		route4(in, RTM_DELROUTE, index, 0x0b000000);
		addr4(in, RTM_DELADDR, index, 0x0a000000, 32);
	}
	ns_close_socket(id);
}

static void requests(void)
{
	unsigned int i;

	for (i = 0; i < opt.workers; i++)
		worker_start(requests_worker, i);
	workers_ready();
	window_begin();
	workers_go();
	workers_wait();
	window_end();
	ns_kill(0, opt.workers);
	json_begin();
	json_num("workers", opt.workers);
	json_num("cycles", opt.cycles);
	json_num("operations", 4ULL * opt.cycles * opt.workers);
	json_end();
}

/* Arguments */

static const struct command {
	const char *name;
	void (*func)(void);
	const char *options;
	const char *help[3];
} commands[] = {
	{ "setup", setup, "nDwp", {
		"-w workers create -n namespaces with -D devices each and configure",
		"these" } },
	{ "churn", churn, "wdpb", {
		"for -d seconds, -w workers create a namespace and a pair, configure",
		"it, delete both; -b dead namespaces at most may wait to be freed" } },
	{ "dismantle", dismantle, "nDcq", {
		"-c times, -n namespaces with -D devices each die at once; the peers",
		"live in the -q host, one namespace, or each in one of its own" } },
	{ "bystander", bystander, "LdwDcpbkgx", {
		"every -g us, add and delete an address in a quiet namespace, with",
		"-L none, churn (-dwpb), dismantle (-cDp) or uppers (-cDpk); every -x",
		"ms, a request in another one excludes all others" } },
	{ "delete", delete_chains, "lcp", {
		"-c times, delete the first device of a chain that ends -l namespaces",
		"further" } },
	{ "create", create, "cp", {
		"-c times, create a pair of devices" } },
	{ "requests", requests, "wc", {
		"-c times, -w workers add and delete an address and a route, each in",
		"a namespace of its own" } },
};

static noreturn void usage(FILE *to)
{
	unsigned int i, line;

	fprintf(to, "How to call it: rtnl_net_bench SCENARIO [OPTION...]\n");
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].help[0]);
		for (line = 1; line < ARRAY_SIZE(commands[i].help); line++)
			if (commands[i].help[line])
				fprintf(to, "             %s\n",
					commands[i].help[line]);
	}
	fprintf(to, "  -p PLACE   of a pair's ends: child-child, host-child, host-host\n");
	fprintf(to, "  -k KIND    of upper devices: ipvlan, macvlan, vlan\n");
	fprintf(to, "  -i         the caller's namespace is the host, not a new one\n");
	fprintf(to, "  -T DIR     a tracing instance: tracing_on while it is measured\n");
	exit(to == stderr ? 2 : 0);
}

static unsigned int number(char option, const char *text, unsigned int max)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || *end || end == text || *text == '-' || !value || value > max)
		die("-%c %s is not one of 1 to %u", option, text, max);
	return value;
}

static int word(char option, const char *text, const char * const *names)
{
	char all[128] = "";
	int i;

	for (i = 0; names[i]; i++) {
		if (!strcmp(text, names[i]))
			return i;
		strcat(all, " ");
		strcat(all, names[i]);
	}
	die("-%c %s is none of:%s", option, text, all);
}

static void arguments(int argc, char **argv, const struct command *command)
{
	int c;

	if (command->func == delete_chains)
		opt.cycles = 50;
	while ((c = getopt(argc, argv, "n:D:w:d:c:l:p:q:L:k:b:g:x:T:i")) != -1) {
		if (c == '?')
			usage(stderr);
		if (c != 'T' && c != 'i' && !strchr(command->options, c))
			die("-%c means nothing here", c);
		switch (c) {
		case 'n':
			opt.namespaces = number(c, optarg, MAX_NS / 2 - 1);
			break;
		case 'D':
			opt.devices = number(c, optarg, 10000);
			break;
		case 'w':
			opt.workers = number(c, optarg, MAX_WORKERS - 1);
			break;
		case 'd':
			opt.seconds = number(c, optarg, 3600);
			break;
		case 'c':
			opt.cycles = number(c, optarg, 1000000);
			break;
		case 'l':
			opt.length = number(c, optarg, MAX_WORKERS - 2);
			break;
		case 'b':
			opt.backlog = number(c, optarg, MAX_NS);
			break;
		case 'g':
			opt.gap = number(c, optarg, 1000000);
			break;
		case 'x':
			opt.exclusive = number(c, optarg, 1000);
			break;
		case 'p':
			opt.place = word(c, optarg, place_names);
			break;
		case 'q':
			opt.peers = word(c, optarg, peers_names);
			break;
		case 'L':
			opt.load = word(c, optarg, load_names);
			break;
		case 'k':
			opt.kind = optarg;
			break;
		case 'T':
			opt.trace = optarg;
			break;
		case 'i':
			opt.init = true;
			break;
		}
	}
	if (optind < argc)
		die("%s: only options are expected here", argv[optind]);
}

int main(int argc, char **argv)
{
	const struct command *command = NULL;
	unsigned int i;

	if (argc < 2)
		usage(stderr);
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))
		usage(stdout);
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(argv[1], commands[i].name))
			command = &commands[i];
	}
	if (!command)
		die("%s is no scenario, see -h", argv[1]);
	scenario = command->name;
	arguments(argc - 1, argv + 1, command);

	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	prepare();
	command->func();
	return 0;
}
