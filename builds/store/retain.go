package store

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Rule says what stays in a store. An artifact stays for any one of its reasons.
type Rule struct {
	// Keep is how many of the newest releases stay, for each OS release and
	// architecture.
	Keep int
	// Age is for how long an artifact stays whatever else was stored since.
	Age time.Duration
	// Fleet is whose dumps may be removed, and Dumps how many of its newest whole ones
	// stay; without a fleet all dumps stay.
	Fleet string
	Dumps int
}

// strayAge is how old an object of no artifact must be before it is taken for the rest
// of something that ended: it may belong to one that is being stored now.
const strayAge = 24 * time.Hour

// Expired are the artifacts that no reason keeps: inUse names, by digest, those that a
// node runs, could go back to or has in hand. What a kept artifact needs is kept with it;
// a toolchain stays for no other reason but its age.
func Expired(all []Artifact, r Rule, inUse func(digest string) bool, now time.Time) []Artifact {
	newest := slices.Clone(all)
	slices.SortStableFunc(newest, func(a, b Artifact) int { return b.Stored.Compare(a.Stored) })
	keep := map[string]bool{}
	count := map[string]int{}
	for _, a := range newest {
		system := a.OS + "\x00" + a.Arch
		young := now.Sub(a.Stored) < r.Age
		among := false
		if a.Kind == Release {
			among = count[system] < r.Keep
			count[system]++
		}
		if young || among || inUse(a.Digest) {
			keep[a.Digest] = true
		}
	}
	for grew := true; grew; {
		grew = false
		for _, a := range all {
			for _, d := range a.Needs {
				if keep[a.Digest] && !keep[d] {
					keep[d], grew = true, true
				}
			}
		}
	}
	var out []Artifact
	for _, a := range all {
		if !keep[a.Digest] {
			out = append(out, a)
		}
	}
	return out
}

// Pruned is what Prune removed.
type Pruned struct {
	Artifacts []Artifact
	Dumps     []Dump
	// Foreign counts the artifacts of another version of refit, which stay whatever the
	// rule says.
	Foreign int
	// Strays counts the objects that belonged to nothing; Bytes is the room that all of
	// it took.
	Strays int
	Bytes  int64
}

// Prune removes what the rule does not keep, and strays that are a day old; nothing that
// another version of refit stored, or that such a thing needs. It goes on after an error; what it then returns was removed.
func (s *Store) Prune(ctx context.Context, r Rule, inUse func(digest string) bool) (Pruned, error) {
	var out Pruned
	list, err := s.List(ctx)
	if err != nil {
		return out, err
	}
	out.Foreign = len(list.Foreign)
	needed := map[string]bool{}
	for _, a := range list.Foreign {
		for _, d := range a.Needs {
			needed[d] = true
		}
	}
	var errs []error
	for _, a := range Expired(list.Artifacts, r, func(digest string) bool { return needed[digest] || inUse(digest) }, s.now()) {
		if err := s.Remove(ctx, a); err != nil {
			errs = append(errs, err)
			continue
		}
		out.Artifacts = append(out.Artifacts, a)
		out.Bytes += a.Size()
	}
	for _, item := range list.Strays {
		if s.now().Sub(item.Modified) < strayAge {
			continue
		}
		if err := s.Bucket.Remove(ctx, item.Key); err != nil {
			errs = append(errs, err)
			continue
		}
		out.Strays++
		out.Bytes += item.Size
	}
	errs = append(errs, s.pruneDumps(ctx, r, list, &out))
	return out, errors.Join(errs...)
}
