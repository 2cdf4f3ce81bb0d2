package main

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
)

func saidOf(c config) string {
	w := &wrongs{path: "refit.yml", file: &ast.File{}}
	c.check(w)
	return strings.Join(w.sorted(), "\n")
}

func TestAnAddressWithAKeyInItIsRefusedAndNotShown(t *testing.T) {
	for _, address := range []string{"https://KEY:SECRET@s3.example", "https://KEY:SEC/SECRET@s3.example", "https://SECRET@s3.example/x", "KEY:SECRET@s3.example", "//KEY:SECRET@s3.example"} {
		c := defaults()
		key := &secretConfig{Env: "A"}
		c.Store.S3 = &s3Config{Endpoint: address, Bucket: "abc", AccessKey: key, SecretKey: key}
		c.CDN = &cdnConfig{Host: address, S3: c.Store.S3}
		c.Mirrors.Gems, c.Mirrors.NPM, c.Mirrors.Ruby, c.Mirrors.Node = address, address, address, address
		fields := []string{"store.s3.endpoint", "cdn.s3.endpoint", "cdn.host", "mirrors.gems", "mirrors.npm", "mirrors.ruby", "mirrors.node"}
		if strings.Contains(address, "//") { // else it is git's own form, a host and a path
			c.Mirrors.Git = map[string]string{"https://github.com/": address}
			c.Upstream.Repository, c.Toolchain.RubyBuild.Repository = address, address
			fields = append(fields, "mirrors.git", "upstream.repository", "toolchain.ruby_build.repository")
		}
		said := saidOf(c)
		for _, field := range fields {
			if !strings.Contains(said, field+": holds a user, a password or a query") {
				t.Errorf("%s: nothing is said of %s:\n%s", address, field, said)
			}
		}
		if strings.Contains(said, "SECRET") {
			t.Errorf("%s is shown:\n%s", address, said)
		}
	}
}

func TestAnAddressWithANameThatIsNoSecretIsTaken(t *testing.T) {
	for _, address := range []string{"ssh://git@git.example/x", "git@git.example:x.git", "https://git.example/@scope/x", "file:///srv/x@y"} {
		c := defaults()
		c.Mirrors.Git = map[string]string{"https://github.com/": address}
		if said := saidOf(c); strings.Contains(said, "mirrors.git") {
			t.Errorf("%s: %s", address, said)
		}
	}
}
