package builds

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

// fileCode is what refit reads out of one file of code.
type fileCode struct {
	env    envRead
	queues queueRead
}

// noCode are the kinds of files that hold pictures, sounds and fonts. Of others
// the first bytes tell.
var noCode = []string{".png", ".jpg", ".jpeg", ".gif", ".webp", ".ico", ".svg", ".woff", ".woff2", ".ttf", ".mp3", ".ogg", ".oga", ".gz"}

// codeOf reads the files that the names count of, by path. What it read lies in
// known, by the hash of the content, so that a file that both releases have is
// read once.
func codeOf(t Tree, known map[string]fileCode) (map[string]fileCode, error) {
	out := map[string]fileCode{}
	for _, f := range t.Files {
		if !envScope(f.Path) || f.Mode == symlink || slices.Contains(noCode, strings.ToLower(path.Ext(f.Path))) {
			continue
		}
		code, ok := known[f.Hash]
		if !ok || f.Hash == "" {
			b, err := t.Read(f.Path)
			if err != nil {
				return nil, fmt.Errorf("cannot read %s: %w", f.Path, err)
			}
			if !binary(b) {
				code = fileCode{env: readEnv(string(b)), queues: readQueueNames(string(b))}
			}
			known[f.Hash] = code
		}
		out[f.Path] = code
	}
	return out, nil
}

// binary tells whether a file is no text, as git tells it: by a NUL in its first 8000 bytes.
func binary(b []byte) bool { return bytes.IndexByte(b[:min(len(b), 8000)], 0) >= 0 }

// queueScope tells whether a file's queues count: Ruby's code that a process runs.
func queueScope(file string) bool {
	return strings.HasSuffix(file, ".rb") && (strings.HasPrefix(file, "app/") || strings.HasPrefix(file, "lib/") || strings.HasPrefix(file, "config/"))
}

// code compares what the code reads from the environment, and which queues it names.
func (u *Understanding) code(from, to Side, known map[string]fileCode) error {
	was, err := codeOf(from.Tree, known)
	if err != nil {
		return fmt.Errorf("%s: %w", from.Release.Version, err)
	}
	is, err := codeOf(to.Tree, known)
	if err != nil {
		return fmt.Errorf("%s: %w", to.Release.Version, err)
	}
	oldEnv, newEnv := envOf(was), envOf(is)
	e := EnvChanges{Added: without(newEnv.Names, oldEnv.Names), Removed: without(oldEnv.Names, newEnv.Names), Unknown: without(newEnv.Unknown, oldEnv.Unknown)}
	e.Comments = []string{}
	for _, pair := range [][2][]string{{e.Added, newEnv.Comments}, {e.Removed, oldEnv.Comments}} {
		for _, name := range pair[0] {
			if slices.Contains(pair[1], name) {
				e.Comments = append(e.Comments, name)
			}
		}
	}
	u.Changes.Env = e
	oldQueues, oldUnknown := queuesOf(from.Release.Contents, was)
	newQueues, newUnknown := queuesOf(to.Release.Contents, is)
	u.Changes.Queues = QueueChanges{Added: without(newQueues, oldQueues), Removed: without(oldQueues, newQueues), Unknown: without(newUnknown, oldUnknown)}
	return nil
}

func envOf(files map[string]fileCode) Env {
	read := map[string]envRead{}
	for file, code := range files {
		read[file] = code.env
	}
	return gatherEnv(read)
}

// queuesOf are the queues that a release's list or its code names, sorted, and
// the places where only running code knows.
func queuesOf(c Contents, files map[string]fileCode) (list, unknown []string) {
	list = names(c.Queues)
	for file, code := range files {
		if !queueScope(file) {
			continue
		}
		list = append(list, code.queues.names...)
		for _, line := range code.queues.unknown {
			unknown = append(unknown, file+": "+line)
		}
	}
	return sorted(list), sorted(unknown)
}
