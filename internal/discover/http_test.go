package discover_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/manifest"
)

// get is a minimal discover.Get.
func get(ctx context.Context, url string, max int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	if err == nil && int64(len(body)) > max {
		err = fmt.Errorf("more than %d bytes", max)
	}
	return body, err
}

// mirror serves pointers where a provider does.
func mirror(t *testing.T, pointers ...[]byte) string {
	mux := http.NewServeMux()
	for _, raw := range pointers {
		p, err := manifest.InspectPointer(raw)
		if err != nil {
			t.Fatal(err)
		}
		mux.HandleFunc("GET /"+p.Channel+"/"+p.Arch+"/pointer.json", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(raw)
		})
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

// silent accepts connections and says nothing.
func silent(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestHTTPConformance(t *testing.T) {
	discovertest.Run(t, discovertest.World{
		Source: func(t *testing.T, pointers ...[]byte) discover.Source {
			return discover.HTTP{Base: mirror(t, pointers...), Get: get}
		},
		Silent: func(t *testing.T) discover.Source {
			return discover.HTTP{Base: "http://" + silent(t).Addr().String(), Get: get}
		},
	})
}

func TestHTTPTellsItsBase(t *testing.T) {
	base := mirror(t, discovertest.Pointer(t, query, 1))
	for _, written := range []string{base, base + "/"} {
		var got []discover.Candidate
		src := discover.HTTP{Base: written, Get: get}
		if err := src.Search(t.Context(), query, func(c discover.Candidate) { got = append(got, c) }); err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || len(got[0].Bases) != 1 || got[0].Bases[0] != base || got[0].Origin != base || src.Name() != base {
			t.Errorf("%s: %+v", written, got)
		}
	}
}

func TestHTTPRefusesBases(t *testing.T) {
	for _, base := range []string{
		"", "mirror", "ftp://h", "file:///etc", "http://", "http://u:p@h", "http://h/?a=b", "http://h?", "http://h/#f", "http://h#",
		"http://h/" + strings.Repeat("a", discover.MaxBase), "http://[::1", "http://h\n",
	} {
		src := discover.HTTP{Base: base, Get: func(context.Context, string, int64) ([]byte, error) {
			t.Errorf("%.40q was fetched", base)
			return nil, nil
		}}
		if err := src.Search(t.Context(), query, func(discover.Candidate) {}); err == nil {
			t.Errorf("%.40q accepted", base)
		}
	}
}

func TestHTTPBoundsTheAnswer(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", discover.MaxPointer+1))
	}))
	defer srv.Close()
	err := discover.HTTP{Base: srv.URL, Get: get}.Search(t.Context(), query, func(discover.Candidate) { t.Error("found") })
	if err == nil {
		t.Error("no error")
	}
}
