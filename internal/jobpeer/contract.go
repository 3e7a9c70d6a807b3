package jobpeer

import (
	"context"
	"io"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// The names under which streams are opened. Blobs are pulled by hash over
// /phase/blob/1.0.0, which has fewer words: see package blobwire.
const (
	JobProtocol  = "/phase/job/0.1"
	BlobProtocol = "/phase/blob/0.1" // push
)

// Desk is what the server needs of a node; *node.Desk has it.
type Desk interface {
	SubmitSigned(envelope []byte, by job.Caller) (job.Status, error)
	Get(id blob.Digest, by job.Caller) (job.Status, error)
	Watch(ctx context.Context, id blob.Digest, by job.Caller, tell func(job.Status) error) error
	Cancel(id blob.Digest, by job.Caller) (job.Status, error)
	Receipt(id blob.Digest, by job.Caller) ([]byte, error)
	Output(id blob.Digest, stderr bool, by job.Caller) (io.ReadCloser, job.Output, error)
}

// Rounds is what a node can do that takes part in quorums.
type Rounds interface {
	// Submitted is the digest of the submission by which a replica came here.
	Submitted(id blob.Digest, by job.Caller) (blob.Digest, error)
	// Commitment is the node's signed promise about a job that has ended.
	Commitment(id blob.Digest, by job.Caller) ([]byte, error)
	// Reveal gives the receipt, and what opens the commitment, to who shows a set
	// of commitments that the job's submitter signed.
	Reveal(id blob.Digest, set []byte, by job.Caller) (receipt, opening []byte, err error)
}

// Blobs is where modules and inputs lie; *store.Store is one.
type Blobs interface {
	Has(d blob.Digest) bool
	// Put reads size bytes and keeps them if they are d.
	Put(d blob.Digest, size int64, r io.Reader) error
}

// Keeper is a Blobs that counts what it keeps by who brought it; *node.Keeper is one.
type Keeper interface {
	Blobs
	PutFor(who string, d blob.Digest, size int64, r io.Reader) error
	// Claim says that who would have brought d, were it not there.
	Claim(who string, d blob.Digest)
}

// Capacity is what a node says about itself, signed by its identity.
type Capacity struct {
	Node      string    `json:"node"` // its key, against which its receipts verify
	At        time.Time `json:"at"`   // by its clock
	Version   string    `json:"version"`
	Arch      string    `json:"arch"`
	Engine    string    `json:"engine"`
	CostTable int64     `json:"cost_table"` // nodes with equal ones count fuel alike
	Walls     []string  `json:"walls"`      // around each job, as measured

	Running    int64 `json:"running"`
	Waiting    int64 `json:"waiting"`
	MaxRunning int64 `json:"max_running"`
	MaxWaiting int64 `json:"max_waiting"`

	// Caps of one job.
	MemoryBytes int64 `json:"max_memory_bytes"`
	DeadlineMS  int64 `json:"max_deadline_ms"`
	StdoutBytes int64 `json:"max_stdout_bytes"`
	StderrBytes int64 `json:"max_stderr_bytes"`
	Fuel        int64 `json:"max_fuel"`
	ModuleBytes int64 `json:"max_module_bytes"`
	InputBytes  int64 `json:"max_input_bytes"` // of all inputs

	Quorum  bool `json:"quorum"`  // takes part in quorums
	Accepts bool `json:"accepts"` // runs jobs of the submitter who was named in the question
}

// Answer is what came of a job. Nothing of it is verified beyond its form and the
// digests that the node told with it: the receipt is for whoever knows the node's
// key, and says what the outputs have to be.
type Answer struct {
	Receipt        []byte
	Stdout, Stderr []byte
	Opening        []byte // of the commitment, quorum.ReadOpening; of Reveal only
}
