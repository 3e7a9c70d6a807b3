package statuspage

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/phasebased/phase/internal/durable"
)

// A token has at least minToken of the characters that base64url and hexadecimal
// digits have: 128 bits and more, if it was made by chance. This node makes 256.
const (
	minToken = 32
	maxToken = 256
)

// TokenError says why the file with the token is not used.
type TokenError struct {
	Path string
	Err  error
}

func (e *TokenError) Error() string {
	return fmt.Sprintf("token of the status page, %s: %v", e.Path, e.Err)
}
func (e *TokenError) Unwrap() error { return e.Err }

// Code is NODE-085.
func (*TokenError) Code() string { return "NODE-085" }

// Hint says what to do next.
func (*TokenError) Hint() string {
	return "Remove the file: the node then makes a new token. One of your own has 32 to 256 letters, digits, - and _ from a generator of random numbers, in a file of mode 0600."
}

var (
	errShort = errors.New("it is shorter than 32 characters")
	errChars = errors.New("it is not one line of letters, digits, - and _, of at most 256")
	errMode  = errors.New("others than its owner can read or change it")
	errFile  = errors.New("it is not a regular file")
)

// LoadToken reads the token at path, and makes one if there is no file. A file that
// others may read or that holds anything but a token is a *TokenError.
func LoadToken(path string) (string, error) {
	token, err := readToken(path)
	if errors.Is(err, fs.ErrNotExist) {
		token, err = makeToken(path)
	}
	if err != nil {
		return "", &TokenError{path, err}
	}
	return token, nil
}

func makeToken(path string) (string, error) {
	random := make([]byte, 32)
	rand.Read(random) // never fails
	token := hex.EncodeToString(random)
	return token, durable.WriteFile(path, []byte(token+"\n"), 0o600)
}

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", errFile
	case info.Mode().Perm()&0o077 != 0:
		return "", errMode
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxToken+3))
	if err != nil {
		return "", err
	}
	return parseToken(string(raw))
}

// parseToken takes one line. The errors do not repeat it.
func parseToken(text string) (string, error) {
	token := strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	stranger := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}
	switch {
	case len(token) > maxToken || strings.ContainsFunc(token, stranger):
		return "", errChars
	case len(token) < minToken:
		return "", errShort
	}
	return token, nil
}
