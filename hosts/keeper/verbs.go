package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"vmst.io/refit/hosts/node"
)

// answer is what every verb of this package answers.
type answer struct {
	Refused  *refusal  `json:"refused,omitempty"`
	Lease    *Lease    `json:"lease,omitempty"`
	Taken    bool      `json:"taken,omitempty"`
	Bytes    []byte    `json:"bytes,omitempty"`
	Entries  []Entry   `json:"entries,omitempty"`
	Approval *Approval `json:"approval,omitempty"`
	Key      []byte    `json:"key,omitempty"`
}

// Verbs are what the keeper's host can be asked for; dir is where its files lie,
// empty for DefaultDir. None holds the host's fence: the lease that they compare
// with is what fences are made from.
func Verbs(dir string) []node.Verb {
	if dir == "" {
		dir = DefaultDir
	}
	return verbs(newStore(dir))
}

func verbs(s *store) []node.Verb {
	type none struct{}
	type named struct {
		ID string `json:"id"`
	}
	return []node.Verb{
		verb("lease.acquire", func(ctx context.Context, in acquireIn) (answer, error) {
			l, err := s.acquire(ctx, in)
			return answer{Lease: &l}, err
		}),
		verb("lease.renew", func(ctx context.Context, in renewIn) (answer, error) {
			taken, err := s.renew(ctx, in)
			return answer{Taken: taken}, err
		}),
		verb("lease.release", func(ctx context.Context, in renewIn) (answer, error) {
			return answer{}, s.release(ctx, in)
		}),
		verb("lease.show", func(ctx context.Context, _ none) (answer, error) {
			l, err := s.lease(ctx)
			return answer{Lease: &l}, err
		}),
		verb("lease.take", func(ctx context.Context, in takeIn) (answer, error) {
			l, err := s.take(ctx, in)
			return answer{Lease: &l}, err
		}),
		verb("shelf.load", func(ctx context.Context, in named) (answer, error) {
			b, err := s.shelf().Load(ctx, in.ID)
			return answer{Bytes: b}, err
		}),
		verb("shelf.save", func(ctx context.Context, in saveIn) (answer, error) {
			return answer{}, s.save(ctx, in)
		}),
		verb("shelf.remove", func(ctx context.Context, in removeIn) (answer, error) {
			return answer{}, s.remove(ctx, in)
		}),
		verb("shelf.list", func(ctx context.Context, _ none) (answer, error) {
			entries, err := s.shelf().List(ctx)
			return answer{Entries: entries}, err
		}),
		verb("shelf.aside", func(ctx context.Context, in asideIn) (answer, error) {
			if in.File != "" {
				b, err := s.shelf().LoadAside(ctx, in.File)
				return answer{Bytes: b}, err
			}
			entries, err := s.shelf().Aside(ctx)
			return answer{Entries: entries}, err
		}),
		verb("approval.give", func(ctx context.Context, in giveIn) (answer, error) {
			a, err := s.give(ctx, in)
			return answer{Approval: &a}, err
		}),
		verb("approval.show", func(_ context.Context, in useIn) (answer, error) {
			a, err := s.approval(in.Plan)
			return answer{Approval: &a}, err
		}),
		verb("approval.use", func(ctx context.Context, in useIn) (answer, error) {
			a, err := s.use(ctx, in)
			return answer{Approval: &a}, err
		}),
		verb("comparison.key", func(ctx context.Context, _ none) (answer, error) {
			key, err := s.comparisonKey(ctx)
			return answer{Key: key}, err
		}),
	}
}

// verb makes a node.Verb of a typed function. Errors that the client tells apart
// go into the answer.
func verb[In any](name string, f func(context.Context, In) (answer, error)) node.Verb {
	return node.Verb{Name: name, Run: func(ctx context.Context, raw json.RawMessage, _ io.Reader, _ func(string)) (any, error) {
		var in In
		if len(raw) > 0 {
			d := json.NewDecoder(bytes.NewReader(raw))
			d.DisallowUnknownFields()
			if err := d.Decode(&in); err != nil {
				return nil, fmt.Errorf("cannot read the request: %w", err)
			}
		}
		a, err := f(ctx, in)
		if err == nil {
			return a, nil
		}
		if r := refuse(err); r != nil {
			return answer{Refused: r}, nil
		}
		return nil, err
	}}
}
