package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
)

// maxAccessLog is how large a log of requests grows before it is put aside as
// <file>.1, in place of the one before: strangers decide how much there is to
// write, and must not fill a disk.
const maxAccessLog = 16 << 20 // bytes

// openAccessLog opens what --access-log names: a file, "-" or nothing for the log of
// everything else, "off" for none.
func openAccessLog(name string, log *slog.Logger) (*slog.Logger, io.Closer, error) {
	switch name {
	case "", "-":
		return log, discard{}, nil
	case "off":
		return slog.New(slog.DiscardHandler), discard{}, nil
	}
	w := &boundedLog{path: name, most: maxAccessLog}
	if err := w.open(); err != nil {
		return nil, nil, fmt.Errorf("--access-log: %w", err)
	}
	return slog.New(slog.NewTextHandler(w, nil)), w, nil
}

// A boundedLog appends lines to a file, and never takes more than twice most
// bytes of the disk. It is safe for concurrent use.
type boundedLog struct {
	path string
	most int64

	mu   sync.Mutex
	file *os.File // nil: the last attempt to open it failed
	size int64    // of a plain file; 0 of a terminal, a pipe or a device, which does not grow
	grow bool     // it is a plain file
}

// open is for those who hold the lock, or are alone.
func (l *boundedLog) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.size, l.grow = f, info.Size(), info.Mode().IsRegular()
	return nil
}

// Write implements io.Writer. A line is never torn in two.
func (l *boundedLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil && l.size > 0 && l.size+int64(len(line)) > l.most {
		if err := l.turn(); err != nil {
			return 0, err
		}
	}
	if l.file == nil {
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(line)
	if l.grow {
		l.size += int64(n)
	}
	return n, err
}

// turn puts the file aside, unless somebody else did.
func (l *boundedLog) turn() error {
	if err := os.Rename(l.path, l.path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.file.Close()
	l.file = nil
	return l.open()
}

// Close implements io.Closer.
func (l *boundedLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
