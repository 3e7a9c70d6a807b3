package steps

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestFetchExitCodes(t *testing.T) {
	for _, c := range []struct {
		args string
		want int
	}{
		{"--help", 0},
		{"", 2},
		{"-m x", 2},
		{"-m x -k y -t 0", 2},
		{"-m x -k y -a dtb", 2},
		{"-m x -k y --provider http://u:p@h", 2},
		{"-m x -k y --proxy ftp://h:1", 2},
		{"-m x -k y surplus", 2},
		{"-m missing -k missing", 1},
	} {
		var out, errs bytes.Buffer
		env := Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Now: time.Now}
		if got := Fetch(strings.Fields(c.args), env); got != c.want {
			t.Errorf("phase-fetch %s: exit %d, want %d: %s", c.args, got, c.want, &errs)
		}
		if c.want != 0 && (errs.Len() == 0 || out.Len() > 0) {
			t.Errorf("phase-fetch %s: stdout %q, stderr %q", c.args, &out, &errs)
		}
	}
}
