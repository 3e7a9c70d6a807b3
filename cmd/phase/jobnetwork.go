package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/peer"
	phaseterm "github.com/phasebased/phase/internal/term"
)

// networkFlags say which nodes of the network are listed.
type networkFlags struct {
	network              bool
	arch, key, submitter string
	search, ask          time.Duration
}

func (n *networkFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&n.network, "network", false, "those that the network knows to run jobs")
	flags.StringVar(&n.arch, "arch", "", "only nodes of this architecture, x86_64 or arm64")
	flags.StringVarP(&n.key, "key", "k", "", "the submitter's private key, a PEM `file`, to ask who runs their jobs")
	flags.StringVar(&n.submitter, "submitter", "", "the submitter's public `key`, ed25519:<hex>, instead")
	flags.DurationVar(&n.search, "search", 15*time.Second, "how long nodes are looked for")
	flags.DurationVar(&n.ask, "wait", 10*time.Second, "how long each may take to answer")
}

// who is the submitter in question, nil for nobody.
func (n *networkFlags) who() (ed25519.PublicKey, error) {
	if n.submitter != "" {
		key, err := job.ParseKey(n.submitter)
		if err != nil {
			return nil, usageError{fmt.Errorf("--submitter: %w", err)}
		}
		return key, nil
	}
	if n.key == "" {
		return nil, nil
	}
	key, err := keyfile.Read(n.key, nil)
	if err != nil {
		return nil, err
	}
	return key.Public().(ed25519.PublicKey), nil
}

// listed is a node of the network, as --format json writes it.
type listed struct {
	Node     string            `json:"node"` // its key
	Addrs    []string          `json:"addrs"`
	Capacity *jobpeer.Capacity `json:"capacity,omitempty"` // null if it did not answer
	Error    string            `json:"error,omitempty"`
}

// maxAsked is how many nodes are asked at once.
const maxAsked = 16

// find looks for nodes and asks each about itself.
func (n *networkFlags) find(ctx context.Context, r jobapi.Remote) ([]listed, error) {
	list := []listed{}
	var mu sync.Mutex
	var asks sync.WaitGroup
	slots := make(chan struct{}, maxAsked)
	searching, stop := context.WithTimeout(ctx, n.search)
	defer stop()
	err := r.Search(searching, n.arch, func(p peer.Peer) {
		asks.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, n.ask)
			defer cancel()
			one := listed{Node: job.FormatKey(p.Key), Addrs: append([]string{}, p.Addrs...)}
			if c, err := r.Capacity(ctx, p); err != nil {
				one.Error = err.Error()
			} else {
				one.Capacity = &c
			}
			mu.Lock()
			defer mu.Unlock()
			list = append(list, one)
		})
	})
	asks.Wait()
	slices.SortFunc(list, func(a, b listed) int { return strings.Compare(a.Node, b.Node) })
	if searching.Err() != nil && ctx.Err() == nil {
		err = nil // the time for searching is over; those that were found count
	}
	return list, err
}

func (n *networkFlags) list(cmd *cobra.Command, f *jobFlags, c *jobapi.Client) error {
	who, err := n.who()
	if err != nil {
		return err
	}
	list, err := n.find(cmd.Context(), c.Remote(who))
	if err != nil {
		return err
	}
	if len(list) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "phase: no node was found. Peers to find others by are named in the node's configuration, as bootstrap_peers.")
	}
	return f.show(cmd.OutOrStdout(), list, func(w io.Writer) error {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NODE\tARCH\tRUNNING\tWAITING\tMEMORY\tFUEL TABLE\tQUORUM\tACCEPTS YOU\tENGINE\tWALLS")
		for _, one := range list {
			c := one.Capacity
			if c == nil {
				fmt.Fprintf(table, "%s\t%s\n", one.Node, phaseterm.Clean(one.Error))
				continue
			}
			fmt.Fprintf(table, "%s\t%s\t%d/%d\t%d/%d\t%s\t%d\t%s\t%s\t%s\t%s\n", one.Node, phaseterm.Clean(c.Arch), c.Running, c.MaxRunning,
				c.Waiting, c.MaxWaiting, phaseterm.Bytes(c.MemoryBytes), c.CostTable, yesNo(c.Quorum), accepts(who, c), phaseterm.Clean(c.Engine),
				phaseterm.Clean(strings.Join(c.Walls, ",")))
		}
		return table.Flush()
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// accepts says whether the node runs jobs of who was asked about.
func accepts(who ed25519.PublicKey, c *jobpeer.Capacity) string {
	if who == nil {
		return "?"
	}
	return yesNo(c.Accepts)
}
