package steps

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/discover"
)

// csi begins a terminal's control sequence and is left as it is in JSON.
const csi = "\u009b"

// What strangers say is in the errors of JSON output, which people look at in
// terminals.
func TestErrorsInJSONMoveNoCursor(t *testing.T) {
	said := errors.New("they say " + csi + "2J")
	r := (&pointers{}).result([]discover.Answer{{Source: "mdns", Err: said}})
	var out strings.Builder
	if err := (discoverOptions{format: "json"}).fail(&out, r, said); err != said {
		t.Error(err)
	}
	if strings.Contains(out.String(), csi) || strings.Count(out.String(), "they say ") != 2 {
		t.Errorf("%q", out.String())
	}
}

func TestPortalErrorMovesNoCursor(t *testing.T) {
	p := <-askPortal(t.Context(), "http://"+csi+".invalid/", time.Minute) // no name that could be looked up
	if p.Error == "" || strings.Contains(p.Error, csi) {
		t.Errorf("%q", p.Error)
	}
}
