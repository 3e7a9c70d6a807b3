package p2p

import (
	"os"
	"regexp"
	"testing"
)

// TestPlacesOfThePage: the places that docs/spec/dht.md gives to other implementations
// are those at which ours looks.
func TestPlacesOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/spec/dht.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(/phase/\\S+)` \\| `K(#\\d+)` \\| `K(#\\d+)` \\|$").FindAllSubmatch(page, -1)
	if len(rows) < 3 {
		t.Fatalf("%d rows of places", len(rows))
	}
	for _, row := range rows {
		for i := range places {
			want := string(row[1])
			if i > 0 {
				want += string(row[1+i])
			}
			if got := placeOf(string(row[1]), i); got != want {
				t.Errorf("place %d of %s is %s, the page says %s", i, row[1], got, want)
			}
		}
	}
}
