package nginx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"vmst.io/refit/hosts/node"
)

// proxy is nginx on this host.
type proxy struct {
	// run runs a command and returns both its streams; an error tells its status.
	run func(ctx context.Context, argv ...string) (string, error)
	// workers lists nginx's worker processes.
	workers func(ctx context.Context) ([]worker, error)
	// stamp is the file that says which content nginx was last seen to have loaded.
	stamp string
	// every is how often workers are looked at.
	every time.Duration
}

func realProxy() *proxy {
	return &proxy{run: runCommand, workers: workersOf, stamp: "/var/lib/refit/nginx-loaded", every: 50 * time.Millisecond}
}

func (p *proxy) verbs() []node.Verb {
	return []node.Verb{
		{Name: "upstream.get", Run: serve(p.get)},
		{Name: "upstream.set", Changes: true, Run: serve(p.set)},
		{Name: "upstream.join", Changes: true, Run: serve(p.join)},
		{Name: "upstream.leave", Changes: true, Run: serve(p.leave)},
		{Name: "nginx.facts", Run: serve(p.facts)},
		{Name: "access", Run: serve(readAccess)},
	}
}

// serve makes a verb's function of one that takes no payload.
func serve[In, Out any](f func(context.Context, In, func(string)) (Out, error)) func(context.Context, json.RawMessage, io.Reader, func(string)) (any, error) {
	return node.Typed(func(ctx context.Context, in In, _ io.Reader, say func(string)) (Out, error) { return f(ctx, in, say) })
}

func runCommand(ctx context.Context, argv ...string) (string, error) {
	b, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return string(b), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, lastLines(string(b), 4))
	}
	return string(b), nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

// get is the verb "upstream.get".
func (p *proxy) get(_ context.Context, in UpstreamIn, _ func(string)) (UpstreamOut, error) {
	includes, err := readIncludes(in.Files)
	return UpstreamOut{Files: shown(includes)}, err
}

// readIncludes reads and understands all include files or gives an error.
func readIncludes(files []string) ([]*Include, error) {
	if files == nil {
		files = DefaultFiles()
	}
	var out []*Include
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("cannot read an upstream's include file: %w", err)
		}
		inc, err := ParseInclude(f, string(b))
		if err != nil {
			return nil, err
		}
		out = append(out, inc)
	}
	return out, nil
}

func shown(includes []*Include) []FileServers {
	out := []FileServers{}
	for _, inc := range includes {
		out = append(out, FileServers{Path: inc.Path, Servers: inc.Servers()})
	}
	return out
}

// facts is the verb "nginx.facts".
func (p *proxy) facts(ctx context.Context, in UpstreamIn, _ func(string)) (Facts, error) {
	files := in.Files
	if files == nil {
		files = DefaultFiles()
	}
	dump, err := p.run(ctx, "nginx", "-T")
	if err != nil {
		return Facts{}, fmt.Errorf("nginx does not accept its own configuration: %w", err)
	}
	f, err := ReadConfig(dump, files)
	if err != nil {
		return f, err
	}
	version, err := p.run(ctx, "nginx", "-v")
	if err != nil {
		return f, fmt.Errorf("cannot ask nginx for its version: %w", err)
	}
	if _, v, ok := strings.Cut(version, "nginx/"); ok {
		f.Version, _, _ = strings.Cut(strings.TrimSpace(v), " ")
	}
	workers, err := p.workers(ctx)
	if errors.Is(err, errNotRunning) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	f.Active = true
	f.Workers, f.Leaving = tally(workers)
	return f, nil
}

// writeFile replaces a file in one rename and keeps its mode and owner.
func writeFile(path, content string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	// One fixed name: what a crash leaves behind, the next writing takes over.
	name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".refit-new")
	temp, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = temp.WriteString(content)
	if err == nil {
		err = temp.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = chownLike(temp, info)
	}
	if err == nil {
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(name, path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(name))
	}
	return syncDir(filepath.Dir(path))
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
