package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/durable"
)

const (
	maxReceipt  = 64 << 10 // bytes
	maxReceipts = 1024     // files

	receiptWindow    = time.Minute
	receiptsPerWhile = 60 // per client and window
)

// receipts is a letter box: what nodes post lies in numbered files until
// somebody reads and verifies it. Nothing is verified here, except that it is
// JSON, and nothing can be read back over HTTP.
type receipts struct {
	dir string
	now func() time.Time

	mu     sync.Mutex
	next   int
	files  int
	window time.Time
	posted map[client]int // in this window
}

func openReceipts(dir string, now func() time.Time) (*receipts, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b := &receipts{dir: dir, now: now, next: 1, posted: map[client]int{}}
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
	for _, e := range entries {
		n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".json"))
		if err != nil || e.Name() != strconv.Itoa(n)+".json" {
			continue
		}
		b.files++
		b.next = max(b.next, n+1)
	}
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
	if b.files >= maxReceipts {
		if err := b.recount(); err != nil {
			return err
		}
	}
	if b.files >= maxReceipts {
		return errBoxFull
	}
	return nil
}

// put stores one receipt and returns its number.
func (b *receipts) put(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.files >= maxReceipts {
		return 0, errBoxFull
	}
	n := b.next
	if err := durable.WriteFile(filepath.Join(b.dir, strconv.Itoa(n)+".json"), data, 0o600); err != nil {
		return 0, err
	}
	b.next++
	b.files++
	return n, nil
}

// postReceipt answers 201 with the receipt's number in Location.
func (p *Provider) postReceipt(w http.ResponseWriter, r *http.Request) {
	if err := p.receipts.admit(clientOf(r.RemoteAddr)); err != nil {
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
	if !json.Valid(data) {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	n, err := p.receipts.put(data)
	if err != nil {
		p.receiptError(w, err)
		return
	}
	w.Header().Set("Location", fmt.Sprintf("/receipts/%d.json", n))
	w.WriteHeader(http.StatusCreated)
}

func (p *Provider) receiptError(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errTooMany):
		w.Header().Set("Retry-After", "60")
		http.Error(w, err.Error(), http.StatusTooManyRequests)
	case errors.Is(err, errBoxFull):
		http.Error(w, err.Error(), http.StatusInsufficientStorage)
	default:
		p.cfg.Log.Error("cannot keep a receipt", "err", err)
		http.Error(w, "the receipt cannot be stored", http.StatusInternalServerError)
	}
}
