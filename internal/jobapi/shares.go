package jobapi

import (
	"sync"

	"github.com/phasebased/phase/internal/job"
)

// shares are places of which there are few, and of which one caller gets only a
// part: whoever fills theirs keeps nobody else out.
type shares struct {
	all, each int // at once, and of one caller

	mu    sync.Mutex
	taken int
	by    map[string]int // by caller, those who have one
}

func newShares(all, each int) *shares { return &shares{all: all, each: each, by: map[string]int{}} }

// enter takes a place, which leave gives back; ok is false if there is none for this
// caller.
func (s *shares) enter(by job.Caller) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.all || s.by[by.Name] >= s.each {
		return nil, false
	}
	s.taken++
	s.by[by.Name]++
	return func() { s.leave(by.Name) }, true
}

func (s *shares) leave(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.by[name]--; s.by[name] == 0 {
		delete(s.by, name)
	}
}
