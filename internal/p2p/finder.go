package p2p

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
)

// Bounds of one Find. Anybody may announce anything, and any node may name
// anybody, so what is tried is limited in number, by who says so and by network.
// Nobody waits for it: the finding goes on beside a transfer.
const (
	maxTried    = 64   // peers asked in one look whether they have the blob
	maxTriedAll = 1024 // in all looks
	maxAtOnce   = 8    // of them at the same time
	maxPerReply = 8    // of them named by one node
	maxHolders  = 16   // of them found to have it
	// findAgain is how long after a look into the DHT the next one begins: what
	// has booted meanwhile has announced itself.
	findAgain = 30 * time.Second
)

// Finder finds machines that hold a blob, by their announcements in the DHT. It
// implements fetch.Finder.
//
// An announcement is an unsigned hint. Whoever it names is asked, over the
// connection that proves who that is, whether it has the blob; only who says so
// becomes a source: first its HTTP server, if it has one, then the stream as a last
// resort. The server is at the address of that connection, whatever the peer says,
// so that nobody can aim this machine at another one.
//
// A node with LocalOnly neither connects to anybody beyond the local network nor
// names an HTTP server there. Private mode does without: whoever announces a blob
// learns the address of each machine that asks for it and what it boots, and while
// mirrors are chosen by the medium, announcing is open to everybody.
type Finder struct {
	Node *Node
	// HTTP makes a source out of the base URL of a provider, such as
	// http://192.0.2.7:8080; nil: blobs are read over streams only. It may be called
	// concurrently. In Local mode what it makes has to stay there.
	HTTP func(base string) fetch.Source
}

var _ fetch.Finder = Finder{}

// Find asks the DHT who has d, again every 30 seconds, until ctx ends or 16
// sources are found, which are no errors. It fails with *UnreachableError if
// nobody on the DHT ever answered: at once if nobody could be asked.
func (f Finder) Find(ctx context.Context, d blob.Digest, found func(fetch.Source)) error {
	hash, err := blobHash(d)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &finding{
		finder: f, blob: d, found: found, enough: cancel, slots: make(chan struct{}, maxAtOnce),
		tried: map[peer.ID]bool{}, crowd: map[netip.Prefix]int{}, networks: map[netip.Prefix]int{},
	}
	defer s.asking.Wait()
	defer cancel()
	answered := false
	for {
		s.room = maxTried
		clear(s.crowd)
		_, err := f.Node.providers(ctx, hash, func(infos []peer.AddrInfo) { s.take(ctx, infos) })
		var unreachable *UnreachableError
		if errors.As(err, &unreachable) && len(unreachable.Peers) == 0 {
			return err
		}
		answered = answered || err == nil
		pause := time.NewTimer(findAgain)
		select {
		case <-ctx.Done():
			pause.Stop()
			if answered {
				return nil
			}
			return err
		case <-pause.C:
		}
	}
}

// finding is the state of one Find.
type finding struct {
	finder Finder
	blob   blob.Digest
	enough func()

	// Of the goroutine that walks.
	tried map[peer.ID]bool
	room  int                  // for more in this look
	crowd map[netip.Prefix]int // of those tried in this look, in one network

	asking sync.WaitGroup
	slots  chan struct{}

	mu       sync.Mutex
	found    func(fetch.Source)
	holders  int
	networks map[netip.Prefix]int // of holders: whoever holds a network says yes for all of it
}

// take looks at whom one node names, in any order: a liar is not to choose who is
// asked first.
func (s *finding) take(ctx context.Context, infos []peer.AddrInfo) {
	taken := 0
	for _, i := range rand.Perm(len(infos)) {
		p := infos[i]
		if s.tried[p.ID] || taken == maxPerReply || s.room == 0 || len(s.tried) == maxTriedAll {
			continue
		}
		p.Addrs = p.Addrs[:min(len(p.Addrs), maxPeerAddrs)]
		network := networkOf(ipOf(p.Addrs[0]))
		if network.IsValid() && s.crowd[network] == perNetwork {
			continue
		}
		s.crowd[network]++
		s.tried[p.ID] = true
		s.room--
		taken++
		s.asking.Go(func() { s.ask(ctx, p) })
	}
}

// ask makes a source of a peer if it says that it has the blob.
func (s *finding) ask(ctx context.Context, p peer.AddrInfo) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return
	}
	node := s.finder.Node
	source := node.stream(p)
	place, at, err := source.where(ctx, s.blob)
	if err != nil {
		node.log.Debug("not a source", "peer", p.ID, "blob", s.blob, "error", plain(err))
		return
	}
	sources := []fetch.Source{source}
	if base := httpBase(at, place.Port); base != "" && s.finder.HTTP != nil && s.usable(base) {
		sources = []fetch.Source{s.finder.HTTP(base), source}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil || !s.admit(networkOf(ipOf(at))) {
		return
	}
	for _, source := range sources {
		s.found(source)
	}
	if s.holders == maxHolders {
		s.enough()
	}
}

// admit counts one more holder in a network if there is room. It is for those who
// hold the lock.
func (s *finding) admit(network netip.Prefix) bool {
	if s.holders == maxHolders || network.IsValid() && s.networks[network] == perNetwork {
		return false
	}
	s.holders++
	s.networks[network]++
	return true
}

func (s *finding) usable(base string) bool {
	if discover.CheckBase(base) != nil {
		return false
	}
	return !s.finder.Node.cfg.LocalOnly || fetch.CheckLocal(base) == nil
}
