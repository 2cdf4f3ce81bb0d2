package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts/github/githubtest"
	"vmst.io/refit/hosts/hoststest"
)

func TestDoctorSaysWhatKeepsARunFromTellingTheConfigRepository(t *testing.T) {
	key, _ := hoststest.NewKey(t)
	for name, x := range map[string]struct {
		may    githubtest.Token
		change func(c *config, repo string)
		says   []string
	}{
		"all is well":         {githubtest.Token{Pulls: true}, func(c *config, _ string) { c.Configs.Sign = key }, nil},
		"nothing is signed":   {githubtest.Token{Pulls: true}, func(*config, string) {}, nil},
		"no such signing key": {githubtest.Token{Pulls: true}, func(c *config, _ string) { c.Configs.Sign = key + ".gone" }, []string{"cannot be signed", "configs.sign"}},
		"no pull requests":    {githubtest.Token{Push: true}, func(*config, string) {}, []string{"no pull request can be opened", "write access to pull requests"}},
		"it takes no push": {githubtest.Token{Pulls: true}, func(_ *config, repo string) {
			if err := os.WriteFile(filepath.Join(repo, "config"), []byte("no config"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"takes no push", "write access"}},
	} {
		t.Setenv("SSH_AUTH_SOCK", "")
		c, repo, _, _ := aForge(t, x.may)
		x.change(&c, repo)
		s := &session{config: c, say: t.Logf}
		if err := s.wireConfigs("doctor"); err != nil {
			t.Fatal(err)
		}
		refused := s.configsCheckup(t.Context())
		text := strings.Join(refused, "\n")
		if (len(x.says) == 0) != (len(refused) == 0) || len(refused) > 1 || strings.Contains(text, "canary") {
			t.Errorf("%s: %q", name, refused)
		}
		for _, part := range x.says {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %q does not say %q", name, refused, part)
			}
		}
	}
	if refused := (&session{}).configsCheckup(t.Context()); len(refused) > 0 {
		t.Errorf("without a config repository: %q", refused)
	}
}
