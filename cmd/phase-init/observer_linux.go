package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/timeline"
)

// titles are the stages as people read them. One without a title runs beside the
// others, and is only recorded.
var titles = map[string]string{
	timeline.StageNetwork:  "Network",
	timeline.StageDiscover: "Discover",
	timeline.StageVerify:   "Verify",
	timeline.StageFetch:    "Fetch",
	timeline.StageHandover: "Hand over",
}

// observer shows the walk on the consoles and records it in the timeline.
type observer struct {
	system *pid1.System

	mu      sync.Mutex
	running map[string]*timeline.Running
	steps   map[string]*term.Step
	fetched []fetch.Report // of the fetch that runs
	bar     *term.Progress
	barName string
	failed  string // the stage that failed last
}

func newObserver(system *pid1.System) *observer {
	return &observer{system: system, running: map[string]*timeline.Running{}, steps: map[string]*term.Step{}, failed: "medium"}
}

func (o *observer) Begin(stage string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running[stage] = o.system.Timeline.Begin(stage)
	if title := titles[stage]; title != "" {
		o.steps[stage] = o.system.Console.Step(title)
	}
}

func (o *observer) End(stage, note string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	running, step := o.running[stage], o.steps[stage]
	if running == nil {
		return // a stage ends once; the search may outlive its stage
	}
	delete(o.running, stage)
	running.EndWith(note, o.detail(stage), err)
	if step == nil {
		return
	}
	delete(o.steps, stage)
	o.endBar()
	if stage == timeline.StageFetch {
		defer o.account()
	}
	var asked *wish
	switch {
	case errors.As(err, &asked):
		step.Fail(asked.Error())
		return
	case err != nil:
		o.failed = stage
		step.Fail("")
		return
	}
	step.Done(note)
}

func (o *observer) Note(_, text string) { o.system.Console.Line(text) }

func (o *observer) Skipped(origin string, err error) {
	o.system.Log.Warn("skipped", "origin", origin, "error", err)
}

func (o *observer) Progress(p fetch.Progress) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.barName != p.Name {
		o.endBar()
		o.bar, o.barName = o.system.Console.Progress(p.Name, p.Total), p.Name
	}
	if p.Sources > 1 {
		o.bar.From(fmt.Sprintf("%d sources", p.Sources))
	}
	o.bar.Set(p.Done)
}

// Fetched keeps where an artifact came from until the fetch ends.
func (o *observer) Fetched(r fetch.Report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fetched = append(o.fetched, r)
}

// detail is where the artifacts came from, as JSON for the stage's record; o.mu
// is held.
func (o *observer) detail(stage string) []byte {
	if stage != timeline.StageFetch || len(o.fetched) == 0 {
		return nil
	}
	data, err := json.Marshal(o.fetched)
	if err != nil {
		return nil
	}
	return data
}

// account shows where the artifacts came from, and who gave wrong bytes; o.mu is
// held.
func (o *observer) account() {
	for _, r := range o.fetched {
		for _, line := range account(r) {
			o.system.Console.Line(line)
		}
	}
	o.fetched = nil
}

func (o *observer) endBar() {
	if o.bar != nil {
		o.bar.End()
	}
	o.bar, o.barName = nil, ""
}

// failure composes what a person is told, once, from whatever room failed, and
// names the stage that failed last.
func (o *observer) failure(err error) (stage string, f term.Failure) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, running := range o.running { // stages that the failure cut short
		running.End("", err)
		if step := o.steps[name]; step != nil {
			step.Fail("")
			o.failed = name
		}
	}
	clear(o.running)
	clear(o.steps)
	defer func() { o.failed = "medium" }()
	f = term.Failure{Title: "The boot stopped", Code: failure.Code(err), Wrong: headline(err), Tried: attempts(err)}
	var ladder *handover.LadderError // tells every way in its one long line
	if len(f.Tried) == 0 && !errors.As(err, &ladder) && !strings.HasSuffix(f.Wrong, ": "+err.Error()) {
		f.Tried = append(f.Tried, err.Error())
	}
	if hint := failure.Hint(err); hint != "" {
		f.Do = append(f.Do, hint)
	}
	return o.failed, f
}

// headline is the innermost error that has a code, with its severity. A captive
// portal explains what is below it.
func headline(err error) string {
	var behind *boot.PortalError
	if errors.As(err, &behind) {
		return pid1.Severity(behind.Code()) + ": " + behind.Error()
	}
	text, code := err.Error(), ""
	for e := err; e != nil; {
		var coded interface {
			error
			Code() string
		}
		if !errors.As(e, &coded) {
			break
		}
		text, code = coded.Error(), coded.Code()
		e = errors.Unwrap(coded)
	}
	return pid1.Severity(code) + ": " + text
}

// attempts lists the sources that were asked and what came of it.
func attempts(err error) []string {
	var tried []string
	var fetching *fetch.Error
	if errors.As(err, &fetching) {
		for _, a := range fetching.Attempts {
			tried = append(tried, fmt.Sprintf("%s: %v", a.URL, a.Err))
		}
	}
	var kept *boot.LastGoodError
	if errors.As(err, &kept) {
		for _, err := range kept.Kept {
			tried = append(tried, "the release booted before: "+err.Error())
		}
	}
	var search *boot.NotFoundError
	if errors.As(err, &search) {
		for _, refused := range search.Rejected {
			tried = append(tried, refused.Error())
		}
		for _, a := range search.Answers {
			tried = append(tried, fmt.Sprintf("%s: %s", a.Source, answer(a.Candidates, a.Err)))
		}
	}
	return tried[:min(len(tried), 8)]
}

func answer(candidates int, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d answers", candidates)
}
