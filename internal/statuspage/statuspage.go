// Package statuspage shows a node to whoever runs it, in a browser: what the machine
// booted and who signed that, its place on the network, its jobs while they run, and
// its receipts, with a button that judges them.
//
// Everything is on the page as it is served; the script only keeps it up to date and
// runs the verifier. Nothing comes from elsewhere, so that it works without a network
// and tells nobody that it was opened.
//
// Who may look: whoever reaches the address, if there is no token; else who knows
// the token. A browser that looks is itself a way in, for other pages that it has
// open. They get nothing: a name that is not this machine's is refused (DNS
// rebinding), as is what another site's page asks for, and nothing here changes
// anything but who is logged in. Nothing that a job or a peer may choose is put on
// the page other than as text, and the policy in the answer's head would keep a
// script from running that came through all the same.
//
// The verifier judges here as anywhere else, but it comes from the node that it
// judges. Who does not trust the node takes receipts to another machine; the page
// says so and how.
package statuspage

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
)

// Config says what a page shows. View and Receipt are needed.
type Config struct {
	View    func() View                         // what there is to see now; called from several goroutines
	Receipt func(blob.Digest) ([]byte, error)   // of a job; an error: there is none
	Key     func(receipt []byte) (Claims, bool) // what a receipt of this node says; false: it is not this node's
	// Token is asked for before anything is shown; "" asks for none.
	Token string
	// Hosts are names under which browsers may ask, beside localhost and, if AnyIP is
	// set, every IP address. Without AnyIP only loopback addresses are.
	Hosts  []string
	AnyIP  bool
	Serves func(netip.Addr) bool // whom the page answers; nil: everybody
	// Verifier is the program of package verifier for WASI preview 1, compressed with
	// gzip; nil: this build has none.
	Verifier []byte
	Every    time.Duration // how often viewers are told what changed; 0: once a second
	Log      *slog.Logger  // nil discards
}

// Bounds of the server.
const (
	maxViewers  = 16       // that are told of changes
	maxForm     = 4 << 10  // bytes of the form with the token
	maxHeader   = 16 << 10 // bytes of a request's head
	maxExpanded = 64 << 20 // bytes of the verifier
	readTime    = 10 * time.Second
	writeTime   = 30 * time.Second // of a page; of one event
)

// Page is an http.Handler. Make it with New.
type Page struct {
	cfg      Config
	pages    *template.Template
	routes   http.Handler
	verifier verifier
	viewers  chan struct{} // holds one value per viewer
}

// New starts nothing.
func New(cfg Config) (*Page, error) {
	if cfg.View == nil || cfg.Receipt == nil || cfg.Key == nil {
		return nil, errors.New("status page: the configuration is not complete")
	}
	if cfg.Token != "" && len(cfg.Token) < minToken {
		return nil, errShort
	}
	if cfg.Every <= 0 {
		cfg.Every = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Page{cfg: cfg, viewers: make(chan struct{}, maxViewers)}
	var err error
	if p.pages, err = parsePages(); err != nil {
		return nil, err
	}
	if p.verifier, err = openVerifier(cfg.Verifier); err != nil {
		return nil, err
	}
	p.routes = p.handler()
	return p, nil
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.routes.ServeHTTP(w, r) }

// Serve answers on l until ctx ends, which is no error.
func (p *Page) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: p, ReadTimeout: readTime, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog:    slog.NewLogLogger(p.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (p *Page) handler() http.Handler {
	open, shown := http.NewServeMux(), http.NewServeMux()
	for _, name := range []string{"style.css", "script.js", "icon.svg"} {
		open.HandleFunc("GET /"+name, serveAsset)
	}
	open.HandleFunc("GET /login", p.getLogin)
	open.HandleFunc("POST /login", p.postLogin)
	open.HandleFunc("POST /logout", p.postLogout)
	open.Handle("/", p.known(shown))

	shown.HandleFunc("GET /{$}", p.getStatus)
	shown.HandleFunc("GET /events", p.getEvents)
	shown.HandleFunc("GET /receipts/{job}", p.getReceipt)
	shown.HandleFunc("GET /receipts/{job}/receipt.json", p.getReceiptFile)
	shown.HandleFunc("GET /verify.wasm", p.getVerifier)
	return p.guarded(open)
}

// shownPage is what the templates get.
type shownPage struct {
	View
	Title    string
	Token    bool          // one is asked for, so one can leave
	Verifier *verifier     // nil: there is none
	Receipt  *shownReceipt // of a receipt's page
	Wrong    bool          // of the form: that was not the token
}

type shownReceipt struct {
	Job    blob.Digest
	Text   string
	Claims Claims
	Own    bool // signed by the key that this node has now
}

func (p *Page) show(w http.ResponseWriter, status int, name string, s shownPage) {
	s.Token = p.cfg.Token != ""
	if len(p.verifier.packed) > 0 {
		s.Verifier = &p.verifier
	}
	var page bytes.Buffer
	if err := p.pages.ExecuteTemplate(&page, name, s); err != nil {
		p.cfg.Log.Error("status page", "page", name, "err", err)
		http.Error(w, "this page cannot be shown; the node's log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes())
}

func (p *Page) getStatus(w http.ResponseWriter, _ *http.Request) {
	p.show(w, http.StatusOK, "status", shownPage{View: p.cfg.View().bounded(), Title: "Node"})
}

// receiptOf is the receipt that a request is about.
func (p *Page) receiptOf(w http.ResponseWriter, r *http.Request) (blob.Digest, []byte, bool) {
	id, err := blob.Parse("sha256:" + r.PathValue("job"))
	var raw []byte
	if err == nil {
		raw, err = p.cfg.Receipt(id)
	}
	if err != nil {
		p.show(w, http.StatusNotFound, "missing", shownPage{Title: "No receipt"})
		return id, nil, false
	}
	return id, raw, true
}

func (p *Page) getReceipt(w http.ResponseWriter, r *http.Request) {
	id, raw, ok := p.receiptOf(w, r)
	if !ok {
		return
	}
	receipt := &shownReceipt{Job: id, Text: string(raw)}
	receipt.Claims, receipt.Own = p.cfg.Key(raw)
	p.show(w, http.StatusOK, "receipt", shownPage{View: p.cfg.View().bounded(), Title: "Receipt", Receipt: receipt})
}

func (p *Page) getReceiptFile(w http.ResponseWriter, r *http.Request) {
	id, raw, ok := p.receiptOf(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="receipt-`+id.Hex()[:12]+`.json"`)
	_, _ = w.Write(raw)
}

// A verifier is the program as it is served.
type verifier struct {
	packed []byte
	Size   int64       // bytes, unpacked
	Digest blob.Digest // of the unpacked program
}

func openVerifier(packed []byte) (verifier, error) {
	if len(packed) == 0 {
		return verifier{}, nil
	}
	plain, err := unpack(packed)
	if err != nil {
		return verifier{}, err
	}
	return verifier{packed, int64(len(plain)), blob.Of(plain)}, nil
}

func unpack(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, maxExpanded))
}

func (p *Page) getVerifier(w http.ResponseWriter, r *http.Request) {
	body := p.verifier.packed
	if body == nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/wasm")
	h.Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
	} else if plain, err := unpack(body); err == nil {
		body = plain
	}
	tag := `"` + p.verifier.Digest.Hex() + `"`
	h.Set("Cache-Control", "private, no-cache") // kept, and asked for each time whether it is still right
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(body)
}
