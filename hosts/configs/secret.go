package configs

import (
	"bytes"
	"fmt"
	"regexp"
)

var (
	// secretName is what a secret can be called: a key of /etc/refit/secrets.env.
	secretName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	reference  = regexp.MustCompile(`@refit-secret\(([A-Za-z_][A-Za-z0-9_]{0,63})\)@`)
)

// beginning is how every reference begins.
const beginning = "@refit-secret"

// Reference is what stands in a rendered file in the place of a secret.
func Reference(name string) (string, error) {
	if !secretName.MatchString(name) {
		return "", fmt.Errorf("%q cannot be a secret's name: letters, digits and _ alone, at most 64, not a digit first", name)
	}
	return beginning + "(" + name + ")@", nil
}

// Secrets are the names that a content refers to, sorted, each once. What begins as
// a reference and is none is an error with its line: it would stay in the file as it is.
func Secrets(content []byte) ([]string, error) {
	var names []string
	for _, m := range reference.FindAllSubmatch(content, -1) {
		names = append(names, string(m[1]))
	}
	if rest := reference.ReplaceAll(content, nil); bytes.Contains(rest, []byte(beginning)) {
		for i, line := range bytes.Split(content, []byte("\n")) {
			if bytes.Contains(reference.ReplaceAll(line, nil), []byte(beginning)) {
				return nil, fmt.Errorf("line %d: a reference to a secret is written %s(NAME)@", i+1, beginning)
			}
		}
		return nil, fmt.Errorf("a reference to a secret is written %s(NAME)@", beginning)
	}
	return sorted(names), nil
}
