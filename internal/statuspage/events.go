package statuspage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// How long a viewer is told of changes before it has to ask again, and how often it
// hears something although nothing changed.
const (
	listenFor = time.Hour
	stillHere = 20 * time.Second
)

// getEvents tells a viewer what changed, as server-sent events, each with all that
// changes on the page. Viewers are few: one that finds no room asks again later.
func (p *Page) getEvents(w http.ResponseWriter, r *http.Request) {
	select {
	case p.viewers <- struct{}{}:
		defer func() { <-p.viewers }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many viewers", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	say := func(text string) error {
		if err := out.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return err
		}
		if _, err := fmt.Fprint(w, text); err != nil {
			return err
		}
		return out.Flush()
	}
	_ = p.tell(r, say)
}

func (p *Page) tell(r *http.Request, say func(string) error) error {
	look := time.NewTicker(p.cfg.Every)
	defer look.Stop()
	enough := time.After(listenFor)
	var last []byte
	for said := time.Now(); ; {
		now, err := json.Marshal(p.cfg.View().bounded().live())
		if err != nil {
			return err
		}
		switch {
		case !bytes.Equal(now, last):
			last, said = now, time.Now()
			err = say("data: " + string(now) + "\n\n") // JSON has no line ends
		case time.Since(said) > stillHere:
			said = time.Now()
			err = say(": still here\n\n")
		}
		if err != nil {
			return err
		}
		select {
		case <-look.C:
		case <-enough:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
}
