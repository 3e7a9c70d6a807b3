package provider

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/receipt"
)

const (
	maxReceipt  = 64 << 10 // bytes
	maxReceipts = 1024     // files

	receiptWindow    = time.Minute
	receiptsPerWhile = 60 // per client and window

	receiptsKept = 128 // of one client, of those that lie in the box
	networkKept  = 256 // of one network, of those that lie in the box
)

// receipts is a letter box: what nodes post lies in numbered files until
// somebody reads and verifies it. What is taken is a receipt with a good signature of
// the node that it names. That says nothing about who that is: keys are free. So one
// address has a share of the box, and one network; the addresses are forgotten when the
// process ends. Nothing can be read back over HTTP.
type receipts struct {
	dir string
	now func() time.Time

	mu     sync.Mutex
	next   int
	files  int
	window time.Time
	posted map[client]int // in this window
	from   map[int]client // of the files that lie in the box, as far as this process took them
}

func openReceipts(dir string, now func() time.Time) (*receipts, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b := &receipts{dir: dir, now: now, next: 1, posted: map[client]int{}, from: map[int]client{}}
	return b, b.recount()
}

// recount looks at the folder: whoever reads the receipts may remove them.
// Numbers are not used again while this process lives.
func (b *receipts) recount() error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	b.files = 0
	from := map[int]client{}
	for _, e := range entries {
		n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".json"))
		if err != nil || e.Name() != strconv.Itoa(n)+".json" {
			continue
		}
		b.files++
		b.next = max(b.next, n+1)
		if c, ok := b.from[n]; ok {
			from[n] = c
		}
	}
	b.from = from
	return nil
}

func (b *receipts) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.files
}

var (
	errBoxFull = errors.New("no room for more receipts")
	errTooMany = errors.New("too many receipts from this address")
	errShare   = errors.New("this address, or its network, has its share of the receipts that are kept")
)

// admit counts one attempt of c.
func (b *receipts) admit(c client) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.now(); now.Sub(b.window).Abs() > receiptWindow {
		b.window, b.posted = now, map[client]int{}
	}
	const maxClients = 4096 // per window, so that the map stays small
	if b.posted[c] >= receiptsPerWhile || len(b.posted) >= maxClients {
		return errTooMany
	}
	b.posted[c]++
	if b.full(c) == nil {
		return nil
	}
	if err := b.recount(); err != nil {
		return err
	}
	return b.full(c)
}

// full says why there is no room for one more receipt of c; nil: there is. The caller
// holds the lock.
func (b *receipts) full(c client) error {
	if b.files >= maxReceipts {
		return errBoxFull
	}
	own, near, at := 0, 0, c.neighbours()
	for _, other := range b.from {
		if other == c {
			own++
		}
		if at.IsValid() && other.neighbours() == at {
			near++
		}
	}
	if own >= receiptsKept || near >= networkKept {
		return errShare
	}
	return nil
}

// neighbours is the network that one owner of c is likely to hold: that of IPv6, and 256
// addresses of IPv4. Local addresses have none.
func (c client) neighbours() netip.Prefix {
	addr := netip.Prefix(c).Addr()
	if !addr.Is4() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsLoopback() {
		return c.network()
	}
	p, _ := addr.Prefix(24)
	return p
}

// put stores one receipt of c and returns its number.
func (b *receipts) put(c client, data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.full(c); err != nil {
		return 0, err
	}
	n := b.next
	if err := durable.WriteFile(filepath.Join(b.dir, strconv.Itoa(n)+".json"), data, 0o600); err != nil {
		return 0, err
	}
	b.next++
	b.files++
	b.from[n] = c
	return n, nil
}

// postReceipt answers 201 with the receipt's number in Location.
func (p *Provider) postReceipt(w http.ResponseWriter, r *http.Request) {
	from := clientOf(r.RemoteAddr)
	if err := p.receipts.admit(from); err != nil {
		p.receiptError(w, err)
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReceipt))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		http.Error(w, fmt.Sprintf("a receipt has at most %d bytes", maxReceipt), http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, "the receipt did not arrive", http.StatusBadRequest)
		return
	}
	if err := signedByItsNode(data); err != nil {
		http.Error(w, "no receipt that its node has signed: "+err.Error(), http.StatusBadRequest)
		return
	}
	n, err := p.receipts.put(from, data)
	if err != nil {
		p.receiptError(w, err)
		return
	}
	w.Header().Set("Location", fmt.Sprintf("/receipts/%d.json", n))
	w.WriteHeader(http.StatusCreated)
}

// signedByItsNode checks a receipt against the key that it names itself.
// One of a later kind than this program knows is taken for its signature alone.
func signedByItsNode(raw []byte) error {
	key, err := namedKey(raw)
	if err != nil {
		return err
	}
	if _, _, err = receipt.Judge(raw, receipt.Expectation{NodeKey: key}); errors.Is(err, receipt.ErrUnknown) {
		return nil
	}
	return err
}

var errNoNode = errors.New("it names no node's key")

// namedKey is the key that a receipt names, and nothing more.
func namedKey(raw []byte) (ed25519.PublicKey, error) {
	var envelope struct{ Payload []byte }
	var statement struct {
		Predicate struct {
			Observation struct {
				NodeKey string `json:"node_key"`
			}
		}
	}
	if json.Unmarshal(raw, &envelope) != nil || json.Unmarshal(envelope.Payload, &statement) != nil {
		return nil, errNoNode
	}
	digits, ok := strings.CutPrefix(statement.Predicate.Observation.NodeKey, "ed25519:")
	key, err := hex.DecodeString(digits)
	if !ok || err != nil || len(key) != ed25519.PublicKeySize {
		return nil, errNoNode
	}
	return key, nil
}

func (p *Provider) receiptError(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errTooMany):
		w.Header().Set("Retry-After", "60")
		http.Error(w, err.Error(), http.StatusTooManyRequests)
	case errors.Is(err, errBoxFull), errors.Is(err, errShare):
		http.Error(w, err.Error(), http.StatusInsufficientStorage)
	default:
		p.cfg.Log.Error("cannot keep a receipt", "err", err)
		http.Error(w, "the receipt cannot be stored", http.StatusInternalServerError)
	}
}
