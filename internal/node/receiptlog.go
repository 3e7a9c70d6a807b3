package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/receipt"
)

// A ReceiptLog is the append-only record of everything that a node has signed
// for. Each line holds a receipt, its number, and the digest of the line before
// it, over all files: whoever has seen a line notices when an earlier one was
// taken out, changed or put in later. The chain does not stop the node's owner
// from writing a new history from some line on; it stops that from going
// unnoticed by those who kept a later digest.
//
// The log is bounded: a full file is put aside, and the oldest of those is
// removed when there are too many.
type ReceiptLog struct {
	dir      string
	maxBytes int64 // of one file
	maxFiles int   // that were put aside

	mu     sync.Mutex
	file   *lineFile
	last   chainEnd
	recent []blob.Digest // of the last receipts, newest at the end
}

// Bounds of a receipt log, in bytes and files.
const (
	receiptLogBytes = 16 << 20
	receiptLogFiles = 8
)

const (
	receiptLogName   = "receipts.log"
	receiptLogPrefix = "receipts-"
)

// logLine is one line of the log.
type logLine struct {
	Number   int64          `json:"n"`    // from 1
	Previous blob.Digest    `json:"prev"` // SHA-256 of the line before, without its newline; of nothing for the first
	Receipt  strictjson.Raw `json:"receipt"`
}

// chainEnd is the last line of a chain.
type chainEnd struct {
	number  int64
	digest  blob.Digest // of the line
	receipt blob.Digest // in it
}

var chainStart = chainEnd{digest: blob.Of(nil)}

// ChainError says where a receipt log is not what it was.
type ChainError struct {
	File string
	Line int // from 1
	Text string
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("receipt log %s, line %d: %s", e.File, e.Line, e.Text)
}

// Code is NODE-025.
func (*ChainError) Code() string { return "NODE-025" }

// Hint says what to do next.
func (*ChainError) Hint() string {
	return "Move the folder's receipts*.log files away and keep them: somebody or something has changed them, and the node begins a new log."
}

// next checks one line against the end of the chain before it.
func (end chainEnd) next(line []byte) (chainEnd, error) {
	var l logLine
	lim := strictjson.Limits{Bytes: maxLine, Depth: 16, RejectUnknown: true, RejectNull: true}
	if err := strictjson.Unmarshal(line, &l, lim); err != nil {
		return end, err
	}
	if l.Number != end.number+1 || l.Previous != end.digest {
		return end, fmt.Errorf("number %d after %s does not continue number %d, %s", l.Number, l.Previous, end.number, end.digest)
	}
	return chainEnd{l.Number, blob.Of(line), blob.Of(l.Receipt)}, nil
}

// OpenReceiptLog opens or makes the log in dir. It checks the chain of the
// file that it goes on writing; CheckReceiptLog checks all. A chain that is
// broken is a *ChainError: the log is left alone.
func OpenReceiptLog(dir string) (*ReceiptLog, error) {
	return openReceiptLog(dir, receiptLogBytes, receiptLogFiles)
}

func openReceiptLog(dir string, maxBytes int64, maxFiles int) (*ReceiptLog, error) {
	l := &ReceiptLog{dir: dir, maxBytes: maxBytes, maxFiles: maxFiles, last: chainStart}
	aside, err := l.aside()
	if err != nil {
		return nil, fmt.Errorf("receipt log: %w", err)
	}
	if len(aside) > 0 {
		if l.last, err = lastOf(filepath.Join(dir, aside[len(aside)-1])); err != nil {
			return nil, fmt.Errorf("receipt log: %w", err)
		}
	}
	check := chainChecker{file: receiptLogName, end: l.last}
	if l.file, err = openLines(filepath.Join(dir, receiptLogName), 0o644, check.line); err != nil {
		return nil, fmt.Errorf("receipt log: %w", err)
	}
	l.last, l.recent = check.end, check.recent
	return l, nil
}

// chainChecker walks along one file.
type chainChecker struct {
	file  string
	lines int
	end   chainEnd
	any   bool // take the first line as it is: what was before it is gone

	recent []blob.Digest
}

func (c *chainChecker) line(line []byte) error {
	c.lines++
	if c.any {
		var l logLine
		if err := strictjson.Unmarshal(line, &l, strictjson.Limits{Bytes: maxLine, Depth: 16}); err != nil {
			return &ChainError{c.file, c.lines, err.Error()}
		}
		c.any, c.end = false, chainEnd{number: l.Number - 1, digest: l.Previous}
	}
	end, err := c.end.next(line)
	if err != nil {
		return &ChainError{c.file, c.lines, err.Error()}
	}
	c.end, c.recent = end, addRecent(c.recent, end.receipt)
	return nil
}

// lastOf is the end of the chain in a file that was put aside.
func lastOf(path string) (chainEnd, error) {
	c := chainChecker{file: filepath.Base(path), any: true}
	err := c.read(path)
	return c.end, err
}

func (c *chainChecker) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = readLines(f, c.line)
	return err
}

// CheckReceiptLog checks the chain over all files of the log in dir and returns
// how many receipts it holds. A hole is a *ChainError.
func CheckReceiptLog(dir string) (int, error) {
	l := &ReceiptLog{dir: dir}
	names, err := l.aside()
	if err != nil {
		return 0, err
	}
	c := chainChecker{end: chainStart, any: len(names) > 0}
	total := 0
	for _, name := range append(names, receiptLogName) {
		c.file, c.lines = name, 0
		if err := c.read(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return total, err
		}
		total += c.lines
	}
	return total, nil
}

// aside lists the files that were put aside, oldest first: their names carry
// the number of their last line in a fixed width.
func (l *ReceiptLog) aside() ([]string, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), receiptLogPrefix) && strings.HasSuffix(e.Name(), ".log") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Add appends a receipt.
func (l *ReceiptLog) Add(signed []byte) error {
	if len(signed) > receipt.MaxBytes {
		return fmt.Errorf("receipt log: %w", receipt.ErrSize)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file.length() >= l.maxBytes {
		if err := l.rotate(); err != nil {
			return fmt.Errorf("receipt log: %w", err)
		}
	}
	line, err := strictjson.MarshalCanonical(logLine{l.last.number + 1, l.last.digest, signed})
	if err != nil {
		return fmt.Errorf("receipt log: %w", err)
	}
	digest := blob.Of(line)
	if err := l.file.add(line); err != nil {
		return fmt.Errorf("receipt log: %w", err)
	}
	l.last = chainEnd{l.last.number + 1, digest, blob.Of(signed)}
	l.recent = addRecent(l.recent, l.last.receipt)
	return nil
}

// lately reports whether a receipt is among the last that were added.
func (l *ReceiptLog) lately(d blob.Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.recent, d)
}

// recentReceipts is how many receipts lately knows of.
const recentReceipts = 64

func addRecent(list []blob.Digest, d blob.Digest) []blob.Digest {
	return append(list[max(0, len(list)-recentReceipts+1):], d)
}

// rotate puts the full file aside, removes the oldest and begins a new one.
func (l *ReceiptLog) rotate() error {
	if err := l.file.flush(); err != nil {
		return err
	}
	name := fmt.Sprintf("%s%016d.log", receiptLogPrefix, l.last.number)
	if err := os.Rename(filepath.Join(l.dir, receiptLogName), filepath.Join(l.dir, name)); err != nil {
		return err
	}
	if err := l.file.reopen(); err != nil {
		return err
	}
	aside, err := l.aside()
	if err != nil {
		return err
	}
	for _, old := range aside[:max(0, len(aside)-l.maxFiles)] {
		if err := os.Remove(filepath.Join(l.dir, old)); err != nil {
			return err
		}
	}
	return durable.SyncDir(l.dir)
}

// Close flushes and closes the log.
func (l *ReceiptLog) Close() error { return l.file.close() }
