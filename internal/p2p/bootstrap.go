package p2p

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// maxBootstrap bounds the peers to start from, those behind names included; all
// of them are asked in each search.
const maxBootstrap = 32

// A lead is one entry to start from: a peer, or a name behind which there are
// peers.
type lead struct {
	id    peer.ID        // empty: whoever the name leads to
	addrs []ma.Multiaddr // where the peer can be dialled
	names []ma.Multiaddr // what has to be looked up first; whole, with /p2p/<id> if known
}

// label is how a lead is named in reports: the peer's ID, or the name.
func (l lead) label() string {
	if l.id != "" {
		return l.id.String()
	}
	return l.names[0].String()
}

// CheckBootstrap says what is wrong with a bootstrap address, nil if nothing is.
func CheckBootstrap(addr string) error {
	_, err := parseLeads([]string{addr})
	return err
}

// parseLeads reads multiaddrs that end in /p2p/<id>, or are /dnsaddr/<name>
// alone; several of one peer become one entry.
func parseLeads(addrs []string) ([]lead, error) {
	if len(addrs) > maxBootstrap {
		return nil, fmt.Errorf("p2p: %d bootstrap addresses, limit %d", len(addrs), maxBootstrap)
	}
	var out []lead
	for _, s := range addrs {
		l, err := parseLead(s)
		if err != nil {
			return nil, fmt.Errorf("p2p: bootstrap address %.100q: %w", s, err)
		}
		i := slices.IndexFunc(out, func(o lead) bool { return o.label() == l.label() })
		switch {
		case i < 0:
			out = append(out, l)
		case l.id != "":
			out[i].addrs = append(out[i].addrs, l.addrs...)
			out[i].names = append(out[i].names, l.names...)
		}
	}
	return out, nil
}

func parseLead(s string) (lead, error) {
	m, err := ma.NewMultiaddr(s)
	if err != nil {
		return lead{}, err
	}
	if len(m) == 1 && m[0].Code() == ma.P_DNSADDR {
		return lead{names: []ma.Multiaddr{m}}, nil
	}
	info, err := peer.AddrInfoFromP2pAddr(m)
	if err != nil {
		return lead{}, err
	}
	switch {
	case len(info.Addrs) == 0:
		return lead{}, errors.New("names a peer but not where it is")
	case hasName(m):
		return lead{id: info.ID, names: []ma.Multiaddr{m}}, nil
	}
	return lead{id: info.ID, addrs: info.Addrs}, nil
}

// A hint is what became known of the peers to start from: one more address of
// one, or that a lead came to nothing.
type hint struct {
	peer  peer.AddrInfo
	label string // of the lead; only with err
	err   error
}

// leads yields what is known of the peers to start from: at once what Config
// says, and what has to be looked up as soon as it is. The channel is closed when
// nothing more will come, soon after ctx ends.
func (n *Node) leads(ctx context.Context) <-chan hint {
	out := make(chan hint, len(n.bootstrap))
	var resolving sync.WaitGroup
	for _, l := range n.bootstrap {
		if len(l.addrs) > 0 {
			out <- hint{peer: peer.AddrInfo{ID: l.id, Addrs: l.addrs}}
		}
	}
	for _, l := range n.bootstrap {
		for _, name := range l.names {
			resolving.Go(func() {
				if err := n.resolve(ctx, name, out); err != nil {
					send(ctx, out, hint{label: l.label(), err: err})
				}
			})
		}
	}
	go func() {
		resolving.Wait()
		close(out)
	}()
	return out
}

func send(ctx context.Context, to chan<- hint, h hint) {
	select {
	case to <- h:
	case <-ctx.Done():
	}
}

// tee yields to each of count readers all that in does.
func tee(ctx context.Context, in <-chan hint, count int) []<-chan hint {
	var to []chan hint
	var out []<-chan hint
	for range count {
		c := make(chan hint, cap(in))
		to, out = append(to, c), append(out, c)
	}
	go func() {
		for h := range in {
			for _, c := range to {
				send(ctx, c, h)
			}
		}
		for _, c := range to {
			close(c)
		}
	}()
	return out
}

// resolve looks up one name and hands on the peers behind it, as far as there is
// room for more.
func (n *Node) resolve(ctx context.Context, name ma.Multiaddr, to chan<- hint) error {
	if n.cfg.LocalOnly {
		return errNotLocal
	}
	behind := map[peer.ID]bool{}
	err := resolve(ctx, n.resolver, name, func(info peer.AddrInfo) {
		if !n.admit(name.String(), info.ID) {
			n.log.Warn("too many bootstrap peers, one left out", "name", name, "peer", info.ID)
			return
		}
		behind[info.ID] = true
		send(ctx, to, hint{peer: info})
	})
	if err == nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.named[name.String()] = behind // forgets whom the name no longer names
	}
	return err
}

// admit makes p, whom name leads to, one of the peers to start from. It reports
// whether it is one.
func (n *Node) admit(name string, p peer.ID) bool {
	if n.knows(p) {
		return true
	}
	if len(n.starters()) >= maxBootstrap {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.named[name] == nil {
		n.named[name] = map[peer.ID]bool{}
	}
	n.named[name][p] = true
	return true
}

// knows reports whether p is this node or one of its bootstrap peers.
func (n *Node) knows(p peer.ID) bool {
	return p == n.swarm.LocalPeer() || slices.Contains(n.starters(), p)
}

// starters are the IDs of all bootstrap peers known by now, each once.
func (n *Node) starters() []peer.ID {
	var out []peer.ID
	for _, l := range n.bootstrap {
		if l.id != "" {
			out = append(out, l.id)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, behind := range n.named {
		out = slices.AppendSeq(out, maps.Keys(behind))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// behind are the peers that a name led to.
func (n *Node) behind(l lead) map[peer.ID]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.named[l.label()]
}

// connect reaches all bootstrap peers in parallel and returns how many it is
// connected to, and why it is not to the others.
func (n *Node) connect(ctx context.Context) (int, []PeerError) {
	var mu sync.Mutex
	reached, failed := map[peer.ID]bool{}, failures{}
	addrs := map[peer.ID][]ma.Multiaddr{}
	var dialing sync.WaitGroup
	for h := range n.leads(ctx) {
		if h.err != nil {
			mu.Lock()
			failed[h.label] = h.err
			mu.Unlock()
			continue
		}
		addrs[h.peer.ID] = append(addrs[h.peer.ID], h.peer.Addrs...)
		dialing.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, n.cfg.limit(requestTimeout))
			defer cancel()
			err := n.dial(ctx, h.peer)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				reached[h.peer.ID] = true
			} else {
				failed[h.peer.ID.String()] = err
			}
		})
	}
	dialing.Wait()
	for p := range reached {
		delete(failed, p.String())
	}
	n.judge(addrs)
	return len(reached), failed.list()
}

// judge tells, once, when the bootstrap peers depend on one another: whoever runs
// a network, or takes it away, then decides for all of them.
func (n *Node) judge(peers map[peer.ID][]ma.Multiaddr) {
	if len(peers) == 0 {
		return
	}
	n.judging.Do(func() {
		if len(peers) < wantedBootstrap {
			n.log.Info("few bootstrap peers: three or more, run by different people, keep a crowd of hostile nodes from hiding a record", "peers", len(peers))
		}
		if network, shared := sharedNetwork(peers); shared {
			n.log.Warn("all bootstrap peers are in one network; name some that others run", "peers", len(peers), "network", network)
		}
	})
}

// wantedBootstrap is how many bootstrap peers make hiding a record hard.
const wantedBootstrap = 3

// sharedNetwork reports whether several peers all have addresses in one network
// only, and in which.
func sharedNetwork(peers map[peer.ID][]ma.Multiaddr) (netip.Prefix, bool) {
	var shared netip.Prefix
	for _, addrs := range peers {
		for _, a := range addrs {
			network := networkOf(ipOf(a))
			if !network.IsValid() || shared.IsValid() && network != shared {
				return netip.Prefix{}, false
			}
			shared = network
		}
	}
	return shared, shared.IsValid() && len(peers) > 1
}
