package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"vmst.io/refit/hosts"
	"vmst.io/refit/stages"
)

// rewriteFile puts a node into refit.yml, or what it replaced back into it. Nothing else in
// the file changes, no comment and no blank. A file that cannot be changed so is left as it
// is, and what a person has to change is returned.
func rewriteFile(path string, b stages.Birth, back bool) (change string, err error) {
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("cannot find %s: %w", path, err)
	}
	was, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	now, rerr := rewritten(path, string(was), b, back)
	if rerr != nil {
		return fmt.Sprintf("%v. Write it there by hand: %s", rerr, wanted(b, back)), nil
	}
	if now == string(was) {
		return "", nil
	}
	return "", replaceFile(file, []byte(now))
}

// wanted is the change in words.
func wanted(b stages.Birth, back bool) string {
	switch {
	case b.Kind == stages.Adding && back:
		return fmt.Sprintf("the host %s is not in the fleet any more", b.Host)
	case b.Kind == stages.Adding:
		return "after the last host of its tier:\n" + block("  ", b)
	}
	address, droplet := standsAt(b, back)
	return fmt.Sprintf("the host %s has `address: %s` and, if there is such a line, `droplet: %d`", b.Host, address, droplet)
}

// standsAt is where the node of a replacement is to be found.
func standsAt(b stages.Birth, back bool) (address string, droplet int) {
	if back {
		return b.Old.Address, b.Old.Droplet
	}
	return b.Address, b.Droplet
}

// rewritten is the changed text. It has been read again, and says what it should.
func rewritten(path, text string, b stages.Birth, back bool) (string, error) {
	c, err := parseConfig(path, []byte(text))
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(c.Hosts, func(h hostConfig) bool { return h.Name == b.Host })
	var now string
	want := c
	want.Hosts = slices.Clone(c.Hosts)
	switch {
	case b.Kind == stages.Adding && back:
		if i < 0 {
			return text, nil
		}
		want.Hosts = slices.Delete(want.Hosts, i, i+1)
		now, err = without(text, b)
	case b.Kind == stages.Adding:
		if i >= 0 && c.Hosts[i].Address == b.Address {
			return text, nil
		}
		last := lastOf(c, hosts.Role(b.Tier))
		if i >= 0 || last < 0 {
			return "", fmt.Errorf("%s has a host %s at another address already, or none of its tier", path, b.Host)
		}
		want.Hosts = slices.Insert(want.Hosts, last+1, added(b))
		now, err = appended(text, last, b)
	default:
		if i < 0 {
			return "", fmt.Errorf("%s has no host %s", path, b.Host)
		}
		h := c.Hosts[i]
		var droplet int
		h.Address, droplet = standsAt(b, back)
		if h.Droplet != 0 && droplet != 0 {
			h.Droplet = droplet
		}
		want.Hosts[i] = h
		now, err = readdressed(text, i, h)
	}
	if err != nil {
		return "", err
	}
	got, err := parseConfig(path, []byte(now))
	if err != nil {
		return "", fmt.Errorf("%s would not load: %w", path, err)
	}
	if !reflect.DeepEqual(got, want) {
		return "", fmt.Errorf("%s would say something else than it should", path)
	}
	return now, nil
}

// readdressed puts a host's address and droplet in the place of their scalars.
func readdressed(text string, host int, h hostConfig) (string, error) {
	file, err := parser.ParseBytes([]byte(text), 0)
	if err != nil {
		return "", err
	}
	at := fmt.Sprintf("$.hosts[%d].", host)
	if h.Droplet != 0 { // the lower one first is not needed: each is found anew
		if text, err = scalar(text, file, at+"droplet", strconv.Itoa(h.Droplet)); err != nil {
			return "", err
		}
		if file, err = parser.ParseBytes([]byte(text), 0); err != nil {
			return "", err
		}
	}
	return scalar(text, file, at+"address", h.Address)
}

// scalar puts a value in the place of the one at a path, in its quotes if it has some.
func scalar(text string, file *ast.File, path, value string) (string, error) {
	p, err := yaml.PathString(path)
	if err != nil {
		return "", err
	}
	n, err := p.FilterFile(file)
	if err != nil || n == nil {
		return "", fmt.Errorf("%s is not there by itself: %w", strings.TrimPrefix(path, "$."), errors.Join(err))
	}
	if _, plain := n.(ast.ScalarNode); !plain {
		return "", fmt.Errorf("%s is no plain value", strings.TrimPrefix(path, "$."))
	}
	t := n.GetToken()
	lines := strings.SplitAfter(text, "\n")
	if t.Position.Line < 1 || t.Position.Line > len(lines) {
		return "", fmt.Errorf("%s was not found in the text", path)
	}
	line := []rune(lines[t.Position.Line-1])
	from := t.Position.Column - 1
	if from < 0 || from >= len(line) {
		return "", fmt.Errorf("%s was not found in the text", path)
	}
	rest := string(line[from:])
	for _, quote := range []string{"", `"`, "'"} {
		if left, ok := strings.CutPrefix(rest, quote+t.Value+quote); ok {
			lines[t.Position.Line-1] = string(line[:from]) + quote + value + quote + left
			return strings.Join(lines, ""), nil
		}
	}
	return "", fmt.Errorf("%s stands there in another form", strings.TrimPrefix(path, "$."))
}

// lastOf is the place of the last host that has a role; -1 for none.
func lastOf(c config, r hosts.Role) int {
	last := -1
	for i, h := range c.Hosts {
		if slices.Contains(h.Roles, r) {
			last = i
		}
	}
	return last
}

// added is the host as it is read.
func added(b stages.Birth) hostConfig {
	h := hostConfig{Name: b.Host, Address: b.Address, Roles: b.Model.Roles, Droplet: b.Droplet}
	if b.Tier == string(hosts.Web) {
		h.Web = &webConfig{Port: b.Model.Port, Streaming: b.Model.Streaming}
	}
	for _, w := range b.Model.Workers {
		h.Sidekiq = append(h.Sidekiq, sidekiqConfig{Unit: w.Unit, Queues: w.Queues})
	}
	return h
}

// block is the host as it is written, its dash after the indent.
func block(indent string, b stages.Birth) string {
	in := indent + "  "
	out := fmt.Sprintf("%s- name: %s\n%saddress: %s\n%sdroplet: %d\n%sroles: [%s]\n", indent, b.Host, in, b.Address, in, b.Droplet, in, b.Tier)
	if b.Tier == string(hosts.Web) {
		var ports []string
		for _, p := range b.Model.Streaming {
			ports = append(ports, strconv.Itoa(p))
		}
		return out + fmt.Sprintf("%sweb: {port: %d, streaming: [%s]}\n", in, b.Model.Port, strings.Join(ports, ", "))
	}
	out += in + "sidekiq:\n"
	for _, w := range b.Model.Workers {
		out += fmt.Sprintf("%s  - {unit: %s, queues: [%s]}\n", in, w.Unit, strings.Join(w.Queues, ", "))
	}
	return out
}

// dash is a line that begins an item of a list.
var dash = regexp.MustCompile(`^( *)- `)

// appended puts the new host's block after another host's.
func appended(text string, after int, b stages.Birth) (string, error) {
	file, err := parser.ParseBytes([]byte(text), 0)
	if err != nil {
		return "", err
	}
	p, err := yaml.PathString(fmt.Sprintf("$.hosts[%d].name", after))
	if err != nil {
		return "", err
	}
	n, err := p.FilterFile(file)
	if err != nil || n == nil {
		return "", fmt.Errorf("the last host of the tier was not found in the text: %w", errors.Join(err))
	}
	lines := strings.SplitAfter(text, "\n")
	first := n.GetToken().Position.Line - 1
	for first >= 0 && !dash.MatchString(lines[first]) {
		first-- // its name need not be its first key
	}
	if first < 0 {
		return "", errors.New("the hosts are not written one below the other")
	}
	indent := dash.FindStringSubmatch(lines[first])[1]
	last := first
	for i := first + 1; i < len(lines); i++ {
		content := strings.TrimSpace(lines[i])
		if content == "" || strings.HasPrefix(content, "#") {
			continue
		}
		if !strings.HasPrefix(lines[i], indent+" ") {
			break
		}
		last = i
	}
	if !strings.HasSuffix(lines[last], "\n") {
		lines[last] += "\n"
	}
	return strings.Join(slices.Insert(lines, last+1, block(indent, b)), ""), nil
}

// without takes the block away again that was written.
func without(text string, b stages.Birth) (string, error) {
	for spaces := range 9 {
		whole := block(strings.Repeat(" ", spaces), b)
		if before, after, ok := strings.Cut(text, whole); ok && (before == "" || strings.HasSuffix(before, "\n")) {
			return before + after, nil
		}
	}
	return "", fmt.Errorf("the host %s does not stand there any more as it was written", b.Host)
}

// replaceFile writes a file whole and durably, with the mode that it has.
func replaceFile(file string, b []byte) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".refit-tmp-"+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
