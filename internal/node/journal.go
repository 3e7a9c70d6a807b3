package node

import (
	"bytes"
	"fmt"
	"path/filepath"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/strictjson"
)

// The journal is what a desk remembers of the jobs that it accepted, as lines:
// accepted (before the submitter is told), begun, ended, and the nonces that
// are used up. After a kill -9 it says which jobs are owed an end.
const journalName = "jobs.journal"

// entry is one line of the journal. Exactly one member is there.
type entry struct {
	Accept *acceptEntry `json:"accept,omitempty"`
	Begin  *blob.Digest `json:"begin,omitempty"` // the job has left the queue
	End    *endEntry    `json:"end,omitempty"`
	Forget *blob.Digest `json:"forget,omitempty"` // the job's end is not kept any longer
	Nonce  *nonceEntry  `json:"nonce,omitempty"`  // only in a compacted journal
	Reveal *revealEntry `json:"reveal,omitempty"`
}

type acceptEntry struct {
	Spec      strictjson.Base64 `json:"spec"`
	Owner     string            `json:"owner"`     // who handed it in
	Submitter string            `json:"submitter"` // who signed, or ""
	At        time.Time         `json:"at"`
	Nonce     *nonceEntry       `json:"nonce,omitempty"`
	Replica   *replicaEntry     `json:"replica,omitempty"`
}

type nonceEntry struct {
	Who     string    `json:"who"`
	Nonce   string    `json:"nonce"`
	Expires time.Time `json:"expires"`
}

type endEntry struct {
	ID      blob.Digest       `json:"id"`
	End     job.End           `json:"end"`
	Receipt strictjson.Base64 `json:"receipt"`
	Stdout  strictjson.Base64 `json:"stdout"` // small outputs only
	Stderr  strictjson.Base64 `json:"stderr"`
	Secret  strictjson.Base64 `json:"secret,omitempty"` // of the commitment of a replica that has a receipt
}

// journal is nil in a node that writes nothing: then all methods do nothing.
type journal struct {
	lines     *lineFile
	compacted int64 // how long it was then, in bytes
}

// openJournal reads what was written and gives it to each, oldest first. A
// line that is no entry is passed over with its number told to bad: the rest
// is still owed.
func openJournal(dir string, each func(entry), bad func(line int, err error)) (*journal, error) {
	n := 0
	lines, err := openLines(filepath.Join(dir, journalName), 0o600, func(line []byte) error {
		n++
		e, err := parseEntry(line)
		if err != nil {
			bad(n, err)
			return nil
		}
		each(e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("journal of jobs: %w", err)
	}
	return &journal{lines: lines}, nil
}

func parseEntry(line []byte) (entry, error) {
	var e entry
	lim := strictjson.Limits{Bytes: maxLine, Depth: 8, RejectUnknown: true, RejectNull: true}
	if err := strictjson.Unmarshal(line, &e, lim); err != nil {
		return e, err
	}
	members := 0
	for _, there := range []bool{e.Accept != nil, e.Begin != nil, e.End != nil, e.Forget != nil, e.Nonce != nil, e.Reveal != nil} {
		if there {
			members++
		}
	}
	if members != 1 {
		return e, fmt.Errorf("%d members in an entry, want 1", members)
	}
	return e, nil
}

func (j *journal) add(e entry) error {
	if j == nil {
		return nil
	}
	line, err := strictjson.Marshal(e)
	if err != nil {
		return fmt.Errorf("journal of jobs: %w", err)
	}
	if err := j.lines.add(line); err != nil {
		return fmt.Errorf("journal of jobs: %w", err)
	}
	return nil
}

// length is the size of the journal in bytes.
func (j *journal) length() int64 {
	if j == nil {
		return 0
	}
	return j.lines.length()
}

// least is how long it has to be, as far as is known.
func (j *journal) least() int64 {
	if j == nil {
		return 0
	}
	return j.compacted
}

// compact leaves only the given entries.
func (j *journal) compact(entries []entry) error {
	if j == nil {
		return nil
	}
	var all bytes.Buffer
	for _, e := range entries {
		line, err := strictjson.Marshal(e)
		if err != nil {
			return fmt.Errorf("journal of jobs: %w", err)
		}
		all.Write(line)
		all.WriteByte('\n')
	}
	if err := j.lines.replace(all.Bytes()); err != nil {
		return fmt.Errorf("journal of jobs: %w", err)
	}
	j.compacted = int64(all.Len())
	return nil
}
