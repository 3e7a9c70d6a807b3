// Package translog keeps a transparency log in a folder: an append-only list
// of entries under a Merkle tree whose head, the checkpoint, the log signs.
//
// The folder is laid out as C2SP tlog-tiles says, so that any static web
// server can publish it: checkpoint, tile/<L>/<N>[.p/<W>] and
// tile/entries/<N>[.p/<W>]. Beside them lie vkey (the log's public key, a
// convenience: trust the one in your policy), cosignatures/<size>/<key hash>
// (checkpoints with a witness's line), .lock, and for a moment pending.
//
// What a log must never do is fork: sign two trees of which neither begins
// with the other. Three rules prevent it.
//
// First, adding is planned, then written in an order that can stop anywhere:
// the plan itself (pending), entries, tiles, the memory, the checkpoint. What
// was begun is finished before anything else is added, with the same bytes,
// and a file of entries or hashes that exists is never given other bytes.
//
// Second, nothing is added to a folder whose tiles do not lead to its signed
// checkpoint, or in which entries lie beyond it that no plan explains: it was
// damaged, or an old checkpoint was put back.
//
// Third, the log remembers its newest checkpoint in a file outside of the
// folder (Memory), so that a whole folder brought back from an old backup is
// noticed as well. Witnesses and monitors remember in the same way what they
// have seen, and that is all they need in order to notice a fork.
//
// Signatures say who made a checkpoint, tiles are checked against it, and
// nothing else in the folder is believed. One process at a time may add;
// reading needs no lock. Memory use does not grow with the log.
package translog

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/refusal"
	"github.com/phasebased/phase/logproof"
)

// Limits. MaxEntrySize is that of the format; those on one call of Add bound
// its memory.
const (
	MaxEntrySize  = 1<<16 - 1
	MaxBatch      = 4096    // entries
	maxBatchBytes = 8 << 20 // bytes of all entries together
	maxNoteSize   = 16 << 10
)

// Names in the folder.
const (
	checkpointName   = "checkpoint"
	keyName          = "vkey"
	pendingName      = "pending"
	lockName         = ".lock"
	cosignaturesName = "cosignatures"
)

// Why something was refused; match with errors.Is.
var (
	ErrExists = refusal.New("LOG-001", "there is a log already",
		"Choose another folder; a key starts one log only.")
	ErrNoLog = refusal.New("LOG-002", "there is no log",
		"Start a log with `phase release log init`.")
	ErrLocked = refusal.New("LOG-003", "another process is using it",
		"Wait until it is done, or end it.")
	ErrKey = refusal.New("LOG-004", "this is not the key of the log",
		"Name the key that the log was started with; the public half is in the file vkey of its folder.")
	ErrEntry = refusal.New("LOG-005", "this cannot be an entry",
		"Add manifest files, as `phase release manifest create` wrote them and enough people signed them.")
	ErrNotLogged = refusal.New("LOG-006", "the entry is not in the log",
		"Add it with `phase release log add`.")
	ErrDamaged = refusal.New("LOG-007", "the log is damaged",
		"Bring back the damaged files from a mirror or a backup, then run `phase release log check`.")
	ErrRolledBack = refusal.New("LOG-008", "the log was put back to an older state",
		"Bring back the newest state from a mirror or a backup; adding to this one would fork the log.")
	ErrForked = refusal.New("LOG-009", "the log has two histories",
		"Keep both signed checkpoints and publish them: together they prove it.")
	ErrNoMemory = refusal.New("LOG-010", "there is no memory of this log",
		"Bring the file back; only if it never existed, or is lost, compare with a mirror and use --first.")
	ErrMemory = refusal.New("LOG-011", "the memory of the log cannot be used",
		"Bring the file back from a backup.")
	ErrUnfinished = refusal.New("LOG-012", "adding was interrupted",
		"Run the command again: what was begun is finished first.")
)

// Error says what was refused, and why; its reason is one of those above.
type Error = refusal.Error

// damaged wraps what reading or checking a file said.
func damaged(path string, err error) error {
	return &Error{Object: path, Reason: ErrDamaged, Err: err}
}

// Config names a log and its key.
type Config struct {
	Dir    string             // folder of the log
	Key    ed25519.PrivateKey // the log's
	Memory string             // file outside of Dir for the newest signed checkpoint; empty: none is kept
	First  bool               // Open: Memory does not exist yet, believe the folder and begin it
}

// Log is a log open for adding. Its methods are not for concurrent use.
type Log struct {
	config Config
	signer noteSigner
	lock   *os.File
	reader *Reader // of the current checkpoint
	broken error   // set when adding stopped halfway
}

// noteSigner signs checkpoints with the log's key.
type noteSigner struct {
	*logproof.Key
	private ed25519.PrivateKey
}

// Sign implements note.Signer.
func (s noteSigner) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.private, text), nil }

// signCheckpoint is the whole file that says tree.
func (s noteSigner) signCheckpoint(size int64, root tlog.Hash) ([]byte, error) {
	c := logproof.Checkpoint{Origin: s.Name(), Size: size, Root: root}
	return note.Sign(&note.Note{Text: c.Text()}, s)
}

// Create starts an empty log called origin in config.Dir, which is made if
// there is none. It fails with ErrExists if the folder holds a log or the
// memory file is there: one key under one origin starts one log, ever.
func Create(config Config, origin string) error {
	signer, err := newSigner(origin, config.Key)
	if err != nil {
		return err
	}
	// Now, so that a refusal leaves no trace, and again under the lock.
	if err := checkFresh(config, signer.Key); err != nil {
		return err
	}
	if err := durable.MkdirAll(config.Dir, 0o755); err != nil {
		return err
	}
	lock, err := takeLock(filepath.Join(config.Dir, lockName))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := checkFresh(config, signer.Key); err != nil {
		return err
	}
	empty, err := tlog.TreeHash(0, nil)
	if err != nil {
		return err
	}
	signed, err := signer.signCheckpoint(0, empty)
	if err != nil {
		return err
	}
	// The checkpoint is last: until it is there, Create can be repeated.
	if err := durable.WriteFile(filepath.Join(config.Dir, keyName), []byte(signer.String()+"\n"), 0o644); err != nil {
		return err
	}
	if config.Memory != "" {
		if err := (&memory{log: signer.Key, signed: signed}).write(config.Memory); err != nil {
			return err
		}
	}
	return durable.WriteFile(filepath.Join(config.Dir, checkpointName), signed, 0o644)
}

// checkFresh refuses a folder or a memory that is in use. What an interrupted
// Create has left is not.
func checkFresh(config Config, key *logproof.Key) error {
	for _, name := range []string{checkpointName, pendingName, "tile", cosignaturesName} {
		_, err := os.Lstat(filepath.Join(config.Dir, name))
		if err == nil {
			return ErrExists.Of(config.Dir, "it has a %s", name)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if raw, err := readBounded(filepath.Join(config.Dir, keyName), maxNoteSize); err == nil && string(raw) != key.String()+"\n" {
		return ErrExists.Of(config.Dir, "its key is %s", raw)
	}
	if config.Memory == "" {
		return nil
	}
	m, err := readMemory(config.Memory)
	switch {
	case errors.Is(err, ErrNoMemory):
		return nil
	case err != nil:
		return err
	case m.log.String() != key.String() || m.tree.Size > 0:
		return ErrExists.Of(config.Memory, "%s has %d entries", m.log.Name(), m.tree.Size)
	}
	return nil
}

func newSigner(origin string, private ed25519.PrivateKey) (noteSigner, error) {
	if len(private) != ed25519.PrivateKeySize {
		return noteSigner{}, errors.New("not an Ed25519 private key")
	}
	key, err := logproof.NewKey(origin, logproof.LogKey, private.Public().(ed25519.PublicKey))
	return noteSigner{key, private}, err
}

// takeLock opens and locks path, making it if there is none.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		f.Close()
		if errors.Is(err, ErrLocked) {
			return nil, &Error{Object: filepath.Dir(path), Reason: ErrLocked}
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// Open opens a log for adding and keeps others from doing so until Close. It
// finishes an interrupted Add. It refuses with ErrNoLog, ErrKey, ErrLocked,
// ErrDamaged, ErrRolledBack, ErrForked, ErrNoMemory or ErrMemory.
//
// It checks the edge of the tree to which Add appends, not every entry: that
// is Check.
func Open(config Config) (*Log, error) {
	reader, err := Read(config.Dir, nil)
	if err != nil {
		return nil, err
	}
	signer, err := newSigner(reader.Key().Name(), config.Key)
	if err != nil {
		return nil, err
	}
	if signer.String() != reader.Key().String() {
		return nil, ErrKey.Of(config.Dir, "want %s", reader.Key())
	}
	lock, err := takeLock(filepath.Join(config.Dir, lockName))
	if err != nil {
		return nil, err
	}
	l := &Log{config: config, signer: signer, lock: lock}
	if err := l.load(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return l, nil
}

// load reads the state under the lock, finishes what was begun and checks
// what lies there.
func (l *Log) load() error {
	var err error
	if l.reader, err = Read(l.config.Dir, l.signer.Key); err != nil {
		return err
	}
	begun, err := readPending(l.path(pendingName))
	if err != nil {
		return err
	}
	if begun != nil {
		if err := l.finish(begun); err != nil {
			return err
		}
	}
	if err := l.checkMemory(l.reader.tree); err != nil {
		return err
	}
	if err := l.reader.checkBeyond(); err != nil {
		return err
	}
	if _, err := l.reader.frontier(); err != nil {
		return err
	}
	if l.config.Memory != "" && l.config.First {
		return (&memory{log: l.signer.Key, signed: l.reader.signed}).write(l.config.Memory)
	}
	return nil
}

// checkMemory compares the folder, once it will have reached target, with
// what the log remembers to have signed.
func (l *Log) checkMemory(target logproof.Checkpoint) error {
	if l.config.Memory == "" {
		return nil
	}
	m, err := readMemory(l.config.Memory)
	if errors.Is(err, ErrNoMemory) && l.config.First {
		return nil
	}
	if err != nil {
		return err
	}
	if m.log.String() != l.signer.String() {
		return ErrMemory.Of(l.config.Memory, "it is of another log, %s", m.log.Name())
	}
	if m.tree.Size == target.Size && m.tree.Root == target.Root {
		return nil
	}
	if m.tree.Size > target.Size {
		return ErrRolledBack.Of(l.config.Dir, "%d entries, and %d were signed", target.Size, m.tree.Size)
	}
	return l.reader.consistent(m.tree)
}

func (l *Log) path(name string) string { return filepath.Join(l.config.Dir, name) }

// Reader reads the log as it is now; it does not follow later additions.
func (l *Log) Reader() *Reader { return l.reader }

// Close lets others add.
func (l *Log) Close() error { return l.lock.Close() }
