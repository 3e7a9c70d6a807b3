package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/vm"
	"github.com/phasebased/phase/receipt"
)

// Outcome is how far a machine came.
type Outcome struct {
	Accel   string         // the accelerator in use
	Elapsed time.Duration  // power on to the last event
	Stages  []Stage        // the walk, in host time since power on
	Node    *NodeInfo      // nil: the node never came up
	Receipt *Receipt       // nil: none was delivered
	Failure *Failure       // nil: no stage failed
	Events  []string       // all events in order: "seed/stage-start network", "seed/handover"
	Fetched []fetch.Report // where the artifacts came from, by the seed's own account
	Memory  SeedMemory     // of the seed at hand-over; zero: it did not say
	Seed    time.Duration  // from the first word of the seed's init to its last before the hand-over, on its clock; 0: it came to none

	last  LastWord
	shown []byte // the receipt on the report port
}

// SeedMemory is what the seed needed, in bytes.
type SeedMemory struct {
	InitPeak int64 `json:"init_peak_rss"` // the most its init ever held
	Used     int64 `json:"used"`          // by the whole system, with the new kernel loaded
}

// Stage is one stage of the walk on the host's clock.
type Stage struct {
	Name   string        `json:"name"`
	Kernel string        `json:"kernel"`   // what ran: firmware, seed or node
	Start  time.Duration `json:"start_ns"` // since power on
	End    time.Duration `json:"end_ns"`
	Note   string        `json:"note,omitempty"`
}

// Failure is what the machine said when it stopped.
type Failure struct {
	Stage string `json:"stage"`
	Code  string `json:"code"`
	Text  string `json:"text"`
}

// NodeInfo is what the booted node said on its own report port. That port is
// wired to this machine's QEMU, not to the network, so the key it names is
// that machine's.
type NodeInfo struct {
	Key       string   `json:"node_key"` // "ed25519:" and the public key in hex
	PeerID    string   `json:"peer_id"`
	Addresses []string `json:"p2p_addrs"`
}

// Receipt is a delivered receipt, verified against the node's key.
type Receipt struct {
	Raw       []byte
	Statement receipt.Statement
}

// ErrTimeout says that a machine reached neither a receipt nor a failure.
var ErrTimeout = errors.New("the machine reached neither a receipt nor a failure in time")

// LastWord is the event that ends a walk which went well.
type LastWord int

// The last words.
const (
	ReceiptDelivered LastWord = iota // a provider has taken the receipt
	ReceiptShown                     // the receipt is on the report port; private mode delivers none
	NodeReady                        // the node answers
	HandedOver                       // the seed starts the system that it verified
	Offered                          // the node has announced on its network what it booted, for others to boot
)

// Follow watches a machine until its last word (and others, in any order), a stage
// failed, the machine ended, or ctx ends. The outcome is valid with every error.
func Follow(ctx context.Context, machine *vm.Machine, last LastWord, others ...LastWord) (*Outcome, error) {
	f := newFollower(machine.PowerOn(), append(others, last)...)
	f.out.last = last
	f.out.Accel, _ = machine.Accel()
	defer func() { f.out.Stages = f.walk() }()
	for {
		select {
		case line, open := <-machine.Report():
			if !open {
				return &f.out, fmt.Errorf("the machine ended (%s)", machine.Wait().Reason)
			}
			event, err := timeline.ParseEvent(line.Line)
			if err != nil {
				return &f.out, fmt.Errorf("the machine's report: %w", err)
			}
			if done, err := f.take(event, line.At); done || err != nil {
				f.out.Stages = f.walk()
				return &f.out, err
			}
		case <-ctx.Done():
			return &f.out, fmt.Errorf("%w (%v; its last event was %s)", ErrTimeout,
				time.Since(f.powerOn).Round(time.Second), f.lastEvent())
		}
	}
}

// follower turns report lines into an outcome.
type follower struct {
	out     Outcome
	awaited map[LastWord]bool // words not yet said
	powerOn time.Time
	stages  []timeline.Stage         // on their kernel's clock
	zero    map[string]time.Duration // when each kernel's clock started, since power on
	running map[string]int64         // stages begun: name to at_ns
	ready   time.Duration            // node-ready, on the node's clock
	first   int64                    // at_ns of the seed's first event
}

func newFollower(powerOn time.Time, awaited ...LastWord) *follower {
	f := &follower{awaited: map[LastWord]bool{}, powerOn: powerOn, zero: map[string]time.Duration{}, running: map[string]int64{}}
	for _, word := range awaited {
		f.awaited[word] = true
	}
	return f
}

// said notes that the machine has said a word, and tells whether it was the last.
func (f *follower) said(word LastWord) bool {
	delete(f.awaited, word)
	return len(f.awaited) == 0
}

// reportLimits bound what a guest may say about itself in one event.
var reportLimits = strictjson.Limits{Bytes: timeline.MaxEventBytes, Depth: 8}

func (f *follower) lastEvent() string {
	if n := len(f.out.Events); n > 0 {
		return f.out.Events[n-1]
	}
	return "none"
}

// take handles one event; done says that the machine has said its last word.
func (f *follower) take(e timeline.Event, at time.Time) (done bool, err error) {
	since := at.Sub(f.powerOn)
	f.out.Elapsed = since
	if f.first == 0 && e.Kernel == timeline.KernelSeed {
		f.first = e.AtNS
	}
	name := e.Kernel + "/" + e.Event
	if e.Stage != "" {
		name += " " + e.Stage
	}
	f.out.Events = append(f.out.Events, name)
	// The line that was delayed least says best when the kernel's clock began.
	if start := since - time.Duration(e.AtNS); f.zero[e.Kernel] == 0 || start < f.zero[e.Kernel] {
		f.zero[e.Kernel] = start
	}
	switch e.Event {
	case timeline.EventStageStart:
		f.running[e.Stage] = e.AtNS
	case timeline.EventStageEnd:
		f.stages = append(f.stages, timeline.Stage{
			Name: e.Stage, Kernel: e.Kernel, Start: time.Duration(f.running[e.Stage]), End: time.Duration(e.AtNS), Note: e.Text,
		})
		if e.Stage == timeline.StageFetch && e.Kernel == timeline.KernelSeed && len(e.Data) > 0 {
			f.out.Fetched = nil
			if err := json.Unmarshal(e.Data, &f.out.Fetched); err != nil {
				return true, fmt.Errorf("the seed's report about its fetch: %w", err)
			}
		}
		if strings.HasPrefix(e.Stage, "receipt ") { // the last word: delivered, or not
			if e.Code != "" {
				f.out.Failure = &Failure{Stage: e.Stage, Code: e.Code, Text: e.Text}
				return true, nil
			}
			return f.said(ReceiptDelivered), nil
		}
	case timeline.EventAnnounced:
		// It also says so when it could not: then nothing is announced.
		var told struct {
			Announced json.RawMessage `json:"announced"`
		}
		if err := json.Unmarshal(e.Data, &told); err != nil {
			return true, fmt.Errorf("the node's report about what it offers: %w", err)
		}
		return len(told.Announced) > 0 && string(told.Announced) != "null" && f.said(Offered), nil
	case timeline.EventReceipt:
		f.out.shown = e.Data
		return f.said(ReceiptShown), nil
	case timeline.EventNodeReady:
		f.ready = time.Duration(e.AtNS)
		f.out.Node = &NodeInfo{}
		if err := strictjson.Unmarshal(e.Data, f.out.Node, reportLimits); err != nil {
			return true, fmt.Errorf("the node's report about itself: %w", err)
		}
		return f.said(NodeReady), nil
	case timeline.EventHandover:
		f.out.Seed = time.Duration(e.AtNS - f.first)
		if err := strictjson.Unmarshal(e.Data, &f.out.Memory, reportLimits); err != nil {
			return true, fmt.Errorf("the seed's report about its memory: %w", err)
		}
		return f.said(HandedOver), nil
	case timeline.EventFailed:
		f.out.Failure = &Failure{Stage: e.Stage, Code: e.Code, Text: e.Text}
		return true, nil
	}
	return false, nil
}

// walk lays the kernels' stages end to end on the host's clock: what ran before
// the first kernel is the firmware, and what lies between two kernels belongs to
// the hand-over.
func (f *follower) walk() []Stage {
	seed, hasSeed := f.zero[timeline.KernelSeed]
	node, hasNode := f.zero[timeline.KernelNode]
	var walk []Stage
	if hasSeed {
		walk = append(walk, Stage{Name: "firmware", Kernel: timeline.KernelFirmware, End: seed})
		walk = append(walk, f.seedStages(seed)...)
	} else if hasNode {
		walk = append(walk, Stage{Name: "firmware", Kernel: timeline.KernelFirmware, End: node})
	}
	if !hasNode {
		return walk
	}
	if last := len(walk) - 1; hasSeed && walk[last].Name == timeline.StageHandover {
		walk[last].End = node
	}
	return append(walk, f.nodeStages(node)...)
}

// seedStages begin with the seed's own start: its kernel, up to its first stage.
func (f *follower) seedStages(zero time.Duration) []Stage {
	walk := []Stage{{Name: "seed", Kernel: timeline.KernelSeed, Start: zero, End: zero}}
	for _, s := range f.stages {
		if s.Kernel == timeline.KernelSeed {
			walk = append(walk, Stage{Name: s.Name, Kernel: s.Kernel, Start: zero + s.Start, End: zero + s.End, Note: s.Note})
		}
	}
	if len(walk) > 1 {
		walk[0].End = walk[1].Start
	}
	return walk
}

// nodeStages begin with the node as a whole, up to its readiness; the stages of
// its start overlap with that.
func (f *follower) nodeStages(zero time.Duration) []Stage {
	walk := []Stage{{Name: "node", Kernel: timeline.KernelNode, Start: zero, End: zero + f.ready}}
	first := true
	for _, s := range f.stages {
		if s.Kernel != timeline.KernelNode {
			continue
		}
		stage := Stage{Name: s.Name, Kernel: s.Kernel, Start: zero + s.Start, End: zero + s.End, Note: s.Note}
		if job, ok := strings.CutPrefix(s.Name, "job "); ok && first {
			stage.Name, stage.Note, first = "first job", strings.TrimSpace(job+" "+s.Note), false
		}
		walk = append(walk, stage)
	}
	return walk
}
