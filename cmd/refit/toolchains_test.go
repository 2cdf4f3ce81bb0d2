package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/builds/toolchain"
)

func TestDefinitionsOfRubyLieBesideRefitYml(t *testing.T) {
	dir := t.TempDir()
	c := defaults()
	c.dir = dir
	if s, err := c.toolchains(); err != nil || s.Definitions != nil || s.Revision != toolchain.DefaultRevision || len(s.Configure) == 0 {
		t.Errorf("without any: %+v, %v", s, err)
	}
	c.Toolchain.RubyBuild.Definitions = "./ruby"
	if _, err := c.toolchains(); err == nil || !strings.Contains(err.Error(), "toolchain.ruby_build.definitions") {
		t.Errorf("no such folder: %v", err)
	}
	at := filepath.Join(dir, "ruby")
	if err := errors.Join(
		os.Mkdir(at, 0o755), os.WriteFile(filepath.Join(at, "3.4.9"), []byte("install_package"), 0o600), os.WriteFile(filepath.Join(at, "README.md"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	s, err := c.toolchains()
	if err != nil || len(s.Definitions) != 1 || s.Definitions["3.4.9"] != "install_package" {
		t.Errorf("%+v, %v", s.Definitions, err)
	}
	if err := os.WriteFile(filepath.Join(at, "3.4.8"), make([]byte, maxDefinition+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.toolchains(); err == nil || !strings.Contains(err.Error(), "3.4.8") || !strings.Contains(err.Error(), "at most 65536 bytes") {
		t.Errorf("a huge one: %v", err)
	}
}
