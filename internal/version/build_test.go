package version

import (
	"runtime"
	"strings"
	"testing"
)

func TestBuild(t *testing.T) {
	defer func(v, e, c string) { Version, Epoch, Commit = v, e, c }(Version, Epoch, Commit)
	Version, Epoch, Commit = "1.2.3", "1793491200", "0123abcd"
	b := This("tool")
	if b.Sources != "2026-11-01T00:00:00Z" || b.Commit != Commit || b.Go != runtime.Version() || b.Modules == nil {
		t.Errorf("%+v", b)
	}
	var out strings.Builder
	if err := b.Write(&out); err != nil || !strings.HasPrefix(out.String(), "tool 1.2.3 (sources of 2026-11-01)\ncommit    0123abcd\n") {
		t.Errorf("%q, %v", out.String(), err)
	}
	Epoch, Commit = "devel", ""
	out.Reset()
	if err := This("tool").Write(&out); err != nil || !strings.HasPrefix(out.String(), "tool 1.2.3 (sources of an unknown day)\ncommit    ") {
		t.Errorf("%q, %v", out.String(), err)
	}
}
