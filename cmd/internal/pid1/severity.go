package pid1

import "strings"

// Severity is the word that people search for before a message: FATAL for what
// was refused because it did not verify, ERROR for the rest.
func Severity(code string) string {
	if strings.HasPrefix(code, "VFY-") || code == "FETCH-002" {
		return "FATAL"
	}
	return "ERROR"
}
