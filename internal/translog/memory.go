package translog

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/logproof"
)

const memoryHeader = "phase log memory v1"

// memory is what somebody remembers of a log: its key, the newest checkpoint
// seen or signed, and for a witness its own key. As a file:
//
//	phase log memory v1
//	log <vkey>
//	witness <vkey>      (witnesses only)
//
//	<signed checkpoint>
//
// Whoever can write the file can make its owner forget; nothing in it is
// secret. It is small and replaced as a whole.
type memory struct {
	log     *logproof.Key
	witness *logproof.Key // nil for logs and monitors
	signed  []byte
	tree    logproof.Checkpoint
}

// readMemory fails with ErrNoMemory or ErrMemory.
func readMemory(path string) (*memory, error) {
	raw, err := durable.ReadSmall(path, 2*maxNoteSize, durable.FollowLinks)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Object: path, Reason: ErrNoMemory}
	}
	if err != nil {
		return nil, &Error{Object: path, Reason: ErrMemory, Err: err}
	}
	m, err := parseMemory(raw)
	if err != nil {
		return nil, &Error{Object: path, Reason: ErrMemory, Err: err}
	}
	return m, nil
}

func parseMemory(raw []byte) (*memory, error) {
	head, signed, _ := bytes.Cut(raw, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if lines[0] != memoryHeader || len(lines) < 2 || len(lines) > 3 {
		return nil, errors.New("its first lines are not those of a memory")
	}
	m := &memory{signed: signed}
	var err error
	if m.log, err = keyLine(lines[1], "log "); err != nil {
		return nil, err
	}
	if len(lines) == 3 {
		if m.witness, err = keyLine(lines[2], "witness "); err != nil {
			return nil, err
		}
	}
	if m.tree, err = openCheckpoint(signed, m.log); err != nil {
		return nil, err
	}
	return m, nil
}

func keyLine(line, word string) (*logproof.Key, error) {
	vkey, ok := strings.CutPrefix(line, word)
	if !ok {
		return nil, errors.New("no line for the key of the " + strings.TrimSpace(word))
	}
	return logproof.ParseKey(vkey)
}

func (m *memory) bytes() []byte {
	text := memoryHeader + "\nlog " + m.log.String() + "\n"
	if m.witness != nil {
		text += "witness " + m.witness.String() + "\n"
	}
	return append([]byte(text+"\n"), m.signed...)
}

func (m *memory) write(path string) error {
	return durable.WriteFile(path, m.bytes(), 0o644)
}

// Memory is a file in which a witness or a monitor remembers the newest
// checkpoint of one log. It lies outside of the log's folder.
type Memory struct {
	Path  string        // of the file
	Log   *logproof.Key // the log's key, learnt from its operator; needed with First, else compared if not nil
	First bool          // there is no file yet: believe what is seen now and begin it
}

// Observe reads the log in dir, checks that it continues what was seen last,
// lets check look at it, and then remembers it. check may be nil; it is told
// how many entries had been seen before. Observe refuses with the errors of
// Read, with ErrRolledBack, ErrForked, ErrNoMemory, ErrMemory, ErrLocked or
// ErrKey, and with what check returns; nothing is remembered then.
//
// That a tree continues another says nothing about the tiles and entries that
// the step did not touch: Check reads those.
func (m Memory) Observe(dir string, check func(r *Reader, seen int64) error) (*Reader, error) {
	lock, err := takeLock(m.Path + ".lock")
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	reader, known, err := m.follow(dir)
	if err != nil {
		return nil, err
	}
	if check != nil {
		if err := check(reader, known.tree.Size); err != nil {
			return nil, err
		}
	}
	known.signed = reader.signed
	return reader, known.write(m.Path)
}

// follow does all of Observe but remember.
func (m Memory) follow(dir string) (*Reader, *memory, error) {
	known, err := m.open()
	if err != nil {
		return nil, nil, err
	}
	reader, err := Read(dir, known.log)
	if err != nil {
		return nil, nil, err
	}
	if _, err := reader.frontier(); err != nil {
		return nil, nil, err
	}
	if known.signed == nil {
		return reader, known, nil
	}
	return reader, known, reader.consistent(known.tree)
}

// open reads the file, or begins a memory without a checkpoint.
func (m Memory) open() (*memory, error) {
	known, err := readMemory(m.Path)
	switch {
	case errors.Is(err, ErrNoMemory) && m.First && m.Log != nil:
		return &memory{log: m.Log}, nil
	case errors.Is(err, ErrNoMemory) && m.First:
		return nil, ErrKey.Of(m.Path, "the key of the log is needed to begin")
	case err != nil:
		return nil, err
	case m.First:
		return nil, ErrMemory.Of(m.Path, "it is there already, of %s", known.log.Name())
	case m.Log != nil && m.Log.String() != known.log.String():
		return nil, ErrKey.Of(m.Path, "it is the memory of %s", known.log)
	}
	return known, nil
}
