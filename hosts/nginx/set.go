package nginx

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vmst.io/refit/hosts/node"
)

// set is the verb "upstream.set".
func (p *proxy) set(ctx context.Context, in SetIn, say func(string)) (SetOut, error) {
	if in.Address == "" {
		return SetOut{}, errors.New("cannot mark a node without its address")
	}
	word := "up"
	if in.Down {
		word = "down"
	}
	return p.change(ctx, in.Files, in.Within, in.Address+" is "+word, func(inc *Include) (bool, error) {
		return inc.Set(in.Address, in.Down)
	}, say)
}

// change edits the include files and has nginx load them; so says what is then the case.
func (p *proxy) change(ctx context.Context, files []string, within time.Duration, so string, edit func(*Include) (bool, error), say func(string)) (SetOut, error) {
	var out SetOut
	if within == 0 {
		within = 20 * time.Second
	}
	includes, err := readIncludes(files)
	if err != nil {
		return out, err
	}
	before := texts(includes)
	for _, inc := range includes {
		changed, err := edit(inc)
		if err != nil {
			return out, coded(err)
		}
		out.Changed = out.Changed || changed
	}
	if !out.Changed && p.loaded(before) {
		say(so + " already, nothing to reload")
		out.Files = shown(includes)
		workers, err := p.workers(ctx)
		if err != nil {
			return out, err
		}
		_, out.Leaving = tally(workers)
		return out, nil
	}
	old, err := p.workers(ctx)
	if err != nil {
		return out, fmt.Errorf("cannot reload nginx: %w", err)
	}
	if err := p.load(ctx, includes, before, old, within, &out); err != nil {
		out.Changed = false
		return out, err
	}
	out.Reloaded = true
	if err := p.note(texts(includes)); err != nil {
		say(fmt.Sprintf("%v; the next change of an upstream will reload nginx once more than it has to", err))
	}
	// What counts is what stands in the files now, not what was meant to.
	if includes, err = readIncludes(files); err != nil {
		return out, err
	}
	out.Files = shown(includes)
	say(fmt.Sprintf("%s, new workers serve, %d old ones leave", so, out.Leaving))
	return out, nil
}

// load writes the files, lets nginx test them, reloads it and waits for new
// workers. Whatever fails, the files are put back: nginx goes on with what it had
// loaded, and its next start must not find something else. Once the reload was
// asked for, the old content is loaded again too.
func (p *proxy) load(ctx context.Context, includes []*Include, before []string, old []worker, within time.Duration, out *SetOut) error {
	err := p.write(includes, texts(includes), before)
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write an upstream's include file: %w", err), p.restore(includes, before))
	}
	if _, err := p.run(ctx, "nginx", "-t"); err != nil {
		return errors.Join(fmt.Errorf("nginx refuses the new upstreams, the old ones are back: %w", err), p.restore(includes, before))
	}
	if err := removeIfThere(p.stamp); err != nil {
		return errors.Join(fmt.Errorf("cannot note that nginx is about to reload: %w", err), p.restore(includes, before))
	}
	_, err = p.run(ctx, "systemctl", "reload", "nginx.service")
	if err == nil {
		out.Leaving, err = p.awaitGeneration(ctx, old, within)
	}
	if err != nil {
		// Without a stamp the next call reloads, whatever nginx has loaded by then.
		return errors.Join(fmt.Errorf("cannot reload nginx, the old upstreams are back in the files: %w", err), p.restore(includes, before), p.reloadAgain(ctx))
	}
	return nil
}

// reloadAgain loads the old content in case nginx took the new one after all.
func (p *proxy) reloadAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	if _, err := p.run(ctx, "systemctl", "reload", "nginx.service"); err != nil {
		return fmt.Errorf("and nginx could not be reloaded with them: %w", err)
	}
	return nil
}

func (p *proxy) restore(includes []*Include, before []string) error {
	if err := p.write(includes, before, nil); err != nil {
		return fmt.Errorf("and the include files could not be put back: %w", err)
	}
	return nil
}

// write writes those files whose text is not the one they are known to have.
func (p *proxy) write(includes []*Include, texts, has []string) error {
	for i, inc := range includes {
		if has != nil && has[i] == texts[i] {
			continue
		}
		if err := writeFile(inc.Path, texts[i]); err != nil {
			return err
		}
	}
	return nil
}

func texts(includes []*Include) []string {
	var out []string
	for _, inc := range includes {
		out = append(out, inc.Render())
	}
	return out
}

// The stamp tells which content a verified reload has loaded. Without it a crash
// between writing and reloading would leave files that look done and are not.

func digest(texts []string) string {
	h := sha256.New()
	for _, t := range texts {
		fmt.Fprintf(h, "%d\n%s", len(t), t)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (p *proxy) loaded(texts []string) bool {
	b, err := os.ReadFile(p.stamp)
	return err == nil && strings.TrimSpace(string(b)) == digest(texts)
}

func (p *proxy) note(texts []string) error {
	if err := os.MkdirAll(filepath.Dir(p.stamp), 0o755); err != nil {
		return fmt.Errorf("cannot note what nginx has loaded: %w", err)
	}
	temp := p.stamp + ".new"
	if err := os.WriteFile(temp, []byte(digest(texts)+"\n"), 0o644); err != nil {
		return fmt.Errorf("cannot note what nginx has loaded: %w", err)
	}
	if err := os.Rename(temp, p.stamp); err != nil {
		return fmt.Errorf("cannot note what nginx has loaded: %w", err)
	}
	return nil
}

// coded gives an error the code by which the caller tells it.
func coded(err error) error {
	switch {
	case errors.Is(err, ErrLastServer), errors.Is(err, ErrServes):
		return node.Failf(node.CodeInUse, "%s", err)
	case errors.Is(err, ErrUnknownServer):
		return node.Failf(node.CodeNotFound, "%s", err)
	}
	return err
}
