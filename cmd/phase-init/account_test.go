package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/phasebased/phase/internal/fetch"
)

func TestAccount(t *testing.T) {
	const mirror, neighbour = "http://192.0.2.1:8080/blobs/ab/abcd.bin", "http://[fe80::7]:8080/blobs/ab/abcd.bin"
	from := func(source string, bytes int64) fetch.SourceReport {
		return fetch.SourceReport{Source: source, Bytes: bytes, Verdict: "good"}
	}
	liar := fetch.SourceReport{Source: "http://liar.example/blobs/ab/abcd.bin", Verdict: "wrong bytes"}
	var crowd []fetch.SourceReport
	for i := range 6 {
		crowd = append(crowd, from(fmt.Sprintf("http://192.0.2.%d/x", i), int64(1000*(i+1))))
	}
	for name, c := range map[string]struct {
		report fetch.Report
		want   []string
	}{
		"one source": {
			fetch.Report{Name: "kernel", Size: 14_186_432, Sources: []fetch.SourceReport{from(mirror, 14_186_432), from(neighbour, 0)}},
			[]string{"kernel 14.2 MB from 192.0.2.1:8080"},
		},
		"the cache": {
			fetch.Report{Name: "rootfs", Size: 11_000_000, Kept: 11_000_000, Sources: []fetch.SourceReport{from(mirror, 0)}},
			[]string{"rootfs 11.0 MB from the cache"},
		},
		"a patch": {
			fetch.Report{Name: "rootfs", Size: 11_000_000, Kept: 10_978_000, Sources: []fetch.SourceReport{from(mirror, 0)}},
			[]string{"rootfs 11.0 MB made out of an older one, with a patch of 22.0 kB (0.2 %)"},
		},
		"two sources": {
			fetch.Report{Name: "rootfs", Size: 10_000_000, Sources: []fetch.SourceReport{from(mirror, 4_000_000), from(neighbour, 6_000_000)}},
			[]string{"rootfs 10.0 MB from 2 sources: 6.0 MB from [fe80::7]:8080, 4.0 MB from 192.0.2.1:8080"},
		},
		"going on": {
			fetch.Report{Name: "rootfs", Size: 10_000_000, Kept: 7_000_000, Sources: []fetch.SourceReport{from(mirror, 3_000_000)}},
			[]string{"rootfs 10.0 MB in parts: 7.0 MB was here, 3.0 MB from 192.0.2.1:8080"},
		},
		"a liar": {
			fetch.Report{Name: "rootfs", Size: 1000, Sources: []fetch.SourceReport{liar, from(mirror, 1000)}},
			[]string{"rootfs 1.0 kB from 192.0.2.1:8080",
				"WARNING: liar.example gave wrong bytes of rootfs. None of them was used, and it was not asked again."},
		},
		"a crowd": {
			fetch.Report{Name: "rootfs", Size: 21_000, Sources: crowd},
			[]string{"rootfs 21.0 kB from 6 sources: 6.0 kB from 192.0.2.5, 5.0 kB from 192.0.2.4, 4.0 kB from 192.0.2.3, 3.0 kB from 192.0.2.2, the rest from 2 others"},
		},
		"nobody": {
			fetch.Report{Name: "rootfs", Size: 1000, Error: "nobody has it", Sources: []fetch.SourceReport{from(mirror, 0)}},
			nil,
		},
	} {
		if got := account(c.report); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
