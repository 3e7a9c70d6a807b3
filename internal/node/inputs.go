package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/receipt"
)

// InputRunner is a Runner for jobs with inputs.
type InputRunner interface {
	Runner
	// RunWith is SubmitterRunner.RunFor with the job's inputs by name, opened for
	// reading; those that are empty are not there.
	RunWith(ctx context.Context, submitter string, j *job.Job, module []byte, inputs map[string]*os.File) (job.Result, error)
}

// Inputs finds inputs by digest: in the node's own store, or by downloading them into
// it. Its method Open serves as Config.Input.
//
// What it opens is a file of the store, which takes a name only when it is complete and
// is never written again under it; that the store throws it away does no harm to who has
// it open. It is read as a whole and compared with its digest for every job, through
// the descriptor that the job gets. From then on only the node's own user and root, who
// have the node's key as well, could change it.
type Inputs struct {
	Store *store.Store
	// Download puts d, which has size bytes, into Store, verified. Nil means that there
	// are none to ask.
	Download func(ctx context.Context, d blob.Digest, size int64) error
	Log      *slog.Logger // nil discards
}

// Open opens the input d, which has size bytes, for reading. The caller closes it.
func (i *Inputs) Open(ctx context.Context, d blob.Digest, size int64) (*os.File, error) {
	f, err := i.verified(ctx, d, size)
	if err == nil || ctx.Err() != nil {
		return f, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		i.log().Warn("stored input not usable", "input", d, "err", err)
		if errors.As(err, new(*blob.MismatchError)) {
			err = i.putAside(ctx, d, err)
		}
		if err != nil {
			return nil, err
		}
	}
	if i.Download == nil {
		return nil, fmt.Errorf("%s is not on this machine and no provider is known", d)
	}
	if err := i.Download(ctx, d, size); err != nil {
		return nil, err
	}
	return i.verified(ctx, d, size)
}

// putAside takes a copy that has rotted out of the way of a right one. Of a copy that is
// right, what the job says of its size is wrong, and found stays.
func (i *Inputs) putAside(ctx context.Context, d blob.Digest, found error) error {
	switch err := i.Store.Verify(ctx, d); {
	case err == nil:
		return found
	case !errors.As(err, new(*blob.MismatchError)):
		return err
	}
	_, err := i.Store.Quarantine(d)
	return err
}

func (i *Inputs) log() *slog.Logger {
	if i.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return i.Log
}

// verified opens the store's copy and reads all of it.
func (i *Inputs) verified(ctx context.Context, d blob.Digest, size int64) (_ *os.File, err error) {
	f, err := i.Store.OpenUnverified(d, size)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := onlyOurs(f); err != nil {
		return nil, err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, whileWanted{ctx, blob.NewReader(f, d, size)}, make([]byte, 256<<10))
	return f, err
}

// whileWanted reads until ctx ends.
type whileWanted struct {
	ctx context.Context
	r   io.Reader
}

func (w whileWanted) Read(b []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.r.Read(b)
}

var errOthers = errors.New("others than the node's user may write to it")

// inputs opens what a job reads. close gives it back.
func (n *Node) inputs(ctx context.Context, j *job.Job) (files map[string]*os.File, closeAll func(), err error) {
	files = map[string]*os.File{}
	closeAll = func() {
		for _, f := range files {
			f.Close()
		}
	}
	inputs := j.Inputs()
	for _, name := range job.InputNames(inputs) {
		in := inputs[name]
		if in.Size == 0 {
			continue
		}
		f, err := n.cfg.Input(ctx, in.Digest, in.Size)
		if err != nil {
			closeAll()
			return nil, nil, notHad(ctx, "input "+name, err)
		}
		files[name] = f
	}
	return files, closeAll, nil
}

// checkInputs refuses a job with inputs where there are none to be had.
func (n *Node) checkInputs(j *job.Job) error {
	_, can := n.cfg.Runner.(InputRunner)
	if len(j.Inputs()) > 0 && (n.cfg.Input == nil || !can) {
		return &job.Refusal{Reason: job.Unsupported, Detail: "this node runs no jobs with inputs", Directions: "Give the job to another node."}
	}
	return nil
}

// notHad is the refusal of a job that lacks something, unless err is one itself.
func notHad(ctx context.Context, what string, err error) error {
	if errors.As(err, new(*job.Refusal)) {
		return err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return &job.Refusal{Reason: job.Unavailable, Detail: "the " + what + " could not be had", Err: err}
}

// inputRate is how fast inputs have to come, in bytes a second, beyond FetchTime.
const inputRate = 4 << 20

// fetchTime is what a job has to get what it needs.
func (n *Node) fetchTime(j *job.Job) time.Duration {
	return n.cfg.FetchTime + time.Duration(j.InputBytes()/inputRate)*time.Second
}

// receiptInputs is how a receipt names them.
func receiptInputs(inputs map[string]job.Input) map[string]receipt.Input {
	if len(inputs) == 0 {
		return nil
	}
	out := make(map[string]receipt.Input, len(inputs))
	for name, in := range inputs {
		out[name] = receipt.Input(in)
	}
	return out
}
