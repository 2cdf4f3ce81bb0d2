package builds

import (
	"regexp"
	"slices"
	"strings"
)

const workers = "app/workers/"

// readJobs reads the job classes: the classes that the files of app/workers
// define under the name that their path stands for. Sidekiq carries that name in
// Redis, so a class that only one of two releases has cannot be run by the other.
func readJobs(t Tree, c *Contents) error {
	for _, f := range t.Files {
		name, ok := strings.CutPrefix(f.Path, workers)
		if !ok || !strings.HasSuffix(name, ".rb") {
			continue
		}
		// Zeitwerk takes concerns folders as roots of their own.
		name = strings.TrimSuffix(strings.TrimPrefix(name, "concerns/"), ".rb")
		text, err := t.Read(f.Path)
		if err != nil {
			return err
		}
		if class, ok := jobClass(name, string(text)); ok {
			c.Jobs = append(c.Jobs, class)
		}
	}
	slices.Sort(c.Jobs)
	c.Jobs = slices.Compact(c.Jobs)
	return nil
}

var (
	opens  = regexp.MustCompile(`^(\s*)(class|module)\s+([A-Z][\w:]*)`)
	closes = regexp.MustCompile(`^(\s*)end\b`)
)

// jobClass finds the class that a file defines under its path's name. The path
// alone does not tell capitals: "activitypub/delivery_worker" is
// ActivityPub::DeliveryWorker. It is the source that says.
func jobClass(name, text string) (string, bool) {
	want := strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(name, "/", "::"), "_", ""))
	type scope struct{ indent, name string }
	var open []scope
	for line := range strings.Lines(text) {
		if m := closes.FindStringSubmatch(line); m != nil && len(open) > 0 && open[len(open)-1].indent == m[1] {
			open = open[:len(open)-1]
			continue
		}
		m := opens.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		full := m[3]
		if len(open) > 0 {
			full = open[len(open)-1].name + "::" + m[3]
		}
		if m[2] == "class" && strings.ToLower(full) == want {
			return full, true
		}
		// One-line definitions close themselves.
		if !strings.Contains(line, "; end") {
			open = append(open, scope{m[1], full})
		}
	}
	return "", false
}
