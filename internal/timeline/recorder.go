package timeline

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/phasebased/phase/internal/failure"
)

// Config says what a Recorder records for. Only Kernel and Now are required.
type Config struct {
	// Kernel is put into every stage: KernelSeed or KernelNode.
	Kernel string
	// Now is the time since this kernel started; see SinceBoot.
	Now func() time.Duration
	// Dir receives NN-name.json for each finished stage; empty writes none.
	// It is made when it is first needed.
	Dir string
	// Events receives every event as a JSON line in one Write. It must not
	// block for long: stages wait for it.
	Events io.Writer
}

// Recorder collects the stages of one kernel's part of a boot. It is safe for
// use by several goroutines.
type Recorder struct {
	cfg Config

	mu     sync.Mutex
	stages []Stage
	errs   []error
}

// NewRecorder makes an empty Recorder; it writes nothing yet.
func NewRecorder(cfg Config) *Recorder { return &Recorder{cfg: cfg} }

// Running is a stage that has begun.
type Running struct {
	r     *Recorder
	name  string
	start time.Duration
	once  sync.Once
}

// Begin starts a stage and sends its stage-start event.
func (r *Recorder) Begin(name string) *Running {
	run := &Running{r: r, name: clip(name, maxName), start: r.cfg.Now()}
	r.Send(Event{Event: EventStageStart, Stage: run.name, AtNS: int64(run.start)})
	return run
}

// End finishes the stage with a one-line note and its error, if any. Only the
// first call counts. An error with a Code method gives the event its code.
func (run *Running) End(note string, err error) { run.EndWith(note, nil, err) }

// EndWith is End with JSON for programs that look closer, of at most maxDetail
// bytes: it is the "data" of the stage's event and the "detail" of its file, and
// not part of the Stage.
func (run *Running) EndWith(note string, detail []byte, err error) {
	run.once.Do(func() {
		s := Stage{Name: run.name, Start: run.start, End: run.r.cfg.Now(), Note: clip(note, maxText)}
		if err != nil {
			s.Err = clip(err.Error(), maxText)
		}
		run.r.finish(s, detail, err)
	})
}

// maxDetail leaves room for the rest of an event, or of a file.
const maxDetail = MaxEventBytes - 2*maxText

func (r *Recorder) finish(s Stage, detail jsontext.Value, err error) {
	if len(detail) > maxDetail || len(detail) > 0 && !detail.IsValid() {
		r.mu.Lock()
		r.fail(fmt.Errorf("the detail of stage %s is not %d bytes of JSON", s.Name, maxDetail))
		r.mu.Unlock()
		detail = nil
	}
	r.add(s, detail)
	e := Event{Event: EventStageEnd, Stage: s.Name, AtNS: int64(s.End), Text: s.Note, Data: detail}
	if err != nil {
		e.Text, e.Code = s.Err, failure.Code(err)
	}
	r.Send(e)
}

// Add records a stage that was measured elsewhere, such as the firmware's. An
// empty Kernel becomes the recorder's own.
func (r *Recorder) Add(s Stage) { r.add(s, nil) }

func (r *Recorder) add(s Stage, detail jsontext.Value) {
	if s.Kernel == "" {
		s.Kernel = r.cfg.Kernel
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.stages) == MaxStages {
		r.fail(fmt.Errorf("more than %d stages; %q dropped", MaxStages, s.Name))
		return
	}
	r.stages = append(r.stages, s)
	r.fail(r.store(len(r.stages), s, detail))
}

// Send writes one event to the report port. An empty Kernel becomes the
// recorder's own and a zero time becomes now.
func (r *Recorder) Send(e Event) {
	if r.cfg.Events == nil {
		return
	}
	if e.Kernel == "" {
		e.Kernel = r.cfg.Kernel
	}
	if e.AtNS == 0 {
		e.AtNS = int64(r.cfg.Now())
	}
	line, err := e.Line()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		_, err = r.cfg.Events.Write(line)
	}
	r.fail(err)
}

// Forget drops all stages but the first keep. A boot that is tried again, perhaps
// for days, starts each try with the same record.
func (r *Recorder) Forget(keep int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stages = r.stages[:min(keep, len(r.stages))]
}

// Stages is a copy of what was recorded so far, in the order it ended.
func (r *Recorder) Stages() []Stage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Stage(nil), r.stages...)
}

// Err joins what could not be written. It never stops a boot.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.errs...)
}

// fail keeps the first few errors; r.mu is held.
func (r *Recorder) fail(err error) {
	if err != nil && len(r.errs) < 8 {
		r.errs = append(r.errs, err)
	}
}

// store writes the stage's file; r.mu is held. No fsync: the directory lives in
// memory, and nobody reads the file back.
func (r *Recorder) store(n int, s Stage, detail jsontext.Value) error {
	if r.cfg.Dir == "" {
		return nil
	}
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("keep stage %s: %w", s.Name, err)
	}
	if len(detail) > 0 {
		data = fmt.Appendf(data[:len(data)-1], `,"detail":%s}`, detail)
	}
	data = append(data, '\n')
	if err := os.MkdirAll(r.cfg.Dir, 0o755); err != nil {
		return fmt.Errorf("keep stage %s: %w", s.Name, err)
	}
	path := filepath.Join(r.cfg.Dir, fmt.Sprintf("%02d-%s.json", n, fileName(s.Name)))
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("keep stage %s: %w", s.Name, err)
	}
	return nil
}

// fileName keeps lower-case letters, digits and '-', so that a stage's name
// never becomes a path.
func fileName(name string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, strings.ToLower(name))
}

// clip bounds a text to n bytes of valid UTF-8.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
