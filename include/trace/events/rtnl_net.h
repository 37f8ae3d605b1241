/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rtnl_net

#if !defined(_TRACE_RTNL_NET_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_RTNL_NET_H

#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/tracepoint.h>
#include <net/net_namespace.h>
#include <net/rtnetlink.h>

/* User space relies on the names and fields. They are described in
 * Documentation/networking/per_netns_rtnl_trace.rst.
 */
#ifdef CONFIG_NET_SMALL_RTNL

#ifndef __RTNL_NET_TRACE_ENUM_ONCE
#define __RTNL_NET_TRACE_ENUM_ONCE

enum rtnl_net_queued_how {
	RTNL_NET_QUEUED_AT_HOME,	/* on the caller's kill list, or now */
	RTNL_NET_QUEUED_PENDING,	/* on the pending list of its netns */
	RTNL_NET_QUEUED_CLAIMED,	/* one of a pair; on either list */
	RTNL_NET_QUEUED_SENT_HOME,	/* from a kill list to the pending list */
	RTNL_NET_QUEUED_TAKEN,		/* from the pending list to a kill list */
	RTNL_NET_QUEUED_MOVED,		/* to the pending list of another netns */
};

#endif

TRACE_DEFINE_ENUM(RTNL_NET_QUEUED_AT_HOME);
TRACE_DEFINE_ENUM(RTNL_NET_QUEUED_PENDING);
TRACE_DEFINE_ENUM(RTNL_NET_QUEUED_CLAIMED);
TRACE_DEFINE_ENUM(RTNL_NET_QUEUED_SENT_HOME);
TRACE_DEFINE_ENUM(RTNL_NET_QUEUED_TAKEN);
TRACE_DEFINE_ENUM(RTNL_NET_QUEUED_MOVED);

TRACE_DEFINE_ENUM(RTNL_GATE_SHARED);
TRACE_DEFINE_ENUM(RTNL_GATE_CALLER);
TRACE_DEFINE_ENUM(RTNL_GATE_HANDLER);
TRACE_DEFINE_ENUM(RTNL_GATE_KIND);
TRACE_DEFINE_ENUM(RTNL_GATE_FOREIGN);
TRACE_DEFINE_ENUM(RTNL_GATE_REQUEST);

/* A lock is RTNL itself if @net is NULL, @net's mutex otherwise */
DECLARE_EVENT_CLASS(rtnl_net_lock,
		    TP_PROTO(const struct net *net, unsigned long caller),
		    TP_ARGS(net, caller),
		    TP_STRUCT__entry(__field(u64, net_cookie)
				     __field(unsigned long, caller)
				     __field(unsigned int, net_inum)),
		    TP_fast_assign(__entry->net_cookie = net ? net->net_cookie : 0;
				   __entry->caller = caller;
				   __entry->net_inum = net ? net->ns.inum : 0;),
		    TP_printk("net_inum=%u net_cookie=%llu caller=%pS",
			      __entry->net_inum, __entry->net_cookie,
			      (void *)__entry->caller)
);

DEFINE_EVENT(rtnl_net_lock, rtnl_net_lock_request,
	     TP_PROTO(const struct net *net, unsigned long caller),
	     TP_ARGS(net, caller)
);

TRACE_EVENT(rtnl_net_lock_acquired,
	    TP_PROTO(const struct net *net, enum rtnl_gate gate,
		     unsigned long caller),
	    TP_ARGS(net, gate, caller),
	    TP_STRUCT__entry(__field(u64, net_cookie)
			     __field(unsigned long, caller)
			     __field(unsigned int, net_inum)
			     __field(int, gate)),
	    TP_fast_assign(__entry->net_cookie = net ? net->net_cookie : 0;
			   __entry->caller = caller;
			   __entry->net_inum = net ? net->ns.inum : 0;
			   __entry->gate = gate;),
	    TP_printk("net_inum=%u net_cookie=%llu caller=%pS rtnl=%s",
		      __entry->net_inum, __entry->net_cookie,
		      (void *)__entry->caller,
		      __print_symbolic(__entry->gate,
				       { RTNL_GATE_SHARED, "shared" },
				       { RTNL_GATE_CALLER, "exclusive" },
				       { RTNL_GATE_HANDLER, "exclusive:handler" },
				       { RTNL_GATE_KIND, "exclusive:kind" },
				       { RTNL_GATE_FOREIGN, "exclusive:foreign" },
				       { RTNL_GATE_REQUEST, "exclusive:request" }))
);

DEFINE_EVENT(rtnl_net_lock, rtnl_net_lock_release,
	     TP_PROTO(const struct net *net, unsigned long caller),
	     TP_ARGS(net, caller)
);

TRACE_EVENT(rtnl_net_lock_failed,
	    TP_PROTO(const struct net *net, int err, unsigned long caller),
	    TP_ARGS(net, err, caller),
	    TP_STRUCT__entry(__field(u64, net_cookie)
			     __field(unsigned long, caller)
			     __field(unsigned int, net_inum)
			     __field(int, err)),
	    TP_fast_assign(__entry->net_cookie = net ? net->net_cookie : 0;
			   __entry->caller = caller;
			   __entry->net_inum = net ? net->ns.inum : 0;
			   __entry->err = err;),
	    TP_printk("net_inum=%u net_cookie=%llu err=%d caller=%pS",
		      __entry->net_inum, __entry->net_cookie, __entry->err,
		      (void *)__entry->caller)
);

TRACE_EVENT(rtnl_net_queued,
	    TP_PROTO(const struct net_device *dev, const struct net *from,
		     enum rtnl_net_queued_how how),
	    TP_ARGS(dev, from, how),
	    TP_STRUCT__entry(__field(u64, home_cookie)
			     __field(u64, from_cookie)
			     __field(unsigned int, home_inum)
			     __field(unsigned int, from_inum)
			     __field(int, ifindex)
			     __field(int, how)
			     __string(name, dev->name)
			     __string(kind, rtnl_net_dev_kind(dev))),
	    TP_fast_assign(__entry->home_cookie = dev_net(dev)->net_cookie;
			   __entry->from_cookie = from ? from->net_cookie : 0;
			   __entry->home_inum = dev_net(dev)->ns.inum;
			   __entry->from_inum = from ? from->ns.inum : 0;
			   __entry->ifindex = dev->ifindex;
			   __entry->how = how;
			   __assign_str(name);
			   __assign_str(kind);),
	    TP_printk("dev=%s ifindex=%d kind=%s home_inum=%u home_cookie=%llu from_inum=%u from_cookie=%llu how=%s",
		      __get_str(name), __entry->ifindex, __get_str(kind),
		      __entry->home_inum, __entry->home_cookie,
		      __entry->from_inum, __entry->from_cookie,
		      __print_symbolic(__entry->how,
				       { RTNL_NET_QUEUED_AT_HOME, "at home" },
				       { RTNL_NET_QUEUED_PENDING, "pending" },
				       { RTNL_NET_QUEUED_CLAIMED, "claimed" },
				       { RTNL_NET_QUEUED_SENT_HOME, "sent home" },
				       { RTNL_NET_QUEUED_TAKEN, "taken" },
				       { RTNL_NET_QUEUED_MOVED, "moved" }))
);

TRACE_EVENT(rtnl_net_drained,
	    TP_PROTO(const struct net *net, unsigned int count, u64 wait_ns),
	    TP_ARGS(net, count, wait_ns),
	    TP_STRUCT__entry(__field(u64, net_cookie)
			     __field(u64, wait_ns)
			     __field(unsigned int, net_inum)
			     __field(unsigned int, count)),
	    TP_fast_assign(__entry->net_cookie = net->net_cookie;
			   __entry->wait_ns = wait_ns;
			   __entry->net_inum = net->ns.inum;
			   __entry->count = count;),
	    TP_printk("net_inum=%u net_cookie=%llu count=%u wait_ns=%llu",
		      __entry->net_inum, __entry->net_cookie, __entry->count,
		      __entry->wait_ns)
);

TRACE_EVENT(rtnl_net_reaped,
	    TP_PROTO(const struct net_device *dev, u64 wait_ns),
	    TP_ARGS(dev, wait_ns),
	    TP_STRUCT__entry(__field(u64, home_cookie)
			     __field(u64, wait_ns)
			     __field(unsigned int, home_inum)
			     __field(int, ifindex)
			     __string(name, dev->name)),
	    TP_fast_assign(__entry->home_cookie = dev_net(dev)->net_cookie;
			   __entry->wait_ns = wait_ns;
			   __entry->home_inum = dev_net(dev)->ns.inum;
			   __entry->ifindex = dev->ifindex;
			   __assign_str(name);),
	    TP_printk("dev=%s ifindex=%d home_inum=%u home_cookie=%llu wait_ns=%llu",
		      __get_str(name), __entry->ifindex, __entry->home_inum,
		      __entry->home_cookie, __entry->wait_ns)
);

#else

/* The calls that stay without the option */
DECLARE_EVENT_NOP(rtnl_net_lock_request,
		  TP_PROTO(const struct net *net, unsigned long caller),
		  TP_ARGS(net, caller))
DECLARE_EVENT_NOP(rtnl_net_lock_acquired,
		  TP_PROTO(const struct net *net, enum rtnl_gate gate,
			   unsigned long caller),
		  TP_ARGS(net, gate, caller))
DECLARE_EVENT_NOP(rtnl_net_lock_release,
		  TP_PROTO(const struct net *net, unsigned long caller),
		  TP_ARGS(net, caller))
DECLARE_EVENT_NOP(rtnl_net_lock_failed,
		  TP_PROTO(const struct net *net, int err, unsigned long caller),
		  TP_ARGS(net, err, caller))
DECLARE_EVENT_NOP(rtnl_net_reaped,
		  TP_PROTO(const struct net_device *dev, u64 wait_ns),
		  TP_ARGS(dev, wait_ns))

#endif

#endif /* _TRACE_RTNL_NET_H */

/* This part must be outside protection */
#ifdef CONFIG_NET_SMALL_RTNL
#include <trace/define_trace.h>
#endif
