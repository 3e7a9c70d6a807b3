package strictjson

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

type sample struct {
	N     int64             `json:"n"`
	S     string            `json:"s,omitempty"`
	List  []string          `json:"list,omitempty"`
	Map   map[string]sample `json:"map,omitempty"`
	Bytes Base64            `json:"bytes,omitempty"`
	Ptr   *int64            `json:"ptr,omitzero"`
}

func TestUnmarshalRefuses(t *testing.T) {
	tests := []struct {
		name, in string
		want     error
	}{
		{"empty", ``, ErrSyntax},
		{"white space only", ` `, ErrSyntax},
		{"cut", `{"n":1`, ErrSyntax},
		{"duplicate name", `{"n":1,"n":1}`, ErrSyntax},
		{"duplicate name by escape", `{"n":1,"\u006e":1}`, ErrSyntax},
		{"duplicate unknown name", `{"x":1,"x":2}`, ErrSyntax},
		{"duplicate name inside unknown", `{"x":{"a":1,"a":2}}`, ErrSyntax},
		{"other case", `{"N":1}`, ErrType},
		{"unknown name", `{"x":1}`, ErrType},
		{"trailing byte", `{"n":1}1`, ErrSyntax},
		{"two documents", `{"n":1}{"n":1}`, ErrSyntax},
		{"trailing garbage", `{"n":1}]`, ErrSyntax},
		{"NUL at the end", "{\"n\":1}\x00", ErrSyntax},
		{"byte order mark", "\ufeff{\"n\":1}", ErrSyntax},
		{"comment", `{"n":1/**/}`, ErrSyntax},
		{"trailing comma", `{"n":1,}`, ErrSyntax},
		{"single quotes", `{'n':1}`, ErrSyntax},
		{"invalid UTF-8", "{\"s\":\"\xff\"}", ErrSyntax},
		{"invalid UTF-8 in a name", "{\"\xff\":1}", ErrSyntax},
		{"surrogate in UTF-8", "{\"s\":\"\xed\xa0\x80\"}", ErrSyntax},
		{"overlong UTF-8", "{\"s\":\"\xc0\x80\"}", ErrSyntax},
		{"lone surrogate", `{"s":"\ud800"}`, ErrSyntax},
		{"lone low surrogate", `{"s":"\udc00x"}`, ErrSyntax},
		{"raw control character", "{\"s\":\"\n\"}", ErrSyntax},
		{"fraction", `{"n":1.0}`, ErrNumber},
		{"exponent", `{"n":1e3}`, ErrNumber},
		{"fraction in unknown", `{"x":[0.5]}`, ErrNumber},
		{"minus zero", `{"n":-0}`, ErrNumber},
		{"2^53", `{"n":9007199254740992}`, ErrNumber},
		{"-2^53", `{"n":-9007199254740992}`, ErrNumber},
		{"2^64", `{"n":18446744073709551616}`, ErrNumber},
		{"leading zero", `{"n":01}`, ErrSyntax},
		{"plus", `{"n":+1}`, ErrSyntax},
		{"NaN", `{"n":NaN}`, ErrSyntax},
		{"number as string", `{"n":"5"}`, ErrType},
		{"string as number", `{"s":5}`, ErrType},
		{"object as list", `{"list":{}}`, ErrType},
		{"array on top", `[1]`, ErrType},
		{"null", `{"n":null}`, ErrNull},
		{"null in unknown", `{"x":null}`, ErrNull},
		{"null on top", `null`, ErrNull},
		{"too deep", `{"x":[[[[]]]]}`, ErrDepth},
		{"very deep", strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001), ErrSize},
		{"too large", `{"s":"` + strings.Repeat("a", 2000) + `"}`, ErrSize},
		{"base64 with a newline", `{"bytes":"YWJj\nYWJj"}`, ErrType},
		{"base64 without padding", `{"bytes":"YWI"}`, ErrType},
		{"base64 with stray bits", `{"bytes":"YWJ="}`, ErrType},
		{"base64 of URLs", `{"bytes":"__8="}`, ErrType},
		{"base64 with spaces", `{"bytes":"YW Jj"}`, ErrType},
		{"base64 with excess padding", `{"bytes":"YWJj===="}`, ErrType},
	}
	lim := Limits{Bytes: 1000, Depth: 4, RejectUnknown: true, RejectNull: true}
	for _, tt := range tests {
		var v sample
		if err := Unmarshal([]byte(tt.in), &v, lim); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	deep := strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001)
	if err := Unmarshal([]byte(deep), new(any), Limits{}); !errors.Is(err, ErrDepth) {
		t.Errorf("10,001 levels: %v", err)
	}
	if err := Unmarshal(bytes.Repeat([]byte("1"), 1<<20+1), new(any), Limits{}); !errors.Is(err, ErrSize) {
		t.Errorf("default size: %v", err)
	}
}

func TestUnmarshalAccepts(t *testing.T) {
	nine := int64(9)
	in := ` { "n" : -9007199254740991 , "s" : "\ud83d\ude00é", "list":["a"], "map":{"x":{"n":0}}, "bytes":"YWI=", "ptr":9, "more":[true,{}] } `
	want := sample{N: -MaxInt, S: "😀é", List: []string{"a"}, Map: map[string]sample{"x": {}}, Bytes: []byte("ab"), Ptr: &nine}
	var got sample
	if err := Unmarshal([]byte(in), &got, Limits{RejectNull: true}); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := Unmarshal([]byte(`{"ptr":null}`), &got, Limits{}); err != nil || got.Ptr != nil {
		t.Errorf("null: %v, %v", got.Ptr, err)
	}
}

// TestUnmarshalStoresNothingOfBadSyntax: what a lax decoder would have stored
// before it met the error must not be there.
func TestUnmarshalStoresNothingOfBadSyntax(t *testing.T) {
	v := sample{N: 7}
	if err := Unmarshal([]byte(`{"n":8}x`), &v, Limits{}); err == nil || v.N != 7 {
		t.Errorf("n is %d, %v", v.N, err)
	}
}

func TestMarshalCanonical(t *testing.T) {
	tests := []struct {
		in   any
		want string
	}{
		{map[string]any{"b": 1, "a": []int{}, "B": "x"}, `{"B":"x","a":[],"b":1}`},
		{sample{N: 5, Bytes: []byte{0xff}}, `{"bytes":"/w==","n":5}`},
		{"<é\u2028\n\"\\\x01", `"<é` + "\u2028" + `\n\"\\\u0001"`},
		{[]int64{MaxInt, -MaxInt, 0}, `[9007199254740991,-9007199254740991,0]`},
		{struct {
			N int64 `json:"n"`
			X Raw   `json:",embed"`
		}{1, Raw(`{ "z":1, "a": [ 2 ] }`)}, `{"a":[2],"n":1,"z":1}`},
	}
	for _, tt := range tests {
		got, err := MarshalCanonical(tt.in)
		if err != nil || string(got) != tt.want {
			t.Errorf("got %s, %v; want %s", got, err, tt.want)
		}
	}
	for _, bad := range []any{0.5, int64(MaxInt + 1), uint64(1 << 63), "\xff", []float64{1e300}, func() {}} {
		if got, err := MarshalCanonical(bad); err == nil {
			t.Errorf("%v encodes as %s", bad, got)
		}
	}
	// More than the default size and depth of the reader can be written.
	if _, err := MarshalCanonical(strings.Repeat("a", 2<<20)); err != nil {
		t.Error(err)
	}
}

func TestCanonicalizeOLPC(t *testing.T) {
	tests := []struct{ in, want string }{
		{` { "b" : [ 1 , -2 , true , false , null ] , "a" : { } } `, `{"a":{},"b":[1,-2,true,false,null]}`},
		{`"\u00e9\"\\\/"`, `"é\"\\/"`},
		{"\"\x7f\"", "\"\x7f\""},
		{`{"\ud83d\ude00":1,"\uffee":2}`, "{\"\uffee\":2,\"😀\":1}"}, // by code point, not by UTF-16
		{` 5 `, `5`},
	}
	for _, tt := range tests {
		got, err := CanonicalizeOLPC([]byte(tt.in), Limits{})
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: got %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	for _, bad := range []string{`1.0`, `{"a":1,"a":1}`, `"\n"`, `"\u0000"`, `{"\t":1}`, `["\u001f"]`, ``} {
		if got, err := CanonicalizeOLPC([]byte(bad), Limits{}); err == nil {
			t.Errorf("%s gives %s", bad, got)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, seed := range []string{
		`{"n":1,"s":"x","list":["a","b"],"map":{"k":{"n":2}},"bytes":"YWI="}`,
		`{"n":1,"n":2}`, `{"s":"\ud800"}`, `{"n":1e3}`, `[[[[]]]]`, `{"n":null}`, "\ufeff{}",
	} {
		f.Add([]byte(seed))
	}
	lim := Limits{RejectUnknown: true, RejectNull: true}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v, again sample
		if Unmarshal(data, &v, lim) != nil {
			return
		}
		out, err := MarshalCanonical(v)
		if err != nil {
			t.Fatalf("accepted but cannot be written: %v", err)
		}
		if err := Unmarshal(out, &again, lim); err != nil {
			t.Fatalf("written but not accepted: %v", err)
		}
		stable, err := MarshalCanonical(again)
		if err != nil || !bytes.Equal(stable, out) {
			t.Fatalf("not stable: %s, %s, %v", out, stable, err)
		}
	})
}

// FuzzCanonicalize: both canonical forms are fixed points and mean the same.
func FuzzCanonicalize(f *testing.F) {
	for _, seed := range []string{`{"b":1,"a":[true,null,"é\"\\"]}`, `"\u007f\/"`, `-5`, `{"\ud83d\ude00":1,"\uffee":2}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		olpc, err := CanonicalizeOLPC(data, Limits{})
		if err != nil {
			return
		}
		if again, err := CanonicalizeOLPC(olpc, Limits{}); err != nil || !bytes.Equal(again, olpc) {
			t.Fatalf("OLPC form not stable: %s, %s, %v", olpc, again, err)
		}
		rfc, err := Canonicalize(data, Limits{})
		if err != nil {
			t.Fatalf("one form exists, the other does not: %v", err)
		}
		back, err := CanonicalizeOLPC(rfc, Limits{})
		if err != nil || !bytes.Equal(back, olpc) {
			t.Fatalf("forms differ in meaning: %s, %s, %v", olpc, back, err)
		}
	})
}

// What is refused was often written by a stranger, and the reason is shown on a
// terminal.
func TestErrorsAreFitForATerminal(t *testing.T) {
	for _, name := range []string{strings.Repeat("a", 50_000), `\u001b[2J`, `\u009b`, `\u202e`, `\n`} {
		for _, value := range []string{"1.5", "null", "tru", `1,"` + name + `":2`, `{"n":[]}`, `"\ud800"`, "1"} {
			doc := []byte(`{"` + name + `":` + value + `}`)
			var v struct {
				N int `json:"n"`
			}
			err := Unmarshal(doc, &v, Limits{RejectNull: true, RejectUnknown: true})
			if err == nil {
				t.Errorf("%.40q: accepted", doc)
				continue
			}
			text := err.Error()
			if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("%.40q: %.40q", doc, text[i:])
			}
			if len(text) > 400 {
				t.Errorf("%.40q: the text has %d bytes", doc, len(text))
			}
		}
	}
}

// TestMarshal: what is written is read again, and what is refused to be read is not
// written.
func TestMarshal(t *testing.T) {
	in := sample{N: MaxInt, S: "<\u20ac>", Map: map[string]sample{"b": {N: 1}, "a": {}}, Bytes: Base64("x")}
	raw, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out sample
	if err := Unmarshal(raw, &out, Limits{}); err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("%s, %v", raw, err)
	}
	if canonical, _ := MarshalCanonical(in); len(canonical) != len(raw) {
		t.Errorf("%s is not as short as %s", raw, canonical)
	}
	for _, bad := range []any{sample{N: MaxInt + 1}, 1.5, Raw("{"), Raw(`{"a":1,"a":1}`)} {
		if raw, err := Marshal(bad); err == nil {
			t.Errorf("%v became %s", bad, raw)
		}
	}
}

// TestPlaceInTheDocument: whoever wrote the document is told where it is wrong, and not
// what this program calls its types.
func TestPlaceInTheDocument(t *testing.T) {
	var v struct {
		Limits struct {
			Fuel int64 `json:"fuel"`
		} `json:"limits"`
	}
	err := Unmarshal([]byte(`{"limits":{"fule":1}}`), &v, Limits{Bytes: 100, RejectUnknown: true})
	if !errors.Is(err, ErrType) || !strings.Contains(err.Error(), `at /limits/fule: unknown object member name`) {
		t.Error(err)
	}
	if err != nil && strings.Contains(err.Error(), "struct") {
		t.Errorf("%v names a type", err)
	}
}
