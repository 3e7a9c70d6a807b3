// Package job defines what a node is asked to run and what came of it: an
// immutable specification, the limits of the node that always win over it,
// the refusals a node may answer with, and the result.
//
// The package runs nothing and trusts nothing: a specification comes from a
// stranger, so every field is bounded before it is used. A job's name is the
// SHA-256 of the canonical encoding of its specification; two nodes that were
// given the same specification therefore speak of the same job.
package job

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
)

// SpecVersion is the only schema version this package understands.
const SpecVersion = 1

// Bounds of a specification, checked before anything else looks at it.
const (
	MaxSpecBytes  = 1 << 20   // whole JSON document
	MaxArgs       = 1024      // arguments
	MaxEnv        = 256       // environment variables
	MaxArgsBytes  = 32 << 10  // arguments as a canonical JSON array: they go into the receipt
	MaxEnvBytes   = 64 << 10  // names and values of the environment
	MaxStdinBytes = 512 << 10 // standard input, decoded
	MaxNonceBytes = 128       // nonce text
)

// Limits are what a job may use. A zero field of a submitted specification
// takes its value from DefaultLimits, so that the canonical form, and with it
// the job id, always states every limit.
type Limits struct {
	// MemoryBytes caps the guest's linear memory; whole 64 KiB pages count.
	MemoryBytes int64 `json:"memory_bytes"`
	// DeadlineMS is wall time in milliseconds, from the moment the module is
	// handed to the sandbox: compiling counts.
	DeadlineMS int64 `json:"deadline_ms"`
	// StdoutBytes and StderrBytes cap the two output streams. Writing more
	// ends the job.
	StdoutBytes int64 `json:"stdout_bytes"`
	StderrBytes int64 `json:"stderr_bytes"`
	// Fuel caps what the guest executes, in the units of internal/fuel: roughly an
	// instruction. The same job uses the same fuel on every node.
	Fuel int64 `json:"fuel"`
}

// Determinism says how far two runs of a job must agree.
type Determinism string

const (
	// Strict makes every NaN that arithmetic gives the same on all processors; it is
	// the only difference between them that a guest could see. Arithmetic with floats
	// takes up to two thirds longer. It is what an empty field means.
	Strict Determinism = "strict"
	// Relaxed leaves NaNs as the processor makes them.
	Relaxed Determinism = "relaxed"
)

// DefaultLimits stand in for the zero fields of a specification. They belong
// to SpecVersion 1: changing them changes job ids.
var DefaultLimits = Limits{
	MemoryBytes: 64 << 20,
	DeadlineMS:  20_000,
	StdoutBytes: 1 << 20,
	StderrBytes: 256 << 10,
	Fuel:        400e9,
}

// Deadline is DeadlineMS as a duration.
func (l Limits) Deadline() time.Duration { return time.Duration(l.DeadlineMS) * time.Millisecond }

// Spec is what a submitter writes. It is plain data; New turns it into a Job.
type Spec struct {
	Version int64             `json:"version"`     // SpecVersion
	Module  blob.Digest       `json:"module_hash"` // WebAssembly core module
	Args    []string          `json:"args"`        // arguments after the program name
	Env     map[string]string `json:"env"`         // the whole environment
	Stdin   strictjson.Base64 `json:"stdin"`       // strict base64 in JSON
	// Inputs are files below InputFolder, by name; left out where there are none.
	Inputs map[string]Input `json:"inputs,omitempty"`
	Limits Limits           `json:"limits"`
	// Determinism is Strict if it is empty.
	Determinism Determinism `json:"determinism"`
	Nonce       string      `json:"nonce"` // makes two otherwise equal jobs different
}

// Job is a checked specification with its canonical bytes. It does not change
// after it was made and is safe for concurrent use.
type Job struct {
	spec    Spec
	payload []byte
	id      blob.Digest
}

// Parse reads a specification from strict JSON: no unknown or duplicate
// names, no trailing bytes, at most MaxSpecBytes. Any layout of white space is
// accepted; the job id is that of the canonical form. Errors are *Refusal.
func Parse(raw []byte) (*Job, error) {
	if len(raw) > MaxSpecBytes {
		return nil, refuse(TooBig, "the job specification is larger than %d bytes", MaxSpecBytes)
	}
	var spec Spec
	lim := strictjson.Limits{Bytes: MaxSpecBytes, Depth: 8, RejectUnknown: true, RejectNull: true}
	if err := strictjson.Unmarshal(raw, &spec, lim); err != nil {
		return nil, &Refusal{Reason: Malformed, Detail: "the job specification is not valid", Err: err}
	}
	return New(spec)
}

// New checks a specification, fills its zero limits from DefaultLimits and
// freezes it. Later changes to spec's slices do not reach the Job. Errors are
// *Refusal.
func New(spec Spec) (*Job, error) {
	spec.Args = append([]string{}, spec.Args...)
	spec.Env = cloneEnv(spec.Env)
	spec.Stdin = append(strictjson.Base64{}, spec.Stdin...)
	spec.Inputs = maps.Clone(spec.Inputs)
	spec.Limits = spec.Limits.withDefaults()
	if spec.Determinism == "" {
		spec.Determinism = Strict
	}
	if err := spec.check(); err != nil {
		return nil, err
	}
	payload, err := strictjson.MarshalCanonical(spec)
	if err != nil {
		return nil, &Refusal{Reason: Malformed, Detail: "the job specification cannot be encoded", Err: err}
	}
	if len(payload) > MaxSpecBytes {
		return nil, refuse(TooBig, "the job specification is larger than %d bytes", MaxSpecBytes)
	}
	return &Job{spec: spec, payload: payload, id: blob.Of(payload)}, nil
}

// ID names the job: the SHA-256 of Payload.
func (j *Job) ID() blob.Digest { return j.id }

// Payload is the canonical encoding. The caller may keep and change the copy.
func (j *Job) Payload() []byte { return slices.Clone(j.payload) }

// Module is the digest of the module to run.
func (j *Job) Module() blob.Digest { return j.spec.Module }

// Limits are the limits the submitter asked for, without zeros.
func (j *Job) Limits() Limits { return j.spec.Limits }

// Spec returns a deep copy of the specification.
func (j *Job) Spec() Spec {
	s := j.spec
	s.Args = slices.Clone(s.Args)
	s.Env = maps.Clone(s.Env)
	s.Stdin = slices.Clone(s.Stdin)
	s.Inputs = maps.Clone(s.Inputs)
	return s
}

func (l Limits) withDefaults() Limits {
	fill := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	fill(&l.MemoryBytes, DefaultLimits.MemoryBytes)
	fill(&l.DeadlineMS, DefaultLimits.DeadlineMS)
	fill(&l.StdoutBytes, DefaultLimits.StdoutBytes)
	fill(&l.StderrBytes, DefaultLimits.StderrBytes)
	fill(&l.Fuel, DefaultLimits.Fuel)
	return l
}

// check enforces everything about a specification that does not depend on
// the node.
func (s Spec) check() error {
	switch {
	case s.Version != SpecVersion:
		return refuse(Unsupported, "job specification version %d is unknown, this node understands %d", s.Version, SpecVersion)
	case s.Module.IsZero():
		return refuse(Malformed, "module_hash is missing")
	case s.Determinism != Strict && s.Determinism != Relaxed:
		return refuse(Unsupported, "determinism %.40q is unknown; it is strict or relaxed", string(s.Determinism))
	case len(s.Args) > MaxArgs:
		return refuse(TooBig, "%d arguments, at most %d are allowed", len(s.Args), MaxArgs)
	case len(s.Env) > MaxEnv:
		return refuse(TooBig, "%d environment variables, at most %d are allowed", len(s.Env), MaxEnv)
	case len(s.Stdin) > MaxStdinBytes:
		return refuse(TooBig, "stdin of %d bytes, at most %d are allowed", len(s.Stdin), MaxStdinBytes)
	case len(s.Nonce) > MaxNonceBytes:
		return refuse(TooBig, "nonce of %d bytes, at most %d are allowed", len(s.Nonce), MaxNonceBytes)
	}
	if err := s.checkText(); err != nil {
		return err
	}
	if err := checkInputs(s.Inputs); err != nil {
		return err
	}
	return s.Limits.check()
}

// checkText refuses what WASI cannot carry: its strings end at a NUL, and an
// environment name ends at "=".
func (s Spec) checkText() error {
	for i, a := range s.Args {
		if !plainText(a) {
			return refuse(Malformed, "argument %d holds a NUL or is not UTF-8", i)
		}
	}
	encoded, err := strictjson.MarshalCanonical(s.Args)
	if err != nil {
		return &Refusal{Reason: Malformed, Detail: "the arguments cannot be encoded", Err: err}
	}
	if len(encoded) > MaxArgsBytes {
		return refuse(TooBig, "arguments of %d bytes, at most %d are allowed", len(encoded), MaxArgsBytes)
	}
	total := 0
	for k, v := range s.Env {
		if k == "" || strings.Contains(k, "=") || !plainText(k) || !plainText(v) {
			return refuse(Malformed, "environment variable %q is not usable", k)
		}
		total += len(k) + len(v) + 2
	}
	if total > MaxEnvBytes {
		return refuse(TooBig, "environment of %d bytes, at most %d are allowed", total, MaxEnvBytes)
	}
	if !plainText(s.Nonce) {
		return refuse(Malformed, "the nonce holds a NUL or is not UTF-8")
	}
	return nil
}

func (l Limits) check() error {
	for _, f := range l.fields() {
		if f.value < 0 {
			return refuse(Malformed, "limit %s is negative", f.name)
		}
	}
	return nil
}

type limitField struct {
	name  string
	value int64
}

func (l Limits) fields() []limitField {
	return []limitField{
		{"memory_bytes", l.MemoryBytes},
		{"deadline_ms", l.DeadlineMS},
		{"stdout_bytes", l.StdoutBytes},
		{"stderr_bytes", l.StderrBytes},
		{"fuel", l.Fuel},
	}
}

func plainText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

func cloneEnv(env map[string]string) map[string]string {
	if env == nil {
		return map[string]string{}
	}
	return maps.Clone(env)
}

// String names the job for a log line.
func (j *Job) String() string { return fmt.Sprintf("job %.12s", j.id.Hex()) }
