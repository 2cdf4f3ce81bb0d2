package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Entry is a commit as Log tells of it.
type Entry struct {
	// Commit is the hash; Parents are those of its parents.
	Commit  string
	Parents []string
	Author  Person
	// Time is the committer's, UTC.
	Time time.Time
	// Subject is the message's first line, Body the rest.
	Subject, Body string
	// Signed tells whether it has a signature; whose, and whether it is true, is not said.
	Signed bool
}

// Log lists the last n commits (0 for all) of the branch as it was fetched last that
// changed path (a file or a folder; "" for all), the newest first.
func (c *Config) Log(ctx context.Context, path string, n int) (out []Entry, err error) {
	err = c.locked(ctx, func() error {
		out, err = c.log(ctx, path, n)
		return err
	})
	return out, err
}

func (c *Config) log(ctx context.Context, path string, n int) ([]Entry, error) {
	head, err := c.known(c.opts.Branch)
	if err != nil || head == "" {
		return nil, err
	}
	opts := &gogit.LogOptions{From: plumbing.NewHash(head), Order: gogit.LogOrderCommitterTime}
	if path = strings.Trim(path, "/"); path != "" {
		opts.PathFilter = func(p string) bool { return p == path || strings.HasPrefix(p, path+"/") }
	}
	commits, err := c.repo.Log(opts)
	if err != nil {
		return nil, fmt.Errorf("cannot read the history of the config repository: %w", err)
	}
	defer commits.Close()
	var out []Entry
	for n <= 0 || len(out) < n {
		commit, err := commits.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the history of the config repository: %w", err)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		out = append(out, entryOf(commit))
	}
	return out, nil
}

func entryOf(c *object.Commit) Entry {
	subject, body, _ := strings.Cut(c.Message, "\n")
	e := Entry{
		Commit: c.Hash.String(), Author: Person{c.Author.Name, c.Author.Email}, Time: c.Committer.When.UTC(),
		Subject: subject, Body: strings.TrimSpace(body), Signed: c.PGPSignature != "",
	}
	for _, p := range c.ParentHashes {
		e.Parents = append(e.Parents, p.String())
	}
	return e
}
