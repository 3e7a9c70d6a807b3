package refusal

import (
	"errors"
	"io"
	"testing"
)

func TestError(t *testing.T) {
	reason, other := New("X-001", "it is bad", "Get a good one."), New("X-001", "it is bad", "Get a good one.")
	for text, err := range map[string]error{
		"file: it is bad": &Error{Object: "file", Reason: reason},
		"file: it is bad: at byte 7: unexpected EOF":   reason.Of("file", "at byte %d: %w", 7, io.ErrUnexpectedEOF),
		"a file: it is bad: at byte 7: unexpected EOF": reason.Of("a file", "at byte 7: %w", io.ErrUnexpectedEOF),
	} {
		var coded interface{ Code() string }
		var hinted interface{ Hint() string }
		if err.Error() != text || !errors.Is(err, reason) || errors.Is(err, other) {
			t.Errorf("got %q", err)
		}
		if !errors.As(err, &coded) || coded.Code() != "X-001" || !errors.As(err, &hinted) || hinted.Hint() != "Get a good one." {
			t.Errorf("%q lacks code or hint", err)
		}
	}
	if !errors.Is(reason.Of("file", "%w", io.EOF), io.EOF) {
		t.Error("the cause is lost")
	}
}
