package provider

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"time"
)

// problems are the reasons why this provider is not healthy; none means that
// everything published is what its manifest says.
func (p *Provider) problems() []string {
	s := p.state.Load()
	if s.at.IsZero() {
		return []string{"files are still being checked"}
	}
	var out []string
	if _, ok := s.release(p.cfg.Channel, p.cfg.Arch); !ok {
		out = append(out, fmt.Sprintf("no manifest is published for %s/%s", p.cfg.Channel, p.cfg.Arch))
	}
	if n := p.files.sum().rotten; n > 0 {
		out = append(out, fmt.Sprintf("blobs that are not what their names say, and are withheld: %d", n))
	}
	if s.tooMany {
		out = append(out, fmt.Sprintf("more than %d blobs: the others are not served", maxBlobs))
	}
	for _, r := range s.releases {
		for _, problem := range r.Problems {
			out = append(out, fmt.Sprintf("%s/%s: %s", r.Channel, r.Arch, problem))
		}
	}
	return out
}

// serveHealth is 200 "ok", or 503 with one problem a line. Files are served
// in both cases.
func (p *Provider) serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	problems := p.problems()
	if len(problems) == 0 {
		fmt.Fprintln(w, "ok")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	for _, problem := range problems {
		fmt.Fprintln(w, problem)
	}
}

// Status is the answer of GET /status.
type Status struct {
	Healthy  bool       `json:"healthy"`
	Problems []string   `json:"problems"`
	Version  string     `json:"version"`    // of this program
	Started  time.Time  `json:"started_at"` // of this provider
	Checked  *time.Time `json:"checked_at"` // last scan; null before the first
	Channel  string     `json:"channel"`    // of /manifest.json
	Arch     string     `json:"arch"`       // of /manifest.json
	Releases []release  `json:"releases"`
	Blobs    int        `json:"blobs"`    // files under blobs/
	Served   int        `json:"served"`   // different contents that are served by their digest
	Withheld int        `json:"withheld"` // files under blobs/ that are not what their name says
	Load     Load       `json:"load"`
	Receipts *int       `json:"receipts,omitempty"`
	Network  any        `json:"network,omitempty"` // Config.Network
}

// Status reports what was measured, not what was intended.
func (p *Provider) Status() Status {
	s := p.state.Load()
	problems := p.problems()
	st := Status{
		Healthy: len(problems) == 0, Problems: append([]string{}, problems...),
		Version: p.cfg.Version, Started: p.started,
		Channel: p.cfg.Channel, Arch: p.cfg.Arch,
		Releases: append([]release{}, s.releases...),
	}
	if !s.at.IsZero() {
		st.Checked = &s.at
	}
	sum := p.files.sum()
	st.Blobs, st.Served, st.Withheld, st.Load = sum.blobs, sum.digests, sum.rotten, p.load()
	if p.receipts != nil {
		n := p.receipts.count()
		st.Receipts = &n
	}
	if p.cfg.Network != nil {
		st.Network = p.cfg.Network()
	}
	return st
}

func (p *Provider) serveStatus(w http.ResponseWriter, _ *http.Request) {
	data, err := json.MarshalIndent(p.Status(), "", "  ")
	if err != nil {
		http.Error(w, "status cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(append(data, '\n'))
}

var indexPage = template.Must(template.New("index").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Phase provider</title>
<h1>Phase provider</h1>
<p>{{if .Healthy}}Everything published is what its manifest says.{{else}}Problems:{{end}}</p>
<ul>{{range .Problems}}<li>{{.}}</li>{{end}}</ul>
{{range .Releases}}{{$dir := printf "/%s/%s/" .Channel .Arch}}
<h2>{{.Channel}} {{.Arch}}, version {{.Version}}</h2>
<ul><li><a href="{{$dir}}manifest.json">manifest.json</a></li>
{{range .Artifacts}}<li><a href="{{$dir}}{{.Name}}">{{.Name}}</a> {{.Size}} bytes {{.Hash}}</li>
{{end}}</ul>
{{end}}
<p><a href="/status">status</a> <a href="/health">health</a> <a href="/metrics">metrics</a></p>
</html>
`))

func (p *Provider) serveIndex(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	if err := indexPage.Execute(w, p.Status()); err != nil {
		p.cfg.Log.Debug("index page", "err", err)
	}
}
