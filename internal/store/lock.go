package store

import (
	"fmt"
	"os"
	"time"
)

// lockPatience is how long the store's lock is waited for. Whoever has it only
// lists, removes and renames; the end of a process ends its lock.
const lockPatience = 30 * time.Second

// A LockedError says that another process keeps the store locked.
type LockedError struct {
	Dir    string
	Waited time.Duration
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("store %s: another process has had it locked for more than %s", e.Dir, e.Waited)
}

// Hint says what to do next.
func (*LockedError) Hint() string {
	return "Look for a stopped process that uses this cache, and end it."
}

// locked runs do while no other goroutine and no other process makes room,
// changes pins, or gives a file its name. The lock is on the tmp folder, so it
// leaves nothing behind and a medium that is full can be locked.
func (s *Store) locked(do func() error) error {
	if s.readOnly {
		return s.refuseWrite()
	}
	return s.hold(do)
}

// hold is locked for one who only looks.
func (s *Store) hold(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, err := s.openDir(tempDir)
	if err != nil {
		return fmt.Errorf("lock store: %w", err)
	}
	got := make(chan error, 1)
	late := time.NewTimer(s.patience)
	defer late.Stop()
	go func() { got <- waitLock(dir) }()
	select {
	case err = <-got:
	case <-late.C:
		go func() { <-got; dir.Close() }() // the lock that comes too late ends at once
		return &LockedError{Dir: s.dir, Waited: s.patience}
	}
	defer dir.Close()
	if err != nil {
		return fmt.Errorf("lock store: %w", err)
	}
	return do()
}

// openDir opens a folder of the store that is no link.
func (s *Store) openDir(name string) (*os.File, error) {
	before, err := s.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.IsDir() {
		return nil, notDir(name)
	}
	dir, err := s.root.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	after, err := dir.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = notDir(name)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}
