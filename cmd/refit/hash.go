package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
)

// hashOf is what an approval names: the same for the same release by commit and tree, the
// same configuration and host keys, the same steps on the same hosts with the same one-way
// marks, and the same things to be acknowledged in the same words of the notes. Times, health and the run's ID are no
// part of it; a node that is rolled first since it is ill changes the order of the steps.
func (x *session) hashOf(p *planned) (string, error) {
	keys, err := x.hostKeys()
	if err != nil {
		return "", err
	}
	what := struct {
		Format       int
		Kind         string
		From, To     string
		Commit, Tree string
		Config       config
		HostKeys     string
		Steps        [][3]string
		Acknowledge  [][]string
		Configs      any `json:",omitempty"`
	}{
		Format: 1, Kind: p.Kind, From: p.From, To: p.To, Commit: p.facts.To.Tag.Commit, Tree: p.facts.To.Tag.Tree,
		Config: x.config, HostKeys: keys, Acknowledge: p.way.asked(),
	}
	if c := p.facts.Configs; c != nil {
		what.Configs = []any{c.Base, c.Files}
	}
	for _, s := range p.Steps {
		what.Steps = append(what.Steps, [3]string{s.Name(), s.Host, fmt.Sprint(s.OneWay)})
	}
	b, err := json.Marshal(what)
	if err != nil {
		return "", fmt.Errorf("cannot make the plan's hash: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8]), nil
}

// expected refuses any plan but the one of that hash; empty for any.
func (p *planned) expected(hash string) error {
	if hash == "" || p.hash == hash {
		return nil
	}
	return refuse("the plan is %s now, and --expect names %s: it has changed since (the release, refit.yml, the host keys, the steps, or what it asks to be acknowledged). Nothing was touched; read it as it stands above, then expect that", cmp.Or(p.hash, "none"), hash)
}

// hostKeys is the hash of the file of host keys.
func (x *session) hostKeys() (string, error) {
	file, err := x.config.path(x.config.SSH.KnownHosts)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("cannot read the host keys: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
