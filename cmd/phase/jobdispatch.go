package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/dispatch"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/peer"
	phaseterm "github.com/phasebased/phase/internal/term"
)

// Values of --on beside keys.
const (
	onNetwork = "network" // nodes that are found
	onAny     = "any"     // this machine's, or if it does not come to an answer, found ones
)

// dispatchFlags say on which nodes a job is run.
type dispatchFlags struct {
	on                      []string
	replicas, quorum, nodes int
	arch                    string
	patience, search        time.Duration
	receipt                 string // file
	known, beacon, frauds   string // file, value, folder
}

func (d *dispatchFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&d.on, "on", nil, "run it on other nodes: network, any, or a node's `KEY`, also KEY@MULTIADDR, repeatable")
	flags.IntVar(&d.replicas, "replicas", 1, "`nodes` that run it, each without knowing what the others say")
	flags.IntVar(&d.quorum, "quorum", 0, "`nodes` that have to come to the same result (default more than half)")
	flags.IntVar(&d.nodes, "max-nodes", 0, "most `nodes` that get the job (default 3 more than twice the replicas)")
	flags.StringVar(&d.arch, "arch", "", "only nodes of this architecture, x86_64 or arm64")
	flags.DurationVar(&d.patience, "wait", time.Minute, "how long a node may take beyond the job's deadline")
	flags.DurationVar(&d.search, "search", 15*time.Second, "how long nodes are looked for")
	flags.StringVar(&d.known, "nodes", "", "a `file` of nodes that are known, and who runs them: of the network only these are asked, and of one operator's only one votes")
	flags.StringVar(&d.beacon, "beacon", "", "public randomness by which a quorum's nodes are chosen, `HEX` or @FILE (default random, of one's own)")
	flags.StringVar(&d.frauds, "fraud-dir", "", "write proofs of fraud that come out into this `folder` (default beside the file of --receipt)")
	flags.StringVar(&d.receipt, "receipt", "", "write the receipt, or with several replicas the quorum's statement, to this `file`")
}

// away reports whether other nodes are meant; the flags that need that are refused
// without it. A command that only hands a job in here has no receipt to write either.
func (d *dispatchFlags) away(cmd *cobra.Command, s *specFlags) (bool, error) {
	if len(d.on) == 0 {
		for _, name := range []string{"replicas", "quorum", "max-nodes", "arch", "wait", "search", "nodes", "beacon", "fraud-dir"} {
			if cmd.Flags().Changed(name) {
				return false, usageError{fmt.Errorf("--%s is for --on", name)}
			}
		}
		if d.receipt != "" && cmd.Name() == "submit" {
			return false, usageError{errors.New("--receipt is for --on here: ask for it when the job has ended, with phase job get --receipt FILE ID")}
		}
		return false, nil
	}
	switch {
	case s.key == "":
		return false, usageError{errors.New("--on: other nodes run signed jobs only; name the submitter's key file with --key")}
	case d.beacon != "" && d.replicas < 2:
		return false, usageError{errors.New("--beacon is for --replicas")}
	case cmd.Flags().Changed("for"):
		return false, usageError{errors.New("--for is not for --on: each node gets a submission for itself alone")}
	}
	return true, nil
}

// places are what --on names.
type places struct {
	local, network bool
	nodes          []peer.Peer     // with addresses
	wanted         map[string]bool // keys to look for on the network
}

func (d *dispatchFlags) places() (*places, error) {
	p := &places{wanted: map[string]bool{}}
	for _, on := range d.on {
		switch on {
		case onAny:
			p.local, p.network = true, true
		case onNetwork:
			p.network = true
		default:
			text, addr, there := strings.Cut(on, "@")
			key, err := job.ParseKey(text)
			if err != nil {
				return nil, usageError{fmt.Errorf("--on: choose network, any, or a node's key: %w", err)}
			}
			if there {
				p.nodes = append(p.nodes, peer.Peer{Key: key, Addrs: []string{addr}})
			} else {
				p.wanted[text] = true
			}
		}
	}
	return p, nil
}

// searchFor finds what is named and not known yet; nil if there is nothing to find.
func (d *dispatchFlags) searchFor(p *places, r jobapi.Remote) func(context.Context, func(peer.Peer)) error {
	if !p.network && len(p.wanted) == 0 {
		return nil
	}
	return func(ctx context.Context, found func(peer.Peer)) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		left := len(p.wanted)
		err := r.Search(ctx, d.arch, func(peer peer.Peer) {
			wanted := p.wanted[job.FormatKey(peer.Key)]
			if p.network || wanted {
				found(peer)
			}
			if wanted {
				left--
			}
			if !p.network && left == 0 {
				cancel() // all who are named are found
			}
		})
		if left == 0 && !p.network {
			return nil
		}
		return err
	}
}

// dispatched is what job submit --on tells with --format json.
type dispatched struct {
	JobID    string             `json:"job_id"`
	EndState string             `json:"end_state,omitempty"`
	ExitCode int64              `json:"exit_code"`
	Stdout   []byte             `json:"stdout"`  // base64
	Stderr   []byte             `json:"stderr"`  // base64
	Receipt  rawJSON            `json:"receipt"` // of the node whose outputs these are; verified
	Quorum   rawJSON            `json:"quorum"`  // statement; null for one node
	Agreed   int                `json:"agreed"`  // nodes that came to this result
	Nodes    []dispatch.Attempt `json:"nodes"`
	Frauds   []rawJSON          `json:"frauds,omitempty"` // proofs, each for itself
	Code     string             `json:"code,omitempty"`
	Error    string             `json:"error,omitempty"`
	Hint     string             `json:"hint,omitempty"`
}

// send gives the job to other nodes. The answer is nil with an error, which has been
// shown if it is a failure of the nodes and JSON was asked for.
func (d *dispatchFlags) send(cmd *cobra.Command, f *jobFlags, s *specFlags, c *jobapi.Client, args []string) (*dispatch.Answer, error) {
	at, err := d.places()
	if err != nil {
		return nil, err
	}
	key, err := keyfile.Read(s.key, nil)
	if err != nil {
		return nil, err
	}
	console := jobConsole()
	j, module, err := s.make(cmd, console, args)
	if err != nil {
		return nil, err
	}
	known, err := readKnown(d.known)
	if err != nil {
		return nil, err
	}
	known.narrow(at)
	beacon, err := readBeacon(d.beacon)
	if err != nil {
		return nil, err
	}
	if d.frauds != "" {
		if err := os.MkdirAll(d.frauds, 0o755); err != nil {
			return nil, err
		}
	}
	remote := c.Remote(key.Public().(ed25519.PublicKey))
	own, err := at.ownNode(cmd.Context(), c)
	if err != nil {
		return nil, err
	}
	o := dispatch.Options{
		Nodes: at.nodes, Search: d.searchFor(at, remote), Replicas: d.replicas, Quorum: d.quorum, MaxNodes: d.nodes,
		SearchTime: d.search, Grace: d.patience, Valid: s.valid, Tell: nodeTeller(console),
		Operator: known.operator, Beacon: beacon,
	}
	var peers dispatch.Peers = remote
	if at.local {
		o.Nodes = append(o.Nodes, own.peer)
	}
	o.Known = known.with(at, o.Nodes)
	if at.local && d.replicas == 1 {
		peers = withOwn{remote, c, own, module}
	}
	if err := o.Check(); err != nil {
		return nil, usageError{err} // before anything is sent
	}
	// Others get the inputs by way of this machine's node. Here one sees how far they are.
	if err := s.files.uploads().bring(cmd.Context(), c, console); err != nil {
		return nil, err
	}
	a, err := dispatch.Run(cmd.Context(), peers, dispatch.Job{Job: j, Module: module, Inputs: s.files.contents(), Key: key}, o)
	var failure *dispatch.Failure
	switch {
	case errors.As(err, new(*dispatch.RuleError)):
		return nil, usageError{err}
	case errors.As(err, &failure):
		return nil, d.failed(cmd, f, j, failure)
	case err != nil:
		return nil, err
	}
	if line := ofStrangers(a, o.Known); line != "" {
		cmd.PrintErrln(line)
	}
	proof := a.Receipt
	if a.Quorum != nil {
		proof = a.Quorum
	}
	return a, d.keep(cmd, proof, a.Frauds)
}

// keep writes the proof to the file that --receipt names, and those of fraud where
// they belong.
func (d *dispatchFlags) keep(cmd *cobra.Command, proof []byte, frauds []dispatch.Fraud) (err error) {
	if d.receipt != "" && proof != nil {
		err = durable.WriteFile(d.receipt, proof, 0o644)
	}
	told, failed := keepFrauds(frauds, d.frauds, d.receipt)
	for _, line := range told {
		cmd.PrintErrln(phaseterm.Clean(line))
	}
	return errors.Join(err, failed)
}

// failed shows a failure: as JSON on standard output, if that is asked for.
func (d *dispatchFlags) failed(cmd *cobra.Command, f *jobFlags, j *job.Job, failure *dispatch.Failure) error {
	if err := d.keep(cmd, failure.Quorum, failure.Frauds); err != nil {
		return errors.Join(failure, err)
	}
	if f.format != "json" {
		return failure
	}
	text, _, _ := strings.Cut(failure.Error(), "\n")
	out := dispatched{JobID: j.ID().String(), Quorum: failure.Quorum, Nodes: failure.Attempts, Frauds: proofsOf(failure.Frauds), Code: failure.Code(), Error: text, Hint: failure.Hint()}
	if err := f.show(cmd.OutOrStdout(), out, nil); err != nil {
		return err
	}
	return failure
}

func (d *dispatchFlags) show(cmd *cobra.Command, f *jobFlags, a *dispatch.Answer) error {
	r := a.Statement.Result
	out := dispatched{
		JobID: r.JobID.String(), EndState: string(r.EndState), ExitCode: r.ExitCode, Stdout: a.Stdout, Stderr: a.Stderr,
		Receipt: a.Receipt, Quorum: a.Quorum, Agreed: a.Agreed, Nodes: a.Attempts, Frauds: proofsOf(a.Frauds),
	}
	return f.show(cmd.OutOrStdout(), out, func(w io.Writer) error {
		fmt.Fprintln(w, r.JobID)
		fmt.Fprintln(w, strings.TrimSpace(fmt.Sprintf("%s %d %s", r.EndState, r.ExitCode, phaseterm.Clean(r.Trap))))
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, n := range a.Attempts {
			fmt.Fprintf(table, "%s\t%s\t%s\n", n.Node, n.Outcome, phaseterm.Clean(n.Text))
		}
		return table.Flush()
	})
}

func proofsOf(list []dispatch.Fraud) (out []rawJSON) {
	for _, f := range list {
		out = append(out, f.Proof)
	}
	return out
}

// nodeTeller shows what happens with each node.
func nodeTeller(console *phaseterm.Console) func(dispatch.Event) {
	return func(e dispatch.Event) {
		console.Line(fmt.Sprintf("%.20s…  %s", e.Node, phaseterm.Clean(e.What)))
	}
}
