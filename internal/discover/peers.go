package discover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// MaxPeers bounds the addresses that Peers keeps.
const MaxPeers = 16

// Peers collects addresses of DHT nodes that some source came across, for a node
// that has none, or too few, to start from. Nothing is known of them but that
// somebody named them. All methods may be called concurrently; a nil *Peers takes
// nothing and is done. Make one with NewPeers, for one Search.
type Peers struct {
	mu    sync.Mutex
	addrs []string
	news  chan struct{} // closed, and made anew, when something is added
	done  chan struct{}
	err   error // of Done
}

// NewPeers makes an empty collection.
func NewPeers() *Peers { return &Peers{news: make(chan struct{}), done: make(chan struct{})} }

// Add adds the multiaddr of a node, which ends in /p2p/<id>, unless it is known or
// there are MaxPeers.
func (p *Peers) Add(addr string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.addrs) == MaxPeers || slices.Contains(p.addrs, addr) {
		return
	}
	p.addrs = append(p.addrs, addr)
	close(p.news)
	p.news = make(chan struct{})
}

// Done says that nothing will be added any more, and what kept whoever says so
// from looking for peers; nil if it could look. It may be called again: the first
// word counts.
func (p *Peers) Done(err error) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
	default:
		p.err = err
		close(p.done)
	}
}

// List returns what was added until now, in that order.
func (p *Peers) List() []string {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.addrs)
}

// Wait returns the addresses behind the first known ones as soon as there are any:
// none when no more will come, or ctx has ended.
func (p *Peers) Wait(ctx context.Context, known int) []string {
	if p == nil {
		return nil
	}
	for {
		p.mu.Lock()
		addrs, news := slices.Clone(p.addrs), p.news
		p.mu.Unlock()
		if len(addrs) > known {
			return addrs[known:]
		}
		select {
		case <-news:
		case <-p.done:
			if len(p.List()) == known {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// lookError says why nobody looked for peers, nil if somebody did.
func (p *Peers) lookError() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("nobody to start from: %w", p.err)
}

// gathering is how long Joined waits for more peers once there is one: neighbours
// answer at the same time, and each node makes the search wider.
const gathering = 100 * time.Millisecond

// Joined is a source that can be asked only once there are peers to start from,
// such as the DHT through nodes of the neighbourhood.
type Joined struct {
	// Label is the name of the source.
	Label string
	// Peers are where to start from. Whoever adds them must say when it is Done.
	Peers *Peers
	// Check says what is wrong with an address; such are left out. Nil accepts all.
	Check func(addr string) error
	// Open makes the source, and what ends it, from these addresses.
	Open func(addrs []string) (src Source, end func() error, err error)
}

// Name is the label.
func (j Joined) Name() string { return j.Label }

// Search waits for peers, opens the source and searches there; if meanwhile more
// peers came, also from those. Nobody to start from is no error where somebody
// looked: that there are none is an answer. It fails if no peer could be asked.
func (j Joined) Search(ctx context.Context, q Query, found func(Candidate)) error {
	if err := q.Validate(); err != nil {
		return err
	}
	var errs []error
	asked := false
	for known := 0; ; {
		addrs := j.Peers.Wait(ctx, known)
		if len(addrs) == 0 {
			break
		}
		pause := time.NewTimer(gathering)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
		addrs = j.Peers.List()[known:]
		known += len(addrs)
		err := j.search(ctx, j.usable(addrs), q, found)
		asked = asked || err == nil
		errs = append(errs, err)
	}
	if asked {
		return nil
	}
	return errors.Join(append(errs, j.Peers.lookError())...)
}

// errNoPeer says that everything that was named was nonsense.
var errNoPeer = errors.New("no usable address was named")

func (j Joined) usable(addrs []string) []string {
	return slices.DeleteFunc(addrs, func(a string) bool { return j.Check != nil && j.Check(a) != nil })
}

func (j Joined) search(ctx context.Context, addrs []string, q Query, found func(Candidate)) error {
	if len(addrs) == 0 {
		return errNoPeer
	}
	src, end, err := j.Open(addrs)
	if err != nil {
		return err
	}
	return errors.Join(src.Search(ctx, q, found), end())
}
