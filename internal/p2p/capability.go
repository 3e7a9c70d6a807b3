package p2p

import (
	"context"
	"fmt"
	"slices"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"github.com/phasebased/phase/manifest"
)

// maxFound bounds how many providers FindProviders returns.
const maxFound = 64

// A Provider is a node that claims a capability. The claim is unsigned: whoever
// answers on these addresses has to prove who it is.
type Provider struct {
	ID    string
	Addrs []string // multiaddrs without /p2p/
}

// CapabilityKey is the key under which nodes of an architecture that run WASM
// jobs announce themselves. arch is canonical.
func CapabilityKey(arch string) (string, error) {
	if arch != manifest.ArchX8664 && arch != manifest.ArchARM64 {
		return "", fmt.Errorf("p2p: unknown architecture %.40q", arch)
	}
	return "/phase/capability/" + arch + "/wasm", nil
}

// hashKey is the form in which provider records name a key.
func hashKey(key string) (multihash.Multihash, error) {
	return multihash.Sum([]byte(key), multihash.SHA2_256, -1)
}

// Provide announces once that this node has a capability and returns the IDs of
// the nodes that took note. The announcement is believed for HoldLife; who wants
// to be found repeats it well before. A node that does not listen has nothing to
// announce and gets an error.
func (n *Node) Provide(ctx context.Context, key string) ([]string, error) {
	if n.server == nil {
		return nil, fmt.Errorf("p2p: provide %s: this node does not listen", key)
	}
	self := peer.AddrInfo{ID: n.swarm.LocalPeer(), Addrs: n.server.Addrs()}
	hash, err := hashKey(key)
	if err == nil {
		err = n.server.Provides(ctx, hash)
	}
	if err != nil {
		return nil, fmt.Errorf("p2p: provide %s: %w", key, err)
	}
	noted := []string{n.ID()}
	messenger, err := pb.NewProtocolMessenger(sender{swarm: n.swarm, limit: n.cfg.limit(requestTimeout)})
	if err != nil {
		return nil, fmt.Errorf("p2p: provide %s: %w", key, err)
	}
	for _, p := range n.walk(ctx, plan{key: hash, leads: n.leads(ctx), ask: n.askProviders(hash), heard: func(reply) {}}) {
		if err := messenger.PutProviderAddrs(ctx, p, hash, self); err != nil {
			n.log.Debug("capability not noted", "peer", p, "error", plain(err))
			continue
		}
		noted = append(noted, p.String())
	}
	return noted, nil
}

// FindProviders asks who announced a capability, this node excepted. It returns
// at most 64, in the order heard, and fails with *UnreachableError if nobody
// answered.
func (n *Node) FindProviders(ctx context.Context, key string) ([]Provider, error) {
	hash, err := hashKey(key)
	if err != nil {
		return nil, fmt.Errorf("p2p: find %s: %w", key, err)
	}
	var out []Provider
	seen := map[peer.ID]bool{}
	_, err = n.providers(ctx, hash, func(infos []peer.AddrInfo) {
		for _, info := range infos {
			if !seen[info.ID] && len(out) < maxFound {
				seen[info.ID] = true
				out = append(out, providerOf(info))
			}
		}
	})
	return out, err
}

// providers asks the network who announced what hash names, and passes on what
// each peer says, without this node and addresses that are not worth a try. It
// returns the peers that answered, nearest first, and fails with
// *UnreachableError if there are none.
func (n *Node) providers(ctx context.Context, hash multihash.Multihash, heard func([]peer.AddrInfo)) ([]peer.ID, error) {
	pass := func(infos []peer.AddrInfo) {
		infos = slices.DeleteFunc(infos, func(p peer.AddrInfo) bool {
			return p.ID == n.swarm.LocalPeer() || p.ID.Validate() != nil || len(p.Addrs) == 0
		})
		if len(infos) > 0 {
			heard(infos)
		}
	}
	pass(n.localProviders(ctx, hash))
	failed := failures{}
	answers := n.walk(ctx, plan{key: hash, leads: n.leads(ctx), ask: n.askProviders(hash), heard: func(r reply) {
		if r.err != nil {
			failed[r.label()] = r.err
		}
		var infos []peer.AddrInfo
		for _, info := range r.providers {
			infos = append(infos, peer.AddrInfo{ID: info.ID, Addrs: credibles(info.Addrs, r.at)})
		}
		pass(infos)
	}})
	if len(answers) == 0 && n.server == nil {
		return nil, n.unreachable(ctx, failed)
	}
	return answers, nil
}

func (n *Node) askProviders(hash multihash.Multihash) func(context.Context, peer.ID) reply {
	return func(ctx context.Context, p peer.ID) (r reply) {
		messenger, err := pb.NewProtocolMessenger(sender{n.swarm, &r.at, n.cfg.limit(requestTimeout)})
		if err != nil {
			return reply{err: err}
		}
		r.providers, r.closer, r.err = messenger.GetProviders(ctx, p, hash)
		return r
	}
}

// localProviders are those announced to this node.
func (n *Node) localProviders(ctx context.Context, hash multihash.Multihash) []peer.AddrInfo {
	if n.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	infos, err := n.server.Providers(ctx, hash)
	if err != nil {
		n.log.Warn("own provider store", "error", err)
	}
	return infos
}

func providerOf(info peer.AddrInfo) Provider {
	p := Provider{ID: info.ID.String()}
	for _, a := range info.Addrs[:min(len(info.Addrs), maxPeerAddrs)] {
		p.Addrs = append(p.Addrs, a.String())
	}
	return p
}
