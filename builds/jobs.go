package builds

import (
	"regexp"
	"slices"
	"strings"
)

const workers = "app/workers/"

// Job is a job class and the file that defines it.
type Job struct {
	// Class is the name that Sidekiq carries in Redis: "ActivityPub::DeliveryWorker".
	Class string `json:"class"`
	// File is relative to app/workers: "activitypub/delivery_worker.rb".
	File string `json:"file"`
}

// readJobs reads the names of the job classes.
func readJobs(t Tree, c *Contents) error {
	jobs, err := jobsOf(t)
	for _, j := range jobs {
		c.Jobs = append(c.Jobs, j.Class)
	}
	return err
}

// jobsOf reads the job classes, sorted by class: the classes that the files of
// app/workers define under the name that their path stands for, and those inside
// them that are jobs too. Sidekiq carries that name in Redis, so a class that
// only one of two releases has cannot be run by the other.
func jobsOf(t Tree) ([]Job, error) {
	var out []Job
	for _, f := range t.Files {
		file, ok := strings.CutPrefix(f.Path, workers)
		if !ok || !strings.HasSuffix(file, ".rb") || f.Mode == symlink {
			continue
		}
		text, err := t.Read(f.Path)
		if err != nil {
			return nil, err
		}
		// Zeitwerk takes concerns folders as roots of their own.
		name := strings.TrimSuffix(strings.TrimPrefix(file, "concerns/"), ".rb")
		for _, class := range jobClasses(name, string(text)) {
			out = append(out, Job{Class: class, File: file})
		}
	}
	slices.SortStableFunc(out, func(a, b Job) int { return strings.Compare(a.Class, b.Class) })
	return slices.CompactFunc(out, func(a, b Job) bool { return a.Class == b.Class }), nil
}

var (
	opens   = regexp.MustCompile(`^(\s*)(class|module)\s+(?:::)?([A-Z][\w:]*)`)
	closes  = regexp.MustCompile(`^(\s*)end\b`)
	isAJob  = regexp.MustCompile(`^\s*include\s+(?:::)?Sidekiq::(?:Worker|Job)\b`)
	oneLine = regexp.MustCompile(`;\s*end\s*(?:#.*)?$`)
)

// jobClasses finds the class that a file defines under its path's name, and
// those within it that include Sidekiq. The path alone does not tell capitals:
// "activitypub/delivery_worker" is ActivityPub::DeliveryWorker. It is the
// source that says.
func jobClasses(name, text string) []string {
	want := strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(name, "/", "::"), "_", ""))
	type scope struct {
		indent, name string
		class        bool
	}
	var open []scope
	var out []string
	add := func(class string) {
		if !slices.Contains(out, class) {
			out = append(out, class)
		}
	}
	inComment := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "=begin"):
			inComment = true
		case strings.HasPrefix(line, "=end"):
			inComment = false
			continue
		case strings.TrimRight(line, "\r\n") == "__END__":
			return out
		}
		if inComment {
			continue
		}
		if m := closes.FindStringSubmatch(line); m != nil && len(open) > 0 && open[len(open)-1].indent == m[1] {
			open = open[:len(open)-1]
			continue
		}
		if isAJob.MatchString(line) && len(open) > 0 && open[len(open)-1].class {
			add(open[len(open)-1].name)
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
			add(full)
		}
		if !oneLine.MatchString(strings.TrimSpace(line)) {
			open = append(open, scope{m[1], full, m[2] == "class"})
		}
	}
	return out
}
