package builds

import (
	"slices"
	"strings"
	"testing"
)

// FuzzCodeIsReadWithoutAPanic: whatever a file of a release holds, reading it
// ends, names only what stands there, and a rewrite of data is never cleared by
// what comes after it.
func FuzzCodeIsReadWithoutAPanic(f *testing.F) {
	for _, text := range []string{
		"", "ENV['A']", "ENV.values_at('A', b, 'C')", "const { A, ...b } = process.env", "process.env[", "ENV[", "ENV.fetch(", "def down", "def up\n  A.update_all(x: 1)\nend\ndef down; end",
		"sidekiq_options queue: ", ".set(\n", "queue_as", "change_table :accounts do |t|\n  t.index :x", "class A::B\n  include Sidekiq::Job", "=begin\n", "add_index", "add_index :statuses,",
		"CREATE INDEX x ON accounts", "    end\n  end\nend", "\x00", "def down =", "def self.down(a)\nend",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := readEnv(text)
		for _, name := range slices.Concat(r.code, r.comments) {
			if name == "" || !strings.Contains(text, name) {
				t.Errorf("%q does not stand in %q", name, text)
			}
		}
		for _, name := range readQueueNames(text).names {
			if name == "" || !strings.Contains(text, name) {
				t.Errorf("the queue %q does not stand in %q", name, text)
			}
		}
		for _, class := range jobClasses("a/b_worker", text) {
			if class == "" {
				t.Errorf("a class without a name in %q", text)
			}
		}
		for _, reason := range risks(Migration{}, text) {
			if reason == "" {
				t.Errorf("a reason without words for %q", text)
			}
		}
		if !strings.Contains(text, "def ") && !strings.Contains(text, "#") {
			if len(risks(Migration{}, "def up\n  A.update_all(b: 1)\nend\n"+strings.ReplaceAll(text, "reversible", ""))) == 0 && !strings.Contains(text, "down") && !strings.Contains(text, "revert") {
				t.Errorf("%q after a rewrite clears it", text)
			}
		}
	})
}
