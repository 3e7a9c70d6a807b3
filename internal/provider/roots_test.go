package provider

import (
	"slices"
	"strings"
	"testing"
)

// What a machine with the first root needs to arrive at the newest one must be
// there, or the publisher is told.
func TestRoots(t *testing.T) {
	const dir = "stable/x86_64/"
	second, third := testRoot(t, 2, "new root", "root"), testRoot(t, 3, "new root")
	whole := map[string][]byte{"2.root.json": second, "3.root.json": third, "root.json": third}
	with := func(changes map[string][]byte) map[string][]byte {
		files := map[string][]byte{}
		for _, from := range []map[string][]byte{whole, changes} {
			for name, data := range from {
				files[name] = data
			}
		}
		return files
	}
	for _, c := range []struct {
		name, problem string // no problem: healthy
		files         map[string][]byte
		newest        int64
	}{
		{"the first", "", nil, 1},
		{"whole chain", "", whole, 3},
		{"newest without a number", "3.root.json is missing", with(map[string][]byte{"3.root.json": nil}), 3},
		{"gap", "2.root.json is missing", with(map[string][]byte{"2.root.json": nil}), 3},
		{"other newest", "3.root.json: it is not what root.json is", with(map[string][]byte{"3.root.json": second}), 3},
		{"signed by one side only", "1.root.json: its successor is refused", with(map[string][]byte{"2.root.json": testRoot(t, 2, "new root")}), 3},
		{"no root", "2.root.json: root refused", with(map[string][]byte{"2.root.json": []byte("{}")}), 3},
		{"huge root", "2.root.json: root refused", with(map[string][]byte{"2.root.json": make([]byte, 10<<20)}), 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := t.TempDir()
			publish(t, base, 7)
			for name, data := range c.files {
				if data != nil {
					write(t, base, dir+name, data)
				}
			}
			p, url := start(t, Config{Base: base})
			code, text := health(t, url)
			if c.problem == "" && code != 200 || c.problem != "" && (code != 503 || !strings.Contains(text, c.problem)) {
				t.Errorf("health %d %q, want %q", code, text, c.problem)
			}
			r := p.Status().Releases[0]
			if r.Root != c.newest || r.Version != 7 {
				t.Errorf("release %d under root %d", r.Version, r.Root)
			}
			for name, data := range c.files {
				resp, _ := get(t, url+"/"+dir+name)
				listed := slices.ContainsFunc(r.Documents, func(d documentStatus) bool { return d.Name == name && d.Size == int64(len(data)) })
				if there := data != nil; there != (resp.StatusCode == 200) || there && c.problem == "" && !listed {
					t.Errorf("%s: %s, documents %+v", name, resp.Status, r.Documents)
				}
			}
		})
	}
}

func TestStatusListsDocuments(t *testing.T) {
	p, _ := start(t, Config{})
	var names []string
	for _, d := range p.Status().Releases[0].Documents {
		names = append(names, d.Name)
		if d.Size == 0 || d.Hash.IsZero() {
			t.Errorf("%+v", d)
		}
	}
	slices.Sort(names)
	if want := []string{"1.root.json", "manifest.json", "manifest.tlog-proof", "pointer.json", "root.json"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}
