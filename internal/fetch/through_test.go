package fetch

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A client with a way of its own hands names on as they are, through redirects too,
// and asks nobody where the way is closed.
func TestClientThrough(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "mirror.example" {
			http.Redirect(w, r, "http://other.example:8080/x", http.StatusFound)
			return
		}
		_, _ = w.Write([]byte("from " + r.Host))
	}))
	defer srv.Close()
	var mu sync.Mutex
	var asked []string
	closed := errors.New("the way is closed")
	var fault error
	client := NewClientThrough(nil, func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, network+" "+address)
		if fault != nil {
			return nil, fault
		}
		return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
	})
	defer client.CloseIdleConnections()
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	f := &Fetcher{Client: client, Retries: 1}
	got, err := f.Get(t.Context(), "http://mirror.example/x", 100)
	if err != nil || string(got) != "from other.example:8080" {
		t.Errorf("%q, %v", got, err)
	}
	if want := []string{"tcp mirror.example:80", "tcp other.example:8080"}; !slices.Equal(asked, want) {
		t.Errorf("dialled %q, want %q", asked, want)
	}
	client.CloseIdleConnections()
	fault = closed
	if _, err := f.Get(t.Context(), srv.URL, 100); !errors.Is(err, closed) || strings.Contains(err.Error(), "lookup") {
		t.Errorf("with the way closed: %v", err)
	}
}
