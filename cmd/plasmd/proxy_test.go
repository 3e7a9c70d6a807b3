package main

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
)

// TestThroughTheProxy: modules come and receipts go through the seed's proxy, with
// its password; in Local mode nobody asks it.
func TestThroughTheProxy(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.String()+" "+r.Header.Get("Proxy-Authorization"))
		_, _ = w.Write([]byte("module"))
	}))
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "proxy")
	url := strings.Replace(server.URL, "http://", "http://user:secret@", 1) + "\n"
	if err := os.WriteFile(path, []byte(url), 0o600); err != nil {
		t.Fatal(err)
	}
	through, err := readProxy(path)
	if err != nil {
		t.Fatal(err)
	}
	log, bases := slog.New(slog.DiscardHandler), []string{"http://provider.example"}
	n := newNetwork(bases, false, through, log)
	t.Cleanup(n.close)
	if _, err := n.module(t.Context(), "hello", blob.Of([]byte("module"))); err != nil {
		t.Error(err)
	}
	if _, err := n.deliver(t.Context(), []byte("{}")); err != nil {
		t.Error(err)
	}
	const user = " Basic dXNlcjpzZWNyZXQ="
	if len(asked) != 2 || asked[1] != "POST http://provider.example/receipts"+user || !strings.HasPrefix(asked[0], "GET http://provider.example/") || !strings.HasSuffix(asked[0], user) {
		t.Errorf("the proxy was asked for %q", asked)
	}

	local := newNetwork(bases, true, through, log)
	t.Cleanup(local.close)
	if _, err := local.deliver(t.Context(), []byte("{}")); !errors.Is(err, fetch.ErrNotLocal) {
		t.Errorf("in Local mode: %v", err)
	}
	if len(asked) != 2 {
		t.Errorf("in Local mode the proxy was asked for %q", asked[2:])
	}
}
