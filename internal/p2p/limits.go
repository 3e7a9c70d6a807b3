package p2p

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// Bounds on what the network may cost this machine. A seed has a few dozen
// connections, all its own; a server has its clients as well.
const (
	seedMemory   = 32 << 20 // bytes in libp2p's buffers
	serverMemory = 128 << 20
	serverConns  = 1024
	seedConns    = 384

	// perAddress is how many connections one address may hold: a whole
	// classroom can sit behind one NAT, so libp2p's 8 will not do.
	perAddress = 256
	// New connections per second and in a burst from one address. Libp2p's one
	// per five seconds would keep that classroom from booting together.
	perAddressRate, perAddressBurst = 20, 512
)

// talkative are the protocols of which one peer may have perCaller streams, for
// each is a job, and a node may have many jobs for one other.
var talkative = [...]protocol.ID{"/phase/job/0.1"}

const perCaller = 32

// perPeerMemory has room for the window of each of the 64 streams that yamux allows,
// 256 KiB, and a rest: a connection whose memory is refused dies with all its
// streams.
const perPeerMemory = 64*256<<10 + 4<<20

// newLimits is libp2p's resource manager with our numbers.
func newLimits(server bool) (network.ResourceManager, error) {
	memory, conns := int64(seedMemory), seedConns
	if server {
		memory, conns = serverMemory, serverConns
	}
	limits := rcmgr.DefaultLimits
	limits.ProtocolBaseLimit.StreamsInbound = 512
	limits.ProtocolPeerBaseLimit.StreamsInbound = 16
	partial := rcmgr.PartialLimitConfig{
		ProtocolPeer: map[protocol.ID]rcmgr.ResourceLimits{},
		System: rcmgr.ResourceLimits{
			Memory:          rcmgr.LimitVal64(memory),
			Conns:           rcmgr.LimitVal(conns),
			ConnsInbound:    rcmgr.LimitVal(conns),
			ConnsOutbound:   rcmgr.LimitVal(conns),
			FD:              rcmgr.LimitVal(conns),
			Streams:         rcmgr.LimitVal(4 * conns),
			StreamsInbound:  rcmgr.LimitVal(2 * conns),
			StreamsOutbound: rcmgr.LimitVal(2 * conns),
		},
		PeerDefault: rcmgr.ResourceLimits{
			Memory:         perPeerMemory,
			Conns:          8,
			Streams:        64,
			StreamsInbound: 48,
		},
	}
	for _, name := range talkative {
		partial.ProtocolPeer[name] = rcmgr.ResourceLimits{Streams: 2 * perCaller, StreamsInbound: perCaller}
	}
	fixed := rcmgr.NewFixedLimiter(partial.Build(limits.Scale(memory, conns)))
	return rcmgr.NewResourceManager(fixed,
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: perAddress}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 64, ConnCount: perAddress}, {PrefixLength: 48, ConnCount: 2 * perAddress}}),
		rcmgr.WithConnRateLimiters(connRate()))
}

func connRate() *rate.Limiter {
	perNet := rate.Limit{RPS: perAddressRate, Burst: perAddressBurst}
	return &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
			{Prefix: netip.MustParsePrefix("::1/128")},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: perNet}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 64, Limit: perNet}},
			GracePeriod:      time.Minute,
		},
	}
}
