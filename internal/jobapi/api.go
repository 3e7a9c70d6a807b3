// Package jobapi is how programs on one machine talk to its node: HTTP over a
// Unix socket, described by the OpenAPI document schemas/jobs.openapi.json.
//
// Whoever can open the socket is trusted to be on this machine, and nothing
// more. The socket's mode and group say who can, from the moment it is there:
// it is bound in a folder that nobody else enters, gets its owner and mode, and
// only then its name. The kernel tells the node who has connected; each sees
// and ends their own jobs, root and the node's user everybody's. Requests are
// strict JSON of bounded size. Connections are bounded as well, and one that
// asks nothing makes room for one that does.
package jobapi

import (
	"context"
	"io"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// Media types of requests and answers beyond plain JSON.
const (
	TypeSpec     = "application/vnd.phase.job+json"        // a specification, unsigned
	TypeEnvelope = "application/vnd.dsse.envelope.v1+json" // a signed submission
	TypeEvents   = "application/x-ndjson"                  // statuses, one a line
	TypeBytes    = "application/octet-stream"              // modules, outputs
	typeJSON     = "application/json"
)

// Desk is what the server needs of a node.
type Desk interface {
	SubmitSigned(envelope []byte, by job.Caller) (job.Status, error)
	SubmitLocal(spec []byte, by job.Caller) (job.Status, error)
	Get(id blob.Digest, by job.Caller) (job.Status, error)
	List(by job.Caller) []job.Status
	Watch(ctx context.Context, id blob.Digest, by job.Caller, tell func(job.Status) error) error
	Cancel(id blob.Digest, by job.Caller) (job.Status, error)
	Receipt(id blob.Digest, by job.Caller) ([]byte, error)
	Spec(id blob.Digest, by job.Caller) ([]byte, error)
	Output(id blob.Digest, stderr bool, by job.Caller) (io.ReadCloser, job.Output, error)
	// Replay runs a specification again and returns the receipt.
	Replay(ctx context.Context, spec []byte, by job.Caller) ([]byte, error)
}

// Blobs is where modules and inputs lie.
type Blobs interface {
	Has(d blob.Digest) bool
	// Put reads size bytes and keeps them if they are d.
	Put(d blob.Digest, size int64, r io.Reader) error
	// Open reads one that is there, and verifies it meanwhile.
	Open(d blob.Digest, size int64) (io.ReadCloser, error)
}

// Keeper is a Blobs that counts what it keeps by who brought it.
type Keeper interface {
	Blobs
	PutFor(who string, d blob.Digest, size int64, r io.Reader) error
	// Claim says that who would have brought d, were it not there.
	Claim(who string, d blob.Digest)
}

// Node is what a node says about itself.
type Node struct {
	Key         string `json:"key"` // against which its receipts verify
	Version     string `json:"version"`
	Local       bool   `json:"local"` // the one that was asked
	Running     int64  `json:"running"`
	Waiting     int64  `json:"waiting"`
	MaxRunning  int64  `json:"max_running"`
	MaxWaiting  int64  `json:"max_waiting"`
	MemoryBytes int64  `json:"max_memory_bytes"` // of one job
	DeadlineMS  int64  `json:"max_deadline_ms"`
	ModuleBytes int64  `json:"max_module_bytes"`
	InputBytes  int64  `json:"max_input_bytes"` // of all inputs of one job
	Signed      bool   `json:"require_signed"`  // jobs without a signature are refused
}

type jobList struct {
	Jobs []job.Status `json:"jobs"`
}

type nodeList struct {
	Nodes []Node `json:"nodes"`
}

type failureBody struct {
	Error job.Failure `json:"error"`
}
