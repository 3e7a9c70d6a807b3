package main
import ("context"; "github.com/spf13/cobra")
func ensureTools(ctx context.Context, task string, install bool) error { return nil }
func newDoctor() *cobra.Command { return &cobra.Command{Use:"doctor"} }
