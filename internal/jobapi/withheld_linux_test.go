package jobapi

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// withheldDesk has one job, a replica of a quorum whose end it tells nobody.
type withheldDesk struct{ fakeDesk }

func (d withheldDesk) Watch(_ context.Context, _ blob.Digest, _ job.Caller, tell func(job.Status) error) error {
	s := d.status("running")
	if err := tell(s); err != nil {
		return err
	}
	s.Stage = job.Committed
	return tell(s)
}

func (withheldDesk) Receipt(blob.Digest, job.Caller) ([]byte, error) { return nil, job.ErrWithheld }

// TestWithheld: who listens to a replica is told that there is no more to hear,
// rather than to ask again for ever.
func TestWithheld(t *testing.T) {
	c := NewClient(start(t, func(c *Config) { c.Desk = withheldDesk{} }))
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := c.Watch(ctx, named("running"), func(job.Status) {})
	if !errors.Is(err, job.ErrWithheld) || s.Stage != job.Committed {
		t.Errorf("%s, %v", s.Stage, err)
	}
	var coded interface{ Code() string }
	if _, err := c.Receipt(ctx, named("running")); !errors.As(err, &coded) || coded.Code() != "NODE-070" {
		t.Errorf("receipt: %v", err)
	}
}
