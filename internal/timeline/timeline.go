// Package timeline keeps the times of a boot: which stage ran when, in which
// kernel, and how it ended.
//
// A boot crosses firmware and two kernels, and no clock survives all of it.
// Each kernel therefore counts from its own start (CLOCK_BOOTTIME), and a stage
// names the kernel it belongs to. The seed hands its stages to the next kernel
// in handover.json; whoever prints the whole walk lays the kernels end to end.
//
// A Recorder also leaves one small file per finished stage, for people, and
// sends each event as a JSON line to a report port, for the machine that
// watches. Neither is ever read back by a later stage, and a failure to write
// them never fails a boot: it is kept and can be asked for with Err.
//
// Parse reads stages from another kernel or a guest: foreign bytes, so it is
// strict (no unknown or duplicate names) and bounded.
package timeline

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Names of the kernels a stage can belong to.
const (
	KernelFirmware = "firmware" // before any kernel; Start counts from power-on
	KernelSeed     = "seed"
	KernelNode     = "node"
)

// Names of the corridor's stages, for those who look for one.
const (
	StageNetwork  = "network"
	StageTime     = "time"
	StageDiscover = "discovery"
	StageVerify   = "verify"
	StageFetch    = "fetch"
	StageHandover = "hand-over"
)

// Limits of what Parse and ParseEvent accept.
const (
	MaxStages     = 256
	MaxBytes      = 1 << 20
	MaxEventBytes = 64 << 10
	maxText       = 4096
	maxName       = 64
)

// ErrMalformed is wrapped by every error of Parse and ParseEvent.
var ErrMalformed = errors.New("malformed timeline")

// Stage is one finished step of a boot.
type Stage struct {
	Name   string        // "network", "discovery", …; at most 64 bytes
	Kernel string        // one of the Kernel constants, or another short name
	Start  time.Duration // since the start of that kernel (CLOCK_BOOTTIME)
	End    time.Duration // never before Start
	Note   string        // what came out of it, one line
	Err    string        // why it failed; empty when it did not
}

// Took is the stage's duration.
func (s Stage) Took() time.Duration { return s.End - s.Start }

// stageWire is the JSON form: durations are whole nanoseconds, named so.
type stageWire struct {
	Name    string `json:"name"`
	Kernel  string `json:"kernel"`
	StartNS int64  `json:"start_ns"`
	EndNS   int64  `json:"end_ns"`
	Note    string `json:"note,omitzero"`
	Err     string `json:"error,omitzero"`
}

// MarshalJSONTo writes the stage with its times in nanoseconds.
func (s Stage) MarshalJSONTo(enc *jsontext.Encoder) error {
	return json.MarshalEncode(enc, stageWire{
		Name: s.Name, Kernel: s.Kernel,
		StartNS: int64(s.Start), EndNS: int64(s.End),
		Note: s.Note, Err: s.Err,
	})
}

// UnmarshalJSONFrom reads a stage and refuses one that breaks Check.
func (s *Stage) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	var w stageWire
	if err := json.UnmarshalDecode(dec, &w); err != nil {
		return err
	}
	got := Stage{
		Name: w.Name, Kernel: w.Kernel,
		Start: time.Duration(w.StartNS), End: time.Duration(w.EndNS),
		Note: w.Note, Err: w.Err,
	}
	if err := got.Check(); err != nil {
		return err
	}
	*s = got
	return nil
}

// Check reports what is wrong with a stage's fields, wrapping ErrMalformed.
func (s Stage) Check() error {
	switch {
	case s.Name == "" || len(s.Name) > maxName:
		return fmt.Errorf("%w: stage name of %d bytes (1 to %d allowed)", ErrMalformed, len(s.Name), maxName)
	case s.Kernel == "" || len(s.Kernel) > maxName:
		return fmt.Errorf("%w: stage %q: kernel name of %d bytes (1 to %d allowed)", ErrMalformed, s.Name, len(s.Kernel), maxName)
	case s.Start < 0 || s.End < s.Start:
		return fmt.Errorf("%w: stage %q runs from %d ns to %d ns", ErrMalformed, s.Name, s.Start, s.End)
	case len(s.Note) > maxText || len(s.Err) > maxText:
		return fmt.Errorf("%w: stage %q: text over %d bytes", ErrMalformed, s.Name, maxText)
	}
	return nil
}

// Parse reads a JSON array of stages: at most MaxBytes and MaxStages, no
// unknown or duplicate names, every stage in order of Check.
func Parse(data []byte) ([]Stage, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d allowed", ErrMalformed, len(data), MaxBytes)
	}
	var stages []Stage
	if err := json.Unmarshal(data, &stages, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if stages == nil {
		return nil, fmt.Errorf("%w: not an array", ErrMalformed)
	}
	return stages, CheckAll(stages)
}

// CheckAll checks the number of stages and each of them.
func CheckAll(stages []Stage) error {
	if len(stages) > MaxStages {
		return fmt.Errorf("%w: %d stages, at most %d allowed", ErrMalformed, len(stages), MaxStages)
	}
	for _, s := range stages {
		if err := s.Check(); err != nil {
			return err
		}
	}
	return nil
}

// Marshal is the inverse of Parse.
func Marshal(stages []Stage) ([]byte, error) {
	if stages == nil {
		stages = []Stage{}
	}
	data, err := json.Marshal(stages)
	if err != nil {
		return nil, fmt.Errorf("write timeline: %w", err)
	}
	return data, nil
}
