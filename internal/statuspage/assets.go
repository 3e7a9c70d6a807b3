package statuspage

import (
	"embed"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"path"
	"time"

	"github.com/phasebased/phase/blob"
)

// assets is the folder, with verify.wasm.gz if `make verifier` came before this
// build.
//
//go:embed assets
var assets embed.FS

// Verifier is the verifier that was there when this program was built; nil if none
// was.
func Verifier() []byte {
	packed, err := assets.ReadFile("assets/verify.wasm.gz")
	if err != nil {
		return nil
	}
	return packed
}

func parsePages() (*template.Template, error) {
	return template.New("").Funcs(template.FuncMap{
		"clock": clock,
		"rfc":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"mb":    func(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) },
		"hex":   blob.Digest.Hex,
	}).ParseFS(assets, "assets/*.html")
}

// types are not asked of the machine: it may call a script something else.
func serveAsset(w http.ResponseWriter, r *http.Request) {
	body, err := assets.ReadFile("assets/" + path.Base(r.URL.Path))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	kind := map[string]string{".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}[path.Ext(r.URL.Path)]
	w.Header().Set("Content-Type", mime.FormatMediaType(kind, map[string]string{"charset": "utf-8"}))
	_, _ = w.Write(body)
}
