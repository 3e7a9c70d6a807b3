package p2p

import (
	"context"
	"math/rand/v2"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/peer"

	ours "github.com/phasebased/phase/internal/peer"
)

// Bounds of Workers: anybody may announce anything, and any node may name anybody.
const (
	maxWorkers        = 256 // in all
	maxWorkersReply   = 64  // of them named by one node, in an order of our own
	maxWorkersNetwork = 8   // of them in one network that one operator is likely to hold
)

// Workers asks the DHT for the nodes of an architecture that run WASM jobs, and
// passes each on as soon as it is heard of, one at a time, this node excepted. That
// they do is an unsigned hint; their keys are what a connection to them proves. It
// returns when there is nobody left to ask, and fails with *UnreachableError if
// nobody answered.
func (n *Node) Workers(ctx context.Context, arch string, found func(ours.Peer)) error {
	key, err := CapabilityKey(arch)
	if err != nil {
		return err
	}
	hash, err := hashKey(key)
	if err != nil {
		return err
	}
	w := &workers{seen: map[peer.ID]bool{}, networks: map[netip.Prefix]int{}}
	_, err = n.providers(ctx, hash, func(infos []peer.AddrInfo) {
		for _, p := range w.take(infos) {
			found(p)
		}
	})
	return err
}

// workers are those that were found so far.
type workers struct {
	seen     map[peer.ID]bool
	networks map[netip.Prefix]int
}

// take is who of those that one node names is new, and worth a try.
func (w *workers) take(infos []peer.AddrInfo) (out []ours.Peer) {
	for _, i := range rand.Perm(len(infos)) {
		info := infos[i]
		if w.seen[info.ID] || len(w.seen) == maxWorkers || len(out) == maxWorkersReply {
			continue
		}
		key, err := info.ID.ExtractPublicKey()
		if err != nil {
			continue
		}
		raw, err := rawKey(key)
		if err != nil {
			continue
		}
		network := networkOf(ipOf(info.Addrs[0]))
		if network.IsValid() && w.networks[network] == maxWorkersNetwork {
			continue
		}
		w.networks[network]++
		w.seen[info.ID] = true
		out = append(out, ours.Peer{ID: info.ID.String(), Key: raw, Addrs: providerOf(info).Addrs})
	}
	return out
}
