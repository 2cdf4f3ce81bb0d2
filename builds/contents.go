package builds

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"vmst.io/refit/hosts/git"
)

// ErrVersion: lib/mastodon/version.rb of a tag says another version than the tag's name.
var ErrVersion = errors.New("the tag and its version file disagree")

// symlink is the mode of a symbolic link in a tree.
const symlink = "120000"

// Tree is a tag's tree as ReadContents needs it.
type Tree struct {
	// Files are the tracked files, sorted by path.
	Files []git.File
	// Read returns a file's content.
	Read func(path string) ([]byte, error)
}

func (t Tree) has(path string) bool {
	_, ok := slices.BinarySearchFunc(t.Files, path, func(f git.File, p string) int { return strings.Compare(f.Path, p) })
	return ok
}

// hash is a file's, empty if it is missing.
func (t Tree) hash(path string) string {
	i, ok := slices.BinarySearchFunc(t.Files, path, func(f git.File, p string) int { return strings.Compare(f.Path, p) })
	if !ok {
		return ""
	}
	return t.Files[i].Hash
}

// text reads a file that may be missing; then it is empty.
func (t Tree) text(path string) (string, error) {
	if !t.has(path) {
		return "", nil
	}
	b, err := t.Read(path)
	return string(b), err
}

// ReadContents reads what a tree says about itself. A file that refit cannot
// read is an error: a guess would be worse.
func ReadContents(t Tree) (Contents, error) {
	var c Contents
	for _, read := range []func(Tree, *Contents) error{readVersion, readRuby, readNode, readLocks, readQueues, readJobs, readStreaming} {
		if err := read(t, &c); err != nil {
			return Contents{}, err
		}
	}
	for _, f := range t.Files {
		if m, ok := migration(f.Path); ok {
			c.Migrations = append(c.Migrations, m)
		}
		if path.Dir(f.Path) == "dist" && (strings.HasSuffix(f.Path, ".service") || strings.HasSuffix(f.Path, ".target")) {
			c.Units = append(c.Units, path.Base(f.Path))
		}
	}
	slices.SortFunc(c.Migrations, func(a, b Migration) int { return strings.Compare(a.Version, b.Version) })
	for i := 1; i < len(c.Migrations); i++ {
		if c.Migrations[i].Version == c.Migrations[i-1].Version {
			return Contents{}, fmt.Errorf("the migrations %s and %s have one version", c.Migrations[i-1].Path, c.Migrations[i].Path)
		}
	}
	return c, nil
}

var versionPart = regexp.MustCompile(`def (major|minor|patch|default_prerelease)\s+(\d+|'[^']*'|"[^"]*")\s+end`)

// readVersion reads lib/mastodon/version.rb, which holds the parts as methods.
func readVersion(t Tree, c *Contents) error {
	const file = "lib/mastodon/version.rb"
	text, err := t.text(file)
	if err != nil {
		return err
	}
	part := map[string]string{}
	for _, m := range versionPart.FindAllStringSubmatch(text, -1) {
		part[m[1]] = strings.Trim(m[2], `'"`)
	}
	number := part["major"] + "." + part["minor"] + "." + part["patch"]
	if pre := part["default_prerelease"]; pre != "" {
		number += "-" + pre
	}
	v, err := ParseVersion(number)
	if err != nil {
		return fmt.Errorf("cannot read the version in %s: %w", file, err)
	}
	c.Version = v
	return nil
}

var (
	gemfileRuby = regexp.MustCompile(`(?m)^ruby\s+(.+?)\s*(?:#.*)?$`)
	quoted      = regexp.MustCompile(`^\s*['"]([^'"]+)['"]\s*$`)
)

// pinned is a version as a pin has it, or none. It becomes a part of paths.
var pinned = regexp.MustCompile(`^[0-9A-Za-z.+-]*$`)

// readPin reads a file that holds a version and nothing else; it may be missing.
func readPin(t Tree, file, prefix string) (string, error) {
	text, err := t.text(file)
	if err != nil {
		return "", err
	}
	pin := strings.TrimPrefix(strings.TrimSpace(text), prefix)
	if !pinned.MatchString(pin) {
		return "", fmt.Errorf("cannot read %s: %q is no version", file, pin)
	}
	return pin, nil
}

// readRuby reads .ruby-version and the Gemfile's requirement.
func readRuby(t Tree, c *Contents) error {
	var err error
	if c.Pins.Ruby, err = readPin(t, ".ruby-version", "ruby-"); err != nil {
		return err
	}
	gemfile, err := t.text("Gemfile")
	if err != nil {
		return err
	}
	m := gemfileRuby.FindStringSubmatch(gemfile)
	if m == nil {
		return nil
	}
	for _, word := range strings.Split(m[1], ",") {
		q := quoted.FindStringSubmatch(word)
		if q == nil {
			return fmt.Errorf("cannot read the ruby requirement of the Gemfile: %s", m[0])
		}
		if _, err := constraint(q[1]); err != nil {
			return err
		}
		c.Pins.RubyAllowed = append(c.Pins.RubyAllowed, q[1])
	}
	return nil
}

// packageJSON is what refit reads of a package.json.
type packageJSON struct {
	Name    string `json:"name"`
	Engines struct {
		Node string `json:"node"`
	} `json:"engines"`
	PackageManager string `json:"packageManager"`
}

func readPackage(t Tree, file string) (packageJSON, error) {
	var p packageJSON
	text, err := t.text(file)
	if err != nil || text == "" {
		return p, err
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, fmt.Errorf("cannot read %s: %w", file, err)
	}
	return p, nil
}

var yarnPin = regexp.MustCompile(`^yarn@(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)(?:\+(sha\d+\.[0-9a-f]+))?$`)

// readNode reads .nvmrc and package.json.
func readNode(t Tree, c *Contents) error {
	var err error
	if c.Pins.Node, err = readPin(t, ".nvmrc", "v"); err != nil {
		return err
	}
	p, err := readPackage(t, "package.json")
	if err != nil {
		return err
	}
	c.Pins.NodeAllowed = p.Engines.Node
	if p.PackageManager == "" {
		return nil
	}
	m := yarnPin.FindStringSubmatch(p.PackageManager)
	if m == nil {
		return fmt.Errorf("cannot read packageManager %q of package.json: refit builds with yarn", p.PackageManager)
	}
	c.Pins.Yarn, c.Pins.YarnHash = m[1], m[2]
	return nil
}

var (
	queueInline = regexp.MustCompile(`^-\s*\[\s*['":]?([\w-]+)['"]?\s*(?:,\s*(\d+)\s*)?\]$`)
	queueName   = regexp.MustCompile(`^-\s*['":]?([\w-]+)['"]?$`)
	queueNested = regexp.MustCompile(`^-\s*-\s*['":]?([\w-]+)['"]?$`)
	queueWeight = regexp.MustCompile(`^-\s*(\d+)$`)
)

// readQueues reads :queues: of config/sidekiq.yml. The file is ERB around YAML,
// so no YAML library reads it as it stands; the list of queues is plain.
func readQueues(t Tree, c *Contents) error {
	const file = "config/sidekiq.yml"
	text, err := t.text(file)
	if err != nil {
		return err
	}
	in, nested, n := false, -1, 0
	for line := range strings.Lines(text) {
		n++
		bare, _, _ := strings.Cut(strings.TrimRight(line, " \t\r\n"), " #")
		word := strings.TrimSpace(bare)
		if word == "" || word[0] == '#' {
			continue
		}
		if indent := len(bare) - len(strings.TrimLeft(bare, " ")); indent == 0 && word[0] != '-' {
			in = word == ":queues:" || word == "queues:"
			continue
		} else if !in {
			continue
		} else if m := queueNested.FindStringSubmatch(word); m != nil {
			c.Queues, nested = append(c.Queues, Queue{Name: m[1], Weight: 1}), indent
		} else if m := queueWeight.FindStringSubmatch(word); m != nil && nested >= 0 && indent > nested {
			if c.Queues[len(c.Queues)-1].Weight, err = strconv.Atoi(m[1]); err != nil {
				return fmt.Errorf("cannot read line %d of %s: %w", n, file, err)
			}
		} else if m := queueInline.FindStringSubmatch(word); m != nil {
			weight := 1
			if m[2] != "" {
				if weight, err = strconv.Atoi(m[2]); err != nil {
					return fmt.Errorf("cannot read line %d of %s: %w", n, file, err)
				}
			}
			c.Queues, nested = append(c.Queues, Queue{Name: m[1], Weight: weight}), -1
		} else if m := queueName.FindStringSubmatch(word); m != nil {
			c.Queues, nested = append(c.Queues, Queue{Name: m[1], Weight: 1}), -1
		} else {
			return fmt.Errorf("cannot read line %d of %s as a queue: %q", n, file, word)
		}
	}
	return nil
}

// readStreaming finds the workspace of the streaming server.
func readStreaming(t Tree, c *Contents) error {
	p, err := readPackage(t, "streaming/package.json")
	if err != nil {
		return err
	}
	c.StreamingWorkspace = p.Name
	return nil
}

var migrationFile = regexp.MustCompile(`^db/(migrate|post_migrate)/(\d+)_(\w+)\.rb$`)

func migration(file string) (Migration, bool) {
	m := migrationFile.FindStringSubmatch(file)
	if m == nil {
		return Migration{}, false
	}
	return Migration{Version: m[2], Name: m[3], Path: file, Post: m[1] == "post_migrate"}, true
}
