package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/term"
)

// shownPolicy is what phase policy show says.
type shownPolicy struct {
	config    bootcfg.Config
	decisions []bootcfg.Decision
}

// policyText is for people: a line per key, and one per further entry of a list.
func policyText(out io.Writer, p shownPolicy) error {
	fmt.Fprintf(out, "%s, channel %s, %s\n\n", p.config.Mode.Title(), p.config.Channel, p.config.Arch)
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tIN FORCE\tDECIDED BY")
	for _, d := range p.decisions {
		values := plain(d.Value)
		fmt.Fprintf(t, "%s\t%s\t%s\n", d.Key, term.Clean(values[0]), term.Clean(decider(d)))
		for _, v := range values[1:] {
			fmt.Fprintf(t, "\t%s\t\n", term.Clean(v))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// decider is who decided, against what.
func decider(d bootcfg.Decision) string {
	switch {
	case d.Asked != nil && d.AskedBy != "default":
		return fmt.Sprintf("%s (%s asks for %s)", d.By, d.AskedBy, strings.Join(plain(d.Asked), ", "))
	case d.By == "default" || reflect.DeepEqual(d.Value, d.Default):
		return d.By
	}
	return fmt.Sprintf("%s (default: %s)", d.By, strings.Join(plain(d.Default), ", "))
}

// plain are the lines of a value as a person reads it, at least one.
func plain(value any) []string {
	var lines []string
	switch v := value.(type) {
	case []string:
		lines = v
	case []bootcfg.Table:
		for _, t := range v {
			var parts []string
			for _, f := range t {
				parts = append(parts, f.Key+" "+strings.Join(plain(f.Value), " "))
			}
			lines = append(lines, strings.Join(parts, ", "))
		}
	case string:
		if v != "" {
			lines = []string{v}
		}
	default:
		lines = []string{fmt.Sprint(v)}
	}
	if len(lines) == 0 {
		return []string{"none"}
	}
	return lines
}

// policyTOML is a policy.toml that says the same, with who decided behind each
// key. What it cannot say, or what is hidden, stands behind a comment sign.
func policyTOML(out io.Writer, p shownPolicy) error {
	for _, d := range p.decisions {
		sign := ""
		if d.Hidden || strings.HasPrefix(d.Key, "phase.") || d.Key == "bootstrap" {
			sign = "#"
		}
		if _, err := fmt.Fprintf(out, "# %s\n%s%s = %s\n", comment(decider(d)), sign, d.Key, inTOML(d.Value)); err != nil {
			return err
		}
	}
	return nil
}

// comment keeps a text in one line of printable characters.
func comment(s string) string { return strings.Join(strings.Fields(term.Clean(s)), " ") }

// inTOML writes a value of a Decision. A string of JSON is a basic string of TOML:
// the escapes that Go writes are allowed there too, and control characters, which
// would need others, come in no value.
func inTOML(value any) string {
	switch v := value.(type) {
	case []string:
		items := make([]string, len(v))
		for i, s := range v {
			items[i] = inTOML(s)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case []bootcfg.Table:
		items := make([]string, len(v))
		for i, t := range v {
			var fields []string
			for _, f := range t {
				fields = append(fields, f.Key+" = "+inTOML(f.Value))
			}
			items[i] = "{" + strings.Join(fields, ", ") + "}"
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	text, err := json.Marshal(value)
	if err != nil {
		return `""` // cannot happen: bool, int64 and string marshal
	}
	return string(text)
}

// policyKey is one key in the JSON form.
type policyKey struct {
	Key     string `json:"key"`
	Value   any    `json:"value"`
	Default any    `json:"default"`
	By      string `json:"by"`
	Asked   any    `json:"asked,omitempty"`
	AskedBy string `json:"asked_by,omitempty"`
	Hidden  bool   `json:"hidden,omitempty"`
}

// policyJSON is for programs.
func policyJSON(out io.Writer, p shownPolicy) error {
	shown := struct {
		Mode     string      `json:"mode"`
		Channel  string      `json:"channel"`
		Arch     string      `json:"arch"`
		MayWrite bool        `json:"may_write"`
		Keys     []policyKey `json:"keys"`
		Warnings []string    `json:"warnings"`
	}{p.config.Mode.String(), p.config.Channel, p.config.Arch, p.config.MayWrite(), nil, append([]string{}, p.config.Warnings...)}
	for _, d := range p.decisions {
		shown.Keys = append(shown.Keys, policyKey{d.Key, objects(d.Value), objects(d.Default), d.By, objects(d.Asked), d.AskedBy, d.Hidden})
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(shown)
}

// objects turns tables into what JSON writes as objects.
func objects(value any) any {
	tables, ok := value.([]bootcfg.Table)
	if !ok {
		return value
	}
	out := []map[string]any{}
	for _, t := range tables {
		object := map[string]any{}
		for _, f := range t {
			object[f.Key] = f.Value
		}
		out = append(out, object)
	}
	return out
}
