package lab

import (
	"fmt"
	"os"
	"path/filepath"
)

// Config is the refit.yml that the lab writes for its own fleet.
func (l *Lab) Config() string { return l.path("refit.yml") }

// writeConfig renders the template of refit.yml.
func (l *Lab) writeConfig() error {
	name := filepath.Join(l.Files, "refit.yml.tmpl")
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("cannot write refit.yml: %w", err)
	}
	p, err := l.page(Machine{})
	if err != nil {
		return fmt.Errorf("cannot write refit.yml: %w", err)
	}
	b, err := render("refit.yml.tmpl", string(text), p)
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.Config(), b, 0o644); err != nil {
		return fmt.Errorf("cannot write refit.yml: %w", err)
	}
	return nil
}
