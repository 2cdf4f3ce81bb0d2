package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
)

// apart is a host that is a process of its own for each verb, with a state that is not the
// machine's.
type apart struct {
	self, state string

	mu     sync.Mutex
	cpu    float64
	memory int64
}

// Run implements hosts.Shell for "refit node VERB".
func (a *apart) Run(ctx context.Context, c hosts.Command, out io.Writer) error {
	if len(c.Argv) != 3 || c.Argv[1] != "node" {
		return nil // whether the agent is there
	}
	cmd := exec.CommandContext(ctx, a.self, "agent", "--state", a.state, c.Argv[2]) //nolint:gosec // the lab itself
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, out, os.Stderr
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if cmd.ProcessState != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.cpu += processor(cmd)
		a.memory = max(a.memory, largest(cmd))
	}
	return err
}

// Put implements hosts.Shell.
func (*apart) Put(context.Context, string, fs.FileMode, io.Reader) error {
	return errors.New("nothing is put on this host")
}

func (b Bytes) agent(state string) (*node.Agent, *apart, error) {
	if err := os.MkdirAll(state, 0o755); err != nil {
		return nil, nil, err
	}
	host := &apart{self: b.Self, state: state}
	return &node.Agent{Host: filepath.Base(state), Shell: host, Binary: b.Self, Run: "bench", Epoch: func() int64 { return 1 }}, host, nil
}

// byRefit does what refit's place stage does for one node.
func (b Bytes) byRefit(ctx context.Context, home string, p *Passage) error {
	sender, from, err := b.agent(filepath.Join(home, "builder"))
	if err != nil {
		return err
	}
	receiver, to, err := b.agent(filepath.Join(home, "node"))
	if err != nil {
		return err
	}
	base, err := head(b.From)
	if err != nil {
		return err
	}
	target, err := head(b.To)
	if err != nil {
		return err
	}
	in := node.PackIn{Root: b.To, Digest: target.Digest, Base: &node.Base{Root: b.From, Release: base.Release, Digest: base.Digest, Without: []string{"tmp"}}}
	began := time.Now()
	var want node.WantOut
	if err := b.over(ctx, sender, in, p, func(r io.Reader) (err error) {
		want, err = receiver.PlaceWant(ctx, node.WantIn{Home: home, Release: target.Release, Digest: target.Digest}, r, nil)
		return err
	}); err != nil {
		return err
	}
	in.Indexes = want.Indexes
	if err := b.over(ctx, sender, in, p, func(r io.Reader) error {
		_, err := receiver.PlacePut(ctx, node.PutIn{Home: home, Release: target.Release, Digest: target.Digest}, r, nil)
		return err
	}); err != nil {
		return err
	}
	p.Seconds = time.Since(began).Seconds()
	p.Sender, p.Receiver, p.Memory = from.cpu, to.cpu, to.memory
	return nil
}

// over gives a pack to do over a wire of the passage's rate.
func (b Bytes) over(ctx context.Context, sender *node.Agent, in node.PackIn, p *Passage, do func(io.Reader) error) error {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		_, err := sender.Pack(ctx, in, w, nil)
		w.CloseWithError(err)
		packed <- err
	}()
	line := &wire{r: r, rate: p.Rate}
	err := do(line)
	if err == nil {
		_, err = io.Copy(io.Discard, line)
	}
	r.CloseWithError(io.ErrClosedPipe)
	p.Bytes += line.n
	if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
		return fmt.Errorf("cannot pack: %w", perr)
	}
	return err
}

func head(dir string) (node.Head, error) {
	_, h, err := node.ReadManifest(dir)
	return h, err
}
