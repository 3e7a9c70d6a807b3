package dialog

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
)

// DefaultIdle is how long a question waits for the next key.
const DefaultIdle = 3 * time.Minute

// MaxAnswer is the length of an answer where Question.Max is 0, in bytes.
const MaxAnswer = 80

// ErrLeft says that the person does not want to answer (Escape, Ctrl-C), or that
// nobody typed anything for Idle.
var ErrLeft = errors.New("the question was left")

// Asker asks one person one question after the other. Keys and Console are
// required.
type Asker struct {
	// Keys is what is typed; see Plain.
	Keys <-chan sysinit.Key
	// Console shows questions and answers.
	Console *term.Console
	// Idle is how long a question waits for the next key; 0: DefaultIdle.
	Idle time.Duration
	// From is the console that answers, and is set to the next on which a key is
	// typed if it is nil. Whoever was asked by a key on one console names that:
	// noise on another must not take the answer out of a person's hands.
	From io.Writer
}

// Question is what to ask for.
type Question struct {
	// Text is the question, such as "Gateway".
	Text string
	// Default is the answer if nothing is typed, and shown.
	Default string
	// Secret shows a star for each character.
	Secret bool
	// Max bounds the answer, in bytes of printable ASCII; 0: MaxAnswer.
	Max int
	// Check says what is wrong with an answer, which is shown, and the question
	// asked again; nil takes any.
	Check func(answer string) error
}

// Ask asks until there is an answer that Check takes. Blanks around it are cut
// off, but for a secret. The error is ErrLeft, or the cause of ctx's end.
func (a *Asker) Ask(ctx context.Context, q Question) (string, error) {
	for {
		answer, err := a.line(ctx, q)
		if err != nil {
			return "", err
		}
		if q.Check == nil {
			return answer, nil
		}
		if err = q.Check(answer); err == nil {
			return answer, nil
		}
		a.Console.Line(sentence(err.Error()))
	}
}

// line asks once.
func (a *Asker) line(ctx context.Context, q Question) (string, error) {
	if q.Max == 0 {
		q.Max = MaxAnswer
	}
	text := q.Text
	if q.Default != "" {
		text += " [" + q.Default + "]"
	}
	prompt := a.Console.Prompt(text + ":")
	defer prompt.End()
	reader := sysinit.NewLineReader(q.Max)
	for {
		key, err := a.Key(ctx)
		if err != nil {
			return "", err
		}
		_, done, canceled := reader.Feed(key)
		answer := reader.Line()
		switch {
		case canceled:
			return "", ErrLeft
		case done && answer == "":
			return q.Default, nil
		case done && !q.Secret:
			return strings.TrimSpace(answer), nil
		case done:
			return answer, nil
		case q.Secret:
			answer = strings.Repeat("*", len(answer))
		}
		prompt.Set(answer)
	}
}

// Key waits for one key, on the console that answers.
func (a *Asker) Key(ctx context.Context) (byte, error) {
	idle := a.Idle
	if idle == 0 {
		idle = DefaultIdle
	}
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		select {
		case key := <-a.Keys:
			if a.From == nil {
				a.From = key.Echo
			}
			if key.Echo == a.From {
				return key.Byte, nil
			}
		case <-timer.C:
			return 0, ErrLeft
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// sentence is an error as people write: errors begin with a small letter.
func sentence(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
