package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/durable"
)

// maxLine bounds one line of a file of lines: a job with its specification, or
// its end with small outputs.
const maxLine = 4 << 20

// lineFile is an append-only file of lines. A line is written with one system
// call before add returns, so that it survives the end of the process, kill -9
// included, from then on. It reaches the device soon afterwards, in the
// background, all lines of gatherTime with one flush: a power cut may take the last
// hundredths of a second of lines. It leaves at most one torn line, which open removes.
type lineFile struct {
	path string
	mode os.FileMode

	mu     sync.Mutex
	file   *os.File
	size   int64
	failed error // of an earlier write or flush: nothing is added after that
	dirty  chan struct{}
}

// openLines opens or makes the file and gives each whole line, without its
// newline, to each; the slice is only valid during the call. Only the torn end
// of a last line is removed; a line longer than maxLine is an error.
func openLines(path string, mode os.FileMode, each func(line []byte) error) (*lineFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, mode)
	if err != nil {
		return nil, err
	}
	size, err := readLines(f, each)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &lineFile{path: path, mode: mode, file: f, size: size, dirty: make(chan struct{}, 1)}, nil
}

// readLines gives each whole line to each and returns how many bytes they are.
func readLines(r io.Reader, each func(line []byte) error) (size int64, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return 0, fmt.Errorf("a line after %d bytes is longer than %d", size, maxLine)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return size, nil // what is left of line was never finished
		case err != nil:
			return 0, err
		}
		if err := each(line[:len(line)-1]); err != nil {
			return 0, err
		}
		size += int64(len(line))
		line = line[:0]
	}
}

// add appends one line, given without its newline.
func (l *lineFile) add(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	if len(line) >= maxLine {
		return fmt.Errorf("%s: a line of %d bytes", l.path, len(line))
	}
	n, err := l.file.Write(append(line, '\n'))
	l.size += int64(n)
	if err != nil {
		if n > 0 { // a torn line must not have another one behind it
			l.size -= int64(n)
			if torn := l.file.Truncate(l.size); torn != nil {
				l.failed = errors.Join(err, torn)
			}
		}
		return err
	}
	select {
	case l.dirty <- struct{}{}:
	default:
	}
	return nil
}

// length is the size of the file in bytes.
func (l *lineFile) length() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// replace makes data, whole lines, the content of the file, at once and
// durably. Nothing may be added meanwhile.
func (l *lineFile) replace(data []byte) error {
	if err := durable.WriteFile(l.path, data, l.mode); err != nil {
		return err
	}
	return l.reopen()
}

// reopen goes on with the file that is at path now.
func (l *lineFile) reopen() error {
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, l.mode)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.Close()
	l.file, l.size = f, info.Size()
	return nil
}

// gatherTime is how long a line waits for others before it is flushed. A small job
// has ended by then: a flush in the middle of it would take a processor from it.
const gatherTime = 20 * time.Millisecond

// flushes flushes what was added, until ctx ends, and then once more.
func (l *lineFile) flushes(ctx context.Context) error {
	for {
		select {
		case <-l.dirty:
		case <-ctx.Done():
			return l.flush()
		}
		select {
		case <-time.After(gatherTime):
		case <-ctx.Done():
		}
		select { // what came meanwhile is flushed with it
		case <-l.dirty:
		default:
		}
		if err := l.flush(); err != nil {
			return err
		}
	}
}

// flush waits until everything that was added is on the device. A device that
// fails to take it may have dropped it, so nothing is believed after that.
func (l *lineFile) flush() error {
	l.mu.Lock()
	f := l.file
	l.mu.Unlock()
	err := f.Sync()
	if err == nil || errors.Is(err, os.ErrClosed) { // replaced meanwhile by a flushed one
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = err
	return err
}

func (l *lineFile) close() error {
	err := l.flush()
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(err, l.file.Close())
}
