package mastodon

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmst.io/refit/hosts/node"
)

// dumpHome is where Debian and PostgreSQL's own packages put the programs of each major
// version. What else a host has is found by its PATH.
const dumpHome = "/usr/lib/postgresql"

// pgVersion is how PostgreSQL's programs name themselves: "pg_dump (PostgreSQL) 17.6".
var pgVersion = regexp.MustCompile(`^pg_(?:dump|restore) \(PostgreSQL\) ((\d+)\S*)`)

// dumper runs PostgreSQL's programs on this host.
type dumper struct {
	// home is dumpHome.
	home string
	// stall is how long a dump may wait for its reader; 0 for dumpStall.
	stall time.Duration
}

// dumpStall is how long pg_dump may wait for whoever takes what it writes. While it runs it
// holds a lock on every table, for which a migration would wait, and a caller whose link
// vanished takes a quarter of an hour to be missed by TCP alone (tcp_retries2, tcp(7)). A
// store that is slow is heard of sooner.
const dumpStall = 5 * time.Minute

// findDumpTools is the verb "database.dumptools".
func (d dumper) findDumpTools(ctx context.Context, _ DumpToolsIn, _ func(string)) (DumpTools, error) {
	return d.tools(ctx)
}

func (d dumper) tools(ctx context.Context) (DumpTools, error) {
	out := DumpTools{Tools: []DumpTool{}}
	dirs, err := filepath.Glob(filepath.Join(d.home, "*", "bin"))
	if err != nil {
		return out, err
	}
	if p, err := exec.LookPath("pg_dump"); err == nil {
		dirs = append(dirs, filepath.Dir(p))
	}
	for _, dir := range dirs {
		t := DumpTool{Dir: dir}
		for _, program := range []string{"pg_dump", "pg_restore"} {
			one, cancel := context.WithTimeout(ctx, answerTimeout)
			b, err := exec.CommandContext(one, filepath.Join(dir, program), "--version").Output()
			cancel()
			m := pgVersion.FindStringSubmatch(string(b))
			if err != nil || m == nil {
				t.Major = 0 // one of the two is not there, or is something else
				break
			}
			t.Version = m[1]
			if t.Major, err = strconv.Atoi(m[2]); err != nil {
				return out, err
			}
		}
		if t.Major > 0 && !slices.ContainsFunc(out.Tools, func(o DumpTool) bool { return o.Major == t.Major }) {
			out.Tools = append(out.Tools, t)
		}
	}
	slices.SortFunc(out.Tools, func(a, b DumpTool) int { return a.Major - b.Major })
	return out, ctx.Err()
}

// tool picks the programs for a server of a major version.
func (d dumper) tool(ctx context.Context, major int) (DumpTool, error) {
	all, err := d.tools(ctx)
	if err != nil {
		return DumpTool{}, err
	}
	t, ok := all.For(major)
	if !ok {
		return t, node.Failf(node.CodeNotFound, "no pg_dump here can read PostgreSQL %d: install %s", major, DumpPackage(major))
	}
	return t, nil
}

// dump is the verb "database.dump". pg_dump runs as Mastodon's user, who can read the
// password anyway, behind everything else that the host has to do.
func (d dumper) dump(ctx context.Context, raw json.RawMessage, w io.Writer, _ func(string)) (any, error) {
	var in DumpIn
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, fmt.Errorf("cannot read the request: %w", err)
	}
	env, err := readEnviron(in.Layout)
	if err != nil {
		return nil, err
	}
	way, err := env.directWay(in.Direct)
	if err != nil {
		return nil, err
	}
	t, err := d.tool(ctx, in.Major)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	taken := &patient{w: w, most: cmp.Or(d.stall, dumpStall), end: cancel}
	// A table that somebody has locked is not waited for without end.
	cmd := exec.CommandContext(ctx, "nice", "-n", "19", filepath.Join(t.Dir, "pg_dump"), "--format=custom", "--no-password", "--lock-wait-timeout=60s")
	if p, err := exec.LookPath("ionice"); err == nil {
		cmd.Path, cmd.Args = p, append([]string{"ionice", "-c", "3"}, cmd.Args...)
	}
	if err := asMastodon(cmd, in.Layout); err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, way.variables(env)...)
	said := &ending{max: 16 << 10}
	cmd.Stdout, cmd.Stderr = taken, said
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, env.clean(fmt.Errorf("pg_dump of %s: %w: %s", way, err, said))
	}
	return DumpOut{Program: t.Version}, nil
}

// patient ends a dump whose reader takes nothing of it for too long.
type patient struct {
	w    io.Writer
	most time.Duration
	end  context.CancelCauseFunc
}

func (p *patient) Write(b []byte) (int, error) {
	gone := time.AfterFunc(p.most, func() {
		p.end(fmt.Errorf("nobody took what pg_dump wrote for %s, so it was ended: its locks would hold up migrations", p.most))
	})
	defer gone.Stop()
	return p.w.Write(b)
}

// variables are libpq's for this way: nothing of it stands on a command line, which every
// user of the host can read.
func (w way) variables(e environ) []string {
	return []string{
		"PGHOST=" + w.shown.Host, "PGPORT=" + strconv.Itoa(w.shown.Port), "PGUSER=" + w.shown.User, "PGDATABASE=" + w.shown.Name,
		"PGPASSWORD=" + w.config.Password, "PGSSLMODE=" + e.or("DB_SSLMODE", "prefer"), "PGCONNECT_TIMEOUT=10", "PGAPPNAME=refit dump", "LC_ALL=C",
	}
}

// dumpList is the verb "database.dumplist".
func (d dumper) dumpList(ctx context.Context, in DumpListIn, archive io.Reader, _ func(string)) (DumpList, error) {
	t, err := d.tool(ctx, in.Major)
	if err != nil {
		return DumpList{}, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(t.Dir, "pg_restore"), "--list", "--format=custom")
	if err := asMastodon(cmd, in.Layout); err != nil {
		return DumpList{}, err
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	said, list := &ending{max: 4 << 10}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = list, said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return DumpList{}, err
	}
	if err := cmd.Start(); err != nil {
		return DumpList{}, err
	}
	// It ends when it has read the table of contents, whatever comes after that; the
	// reader of the archive may then still wait for more of it, and is left to.
	go func() {
		io.Copy(stdin, archive) //nolint:errcheck // what it lacks, pg_restore tells
		stdin.Close()           //nolint:errcheck // it may be closed already
	}()
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return DumpList{}, context.Cause(ctx)
		}
		return DumpList{}, fmt.Errorf("pg_restore cannot read the archive: %w: %s", err, said)
	}
	return readDumpList(list.String()), nil
}

// asMastodon makes a command run as Mastodon's user.
func asMastodon(cmd *exec.Cmd, l Layout) error {
	cmd.Dir, cmd.WaitDelay = "/", 5*time.Second
	if os.Geteuid() != 0 {
		cmd.Env = os.Environ() // whoever this is has no other's rights to give
		return nil
	}
	return node.AsUser(cmd, l.filled().User)
}

// ending keeps the end of what is written to it.
type ending struct {
	b   []byte
	max int
}

func (e *ending) Write(b []byte) (int, error) {
	e.b = append(e.b, b...)
	e.b = e.b[max(0, len(e.b)-e.max):]
	return len(b), nil
}

// String is the last lines, as one.
func (e *ending) String() string {
	lines := strings.Split(strings.TrimSpace(string(e.b)), "\n")
	return oneLine(strings.Join(lines[max(0, len(lines)-4):], "\n"))
}
