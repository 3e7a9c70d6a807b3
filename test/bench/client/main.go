// Command client finds a boot pointer on the DHT and does nothing else: what
// phase-discover has besides, mirrors and the local network among it, is left
// out. Its size is what can be compared with the stock client's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/manifest"
)

func main() {
	root := flag.String("k", "", "root.json `file` whose timestamp key must have signed the pointer")
	within := flag.Duration("t", 30*time.Second, "time to search")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), *within)
	defer cancel()
	url, err := find(ctx, *root, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
	fmt.Printf("MANIFEST_URL=%s\n", url)
}

// find returns the manifest's URL once the search is complete.
func find(ctx context.Context, rootFile string, bootstrap []string) (string, error) {
	raw, err := os.ReadFile(rootFile)
	if err != nil {
		return "", err
	}
	root, err := manifest.ParseRoot(raw)
	if err != nil {
		return "", err
	}
	node, err := p2p.New(p2p.Config{Bootstrap: bootstrap})
	if err != nil {
		return "", err
	}
	defer node.Close()
	want := manifest.Want{Channel: manifest.ChannelStable, Arch: manifest.ArchX8664}
	url := ""
	var refused error
	err = node.Search(ctx, discover.Query{Channel: want.Channel, Arch: want.Arch}, func(c discover.Candidate) {
		v, err := manifest.Verifier{Root: root, Want: want}.Pointer(c.Pointer, time.Now())
		if err != nil {
			refused = err
			return
		}
		fmt.Fprintf(os.Stderr, "version %d, verified\n", v.Pointer().ManifestVersion)
		url = v.Pointer().URLs[0]
	})
	if err == nil {
		err = refused
	}
	if err == nil && url == "" {
		err = errors.New("nothing found")
	}
	return url, err
}
