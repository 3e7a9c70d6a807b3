// Package receipt defines the statement that a node signs about a job it ran,
// and checks such statements.
//
// A receipt is a DSSE envelope around an in-toto Statement v1 with a predicate
// of our own, so that tools of that ecosystem can read it. It covers everything
// a submitter must not be lied to about: which job, which module, which
// arguments and input, which output, how it ended. What all honest nodes must
// agree on is the Result; what only this node saw is the Observation.
//
// A receipt proves that the holder of a key claims something. It is accepted
// against a key that the verifier already expects, never against the one that
// the receipt names. No clock is read here.
package receipt

import (
	"crypto/ed25519"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
)

// Identifiers on the wire.
const (
	PayloadType   = "application/vnd.in-toto+json"
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://phasebased.dev/receipt/v0.2"
)

// MaxBytes bounds a receipt file.
const MaxBytes = 64 << 10

// EndState is how a job ended.
type EndState string

// The end states. Only InfraError is worth trying elsewhere.
const (
	Exited      EndState = "exited"        // by itself, with Result.ExitCode
	Trapped     EndState = "trapped"       // by a fault, of kind Result.Trap
	OutOfFuel   EndState = "out_of_fuel"   // used its instruction budget
	OutOfMemory EndState = "out_of_memory" // asked for more than its memory limit and failed
	Deadline    EndState = "deadline"      // ran into the wall-clock limit
	OutputCap   EndState = "output_cap"    // ended because it wrote too much
	Refused     EndState = "refused"       // was not started
	InfraError  EndState = "infra_error"   // failed for reasons of the node
)

func (s EndState) known() bool {
	switch s {
	case Exited, Trapped, OutOfFuel, OutOfMemory, Deadline, OutputCap, Refused, InfraError:
		return true
	}
	return false
}

// Statement is what a node says about one job.
type Statement struct {
	Result      Result
	Observation Observation
}

// Result is the part on which all honest nodes agree for the same job. Its
// digest is a replica's vote.
type Result struct {
	JobID  blob.Digest // of the job's signed payload
	Module blob.Digest // of the WASM module
	Args   []string    // arguments without the program's name; UTF-8
	Stdin  blob.Digest // of the bytes given on stdin; blob.Of(nil) if none
	// Inputs are the files that the job could read, by name; nil if none.
	Inputs   map[string]Input
	Stdout   Output
	Stderr   Output
	EndState EndState
	ExitCode int64  // of EndState Exited, else 0
	Trap     string // kind of fault of EndState Trapped, else empty
	Limits   Limits // that were in force
	Fuel     Fuel
	// Determinism is "strict" if NaNs were made the same on every processor, else
	// "relaxed".
	Determinism string
}

// Input is a file that a job could read.
type Input struct {
	Digest blob.Digest `json:"digest"`
	Size   int64       `json:"size"` // bytes
}

// Bounds of Result.Inputs.
const (
	MaxInputs    = 16
	MaxInputName = 64 // bytes; letters, digits and after the first also - . _
)

// Output describes what a job wrote to one stream. Digest and Size are those
// of the bytes that were kept; Truncated says that there were more.
type Output struct {
	Digest    blob.Digest
	Size      int64 // bytes
	Truncated bool
}

// OutputOf describes the kept bytes b.
func OutputOf(b []byte, truncated bool) Output {
	return Output{Digest: blob.Of(b), Size: int64(len(b)), Truncated: truncated}
}

// Fuel is what a job executed, counted in the guest itself.
type Fuel struct {
	Used int64 `json:"used"` // at most Limits.Fuel; 0 if the guest was killed
	// CostTable is the version of the prices by which it was counted.
	CostTable int64 `json:"cost_table"`
}

// The values of Result.Determinism.
const (
	Strict  = "strict"
	Relaxed = "relaxed"
)

// Limits are what the job was held to: the smaller of what it asked for and
// what the node allows.
type Limits struct {
	MemoryBytes int64 `json:"memory_bytes"`
	DeadlineMS  int64 `json:"deadline_ms"` // wall clock, milliseconds
	StdoutBytes int64 `json:"stdout_bytes"`
	StderrBytes int64 `json:"stderr_bytes"`
	Fuel        int64 `json:"fuel"`
}

// Observation is what only this node can know.
type Observation struct {
	Engine    string   // engine and version, such as "wazero 1.12.0"
	Walls     []string // that stood between the job and the machine: "wasm", "process", …
	Timings   Timings
	Booted    *Booted           // the system the node runs, nil if it does not know
	NodeKey   ed25519.PublicKey // set by Sign
	Submitter ed25519.PublicKey // who submitted the job, nil if nobody in particular
}

// Timings says where the time went. Durations are written as nanoseconds.
type Timings struct {
	StartedAt time.Time // by the node's clock, cut to milliseconds, UTC
	Queue     time.Duration
	Fetch     time.Duration
	Compile   time.Duration
	Run       time.Duration
}

// Booted names the system that the node runs, as its boot medium verified it.
type Booted struct {
	ManifestVersion int64       `json:"manifest_version"`
	ManifestDigest  blob.Digest `json:"manifest_digest"` // of the signed payload
	Channel         string      `json:"channel"`
	Arch            string      `json:"arch"`
}

// ArgsDigest returns the digest under which arguments are recorded: that of
// their canonical JSON array.
func ArgsDigest(args []string) (blob.Digest, error) {
	if args == nil {
		args = []string{}
	}
	canonical, err := strictjson.MarshalCanonical(args)
	if err != nil {
		return blob.Digest{}, err
	}
	return blob.Of(canonical), nil
}

// Digest returns the digest of the result's canonical JSON: equal results have
// equal digests on every node. It fails if r is incomplete.
func (r Result) Digest() (blob.Digest, error) {
	w, err := wireResultOf(r)
	if err != nil {
		return blob.Digest{}, err
	}
	canonical, err := strictjson.MarshalCanonical(w)
	if err != nil {
		return blob.Digest{}, err
	}
	return blob.Of(canonical), nil
}
