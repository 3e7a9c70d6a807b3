// Command nodes is the network of the discovery benchmark: DHT servers in one
// process that know one another and hold a signed pointer. It writes the root
// that vouches for the pointer, prints its bootstrap peers, and serves until its
// standard input ends.
package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/p2p/dhtserver"
	"github.com/phasebased/phase/manifest"
)

// strangers are nodes that refuse the pointer. They are far from its key, and who
// starts from them has to search. Publishers give it to their own bootstrap
// peers: who starts from those is spared a step, whatever the client.
var strangers = []int{12, 29, 40}

// acquaintances is how many of the nodes before it a node starts from. From
// them it learns of the others, and they of it.
const acquaintances = 16

// Ready is printed, as one line of JSON, once the network can be asked.
type Ready struct {
	Bootstrap []string `json:"bootstrap"` // the strangers
	Nodes     int      `json:"nodes"`
	Holders   int      `json:"holders"` // of them, that hold the pointer
}

func main() {
	count := flag.Int("nodes", 50, "how many")
	address := flag.String("address", "127.0.0.1", "IPv4 `address` of the first; each has its own")
	root := flag.String("root", "root.json", "`file` to write the root to")
	flag.Parse()
	if *count <= slices.Max(strangers)+1 {
		fmt.Fprintln(os.Stderr, "nodes: too few")
		os.Exit(2)
	}
	if err := run(*count, *address, *root); err != nil {
		fmt.Fprintln(os.Stderr, "nodes:", err)
		os.Exit(1)
	}
}

func run(count int, address, rootFile string) error {
	pointer, root, err := sign(time.Now())
	if err != nil {
		return err
	}
	if err := os.WriteFile(rootFile, root, 0o644); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nodes, err := join(ctx, count, address)
	defer func() {
		for _, n := range nodes {
			_ = n.Close()
		}
	}()
	if err != nil {
		return err
	}
	ready := Ready{Nodes: count}
	for _, i := range strangers {
		nodes[i].closed.Store(true)
		ready.Bootstrap = append(ready.Bootstrap, nodes[i].Addrs()[0])
	}
	done, err := nodes[count-1].Publish(ctx, pointer)
	if err != nil {
		return err
	}
	if ready.Holders = len(done.AcknowledgedBy); ready.Holders > count-len(strangers) {
		return fmt.Errorf("%d of %d nodes hold the pointer: a stranger among them", ready.Holders, count)
	}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// member is a node of the network.
type member struct {
	*p2p.Node
	// closed makes it refuse records, now and later: kad-dht's clients leave what
	// they found on nodes without it, which would make the network easier for the
	// next client.
	closed atomic.Bool
}

// now is the node's clock. In a node that is closed all records expired long ago.
func (m *member) now() time.Time {
	if m.closed.Load() {
		return time.Now().AddDate(100, 0, 0)
	}
	return time.Now()
}

// join starts the nodes one after the other and lets each make itself known.
// Their keys are always the same, and with them who is near to what.
func join(ctx context.Context, count int, address string) ([]*member, error) {
	var nodes []*member
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return nil, err
	}
	for i := range count {
		n := new(member)
		cfg := p2p.Config{
			Now:    n.now,
			Key:    key(byte(i)),
			Listen: []string{"/ip4/" + addr.String() + "/tcp/0"},
			Server: dhtserver.New,
		}
		for j := range min(i, acquaintances) { // spread over all that are there
			cfg.Bootstrap = append(cfg.Bootstrap, nodes[j*i/min(i, acquaintances)].Addrs()...)
		}
		addr = addr.Next() // libp2p limits the connections to one address
		if n.Node, err = p2p.New(cfg); err != nil {
			return nodes, err
		}
		nodes = append(nodes, n)
		if i == 0 {
			continue
		}
		if err := introduce(ctx, n.Node, min(i, acquaintances)); err != nil {
			return nodes, err
		}
	}
	return nodes, nil
}

// introduce connects a node to those it starts from.
func introduce(ctx context.Context, n *p2p.Node, peers int) error {
	// A search for what nobody has connects to all of them and to whom they name.
	_, err := n.FindProviders(ctx, "/phase/benchmark")
	if err != nil {
		return err
	}
	if n.Peers() < peers {
		return fmt.Errorf("%s knows %d of %d peers", n.ID(), n.Peers(), peers)
	}
	return nil
}

// sign makes a pointer and the root that vouches for it.
func sign(now time.Time) (pointer, root []byte, err error) {
	now = now.UTC().Truncate(time.Second)
	role := func(n byte) manifest.RoleKeys {
		return manifest.RoleKeys{Keys: []ed25519.PublicKey{key(n).Public().(ed25519.PublicKey)}, Threshold: 1}
	}
	root, rootErr := manifest.NewRoot(manifest.RootSpec{Version: 1, Expires: now.AddDate(1, 0, 0), Roles: map[manifest.Role]manifest.RoleKeys{
		manifest.RoleRoot: role(201), manifest.RoleTargets: role(202), manifest.RoleTimestamp: role(203),
	}}, key(201))
	pointer, err = manifest.SignPointer(manifest.Pointer{
		Channel: manifest.ChannelStable, Arch: manifest.ArchX8664,
		ManifestVersion: 1, ManifestHash: blob.Of([]byte("manifest")), ManifestSize: 8, RootVersion: 1,
		CreatedAt: now.Add(-time.Hour), ExpiresAt: now.AddDate(0, 0, 7),
		URLs: []string{"https://mirror.example/stable/x86_64/manifest.json"},
	}, key(203))
	return pointer, root, errors.Join(rootErr, err)
}

func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}
