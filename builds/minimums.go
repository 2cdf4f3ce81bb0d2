package builds

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Minimum is the oldest version of something that a release accepts.
type Minimum struct {
	// Min is the version: "14.0", "8.13", "3.3.0".
	Min string `json:"min"`
	// By says what holds it, and when: a file of the tree, or a locked gem.
	By string `json:"by"`
	// Unless is the variable of the environment by which a team may do without; empty
	// where the release needs it in any case.
	Unless string `json:"unless,omitempty"`
}

// sidekiqRedis is the oldest Redis with which each major of Sidekiq boots; it
// raises "You are connected to Redis …, Sidekiq requires Redis … or greater"
// (lib/sidekiq/cli.rb of each; 6 says "v4.0.0 or greater").
var sidekiqRedis = map[string]string{"6": "4.0.0", "7": "6.2.0", "8": "7.0.0"}

var (
	pgMinimum   = regexp.MustCompile(`(?:database_version|\b(?:pg_)?version)\s*<\s*(\d[\d_]*)`)
	vipsMinimum = regexp.MustCompile(`at_least_libvips\?\(\s*(\d+)\s*,\s*(\d+)\s*\)`)
	vipsChoice  = regexp.MustCompile(`(?m)^if .*use_vips`)
	esMinimum   = regexp.MustCompile(`def required_version\s+['"]([^'"]+)['"]`)
	nodeMinimum = regexp.MustCompile(`^>=\s*(\d+(?:\.\d+)*)`)
	rubyMinimum = regexp.MustCompile(`^(?:>=|~>)\s*(\d+(?:\.\d+)*)$`)
	schemaFloor = regexp.MustCompile(`SKIP_POST_DEPLOYMENT_MIGRATIONS[^\n]*schema_version\s*<\s*(\d[\d_]*)`)
)

// minimums reads the oldest versions that a release's own code, its locked gems
// and its manifests accept. What nothing checks (FFmpeg, for one) is not here:
// the release notes name it.
func minimums(t Tree, pins Pins) (map[string]Minimum, error) {
	out := map[string]Minimum{}
	for _, part := range pins.RubyAllowed {
		if m := rubyMinimum.FindStringSubmatch(part); m != nil {
			out["ruby"] = Minimum{Min: m[1], By: "Gemfile: " + pins.RubyAllowed.String()}
		}
	}
	if m := nodeMinimum.FindStringSubmatch(pins.NodeAllowed); m != nil {
		out["node"] = Minimum{Min: m[1], By: "package.json: " + pins.NodeAllowed}
	}
	for _, read := range []func(Tree, map[string]Minimum) error{postgresMinimum, libvipsMinimum, searchMinimum, redisMinimum} {
		if err := read(t, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// postgresMinimum reads db:pre_migration_check, a prerequisite of db:migrate.
// PostgreSQL numbers itself 140000 for 14.0.
func postgresMinimum(t Tree, out map[string]Minimum) error {
	const file = "lib/tasks/db.rake"
	text, err := t.text(file)
	if err != nil {
		return err
	}
	if m := pgMinimum.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(strings.ReplaceAll(m[1], "_", ""))
		if err != nil {
			return fmt.Errorf("cannot read the PostgreSQL that %s asks for, %q: %w", file, m[1], err)
		}
		out["postgresql"] = Minimum{Min: fmt.Sprintf("%d.%d", n/10000, n%10000), By: file + " before every migration"}
	}
	if m := schemaFloor.FindStringSubmatch(text); m != nil {
		out["schema"] = Minimum{Min: strings.ReplaceAll(m[1], "_", ""), By: file + " before migrations without downtime"}
	}
	return nil
}

func libvipsMinimum(t Tree, out map[string]Minimum) error {
	const file = "config/initializers/vips.rb"
	text, err := t.text(file)
	if err != nil {
		return err
	}
	if m := vipsMinimum.FindStringSubmatch(text); m != nil {
		is := Minimum{Min: m[1] + "." + m[2], By: file + " at every start"}
		if vipsChoice.MatchString(text) {
			// config/application.rb: libvips but for "false", and only for "true" before 4.4.
			is.By, is.Unless = is.By+", where libvips is used", "MASTODON_USE_LIBVIPS"
		}
		out["libvips"] = is
	}
	return nil
}

func searchMinimum(t Tree, out map[string]Minimum) error {
	const file = "app/lib/admin/system_check/elasticsearch_check.rb"
	text, err := t.text(file)
	if err != nil {
		return err
	}
	if m := esMinimum.FindStringSubmatch(text); m != nil {
		out["elasticsearch"] = Minimum{Min: strings.TrimSuffix(m[1], ".x"), By: file + ": a warning to admins, where search is used"}
	}
	return nil
}

func redisMinimum(t Tree, out map[string]Minimum) error {
	gems, err := lockedGems(t)
	if err != nil {
		return err
	}
	sidekiq := gems["sidekiq"]
	major, _, _ := strings.Cut(sidekiq, ".")
	if least, ok := sidekiqRedis[major]; ok {
		out["redis"] = Minimum{Min: least, By: "Sidekiq " + sidekiq + " at every start"}
	}
	return nil
}

var lockedGem = regexp.MustCompile(`^ {4}(\S+) \(([^)]+)\)$`)

// lockedGems reads the versions of Gemfile.lock, by name. A gem that is locked
// for several platforms has its versions joined.
func lockedGems(t Tree) (map[string]string, error) {
	text, err := t.text("Gemfile.lock")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	specs := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line != "" && line[0] != ' ' {
			specs = line == "GEM" || line == "GIT" || line == "PATH"
		}
		if m := lockedGem.FindStringSubmatch(line); specs && m != nil {
			if was := out[m[1]]; was != "" {
				m[2] = was + ", " + m[2]
			}
			out[m[1]] = m[2]
		}
	}
	return out, nil
}
