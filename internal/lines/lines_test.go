package lines

import (
	"slices"
	"strings"
	"testing"
)

func TestReadPassesOverWhatIsTooLong(t *testing.T) {
	var got []string
	long := strings.Repeat("x", 100)
	err := Read(strings.NewReader("one\n"+long+"\n\ntwo\r\n"+long), 64, func(line []byte) { got = append(got, string(line)) })
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"one", "", "two"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
