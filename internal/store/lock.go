package store

import (
	"fmt"
	"os"
	"time"
)

// lockPatience is how long the store's lock is waited for. Whoever has it lists,
// removes, renames and flushes a small file, which takes seconds on a slow medium
// with much to write; the end of a process ends its lock.
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
	return "Try again if the medium is slow and busy; otherwise look for a stopped process that uses this cache, and end it."
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

// hold is locked for one who only looks. While somebody's wait in vain has not
// ended yet, nobody else begins one: a lock that nobody gives back costs a boot
// lockPatience once, and one thread.
func (s *Store) hold(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late != nil {
		select {
		case <-s.late:
			s.late = nil
		default:
			return &LockedError{Dir: s.dir, Waited: s.patience}
		}
	}
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
		ended := make(chan struct{})
		s.late = ended
		go func() { <-got; dir.Close(); close(ended) }() // the lock that comes too late ends at once
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
