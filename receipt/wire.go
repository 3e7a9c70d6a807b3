package receipt

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
)

// The wire types are the JSON form. Unknown members are refused: a newer
// predicate has a newer type.
type wireStatement struct {
	Type          string        `json:"_type"`
	Subject       []wireSubject `json:"subject"`
	PredicateType string        `json:"predicateType"`
	Predicate     wirePredicate `json:"predicate"`
}

type wireSubject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type wirePredicate struct {
	Result      wireResult      `json:"result"`
	Observation wireObservation `json:"observation"`
}

type wireResult struct {
	JobID       blob.Digest      `json:"job_id"`
	Module      blob.Digest      `json:"module_digest"`
	Args        []string         `json:"args"`
	ArgsDigest  blob.Digest      `json:"args_digest"`
	Stdin       blob.Digest      `json:"stdin_digest"`
	Inputs      map[string]Input `json:"inputs,omitempty"`
	Stdout      wireOutput       `json:"stdout"`
	Stderr      wireOutput       `json:"stderr"`
	EndState    EndState         `json:"end_state"`
	ExitCode    int64            `json:"exit_code"`
	Trap        string           `json:"trap,omitempty"`
	Limits      Limits           `json:"limits"`
	Fuel        Fuel             `json:"fuel"`
	Determinism string           `json:"determinism"`
}

type wireOutput struct {
	Digest    blob.Digest `json:"digest"`
	Size      int64       `json:"size"`
	Truncated bool        `json:"truncated"`
}

type wireObservation struct {
	Engine    string      `json:"engine"`
	Walls     []string    `json:"walls"`
	Timings   wireTimings `json:"timings"`
	Booted    *Booted     `json:"booted"`
	NodeKey   wireKey     `json:"node_key"`
	Submitter wireKey     `json:"submitter,omitempty"`
}

type wireTimings struct {
	StartedAt wireTime `json:"started_at"`
	QueueNS   int64    `json:"queue_ns"`
	FetchNS   int64    `json:"fetch_ns"`
	CompileNS int64    `json:"compile_ns"`
	RunNS     int64    `json:"run_ns"`
}

// wireKey is a public key written as "ed25519:" and 64 lower-case hexadecimal
// digits; the empty key is the empty string.
type wireKey ed25519.PublicKey

const keyPrefix = "ed25519:"

// MarshalText implements encoding.TextMarshaler.
func (k wireKey) MarshalText() ([]byte, error) {
	if len(k) == 0 {
		return nil, nil
	}
	return []byte(keyPrefix + hex.EncodeToString(k)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *wireKey) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), keyPrefix)
	key, err := hex.DecodeString(digits)
	if !ok || err != nil || hex.EncodeToString(key) != digits {
		return fmt.Errorf("key %.80q is not of the form %s<64 lower-case hexadecimal digits>", text, keyPrefix)
	}
	if err := dsse.CheckKey(key); err != nil {
		return err
	}
	*k = key
	return nil
}

// wireTime is RFC 3339 in UTC with exactly three decimals.
type wireTime struct{ at time.Time }

const wireTimeLayout = "2006-01-02T15:04:05.000Z"

// MarshalText implements encoding.TextMarshaler.
func (t wireTime) MarshalText() ([]byte, error) {
	text := []byte(t.at.UTC().Format(wireTimeLayout))
	return text, new(wireTime).UnmarshalText(text)
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *wireTime) UnmarshalText(text []byte) error {
	parsed, err := time.Parse(wireTimeLayout, string(text))
	if err != nil || parsed.Format(wireTimeLayout) != string(text) {
		return fmt.Errorf("time %.40q is not of the form %s", text, wireTimeLayout)
	}
	t.at = parsed
	return nil
}

func wireOf(s Statement) (wireStatement, error) {
	result, err := wireResultOf(s.Result)
	if err != nil {
		return wireStatement{}, err
	}
	o := s.Observation
	return wireStatement{
		Type:          StatementType,
		Subject:       subjectsOf(s.Result),
		PredicateType: PredicateType,
		Predicate: wirePredicate{result, wireObservation{
			Engine:    o.Engine,
			Walls:     o.Walls,
			Timings:   wireTimingsOf(o.Timings),
			Booted:    o.Booted,
			NodeKey:   wireKey(o.NodeKey),
			Submitter: wireKey(o.Submitter),
		}},
	}, nil
}

// subjectsOf names what the statement is about: the outputs.
func subjectsOf(r Result) []wireSubject {
	subject := func(name string, d blob.Digest) wireSubject {
		return wireSubject{name, map[string]string{"sha256": d.Hex()}}
	}
	return []wireSubject{subject("stdout", r.Stdout.Digest), subject("stderr", r.Stderr.Digest)}
}

func wireResultOf(r Result) (wireResult, error) {
	argsDigest, err := ArgsDigest(r.Args)
	if err != nil {
		return wireResult{}, fmt.Errorf("arguments: %w", err)
	}
	return wireResult{
		JobID:      r.JobID,
		Module:     r.Module,
		Args:       r.Args,
		ArgsDigest: argsDigest,
		Stdin:      r.Stdin,
		Inputs:     r.Inputs,
		Stdout:     wireOutput(r.Stdout),
		Stderr:     wireOutput(r.Stderr),
		EndState:   r.EndState,
		ExitCode:   r.ExitCode,
		Trap:       r.Trap,
		Limits:     r.Limits,
		Fuel:       r.Fuel, Determinism: r.Determinism,
	}, nil
}

func wireTimingsOf(t Timings) wireTimings {
	return wireTimings{
		StartedAt: wireTime{t.StartedAt},
		QueueNS:   t.Queue.Nanoseconds(),
		FetchNS:   t.Fetch.Nanoseconds(),
		CompileNS: t.Compile.Nanoseconds(),
		RunNS:     t.Run.Nanoseconds(),
	}
}

func (w wireStatement) statement() Statement {
	r, o := w.Predicate.Result, w.Predicate.Observation
	return Statement{
		Result: Result{
			JobID:    r.JobID,
			Module:   r.Module,
			Args:     r.Args,
			Stdin:    r.Stdin,
			Inputs:   r.Inputs,
			Stdout:   Output(r.Stdout),
			Stderr:   Output(r.Stderr),
			EndState: r.EndState,
			ExitCode: r.ExitCode,
			Trap:     r.Trap,
			Limits:   r.Limits,
			Fuel:     r.Fuel, Determinism: r.Determinism,
		},
		Observation: Observation{
			Engine: o.Engine,
			Walls:  o.Walls,
			Timings: Timings{
				StartedAt: o.Timings.StartedAt.at,
				Queue:     time.Duration(o.Timings.QueueNS),
				Fetch:     time.Duration(o.Timings.FetchNS),
				Compile:   time.Duration(o.Timings.CompileNS),
				Run:       time.Duration(o.Timings.RunNS),
			},
			Booted:    o.Booted,
			NodeKey:   ed25519.PublicKey(o.NodeKey),
			Submitter: ed25519.PublicKey(o.Submitter),
		},
	}
}

// check refuses statements that contradict themselves or claim the impossible.
// Both Sign and Verify apply it.
func (s Statement) check() error {
	r, o := s.Result, s.Observation
	switch {
	case !r.EndState.known():
		return fmt.Errorf("unknown end state %.40q", r.EndState)
	case r.EndState != Exited && r.ExitCode != 0:
		return fmt.Errorf("end state %s with exit code %d", r.EndState, r.ExitCode)
	case (r.EndState == Trapped) != (r.Trap != ""):
		return fmt.Errorf("end state %s with trap %.40q", r.EndState, r.Trap)
	case r.ExitCode < 0 || r.ExitCode > 1<<32-1:
		return fmt.Errorf("exit code %d is not within 32 bits", r.ExitCode)
	case r.Stdout.Size < 0 || r.Stderr.Size < 0:
		return errors.New("negative output size")
	case r.Limits.MemoryBytes < 0 || r.Limits.DeadlineMS < 0 || r.Limits.StdoutBytes < 0 || r.Limits.StderrBytes < 0 || r.Limits.Fuel < 0:
		return errors.New("negative limit")
	case r.Fuel.Used < 0 || r.Fuel.Used > r.Limits.Fuel || r.Fuel.CostTable < 1:
		return fmt.Errorf("used fuel %d of %d by cost table %d", r.Fuel.Used, r.Limits.Fuel, r.Fuel.CostTable)
	case r.EndState == OutOfFuel && r.Fuel.Used != r.Limits.Fuel:
		return fmt.Errorf("used fuel %d of %d, and is out of fuel", r.Fuel.Used, r.Limits.Fuel)
	case r.Determinism != Strict && r.Determinism != Relaxed:
		return fmt.Errorf("unknown determinism %.40q", r.Determinism)
	case o.Timings.Queue < 0 || o.Timings.Fetch < 0 || o.Timings.Compile < 0 || o.Timings.Run < 0:
		return errors.New("negative duration")
	case o.Booted != nil && o.Booted.ManifestVersion < 1:
		return fmt.Errorf("booted manifest version %d", o.Booted.ManifestVersion)
	}
	return checkInputs(r.Inputs)
}

// checkInputs bounds what a job may have been given. Their digests are checked as
// they are encoded.
func checkInputs(inputs map[string]Input) error {
	if len(inputs) > MaxInputs {
		return fmt.Errorf("%d inputs, at most %d are allowed", len(inputs), MaxInputs)
	}
	for name, in := range inputs {
		if !isInputName(name) {
			return fmt.Errorf("%.80q is no name of an input", name)
		}
		if in.Size < 0 || in.Size > maxInputBytes {
			return fmt.Errorf("input %s of %d bytes", name, in.Size)
		}
	}
	return nil
}

// maxInputBytes is more than a job can be given, and exact as a number in JSON.
const maxInputBytes = 1 << 40

// isInputName reports whether name is one visible element of a path everywhere.
func isInputName(name string) bool {
	if name == "" || len(name) > MaxInputName {
		return false
	}
	for i, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '-' || c == '_'):
		default:
			return false
		}
	}
	return true
}
