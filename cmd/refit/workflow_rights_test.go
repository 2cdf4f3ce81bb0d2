package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/goccy/go-yaml"
)

// jobRights is all that the jobs of each workflow may do, by file and job: more needs a reason here.
var jobRights = map[string]map[string]string{
	"ci.yml test":         {"contents": "read"},
	"upgrade.yml plan":    {"contents": "read"},
	"upgrade.yml apply":   {"contents": "read"},
	"watch.yml look":      {"contents": "read"},
	"upgrade.yml upgrade": {"contents": "read"}, // the callers'
	"watch.yml watch":     {"contents": "read"},
	"release.yml release": {"contents": "write", "id-token": "write", "attestations": "write"}, // the draft, and who is attested
}

// exclusive are the jobs that change something: two at once must wait for each other.
var exclusive = map[string]bool{"upgrade.yml apply": true, "watch.yml look": true, "release.yml release": true}

func TestEachJobHasTheRightsItNeedsAndNoMore(t *testing.T) {
	seen := 0
	for _, pattern := range []string{"../../.github/workflows/*.yml", "callers/*.yml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, fault := range rightsFaults(t, filepath.Base(file), string(b)) {
				t.Errorf("%s: %s", file, fault)
			}
			seen++
		}
	}
	if seen < 6 {
		t.Errorf("%d workflows were seen", seen)
	}
	for name, text := range map[string]string{
		"a job without its own rights": "permissions: {}\njobs: {look: {concurrency: {group: x, cancel-in-progress: false}}}",
		"a job that may write":         "permissions: {}\njobs: {look: {permissions: {contents: write}, concurrency: {group: x, cancel-in-progress: false}}}",
		"a right of another kind":      "permissions: {}\njobs: {look: {permissions: {contents: read, packages: read}, concurrency: {group: x, cancel-in-progress: false}}}",
		"everything":                   "permissions: {}\njobs: {look: {permissions: write-all, concurrency: {group: x, cancel-in-progress: false}}}",
		"a job that nobody knows":      "permissions: {}\njobs: {other: {permissions: {contents: read}}}",
		"two at once":                  "permissions: {}\njobs: {look: {permissions: {contents: read}}}",
	} {
		if len(rightsFaults(t, "watch.yml", text)) == 0 {
			t.Errorf("%s is not noticed", name)
		}
	}
}

func rightsFaults(t *testing.T, file, text string) (out []string) {
	t.Helper()
	var page struct {
		Concurrency map[string]any `yaml:"concurrency"`
		Jobs        map[string]struct {
			Permissions any            `yaml:"permissions"`
			Concurrency map[string]any `yaml:"concurrency"`
		} `yaml:"jobs"`
	}
	if err := yaml.Unmarshal([]byte(text), &page); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if len(page.Jobs) == 0 {
		out = append(out, "no jobs")
	}
	for name, job := range page.Jobs {
		name = file + " " + name
		may, known := jobRights[name]
		has, ok := job.Permissions.(map[string]any)
		if !known || !ok {
			out = append(out, fmt.Sprintf("job %s: rights %v, known %t", name, job.Permissions, known))
			continue
		}
		for right, is := range has {
			if may[right] != is {
				out = append(out, fmt.Sprintf("job %s may %v %s", name, is, right))
			}
		}
		if exclusive[name] && page.Concurrency["group"] == nil && job.Concurrency["group"] == nil {
			out = append(out, "job "+name+" has no concurrency group")
		}
	}
	return out
}
