package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"vmst.io/refit/hosts/node"
)

// Bytes compares ways to bring a release to a node that has an older one: bytes on the
// wire, time, processor and memory. Both ends are on this machine, so the processor's time
// of both counts in each time; the wire between is as fast as Rates say.
type Bytes struct {
	// From and To are directories of built releases, named as their releases are: the one
	// that the node has, and the one that it is to get.
	From, To string
	// Work is a directory for what is made on the way; it is written to on one file system.
	Work string
	// Rates are bytes a second; 0 for no limit.
	Rates []int64
	// Ways are those to compare; empty for all.
	Ways []string
	// Rounds is how often each is measured.
	Rounds int
	// Self is the lab's own program.
	Self string
	Say  func(format string, args ...any)
}

// Passage is one way, once.
type Passage struct {
	Way string `json:"way"`
	// Rate as in Bytes.Rates.
	Rate int64 `json:"rate"`
	// Bytes went to the node.
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	// Sender and Receiver are seconds of processor, Memory the receiver's largest process in
	// bytes.
	Sender   float64 `json:"sender_cpu"`
	Receiver float64 `json:"receiver_cpu"`
	Memory   int64   `json:"receiver_memory"`
}

// AllWays are the ways, as they are measured in turns.
func AllWays() []string { return []string{"refit", "patch-from", "rsync", "tar.zst"} }

// Run measures. Each result is held to the release's manifest.
func (b Bytes) Run(ctx context.Context) ([]Passage, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	var out []Passage
	for _, rate := range b.Rates {
		for round := range b.Rounds {
			for _, way := range b.Ways {
				p, err := b.once(ctx, way, rate)
				if err != nil {
					return out, fmt.Errorf("%s: %w", way, err)
				}
				b.Say("round %d, %s at %s: %s, %.1f s, receiver %s", round+1, way, rateWords(rate), mib(p.Bytes), p.Seconds, mib(p.Memory))
				out = append(out, p)
			}
		}
	}
	return out, nil
}

func (b *Bytes) check() error {
	if len(b.Ways) == 0 {
		b.Ways = AllWays()
	}
	b.Rounds = max(b.Rounds, 1)
	if len(b.Rates) == 0 {
		b.Rates = []int64{0, 100_000_000 / 8}
	}
	for _, dir := range []string{b.From, b.To} {
		m, _, err := node.ReadManifest(dir)
		if err != nil {
			return fmt.Errorf("%s is no built release: %w", dir, err)
		}
		if m.Release != filepath.Base(dir) {
			return fmt.Errorf("%s holds %s; name the folder after its release", dir, m.Release)
		}
	}
	return nil
}

// once measures one way, on a node made anew.
func (b Bytes) once(ctx context.Context, way string, rate int64) (p Passage, err error) {
	home, err := os.MkdirTemp(b.Work, "node-")
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	older, newer := filepath.Join(home, "releases", filepath.Base(b.From)), filepath.Join(home, "releases", filepath.Base(b.To))
	if err := b.shell(ctx, `mkdir -p "$2/releases" && cp -a "$1" "$2/releases/"`, b.From, home); err != nil {
		return p, err
	}
	p = Passage{Way: way, Rate: rate}
	switch way {
	case "refit":
		err = b.byRefit(ctx, home, &p)
	case "rsync":
		err = b.byRsync(ctx, older, newer, &p)
	case "patch-from":
		if err = b.shell(ctx, tarOf+` > "$2"`, b.From, filepath.Join(home, "old.tar")); err == nil {
			err = b.pipe(ctx, &p, tarOf+` > "$2/new.tar" && zstd -3 --long=31 -q -c --patch-from="$2/old.tar" "$2/new.tar"`, `zstd -d --long=31 --memory=2048MB -q -c --patch-from="$2/old.tar" | tar -x -C "$1"`, home, newer)
		}
	case "tar.zst":
		err = b.pipe(ctx, &p, tarOf+` | zstd -3 --long=27 -T0 -q -c`, `zstd -d --long=27 -q -c | tar -x -C "$1"`, home, newer)
	default:
		err = fmt.Errorf("there is no such way; there are %s", strings.Join(AllWays(), ", "))
	}
	if err != nil {
		return p, err
	}
	m, _, err := node.ReadManifest(b.To)
	if err != nil {
		return p, err
	}
	differences, err := m.Compare(ctx, newer)
	if err == nil && len(differences) > 0 {
		err = fmt.Errorf("%d files are not as built, %s first", len(differences), differences[0])
	}
	return p, err
}

// tarOf packs the folder $1 so that two of one content are equal, which patches live on.
const tarOf = `set -o pipefail; tar --sort=name --numeric-owner --mtime=@0 -C "$1" -c .`

func (b Bytes) shell(ctx context.Context, script string, args ...string) error {
	cmd := exec.CommandContext(ctx, "bash", append([]string{"-c", script, "bash"}, args...)...) //nolint:gosec // scripts of this file
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	return nil
}

// pipe runs a sender, with the release and home as its words, and a receiver, with the
// new folder and home, over a wire of the rate.
func (b Bytes) pipe(ctx context.Context, p *Passage, send, receive, home, newer string) error {
	if err := os.MkdirAll(newer, 0o755); err != nil {
		return err
	}
	began := time.Now()
	sender := exec.CommandContext(ctx, "bash", "-c", send, "bash", b.To, home)       //nolint:gosec // scripts of this file
	receiver := exec.CommandContext(ctx, "bash", "-c", receive, "bash", newer, home) //nolint:gosec // scripts of this file
	sender.Stderr, receiver.Stderr = os.Stderr, os.Stderr
	out, err := sender.StdoutPipe()
	if err != nil {
		return err
	}
	wire := &wire{r: out, rate: p.Rate}
	receiver.Stdin = wire
	if err := sender.Start(); err != nil {
		return err
	}
	err = receiver.Run()
	if err := errors.Join(err, sender.Wait()); err != nil {
		return err
	}
	p.Seconds, p.Bytes = time.Since(began).Seconds(), wire.n
	p.Sender, p.Receiver = processor(sender), processor(receiver)
	p.Memory = largest(receiver)
	return nil
}

var rsyncBytes = regexp.MustCompile(`(?m)^Total bytes (sent|received): ([\d,]+)$`)

// byRsync lets rsync talk to itself as over ssh: between two local folders it would send
// whole files. Checksums, since times say nothing of a release that was built elsewhere.
func (b Bytes) byRsync(ctx context.Context, older, newer string, p *Passage) error {
	args := []string{"-rlpzc", "--stats", "--link-dest=" + older, "-e", "sh -c 'shift; exec \"$@\"' sh"}
	if p.Rate > 0 {
		args = append(args, "--bwlimit="+strconv.FormatInt(p.Rate/1024, 10))
	}
	cmd := exec.CommandContext(ctx, "rsync", append(args, b.To+"/", "node:"+newer+"/")...) //nolint:gosec // a fixed program
	cmd.Stderr = os.Stderr
	began := time.Now()
	text, err := cmd.Output()
	if err != nil {
		return err
	}
	p.Seconds = time.Since(began).Seconds()
	for _, m := range rsyncBytes.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.ParseInt(strings.ReplaceAll(m[2], ",", ""), 10, 64)
		if err != nil {
			return err
		}
		p.Bytes += n // both ways: what comes back is what the node had to tell
	}
	if p.Bytes == 0 {
		return fmt.Errorf("rsync told no bytes:\n%s", text)
	}
	p.Sender, p.Memory = processor(cmd), largest(cmd) // of both ends
	return nil
}

// wire is a link of a rate that counts.
type wire struct {
	r    io.Reader
	rate int64
	n    int64
	next time.Time
}

func (w *wire) Read(b []byte) (int, error) {
	if w.rate > 0 {
		b = b[:min(len(b), max(1, int(w.rate/50)))]
		if now := time.Now(); w.next.Before(now) {
			w.next = now
		} else {
			time.Sleep(w.next.Sub(now)) // a wire: what it waits for is the time itself
		}
	}
	n, err := w.r.Read(b)
	w.n += int64(n)
	if w.rate > 0 {
		w.next = w.next.Add(time.Duration(n) * time.Second / time.Duration(w.rate))
	}
	return n, err
}

func processor(cmd *exec.Cmd) float64 {
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
}

// largest is the largest of a program and those that it waited for, in bytes.
func largest(cmd *exec.Cmd) int64 {
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		return u.Maxrss << 10 // in kB, see getrusage(2)
	}
	return 0
}

func mib(n int64) string { return fmt.Sprintf("%.2f MiB", float64(n)/(1<<20)) }

func rateWords(rate int64) string {
	if rate == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%d Mbit/s", rate*8/1_000_000)
}
