package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/cmd/internal/typo"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/provider"
	"github.com/phasebased/phase/internal/strictjson"
)

// maxStatus bounds the answer of a provider.
const maxStatus = 1 << 20

// providerStatus is the part of GET /status that is shown. It comes from
// another machine: text in it is quoted before it reaches a terminal.
type providerStatus struct {
	Healthy  bool     `json:"healthy"`
	Problems []string `json:"problems"`
	Version  string   `json:"version"`
	Started  string   `json:"started_at"`
	Releases []struct {
		Channel   string   `json:"channel"`
		Arch      string   `json:"arch"`
		Version   int64    `json:"manifest_version"`
		Expires   string   `json:"expires_at"`
		Root      int64    `json:"root_version"`
		Problems  []string `json:"problems"`
		Artifacts []struct {
			Name    string `json:"name"`
			Hash    string `json:"hash"`
			Size    int64  `json:"size"`
			Matches bool   `json:"matches"`
		} `json:"artifacts"`
	} `json:"releases"`
	Blobs    int64         `json:"blobs"`
	Served   int64         `json:"served"`
	Withheld int64         `json:"withheld"`
	Load     provider.Load `json:"load"`
	Network  told          `json:"network"`
}

func newProvider() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "provider",
		Short: "Ask a provider how it is and what it serves",
		Args:  usageArgs(typo.Command),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newProviderQuery("status", "Show a provider's state; fails if it is not in order", showStatus),
		newProviderQuery("list", "List what a provider serves", showList),
	)
	return cmd
}

func newProviderQuery(name, short string, show func(io.Writer, providerStatus) error) *cobra.Command {
	var base, format string
	cmd := &cobra.Command{
		Use:     name,
		Short:   short,
		Example: "  plasmd provider " + name + "\n  plasmd provider " + name + " --url http://192.0.2.7:8080 --format json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := discover.CheckBase(base); err != nil {
				return usageError{err}
			}
			if format != "text" && format != "json" {
				return usageError{fmt.Errorf("--format %q is neither text nor json", format)}
			}
			raw, status, err := askProvider(cmd.Context(), base)
			if err != nil {
				return fmt.Errorf("provider %s: %w", base, err)
			}
			if format == "json" {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", strings.TrimSpace(string(raw)))
				return err
			}
			return show(cmd.OutOrStdout(), status)
		},
	}
	cmd.Flags().StringVar(&base, "url", "http://127.0.0.1:8080", "base URL of the provider")
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text or json")
	return cmd
}

// askProvider gets a provider's status as it was sent, once it is known to be
// well-formed, and as read.
func askProvider(ctx context.Context, base string) ([]byte, providerStatus, error) {
	fetcher := &fetch.Fetcher{Timeout: 10 * time.Second}
	raw, err := fetcher.Get(ctx, strings.TrimSuffix(base, "/")+"/status", maxStatus)
	if err != nil {
		return nil, providerStatus{}, err
	}
	var status providerStatus
	err = strictjson.Unmarshal(raw, &status, strictjson.Limits{Bytes: maxStatus, Depth: 16})
	return raw, status, err
}

// showStatus ends with status 1 for a provider that is not in order.
func showStatus(w io.Writer, s providerStatus) error {
	word := "healthy"
	if !s.Healthy {
		word = "not in order"
	}
	fmt.Fprintf(w, "%s, plasmd %s, since %s\n", word, plain(s.Version), plain(s.Started))
	for _, p := range s.Problems {
		fmt.Fprintf(w, "  %q\n", p)
	}
	for _, r := range s.Releases {
		fmt.Fprintf(w, "%s %s version %d, expires %s, root %d\n", plain(r.Channel), plain(r.Arch), r.Version, plain(r.Expires), r.Root)
		for _, p := range r.Problems {
			fmt.Fprintf(w, "  %q\n", p)
		}
	}
	showLoad(w, s.Load)
	showTold(w, s.Network)
	if !s.Healthy {
		return exitStatus(1)
	}
	return nil
}

// showLoad says how busy a provider is. One of before it counted says nothing.
func showLoad(w io.Writer, l provider.Load) {
	if l.Limit == 0 {
		return
	}
	fmt.Fprintf(w, "%d of %d requests under way, of %d addresses; %d connections\n", l.Requests, l.Limit, l.Clients, l.Connections)
	fmt.Fprintf(w, "%d requests answered, %s sent; %d refused, %d clients cut\n", l.Answered, size(l.Sent), l.Refused, l.Slow)
}

// size is for people.
func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

// showTold says what a provider says that it told the network.
func showTold(w io.Writer, t told) {
	for _, p := range t.Published {
		fmt.Fprintf(w, "on the DHT since %s: %s, confirmed by %s\n", p.At.Format(time.RFC3339), plain(p.Key), confirmed(p.AcknowledgedBy))
		for _, id := range p.AcknowledgedBy {
			fmt.Fprintf(w, "  %s\n", plain(id))
		}
	}
	for _, h := range t.Held {
		fmt.Fprintf(w, "on the DHT since %s: %s, confirmed by %s\n", h.At.Format(time.RFC3339), h.Blob, confirmed(h.AcknowledgedBy))
	}
	if a := t.Announced; a != nil {
		fmt.Fprintf(w, "on the local network since %s: version %d, as %s\n", a.At.Format(time.RFC3339), a.Version, plain(a.Instance))
	}
	for _, failed := range []string{t.PublishError, t.HoldError, t.AnnounceError} {
		if failed != "" {
			fmt.Fprintf(w, "  %q\n", failed)
		}
	}
}

func showList(w io.Writer, s providerStatus) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CHANNEL\tARCH\tVERSION\tARTIFACT\tBYTES\tHASH\tMATCHES")
	for _, r := range s.Releases {
		for _, a := range r.Artifacts {
			fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%d\t%s\t%t\n", plain(r.Channel), plain(r.Arch), r.Version, plain(a.Name), a.Size, plain(a.Hash), a.Matches)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d contents by digest, %d files of blobs, %d of them withheld\n", s.Served, s.Blobs, s.Withheld)
	return err
}

// plain shows foreign text without quotes where it needs none.
func plain(s string) string {
	quoted := fmt.Sprintf("%q", s)
	if quoted == `"`+s+`"` {
		return s
	}
	return quoted
}
