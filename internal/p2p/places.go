package p2p

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// places is how many places of the network a record is kept at and looked for:
// that of its key, where any Kademlia node would look, and others derived from
// it. Twenty IDs around one place take a second to make, and whoever holds them
// hides what is stored there afterwards: with 24 of them around the key alone, a
// network of 50 nodes had lost the record to 37 of 40 clients, though each knew
// three honest peers. Each place costs an attacker as many nodes again.
const places = 3

// placeOf is the target of the i-th place of a key, 0 ≤ i < 4. The first is the
// key. The others lie in other quarters of the network, first of the other half,
// so that those who crowd one place, and with it one corner of every routing
// table, are not in the way to another.
func placeOf(key string, i int) string {
	if i == 0 {
		return key
	}
	first := sha256.Sum256([]byte(key))
	quarter := first[0]>>6 ^ [...]byte{0, 0b10, 0b11, 0b01}[i]
	for n := 0; ; n++ {
		place := fmt.Sprintf("%s#%d", key, n)
		if h := sha256.Sum256([]byte(place)); h[0]>>6 == quarter {
			return place
		}
	}
}

// fetching is what the walks to the places of one key share.
type fetching struct {
	node *Node
	keys []string // of records that are kept at the same places; at least one
	held func(from peer.ID, key string, value []byte)

	// begun is closed when the first record came, or the way to the key only waits
	// or has ended. The walks to the other places wait for it: their many handshakes
	// would hold up the peers that most likely hold the record.
	begun chan struct{}
	begin sync.Once

	mu      sync.Mutex // also keeps calls of held apart
	failed  failures
	told    map[peer.ID]bool // whose value, or lack of it, was passed to held
	answers []peer.ID
}

// placesOf is the key whose places are those of a record's key: one that names who
// signs lies where the key does that does not.
func placesOf(key string) string {
	q, _, err := parseKey(key)
	if err != nil {
		return key
	}
	return q.Key()
}

// fetch asks the network for keys whose places are the same, at all of these, passes
// on what each peer holds, once for each and one at a time, and returns who failed
// and who answered.
func (n *Node) fetch(ctx context.Context, keys []string, held func(from peer.ID, key string, value []byte)) (failures, []peer.ID) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	key := placesOf(keys[0])
	f := &fetching{node: n, keys: keys, held: held, begun: make(chan struct{}), failed: failures{}, told: map[peer.ID]bool{}}
	var walking sync.WaitGroup
	for i, leads := range tee(ctx, n.leads(ctx), places) {
		way := plan{key: []byte(key), leads: leads, ask: f.value, heard: f.hear, idle: f.start}
		if i > 0 {
			place := placeOf(key, i)
			way.key, way.after, way.idle = []byte(place), f.begun, nil
			way.ask = func(ctx context.Context, p peer.ID) reply { return f.beside(ctx, p, place) }
		}
		walking.Go(func() {
			n.walk(ctx, way)
			f.start()
		})
	}
	walking.Wait()
	return f.failed, f.answers
}

// start lets the walks to the other places begin.
func (f *fetching) start() { f.begin.Do(func() { close(f.begun) }) }

// value asks p for the records, and, with the first, for peers closer to the key.
func (f *fetching) value(ctx context.Context, p peer.ID) (r reply) {
	messenger, err := pb.NewProtocolMessenger(sender{f.node.swarm, &r.at, f.node.cfg.limit(requestTimeout)})
	if err != nil {
		return reply{err: err}
	}
	values := make([][]byte, len(f.keys))
	var asking sync.WaitGroup
	for i, key := range f.keys[1:] {
		asking.Go(func() {
			// Who does not know such keys has none.
			if rec, _, err := messenger.GetValue(ctx, p, key); err == nil {
				values[1+i] = rec.GetValue()
			}
		})
	}
	rec, closer, err := messenger.GetValue(ctx, p, f.keys[0])
	asking.Wait()
	if values[0] = rec.GetValue(); err == nil {
		f.tell(p, values)
	}
	r.closer, r.err = closer, err
	return r
}

// beside asks p for peers closer to a place, and for the record unless that is
// asked on the way to the key. Whom another walk could not reach is left alone.
func (f *fetching) beside(ctx context.Context, p peer.ID, place string) (r reply) {
	if err := f.failure(p); err != nil {
		return reply{err: err}
	}
	messenger, err := pb.NewProtocolMessenger(sender{f.node.swarm, &r.at, f.node.cfg.limit(requestTimeout)})
	if err != nil {
		return reply{err: err}
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	if !f.knows(p) {
		asking.Go(func() { f.value(ctx, p) })
	}
	r.closer, r.err = messenger.GetClosestPeers(ctx, p, peer.ID(place))
	return r
}

// failure is why p could not be asked on another way, nil if it could or nobody
// tried yet.
func (f *fetching) failure(p peer.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed[p.String()]
}

// knows reports whether there is no need to ask p for the record.
func (f *fetching) knows(p peer.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.told[p] || f.node.knows(p)
}

// tell passes on what p holds.
func (f *fetching) tell(p peer.ID, values [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.told[p] {
		return
	}
	f.told[p] = true
	for i, value := range values {
		f.held(p, f.keys[i], value)
		if value != nil {
			f.start()
		}
	}
}

// hear notes who answered.
func (f *fetching) hear(r reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.err != nil {
		f.failed[r.label()] = r.err
		f.node.log.Debug("peer failed", "peer", r.label(), "error", plain(r.err))
		return
	}
	delete(f.failed, r.label())
	if !slices.Contains(f.answers, r.from) {
		f.answers = append(f.answers, r.from)
	}
}
