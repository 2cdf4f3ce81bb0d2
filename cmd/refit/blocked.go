package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

// sameFleet refuses to go on with a run that was planned for other hosts than
// refit.yml names now: the steps would not be the journal's.
func (x *session) sameFleet(j *pipeline.Journal, f *stages.Facts) error {
	missing, added := f.FleetChanged(x.deps.Fleet)
	if len(missing)+len(added) == 0 {
		return nil
	}
	var parts []string
	for _, name := range missing {
		part := name + " is not in refit.yml any more"
		for _, s := range j.Progress() {
			if s.Host == name && strings.HasPrefix(s.Name, "roll ") {
				part += fmt.Sprintf(" (%q is %s)", s.Name, stateWord(s.State))
			}
		}
		parts = append(parts, part)
	}
	for _, name := range added {
		parts = append(parts, name+" is new in refit.yml and has no step in the run")
	}
	return refuse("run %s was planned for other hosts than refit.yml names now: %s.\nNothing was changed. Put refit.yml back as it was, then `refit resume` or `refit rollback`, and change the fleet when the run has ended. If a host is gone for good: `refit resume --from-hosts` plans the rest for the hosts that refit.yml names now",
		j.ID, strings.Join(parts, "; "))
}

func stateWord(s pipeline.State) string {
	if s == pipeline.Pending {
		return "not begun"
	}
	return string(s)
}

// noLease is the error of a run that did not get the lease.
func (x *session) noLease(ctx context.Context, e execution, err error) error {
	switch {
	case errors.Is(err, errFences):
		return x.blocked(ctx, e, "not every host answers", "bring the host back", err)
	case errors.Is(err, keeper.ErrNoSpace), errors.Is(err, keeper.ErrReadOnly):
		return x.blocked(ctx, e, "the keeper's disk takes no journal", "mend the disk of "+x.keeper.Name, err)
	}
	return lockError(ctx, err)
}

// blocked is the error of a run that could not begin because a host does not let it:
// it says that nothing was changed, where the run stands that was to be gone on with,
// and what comes next.
func (x *session) blocked(ctx context.Context, e execution, what, mend string, err error) error {
	if end := interrupted(ctx); end != nil {
		return end
	}
	if errors.Is(err, hosts.ErrAuth) || errors.Is(err, hosts.ErrHostKey) {
		return exitWith(exitAuth, err)
	}
	if e.journal == nil {
		return exitWith(exitRefused, fmt.Errorf("%s, and that refuses the run: %w\nnothing was touched; %s, then try again", what, err, mend))
	}
	next := "refit resume"
	if e.back {
		next = "refit rollback"
	}
	gone := ""
	if errors.Is(err, hosts.ErrUnreachable) || errors.Is(err, hosts.ErrSilent) {
		gone = fmt.Sprintf("; if it is gone for good, take it out of refit.yml, then `%s --from-hosts`", next)
	}
	return exitWith(exitPerson, fmt.Errorf("%s: %w\nthis command changed nothing. Run %s (%s → %s) stands as before: %s.\nNow %s, then `%s`%s",
		what, err, e.journal.ID, e.journal.From, e.journal.To, standingOf(e.journal), mend, next, gone))
}
